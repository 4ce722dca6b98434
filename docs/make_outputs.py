"""Write the outputs of commands on the pages: run every line that begins with `$ calibrae` and put what it prints below it.

In tutorials the Python runs too, step by step. Run it from the repository: `python docs/make_outputs.py`. With `--check` nothing is written: words must be the same, and numbers near, as they
depend a little on the machine. The tests check README.md so.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TUTORIALS = tuple(sorted((ROOT / "docs" / "tutorials").glob("*.md")))
BLOCK = re.compile(r"```\n(\$ calibrae .*?)```", re.DOTALL)
STEP = re.compile(
    r"```python\n(?P<code>.*?)```(?:\n\n```text\n(?P<said>.*?)```)?|```\n(?P<commands>\$ calibrae .*?)```", re.DOTALL
)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:[.,]\d+)*")
BOTH = " 2>&1"  # of a command whose progress is shown too
KEPT = {  # what README's commands make, and where the pages show it
    "runs/digits/reconstructions.png": "docs/img/digits.png",
    "runs/digits/report.html": "docs/examples/digits.html",
}
SECONDS = re.compile(r" +\d+ s\b")  # of a machine
NEAR, SMALL = 0.15, 1.0  # share of a number, and nats, by which a machine may differ


def commands(block: str) -> list[str]:
    """Commands of a block."""
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


def made(block: str, folder: Path) -> str:
    """The block with what its commands print now, run in a folder."""
    lines = []
    for command in commands(block):
        words = [sys.executable, "-m", *shlex.split(command.removesuffix(BOTH))]
        own = os.environ | {"CALIBRAE_REPORT": "1", "CALIBRAE_PICTURES": "1"}  # whatever the machine's own choice is
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True, env=own)  # noqa: S603 (commands of our own pages)
        both = done.stderr + done.stdout if command.endswith(BOTH) else done.stdout
        lines += [f"$ {command}", *both.rstrip().splitlines()]
    return "\n".join(lines) + "\n"


def page_with_outputs(text: str, *, keep: bool = False) -> str:
    """A page with the outputs of all its blocks, which share a folder; what they make is kept if asked."""
    with tempfile.TemporaryDirectory() as folder:
        page = BLOCK.sub(lambda found: f"```\n{made(found.group(1), Path(folder))}```", text)
        for name, place in KEPT.items():
            if keep and (Path(folder) / name).exists():
                (ROOT / place).parent.mkdir(exist_ok=True)
                shutil.copy(Path(folder) / name, ROOT / place)
                if place.endswith(".html"):  # of this machine it needs to say nothing
                    page_text = (ROOT / place).read_text(encoding="utf-8")
                    for own, general in ((f"{Path(folder).resolve()}/", ""), (platform.platform(), platform.system())):
                        page_text = page_text.replace(own, general)
                    (ROOT / place).write_text(page_text, encoding="utf-8")
    return page


def tutorial_with_outputs(text: str) -> str:
    """A tutorial with the outputs of all its steps, commands and Python alike, which share a folder and names as they do for a reader."""
    names: dict[str, object] = {}

    def done(found: re.Match[str]) -> str:
        if found["commands"] is not None:
            return f"```\n{made(found['commands'], Path.cwd())}```"
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
            exec(compile(found["code"], "tutorial", "exec"), names)  # noqa: S102 (code of our own pages)
        said = f"\n\n```text\n{printed.getvalue()}```" if printed.getvalue() else ""
        return f"```python\n{found['code']}```{said}"

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        return STEP.sub(done, text)


def differences(old: str, new: str) -> Iterator[str]:
    """Lines that differ by more than a machine may: other words, or numbers that are not near."""
    before, after = (SECONDS.sub(" s", text).splitlines() for text in (old, new))
    if len(before) != len(after):
        yield f"{len(after)} lines in place of {len(before)}"
        return
    for one, other in zip(before, after, strict=True):
        numbers = [[float(n.replace(",", "")) for n in NUMBER.findall(line)] for line in (one, other)]
        same_words = NUMBER.sub("#", one) == NUMBER.sub("#", other)
        near = all(abs(a - b) <= NEAR * abs(a) + SMALL for a, b in zip(*numbers, strict=False))
        if not (same_words and near):
            yield f"{one!r} is now {other!r}"


def main(check: bool) -> int:
    """Write or check all pages; returns the number of those that differ."""
    wrong = 0
    for page in (*PAGES, *TUTORIALS):
        text = page.read_text(encoding="utf-8")
        if page not in TUTORIALS and not BLOCK.search(text):
            continue
        new = tutorial_with_outputs(text) if page in TUTORIALS else page_with_outputs(text, keep=not check)
        found = list(differences(text, new))
        wrong += bool(found)
        print(page.name, *(found or ["as before"]), sep="\n  ")
        if not check:
            page.write_text(new, encoding="utf-8")
    return wrong if check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))

"""The page *Audit*: a loss of the user's own, run in a process with limits."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, final

import gradio as gr

from ..errors import ArgumentError
from ._bench import HEAVY, Bench, answered, shown, whole

SECONDS, MEMORY = 120, 6 << 30
MOST = 1 << 20  # bytes of a file
OFF = (
    "Auditing runs the code of a file that somebody sends. It is off. Start the workbench with `--allow-audit` if only people whom you "
    "trust can reach it, or use the command line: `calibrae audit FILE.py:FUNCTION --data-shape 3,64,64 --latent-dim 128`."
)
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
resource.setrlimit(resource.RLIMIT_DATA, ({memory}, {memory}))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 26, 1 << 26))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.argv = ["calibrae", *sys.argv[1:]]
runpy.run_module("calibrae", run_name="__main__")
"""


@final
class AuditPage:
    """Widgets of the page, and what they do.

    Args:
        bench: what the pages share.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        if not bench.may_audit:
            gr.Markdown(OFF, elem_id="audit-off")
            return
        with gr.Row():
            file = gr.File(label="Python file with the loss", file_types=[".py"], height=110)
            with gr.Column():
                function = gr.Textbox("loss", label="Function: loss(x, x_hat, mu, logvar)")
                shape = gr.Textbox("3,64,64", label="Shape of an example")
            with gr.Column():
                latents = gr.Number(128, label="Latent dimensions", precision=0)
                batch = gr.Number(64, label="Batch size", precision=0)
            with gr.Column():
                x_hat = gr.Dropdown(["data", "probs", "logits", "logp"], value="data", label="The loss is given")
                posterior = gr.Dropdown(
                    ["logvar", "log_std", "std", "var"], value="logvar", label="Its fourth argument is"
                )
        go = gr.Button("Audit", variant="primary", elem_id="audit-go")
        answer = gr.Textbox(
            label="What it computes", lines=24, interactive=False, elem_id="audit-answer", buttons=["copy"]
        )
        findings = gr.Markdown()
        go.click(self._audit, [file, function, shape, latents, batch, x_hat, posterior], [answer, findings], **HEAVY)

    @answered
    def _audit(
        self, file: str | None, function: str, shape: str, latents: float, batch: float, x_hat: str, posterior: str
    ) -> Any:
        if file is None or Path(file).stat().st_size > MOST:
            raise ArgumentError("choose a Python file of at most 1 MB with the loss.")
        if not all(part.isidentifier() for part in function.split(".")):
            raise ArgumentError(f"a function must be a name; got {function[:60]!r}.")
        d, b = whole(latents, "latent dimensions", 1, 100_000), whole(batch, "the batch size", 2, 4096)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "sent.py"
            place.write_bytes(Path(file).read_bytes())
            asked = [
                "audit",
                f"{place}:{function}",
                "--data-shape",
                shape,
                "--latent-dim",
                str(d),
                "--batch-size",
                str(b),
            ]
            done = limited([*asked, "--x-hat", x_hat, "--posterior", posterior, "--json"], folder)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["the loss took too much time or memory"])[-1]
            raise ArgumentError(f"the audit did not end well: {last.removeprefix('calibrae: ')[:300]}")
        found: dict[str, Any] = json.loads(done.stdout)
        lines = [
            f"* **{shown(f['severity'])}: {shown(f['code'])}**. {shown(f['message'])} {shown(f['remedy'])}"
            for f in found.get("findings", [])
        ]
        return json.dumps({k: v for k, v in found.items() if k != "findings"}, indent=2), "\n".join(
            lines
        ) or "Nothing is wrong."


def limited(arguments: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    """Run `calibrae` in a process with limits of time, memory and files, in a folder of its own.

    Raises:
        ArgumentError: if it takes too long.
    """
    code = LIMITED.format(seconds=SECONDS, memory=MEMORY)
    try:
        return subprocess.run(  # noqa: S603 (a list of arguments, no shell)
            [sys.executable, "-c", code, *arguments],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": folder, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ArgumentError(f"the loss must answer within {SECONDS} seconds; it did not.") from None

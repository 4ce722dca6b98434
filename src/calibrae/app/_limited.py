"""Work on what somebody has sent, in a child process with limits, so that the server goes on whatever it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, DataError

SECONDS, MEMORY, FILE = 120, 8 << 30, 8 << 30  # of processor time and by the clock; bytes of memory, and of a file
TAIL = 1 << 20  # bytes of what it prints that are read
LIMITED = """
import json, resource, sys
seconds, memory, largest = json.loads(sys.argv[1])
for what, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, largest), (resource.RLIMIT_CORE, 0)):
    resource.setrlimit(what, (most, most))
"""
COMMAND = (
    LIMITED
    + """
import runpy
sys.argv = ["calibrae", *sys.argv[2:]]
runpy.run_module("calibrae", run_name="__main__")
"""
)
READ = (
    LIMITED
    + """
from calibrae.data import DataOptions, load_data
from calibrae.errors import CalibraeError
place, options = sys.argv[2], json.loads(sys.argv[3])
options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
try:
    if len(sys.argv) > 4:
        from calibrae.workflows import run_data
        data = run_data(sys.argv[4], place)
    else:
        data = load_data(place, DataOptions(**options))
    print(json.dumps({"bytes": sum(part.nbytes for part in data.source.parts.values())}))
except (CalibraeError, OSError) as error:
    print(f"calibrae: {error}", file=sys.stderr)
    sys.exit(2)
"""
)


def run_command(arguments: Sequence[str], folder: str) -> str:
    """Run the command `calibrae` with limits of time, memory and the size of files, in a folder of its own. It is no sandbox.

    Returns:
        What it printed.

    Raises:
        ArgumentError: if it fails, or takes too much.
    """
    code, printed, said = _run([sys.executable, "-c", COMMAND, _limits(1 << 26), *arguments], folder, {"HOME": folder})
    if code != 0:
        raise ArgumentError(f"this did not end well: {_last(said, code)}")
    return printed


def require_readable(place: str, options: Mapping[str, Any], run: Path | None = None) -> None:
    """Read data that somebody has sent, in a child process with limits: pictures are then in the cache.

    Args:
        place: where they are.
        options: options of reading, by name.
        run: run whose new data they are, read as its own were.

    Raises:
        DataError: if they cannot be read, or take too much time or memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = [sys.executable, "-c", READ, _limits(FILE), str(Path(place).resolve()), json.dumps(dict(options))]
        asked += [] if run is None else [str(run.resolve())]
        code, _, said = _run(asked, folder, dict(os.environ))
    if code != 0:
        raise DataError(_last(said, code))


def _limits(largest: int) -> str:
    return json.dumps([SECONDS, MEMORY, largest])


def _last(said: str, code: int) -> str:
    """Last line of what it said, or what must have happened."""
    lines = [line for line in said.strip().splitlines() if line.startswith("calibrae: ")]
    if lines:
        return lines[-1].removeprefix("calibrae: ")[:600]
    if "MemoryError" in said or "can't allocate memory" in said or code == -signal.SIGKILL:
        return f"it takes more than {MEMORY >> 30} GB of memory. Use fewer or smaller examples, or the command line."
    return f"it takes more than {SECONDS} seconds, or ended with code {code}. Use fewer or smaller examples, or the command line."


def _run(words: Sequence[str], folder: str, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Exit code, and the ends of what was printed, which files take so that the limit of files holds for it; its children end with it."""
    known = {"PATH": "/usr/bin:/bin", **environment, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(  # noqa: S603 (a list of arguments, no shell)
            list(words), cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=known, start_new_session=True
        )
        try:
            code = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = -signal.SIGXCPU
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        return code, _end_of(out), _end_of(err)


def _end_of(stream: Any) -> str:
    stream.seek(0, os.SEEK_END)
    stream.seek(max(0, stream.tell() - TAIL))
    found: bytes = stream.read()
    return found.decode("utf-8", errors="replace")

"""Worker process of a sweep: it reads a job from standard input, trains it, and answers with one JSON line on standard output."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback

from ..errors import CalibraeError, first_line


def main() -> None:
    """Train the job on standard input; whatever else is said goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        answer = _answer()
    print(json.dumps(answer), flush=True)


def _answer() -> dict[str, str]:
    """`done`, `stopped`, `refused` or `failed`, with the reason."""
    from ._job import unpack

    try:
        unpack(sys.stdin.buffer.read()).train()
    except KeyboardInterrupt:
        return {"end": "stopped", "reason": "stopped"}
    except CalibraeError as error:
        print(error, file=sys.stderr)
        return {"end": "refused", "reason": " ".join(str(error).split())}
    except Exception as error:  # whatever it is, the sweep must know and go on
        traceback.print_exc()
        return {"end": "failed", "reason": f"{type(error).__name__}: {first_line(error)}"}
    return {"end": "done", "reason": ""}


if __name__ == "__main__":
    main()

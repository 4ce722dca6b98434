"""A run as a notebook shows it."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any

from ..errors import CalibraeError
from ..evaluation import number

if TYPE_CHECKING:
    from ._run import Run

PICTURES = ("reconstructions.png", "samples.png")
MOST = 1 << 20  # bytes of a picture that goes into a notebook


def run_html(run: Run) -> str:
    """The run, its validation numbers, and its pictures if they were drawn; no model is loaded."""
    try:
        known, config = run.folder.read_run(), run.folder.read_config()
    except (CalibraeError, OSError) as error:
        return f"<p>{html.escape(str(error))}</p>"
    found: dict[str, Any] = known.get("validation") or {}
    state = "finished" if known.get("finished") else "not finished"
    rows = [
        ("folder", str(run.path)),
        ("data", str(dict(known.get("data") or {}).get("name", "unknown"))),
        ("model", str(dict(config.get("model") or {}).get("name", "unknown"))),
        ("epochs", f"{len(run.history)}, {state}"),
    ]
    if found.get("elbo_nats") is not None:
        spread = number(found.get("elbo_standard_error"), 2)
        rows.append(("ELBO (validation)", f"{number(found['elbo_nats'], 2)} ± {spread} nats"))
        rows.append(("", str(found.get("verdict", ""))))
    body = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<div><table>{body}</table>{''.join(_picture(run, name) for name in PICTURES)}</div>"


def _picture(run: Run, name: str) -> str:
    """A picture of the run's folder, in the page itself; nothing where it is missing or large."""
    path = run.path / name
    try:
        content = path.read_bytes() if path.stat().st_size <= MOST else b""
    except OSError:
        return ""
    if not content:
        return ""
    packed = base64.b64encode(content).decode()
    return f"<img alt='{html.escape(name.removesuffix('.png'))}' style='max-width:48%' src='data:image/png;base64,{packed}'>"

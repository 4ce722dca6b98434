"""`calibrae report`."""

from __future__ import annotations

from typing import Annotated

import typer

from ._options import JsonFlag, RunPath, Seed, check_split
from ._print import print_json, progress


def report(
    run: RunPath,
    out: Annotated[
        str | None, typer.Option(help="HTML to write; by default report.html in the run's folder.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    seed: Seed = 0,
    json: JsonFlag = False,
) -> None:
    """Write a report of a run: one HTML file with its numbers, pictures, and what to try next."""
    from ..workflows import report as write_report

    if check_split(split) == "all":
        raise typer.BadParameter("--split must be train, validation or test for a report; got 'all'.")
    with progress() as tick:
        place = write_report(run, out, split=check_split(split), seed=seed, tick=tick)
    if json:
        print_json({"report": str(place)})
    else:
        typer.echo(f"wrote {place}")

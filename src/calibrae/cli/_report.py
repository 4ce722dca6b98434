"""`calibrae report`."""

from __future__ import annotations

from typing import Annotated

import typer

from ._options import JsonFlag, Seed, check_split
from ._print import print_json


def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Folder of a run; several are compared.", show_default=False)
    ],
    out: Annotated[
        str | None,
        typer.Option(
            help="HTML to write; by default report.html in the run's folder, or comparison.html beside the first of several.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    seed: Seed = 0,
    json: JsonFlag = False,
) -> None:
    """Write a report of a run, one HTML file: its numbers, pictures, and what to try next. Several runs are compared."""
    from ..acceleration import retain_freed_memory
    from ..workflows import compare
    from ..workflows import report as write_report

    chosen = check_split(split)
    if chosen == "all":
        raise typer.BadParameter("--split must be train, validation or test for a report; got 'all'.")
    with retain_freed_memory():
        if len(runs) > 1:
            place = compare(runs, out, split=chosen, seed=seed)
        else:
            place = write_report(runs[0], out, split=chosen, seed=seed)
    if json:
        print_json({"report": str(place)})
    else:
        typer.echo(f"wrote {place}")

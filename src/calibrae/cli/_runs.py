"""`calibrae runs`."""

from __future__ import annotations

import csv as table
import io
import shutil
from typing import Annotated

import typer

from ._options import JsonFlag
from ._print import print_json


def runs(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[FOLDER] | rm RUN...", help="Folder to look in; by default `runs`.")
    ] = None,
    sort: Annotated[
        str,
        typer.Option(help="run, data, model, elbo, error, above_baseline, bits_per_dim, sigma, kl, seconds or state."),
    ] = "run",
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: JsonFlag = False,
) -> None:
    """List runs, best first with --sort elbo; `rm RUN...` moves runs to a bin. Numbers are those of the validation split."""
    from ..workflows import list_runs, remove_run, runs_table

    given = words or ["runs"]
    if given[0] == "rm" and len(given) > 1:
        moved = {run: str(remove_run(run)) for run in given[1:]}
        if json:
            print_json({"moved": moved})
        for run, place in moved.items() if not json else ():
            typer.echo(f"moved {run} to {place}")
        return
    if len(given) > 1:
        raise typer.BadParameter(
            f"one folder is listed at a time; got {', '.join(given)}. To remove runs: calibrae runs rm RUN..."
        )
    found = list_runs(given[0], sort=sort)
    if json:
        print_json({"runs": [row.to_dict() for row in found]})
    elif csv:
        stream = io.StringIO()
        writer = table.DictWriter(stream, list(found[0].to_dict()) if found else ["run"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.to_dict() for row in found)
        typer.echo(stream.getvalue(), nl=False)
    elif not found:
        typer.echo(f"no runs in {given[0]}. Train one: calibrae train digits --out {given[0]}/digits")
    else:
        typer.echo(runs_table(found, shutil.get_terminal_size((100, 24)).columns))

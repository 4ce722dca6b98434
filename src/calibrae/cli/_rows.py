"""`calibrae impute`, and rows of tables for `calibrae sample`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CalibraeError
from ._options import JsonFlag, RunPath, Seed
from ._print import print_json, say_notes

ROWS = (".csv", ".parquet")
FEWEST = 100  # rows that are compared with held-out ones


def given_cells(pairs: Sequence[str]) -> dict[str, str]:
    """`['income=>50K']` as a dict."""
    split = [pair.partition("=") for pair in pairs]
    wrong = [pair for pair, (name, equals, _) in zip(pairs, split, strict=True) if not (name and equals)]
    if wrong:
        raise typer.BadParameter(f"--given must be COLUMN=VALUE; got {wrong[0]!r}.")
    names = [name for name, _, _ in split]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise typer.BadParameter(f"--given must name a column once; {twice[0]} came {names.count(twice[0])} times.")
    return {name: value for name, _, value in split}


def require_rows(place: Path) -> None:
    """Refuse a file that is no table before anything is computed."""
    from ..workflows import require_suffix

    require_suffix(place, ROWS)


def sample_rows(
    opened: Any, n: int, given: Sequence[str], condition: Any, place: Path, seed: int, *, json: bool
) -> None:
    """Write synthetic rows of a run of a table of mixed columns."""
    from ..workflows import save_rows, synthesise

    require_rows(place)
    found = synthesise(opened, n, given=given_cells(given), condition=condition, seed=seed)
    save_rows(found.rows, place)
    is_chosen = bool(given) or condition is not None  # rows of some kind resemble the whole table less
    near, notes = (None, found.notes) if is_chosen or n < FEWEST else _compared(opened, found)
    say_notes(json, notes)
    if json:
        facts = {"rows": str(place), "n": n, "effective_samples": found.effective_samples}
        print_json(facts | {"fidelity": None if near is None else near.to_dict(), "notes": list(notes)})
        return
    said = "" if found.effective_samples is None else f", from {found.effective_samples:,.0f} effective latents"
    typer.echo(f"wrote {place}: {n:,} rows{said}")
    if near is not None:
        typer.echo(f"beside held-out rows:\n{near}")


def _compared(opened: Any, found: Any) -> tuple[Any, tuple[str, ...]]:
    """How near drawn rows are to held-out ones, and notes; where the run's data are not there a note says so."""
    from ..workflows import fidelity

    try:
        return fidelity(opened, found.rows), found.notes
    except CalibraeError as error:
        return None, (*found.notes, f"the rows were not compared with held-out ones: {error}")


def impute(
    run: RunPath,
    data: Annotated[str, typer.Argument(help="Table whose missing cells are to be filled.", show_default=False)],
    out: Annotated[str, typer.Option(help="File to write, .csv or .parquet.", show_default=False)],
    draws: Annotated[
        int, typer.Option(help="Multiple imputation: so many draws of each row, in place of means and modes.", min=0)
    ] = 0,
    samples: Annotated[int, typer.Option(help="Latents of each row, K.", min=1)] = 200,
    seed: Seed = 0,
    json: JsonFlag = False,
) -> None:
    """Fill the missing cells of a table: means of numbers and the most probable category, given the cells that are there."""
    from ..workflows import impute as fill
    from ..workflows import open_run, save_imputed

    place = Path(out)
    require_rows(place)
    if place.exists() and Path(data).exists() and place.samefile(data):
        raise typer.BadParameter(
            f"--out must be another file than the table that is filled, which would be lost; got {out} for both."
        )
    found = fill(open_run(run), data, draws=draws, samples=samples, seed=seed)
    save_imputed(found, place)
    say_notes(json, found.notes)
    if json:
        facts = {"filled": found.filled, "effective_samples": found.median_effective_samples}
        print_json({"rows": str(place), **facts, "notes": list(found.notes)})
        return
    typer.echo(f"wrote {place}: {found}" + (f", {draws} draws of each row" if draws else ""))

"""`calibrae score` and `calibrae diagnose`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .._launched import is_first
from ._alarm import alarm_columns, alarm_facts, alarm_words, require_all
from ._options import (
    ArraysOption,
    DataOption,
    DeviceOption,
    HeaderFlag,
    JsonFlag,
    OwnSplitOption,
    ResizeOption,
    RunPath,
    Seed,
    SizeOption,
    SkipBrokenFlag,
    SplitOption,
    check_split,
    reading,
    split_of,
)
from ._print import print_findings, print_json, say_notes

SHOWN = 10


def score(
    run: RunPath,
    data: Annotated[
        str | None, typer.Argument(help="Data to score; by default the run's own.", show_default=False)
    ] = None,
    split: OwnSplitOption = None,
    importance_samples: Annotated[int, typer.Option(help="Samples K of the bound on -log p(x).")] = 50,
    false_alarms: Annotated[
        float | None,
        typer.Option(
            help="Raise an alarm at this rate of false alarms, as 0.01; calibrated on the run's test split.",
            show_default=False,
        ),
    ] = None,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="Judge by -log p(x) less the compressed length of an example.")
    ] = False,
    csv: Annotated[
        str | None, typer.Option(help="CSV to write; by default scores.csv in the run's folder.", show_default=False)
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="PNG to write; by default scores.png in the run's folder.", show_default=False)
    ] = None,
    arrays: ArraysOption = None,
    limit: Annotated[int | None, typer.Option(help="So many examples only, evenly spaced.", show_default=False)] = None,
    size: SizeOption = None,
    resize: ResizeOption = None,
    skip_broken: SkipBrokenFlag = False,
    header: HeaderFlag = None,
    seed: Seed = 0,
    device: DeviceOption = "auto",
    json: JsonFlag = False,
) -> None:
    """-log p(x) of each example, and where it comes from: anomalies first."""
    from ..workflows import column_names, draw_scores, save_arrays, save_scores_csv

    how: dict[str, Any] = {"importance_samples": importance_samples, "seed": seed, "device": device}
    how |= {"options": reading(run, size, resize, skip_broken, header)}
    found, seen = _scored(run, data, split, false_alarms, limit, how, corrected=corrected)
    if not is_first():
        return
    beside = {} if seen is None else alarm_columns(seen, column_names(run))
    table = save_scores_csv(found, Path(csv) if csv else Path(run) / "scores.csv", beside, corrected=corrected)
    place = Path(out) if out else Path(run) / "scores.png"
    picture = draw_scores(found, run, place, corrected=corrected)
    elements = found.attribution.per_element if arrays else None
    if arrays and elements is None:
        raise typer.BadParameter("--arrays: the elements of this likelihood are not independent given z; drop it.")
    numbers = save_arrays(elements, Path(arrays), column_names(run)) if arrays and elements is not None else None
    written = {"csv": str(table), "picture": str(picture)} | ({"arrays": str(numbers)} if numbers else {})
    top = [
        {"example": found.names[i], "nll_nats": float(found.nll[i])}
        | ({"corrected_nats": float(found.corrected[i])} if corrected else {})
        for i in found.ordered(corrected=corrected)[:SHOWN]
    ]
    mean = float(found.nll.mean())
    if json:
        print_json(
            {"n": len(found.nll), "importance_samples": found.samples, "seed": found.seed, "split": found.split, "mean_nll_nats": mean, "highest": top, "notes": list(found.notes)}
            | written | ({} if seen is None else alarm_facts(seen))
        )  # fmt: skip
        return
    source = f" of the {found.split} split" if data is None else ""
    typer.echo(
        f"{len(found.nll)} examples{source}, mean -log p(x) at most {mean:.2f} nats (K = {found.samples}); the most unusual{', and -log p(x) less the compressed length' * corrected}:"
    )
    for row in top:
        less = f"{row['corrected_nats']:>14.2f}" if corrected else ""
        typer.echo(f"{row['nll_nats']:>14.2f}{less}  {row['example']}")
    if seen is not None:
        typer.echo(alarm_words(seen, beside))
    say_notes(json, found.notes)
    for path in written.values():
        typer.echo(f"wrote {path}")


def _scored(
    run: str,
    data: str | None,
    split: str | None,
    false_alarms: float | None,
    limit: int | None,
    how: dict[str, Any],
    *,
    corrected: bool,
) -> tuple[Any, Any]:
    """Scores, and what an alarm says of them if one was asked for."""
    from ..acceleration import retain_freed_memory
    from ..workflows import score, watch

    with retain_freed_memory():
        if false_alarms is None:
            return score(run, data, split=split_of(split, data), limit=limit, **how), None
        require_all(limit)
        part = None if split is None else check_split(split)
        seen = watch(run, data, split=part, false_alarm_rate=false_alarms, corrected=corrected, **how)
        return seen.scores, seen


def diagnose(
    run: RunPath,
    data: DataOption = None,
    split: SplitOption = "test",
    size: SizeOption = None,
    resize: ResizeOption = None,
    skip_broken: SkipBrokenFlag = False,
    header: HeaderFlag = None,
    seed: Seed = 0,
    device: DeviceOption = "auto",
    json: JsonFlag = False,
) -> None:
    """Find faults of a run, most important first, and what to try."""
    from ..acceleration import retain_freed_memory
    from ..workflows import diagnose as diagnose_run

    with retain_freed_memory():
        options = reading(run, size, resize, skip_broken, header)
        found = diagnose_run(run, data, split=check_split(split), seed=seed, options=options, device=device)
    if json:
        print_json({"findings": [asdict(finding) for finding in found]})
    else:
        print_findings(found)

"""A report on several runs, side by side."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from .._optional import names_missing
from .._types import Split
from ..errors import ArgumentError
from ..evaluation import Evaluation, evaluate_model, number, summarise_split
from ..figures import save_overlay
from ..figures.page import Figure, Page, Section, Table, packed, render
from ..functional import error_of_mean
from ..runs import replace_text
from ..training import progress_bar
from ._draw import examples, reconstruct
from ._evaluate import Opened
from ._picture import save_picture
from ._run import Run, open_run

NAME = "comparison.html"
SHOWN = 8
SURE = 2.0  # standard errors
OTHER_DATA = (
    "These runs have other examples or another scale, so their ELBOs do not compare: look at each beside its baseline, or at bits per "
    "dimension."
)


@final
@dataclass(frozen=True)
class _Entry:
    """A run that is compared: its name, what it is, its record, and the ELBO of each example."""

    name: str
    run: Run
    record: Evaluation
    elbos: Tensor


@names_missing
@progress_bar()
def compare(
    runs: Sequence[str | Path | Run],
    out: str | Path | None = None,
    *,
    split: Split = "test",
    seed: int = 0,
) -> Path:
    """Write a report on several runs: differences in settings, paired differences of the ELBO, the same examples through each.

    Args:
        runs: run folders, or what `fit` returned; two at least.
        out: place of the file; by default `comparison.html` beside the first run.
        split: split that the numbers are of.
        seed: seed of all noise, the same for all runs.

    Returns:
        Place of the file.

    Raises:
        CalibraeError: if a run, its data or the place is not usable, or fewer than two runs are given.

    Examples:
        >>> runs = [
        ...     fit(build("vae", data_shape=(1, 8, 8), latent_dim=d), "digits", epochs=1, quiet=True, pictures=False) for d in (1, 2)
        ... ]
        >>> compare(runs, "one-or-two.html").name
        'one-or-two.html'
    """
    if len(runs) < 2:
        raise ArgumentError(f"a comparison needs two runs at least; got {len(runs)}.")
    opened = [run if isinstance(run, Run) else open_run(run) for run in runs]
    entries = [_entry(name, run, split, seed) for name, run in zip(_names(opened), opened, strict=True)]
    place = Path(out) if out is not None else opened[0].folder.path.resolve().parent / NAME
    place.parent.mkdir(parents=True, exist_ok=True)
    replace_text(place, render(_page(entries, split)))
    return place


def _names(runs: Sequence[Run]) -> list[str]:
    """Names of the folders; their paths where two are called alike."""
    short = [run.folder.path.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.folder.path) for run in runs]


def _entry(name: str, run: Run, split: Split, seed: int) -> _Entry:
    subject = Opened(run, None, None, None, "auto")
    summary = summarise_split(subject.model, subject.data, split, seed=seed)
    record = evaluate_model(
        subject.model,
        subject.data,
        split=split,
        seed=seed,
        baseline=subject.baseline,
        history=subject.history,
        summary=summary,
    )
    return _Entry(name, run, record, summary.elbos)


def _page(entries: Sequence[_Entry], split: str) -> Page:
    ranked = sorted(entries, key=lambda entry: -(entry.record.elbo_nats or float("-inf")))
    figures = [figure for figure in (_curves(entries), _same_examples(entries, split)) if figure is not None]
    return Page(
        title=" and ".join([", ".join(e.name for e in entries[:-1]), entries[-1].name]),
        subtitle=f"{len(entries)} runs compared on the {split} split",
        verdict=_verdict(ranked),
        numbers=[
            (e.name, number(e.record.elbo_nats, 2), f"± {number(e.record.elbo_standard_error, 2)} nats (ELBO)")
            for e in ranked
        ],
        highlights=figures,
        advice=None,
        sections=[
            Section("Settings that differ", tables=[_settings(entries)]),
            Section("Numbers", tables=[_numbers(ranked)]),
            Section("Paired differences", _how_paired(ranked), tables=[_differences(ranked)]),
        ],
        footer=f"Made by calibrae on {time.strftime('%Y-%m-%d')}. Numbers are in nats, means over examples.",
    )


def _verdict(ranked: Sequence[_Entry]) -> str:
    first, second = ranked[:2]
    if first.record.elbo_nats is None or second.record.elbo_nats is None:
        return "A plain autoencoder has no ELBO, so these runs have no common number."
    if _data(first) != _data(second):
        return OTHER_DATA
    mean, error, _ = _difference(first, second)
    if not abs(mean) > SURE * error:
        return f"{first.name} and {second.name} differ by less than the error can tell: {mean:.2f} ± {error:.2f} nats, on the same examples."
    return f"{first.name} is best: its ELBO is {mean:.2f} ± {error:.2f} nats above that of {second.name}, on the same examples."


def _difference(one: _Entry, other: _Entry) -> tuple[float, float, bool]:
    """Difference of the mean ELBOs, its standard error, and whether it is of the same examples, one by one."""
    is_paired = _data(one) == _data(other) and len(one.elbos) == len(other.elbos)
    if is_paired:
        difference = one.elbos - other.elbos
        return float(difference.mean()), error_of_mean(difference), True
    errors = error_of_mean(one.elbos) ** 2 + error_of_mean(other.elbos) ** 2
    return float(one.elbos.mean() - other.elbos.mean()), errors**0.5, False


def _data(entry: _Entry) -> str:
    """What tells whether two runs have the same examples on the same scale."""
    split: Any = entry.record.split
    return replace(entry.run.data, condition=None).identity(split)


def _how_paired(ranked: Sequence[_Entry]) -> str:
    if len({_data(entry) for entry in ranked}) == 1:
        return "Each is the mean difference of the ELBO on the same examples with the same noise, so what examples share cancels."
    return OTHER_DATA


def _differences(ranked: Sequence[_Entry]) -> Table:
    first, *others = [entry for entry in ranked if entry.record.elbo_nats is not None] or ranked[:1]
    rows = []
    for entry in others:
        mean, error, is_paired = _difference(first, entry)
        rows.append((f"{first.name} less {entry.name}", f"{mean:.2f}", f"{error:.2f}", "yes" if is_paired else "no"))
    return Table(("difference", "nats", "standard error", "paired"), rows)


def _numbers(ranked: Sequence[_Entry]) -> Table:
    head = (
        "run",
        "ELBO",
        "±",
        "baseline",
        "bits/dim",
        "-log p(x|z)",
        "KL",
        "active",
        "RMSE",
        "sigma",
        "epochs",
        "seconds",
    )
    rows = []
    for entry in ranked:
        e, history = entry.record, entry.run.history
        rows.append(
            (
                entry.name,
                number(e.elbo_nats, 2),
                number(e.elbo_standard_error, 2),
                number(e.baseline_log_likelihood_nats, 2),
                number(e.bits_per_dim, 4),
                number(e.reconstruction_nats, 2),
                number(e.kl_nats, 2),
                "-" if e.active_units is None else str(e.active_units),
                number(None if e.mse is None else e.mse**0.5, 5),
                number(e.sigma, 5),
                str(len(history)),
                f"{history[-1].get('seconds', 0.0):.0f}" if history else "-",
            )
        )
    return Table(head, rows)


def _settings(entries: Sequence[_Entry]) -> Table:
    flat = [_flat(entry.run.folder.read_config()) for entry in entries]
    names = sorted({name for one in flat for name in one if not name.startswith("request")})
    rows = [
        (name, *(one.get(name, "-") for one in flat)) for name in names if len({one.get(name, "-") for one in flat}) > 1
    ]
    return Table(("setting", *(entry.name for entry in entries)), rows or [("none", *[""] * len(entries))])


def _flat(table: dict[str, Any], before: str = "") -> dict[str, str]:
    """Entries of nested tables by their path."""
    found: dict[str, str] = {}
    for name, value in table.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": str(value)}
    return found


def _curves(entries: Sequence[_Entry]) -> Figure | None:
    with tempfile.TemporaryDirectory() as folder:
        png = save_overlay({entry.name: entry.run.history for entry in entries}, Path(folder) / "x.png").read_bytes()
    return Figure("Validation over epochs", packed(png), f"Curves of {len(entries)} runs.", is_wide=True)


def _same_examples(entries: Sequence[_Entry], split: str) -> Figure | None:
    """The same examples through each model; pictures of one shape only."""
    shapes = {entry.run.data.spec.data_shape for entry in entries}
    if len({_data(entry) for entry in entries}) > 1 or len(next(iter(shapes))) != 3:
        return None
    batches = [examples(entry.run.data, split, SHOWN) for entry in entries]  # type: ignore[arg-type]  # each with its own condition
    batch = batches[0]
    rebuilt = [reconstruct(e.run.model, own.x, own.context).cpu() for e, own in zip(entries, batches, strict=True)]
    shown = entries[0].run.data.preparation.restore(torch.cat([batch.x, *rebuilt]))
    labels = ["data", *(entry.name for entry in entries)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "x.png"
        png = save_picture(
            shown, place, columns=len(batch), rows=labels, title="reconstructions of the same examples"
        ).read_bytes()
    return Figure(
        "The same examples through each model",
        packed(png),
        f"{len(batch)} examples and their reconstructions.",
        is_wide=True,
    )

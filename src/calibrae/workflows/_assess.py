"""Everything about a trained run: all estimates, what is wrong with it, and how unusual examples are."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import functional
from .._optional import names_missing
from .._types import AnySplit, Split
from ..data import Column, Data, DataOptions, Preparation, counted, listed
from ..errors import ArgumentError, DataError
from ..evaluation import (
    Attribution,
    Finding,
    FullEvaluation,
    FullSettings,
    attribute,
    compressed_nats,
    evaluate_further,
    evaluate_model,
    findings,
    prior_bound,
    split_bounds,
)
from ..figures import save_calibration, save_latents, save_scores
from ..models import VAE
from ..runs import replace_text
from ..training import progress_bar
from ._draw import column_names
from ._evaluate import Opened, open_together
from ._evidence import gather
from ._over import cells_in_words
from ._run import Run
from ._stored import run_preparation

PICTURED = 8


@dataclass
class Scores:
    """Scores: how unusual examples are.

    Attributes:
        names: name of each example.
        nll: `-log p(x)` of each, at most, `[N]`, nats: the importance-weighted bound.
        bits_per_dim: score in bits per dimension, for integer data.
        samples: `K`.
        seed: seed of all noise.
        split: split that was scored.
        to_levels: nats from the density to the probability of whole numbers: `D log levels`.
        compress: to the compressed length of each example; `None` for data that are not whole numbers.
        attribute: from positions among them, or `None` for all, to where the reconstruction term comes from.
        notes: sentences on the examples that were scored, how they were read, and what some of them needed.
    """

    names: list[str]
    nll: Tensor
    bits_per_dim: Tensor | None
    samples: int
    seed: int
    split: AnySplit
    attribute: Callable[[Sequence[int] | None], Attribution] = field(repr=False)
    notes: tuple[str, ...] = ()
    to_levels: float = 0.0
    compress: Callable[[], Tensor] | None = field(default=None, repr=False)

    @cached_property
    def complexity(self) -> Tensor:
        """Compressed length of each example, `[N]`, nats: `compressed_nats`, computed when it is asked for.

        Raises:
            ArgumentError: for data that are not whole numbers, of which there is no such length.
        """
        if self.compress is None:
            raise ArgumentError(
                "the complexity of an example is the length of its file, so the data must be whole numbers, such as pictures. Leave it out."
            )
        return self.compress()

    @property
    def corrected(self) -> Tensor:
        """`-log P(x)` of the whole numbers less the complexity, `[N]`, nats: below 0 where the model would need fewer bits than a file."""
        return self.nll + self.to_levels - self.complexity

    @cached_property
    def attribution(self) -> Attribution:
        """Where the reconstruction term of each example comes from, and the examples themselves: computed when it is asked for."""
        return self.attribute(None)

    @property
    def order(self) -> list[int]:
        """Positions, the most unusual first."""
        return self.ordered()

    def ordered(self, *, corrected: bool = False) -> list[int]:
        """Positions, those of the highest score first; of the corrected score if that is asked for."""
        return (self.corrected if corrected else self.nll).argsort(descending=True).tolist()


def _full_settings(
    examples: int | None, samples: Sequence[int] | None, annealed_examples: int | None, temperatures: int | None
) -> FullSettings:
    """The usual amount of work of a full evaluation, with some of it changed."""
    usual = FullSettings()
    asked: dict[str, Any] = {"examples": examples, "annealed_examples": annealed_examples}
    asked |= {"importance_samples": None if samples is None else tuple(samples)}
    asked |= {"annealed": None if temperatures is None else replace(usual.annealed, temperatures=temperatures)}
    return replace(usual, **{name: value for name, value in asked.items() if value is not None})


@names_missing
@progress_bar()
def evaluate_full(
    run: str | Path | Run | VAE,
    data: Any = None,
    *,
    split: AnySplit = "test",
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    examples: int | None = None,
    importance_samples: Sequence[int] | None = None,
    annealed_examples: int | None = None,
    temperatures: int | None = None,
    model: VAE | None = None,
    options: DataOptions | None = None,
    condition: Any = None,
    device: str = "auto",
    pictures: bool = True,
) -> FullEvaluation:
    """Every estimate of a run's likelihood, the calibration of its sigma and the diagnosis of its latents.

    Draws `calibration.png` and `latents.png` into the run's folder.

    Args:
        run: a run folder, what `fit` returned, or a model with a fixed scale and its data.
        data: other data than the run's own.
        split: `train`, `validation`, `test` or `all`.
        seed: seed of all noise.
        batch_size: examples at once; does not change the numbers.
        limit: so many examples for the ELBO only, evenly spaced.
        examples: number of examples, evenly spaced, that the importance-weighted bounds are taken on; by default 200.
        importance_samples: numbers of samples of those bounds; by default 1, 50, 500, 5000.
        annealed_examples: number of examples that are annealed, and that are simulated; by default 16.
        temperatures: temperatures of annealing, by default 100; more tighten it.
        model: an instance of the same architecture; needed for the folder of a run of custom modules.
        options: how to read other data.
        condition: condition of other data.
        device: where to compute, to which the model is moved; `auto`: where the model of a `Run`, or `model`, is; else on a
            CUDA device, if one can be used.
        pictures: whether to draw.

    Raises:
        CalibraeError: if the run, the data or a number is not usable, saying what to do.
    """
    opened = Opened(run, data, options, model, device, condition)
    trained, use, path = opened.model, opened.data, opened.path
    first = evaluate_model(
        trained,
        use,
        split=split,
        seed=seed,
        batch_size=batch_size,
        limit=limit,
        baseline=opened.baseline,
        history=opened.history,
    )
    first = replace(first, notes=(*first.notes, *opened.notes(split)))
    if first.elbo_nats is None:
        raise ArgumentError(
            "a plain autoencoder has no density, so there is nothing to estimate beyond its error. Drop --full."
        )
    settings = _full_settings(examples, importance_samples, annealed_examples, temperatures)
    found = evaluate_further(trained, use, first, settings=settings, batch_size=batch_size)
    if pictures and path is not None:
        if found.calibration is not None:
            save_calibration(found.calibration.overall.pit, found.calibration.element_spread, path / "calibration.png")
        if found.latents.kl_per_dim is not None:
            save_latents(found.latents.kl_per_dim, found.latents.posterior_mean_variance, path / "latents.png")
    return found


@names_missing
@progress_bar()
def diagnose(
    run: str | Path | Run | VAE,
    data: Any = None,
    *,
    split: Split = "test",
    seed: int = 0,
    model: VAE | None = None,
    options: DataOptions | None = None,
    condition: Any = None,
    device: str = "auto",
) -> list[Finding]:
    """Find faults of a run, most important first, and what to try; empty if nothing is.

    Args:
        run: a run folder, what `fit` returned, or a model with a fixed scale and its data.
        data: other data than the run's own.
        split: split that is taken as test data.
        seed: seed of all noise.
        model: an instance of the same architecture; needed for the folder of a run of custom modules.
        options: how to read other data.
        condition: condition of other data.
        device: where to compute, to which the model is moved; `auto`: where the model of a `Run`, or `model`, is; else on a
            CUDA device, if one can be used.

    Raises:
        CalibraeError: if the run or the data is not usable, saying what to do.
    """
    opened = Opened(run, data, options, model, device, condition)
    return findings(gather(opened, split, seed))


@names_missing
@progress_bar()
def score(
    run: str | Path | Run | VAE,
    data: Any = None,
    *,
    split: AnySplit | None = None,
    importance_samples: int = 50,
    seed: int = 0,
    limit: int | None = None,
    model: VAE | None = None,
    options: DataOptions | None = None,
    condition: Any = None,
    device: str = "auto",
) -> Scores:
    """`-log p(x)` of each example, and where it comes from: high for what the model has not learnt to expect.

    Args:
        run: a run folder, what `fit` returned, or a model with a fixed scale and its data.
        data: other data than the run's own.
        split: `train`, `validation`, `test` or `all`; by default all of the data that are given, or the run's own test split.
        importance_samples: `K` of the bound.
        seed: seed of all noise.
        limit: so many examples only, evenly spaced.
        model: an instance of the same architecture; needed for the folder of a run of custom modules.
        options: how to read other data.
        condition: condition of other data.
        device: where to compute, to which the model is moved; `auto`: where the model of a `Run`, or `model`, is; else on a
            CUDA device, if one can be used.

    Raises:
        CalibraeError: if the run, the data or a number is not usable, saying what to do.
    """
    chosen = split or ("test" if data is None else "all")
    call = ("score", importance_samples, seed, limit)
    opened, world = open_together(call, chosen, run, data, options, model, device, condition)
    trained, use = opened.model, opened.data
    names = use.names(chosen, limit)
    bound = split_bounds(trained, use, chosen, importance_samples, seed=seed, limit=limit, world=world).log_likelihood
    bound, far = _with_prior(trained, use, chosen, bound, importance_samples, seed=seed, limit=limit)
    levels = use.spec.density_levels
    bits = None if levels is None else functional.bits_per_dim(-bound, use.spec.data_dim, levels)

    def where(positions: Sequence[int] | None) -> Attribution:
        if positions is None:
            return attribute(trained, use.batches(chosen, use.rows_at_once(512), seed, limit))
        rows = use.positions(chosen, limit)[torch.as_tensor(positions, dtype=torch.long)]
        return attribute(trained, [use.gather(chosen, rows, seed)])

    def compress() -> Tensor:
        rows = use.positions(chosen, limit).numpy()
        blocks = np.array_split(rows, max(1, len(rows) // 1024))
        return torch.cat([compressed_nats(use.view(chosen).gather(block)) for block in blocks])

    notes = (*opened.notes(chosen), *far)
    shorten = compress if use.source.levels is not None and use.spec.preparation != "binarise" else None
    to_levels = 0.0 if levels is None else use.spec.data_dim * math.log(levels)
    return Scores(names, -bound, bits, importance_samples, seed, chosen, where, notes, to_levels, shorten)


def _with_prior(
    model: VAE, data: Data, split: AnySplit, bound: Tensor, samples: int, *, seed: int, limit: int | None
) -> tuple[Tensor, tuple[str, ...]]:
    """The bounds, with samples of the prior for examples so far out that the encoder gives no usable posterior; and a note.

    Raises:
        DataError: if even that is not finite, naming the first such example.
    """
    lost = (~bound.isfinite()).nonzero().flatten()
    if not len(lost):
        return bound, ()
    names = data.names(split, limit)
    found = bound.clone()
    found[lost] = prior_bound(model, data.gather(split, data.positions(split, limit)[lost], seed), samples, seed)
    is_zero = found.isneginf() & bool(data.spec.columns)  # below 0 where a column is positive: p(x) = 0 is the answer
    still = [names[int(i)] for i in lost if not (found[i].isfinite() or is_zero[i])]
    if still:
        raise DataError(
            f"every example must be near enough for its density to be computed; got {counted(len(still), 'example')} that are not: "
            f"{listed(still)}. Check these values, or leave them out."
        )
    which = listed([names[int(i)] for i in lost])
    return found, (
        f"{counted(len(lost), 'example')} so far out that the encoder gives no usable posterior: the score is a bound from samples of "
        f"the prior ({which})",
    )


def draw_scores(scores: Scores, run: str | Path, path: Path, *, corrected: bool = False) -> Path:
    """The most unusual examples, their reconstructions, and where they differ most; by the corrected score if that is asked for."""
    preparation, names = run_preparation(run), column_names(run)
    fields = () if preparation.schema is None else preparation.schema.fields
    top = scores.ordered(corrected=corrected)[:PICTURED]
    found, values = scores.attribute(top), scores.corrected if corrected else scores.nll
    titles = [f"{scores.names[i]}: {float(values[i]):.1f} nats" for i in top]
    elements = found.per_element
    if elements is None:
        raise ArgumentError(
            "the elements of this likelihood are not independent given z: there is no picture of where a score comes from."
        )
    said = _cells(preparation, fields, found.x) if fields and fields[0].type else []
    return save_scores(found.x, found.x_hat, elements, titles, path, names, said)


def _cells(preparation: Preparation, fields: Sequence[Column], x: Tensor) -> list[list[str]]:
    """Cells of rows on the model's scale in words, those beyond the range of training as they are."""
    rows = preparation.in_units(x)
    for i, column in enumerate(fields):
        own = (x[:, i].double().cpu() * preparation.scale[i] + preparation.shift[i]).numpy()
        beyond = (own < column.least) | (own >= column.most + (column.step or 1e-9 * abs(column.most)))
        if column.most > column.least:
            rows[:, i] = np.where(beyond, own, rows[:, i])
    return [cells_in_words(fields, row[None]) for row in rows]


def save_scores_csv(
    scores: Scores, path: Path, further: Mapping[str, Sequence[Any]] | None = None, *, corrected: bool = False
) -> Path:
    """One row an example, the most unusual first: example, nll_nats, bits_per_dim (of integer data), and further columns by name.

    With `corrected`, by that score, which is in the columns `complexity_nats` and `corrected_nats`.
    """
    beside = dict(further or {})
    if corrected:
        own = {"complexity_nats": scores.complexity, "corrected_nats": scores.corrected}
        beside = {name: [f"{float(v):.9g}" for v in values] for name, values in own.items()} | beside
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["example", "nll_nats"] + (["bits_per_dim"] if scores.bits_per_dim is not None else []) + list(beside)
    )
    for i in scores.ordered(corrected=corrected):
        bits = [f"{float(scores.bits_per_dim[i]):.6g}"] if scores.bits_per_dim is not None else []
        writer.writerow([scores.names[i], f"{float(scores.nll[i]):.9g}", *bits, *(c[i] for c in beside.values())])
    replace_text(path, stream.getvalue())
    return path

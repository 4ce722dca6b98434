"""Models of columns for a likelihood, fitted on the training split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..._types import ColumnModel, Head
from ...errors import DataError
from .._schema import Column
from .._source import Array

HEAD_OF: dict[str, Head] = {
    "real": "gaussian",
    "date": "gaussian",
    "positive": "gaussian",
    "heavy-tailed": "student-t",
    "count": "negative-binomial",
    "ordinal": "ordinal",
    "categorical": "categorical",
    "binary": "bernoulli",
    "zero-inflated": "hurdle",
}
OUTERMOST = 3.0  # largest normal score among the knots of a transform
FEW_KNOTS, MOST_KNOTS = 25, 49
A_KNOT, A_FURTHER_KNOT = 25, 100  # training values for each of the few knots, and for each of more
PRIOR_COUNT = 0.5  # added to the count of every level, so that none is impossible
SEED = 0


@dataclass(frozen=True)
class Fitted:
    """Model of a column, and the affine map of its stored values to the model's scale.

    Attributes:
        model: for the likelihood.
        shift: subtracted from the stored values.
        step: width of the uniform noise that is added before; 0 for none.
    """

    model: ColumnModel
    shift: float
    step: float


def fit_columns(name: str, fields: Sequence[Column], rows: Array) -> list[Fitted]:
    """Models of the columns of a table.

    Args:
        name: name of the data, for messages.
        fields: its columns.
        rows: stored values of the training split, `[N, D]`, NaN where a cell is missing.

    Raises:
        DataError: if a column has no two values in the training split.
    """
    return [_fitted(name, column, rows[:, i]) for i, column in enumerate(fields)]


def _fitted(name: str, column: Column, cells: Array) -> Fitted:
    values = cells[~np.isnan(cells)].astype(np.float64)
    head, missing = HEAD_OF[column.type], 1.0 - len(values) / len(cells)
    if len(values) < 2 or values.min() == values.max():
        raise DataError(
            f"{name}: every column must vary in the training split; {column.name!r} has {'one value' if len(values) else 'no value'} "
            f"there. Leave it out: --types \"{column.name}=leave-out\", or columns={{{column.name!r}: 'leave-out'}} in Python."
        )
    if head in ("categorical", "bernoulli", "ordinal"):
        return _of_levels(column, head, values, missing)
    if head == "negative-binomial":
        mean, variance = float(values.mean()), float(values.var())
        return Fitted(ColumnModel(column.name, head, mean=mean, variance=variance, missing=missing), 0.0, 0.0)
    if head == "hurdle":
        return _of_hurdle(column, values, missing)
    return _of_numbers(column, head, values, missing, is_positive=column.type == "positive")


def _of_levels(column: Column, head: Head, values: Array, missing: float) -> Fitted:
    count = column.levels if head == "ordinal" else len(column.categories)
    assert count is not None
    shift, width = (column.low, column.step) if head == "ordinal" else (0.0, 1.0)
    levels = np.rint((values - shift) / width).astype(np.int64)
    counts = np.bincount(levels, minlength=count) + PRIOR_COUNT
    shares = tuple(float(share) for share in counts / counts.sum())
    return Fitted(ColumnModel(column.name, head, scale=width, shares=shares, missing=missing), shift, 0.0)


def _of_hurdle(column: Column, values: Array, missing: float) -> Fitted:
    atom = column.atom
    others = values[values != atom] - atom
    is_positive = bool((others > 0).all())
    inner = _of_numbers(column, "hurdle", others, missing, is_positive=is_positive, shift=0.0)
    share = (len(others) + PRIOR_COUNT) / (len(values) + 2 * PRIOR_COUNT)
    model = ColumnModel(
        column.name,
        "hurdle",
        inner.model.scale,
        is_positive,
        inner.model.knots,
        inner.model.scores,
        (share,),
        0.0,
        missing=missing,
    )
    return Fitted(model, atom, column.step)


def _of_numbers(
    column: Column, head: Head, values: Array, missing: float, *, is_positive: bool, shift: float | None = None
) -> Fitted:
    if column.step:  # as they are when they are seen with their noise
        values = values + column.step * np.random.default_rng(SEED).random(len(values))
    shift = (0.0 if is_positive else float(values.mean())) if shift is None else shift
    scale = float(np.median(values)) if is_positive else float(values.std())
    scaled = (values - shift) / scale
    seen = np.log(scaled) if is_positive else scaled
    knots, scores = ((0.0, 1.0), (0.0, 1.0)) if head == "student-t" else _line(seen)
    return Fitted(
        ColumnModel(column.name, head, scale, is_positive, knots, scores, missing=missing), shift, column.step
    )


def _line(values: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Increasing broken line from values to normal scores: quantiles at equal distances of the score."""
    few, many = min(len(values) // A_KNOT, FEW_KNOTS), min(len(values) // A_FURTHER_KNOT, MOST_KNOTS)
    count = max(few, many, 2)
    if count < 3:
        mean, std = float(values.mean()), float(values.std()) or 1.0
        return (mean - std, mean + std), (-1.0, 1.0)
    edge = min(OUTERMOST, float(np.sqrt(2.0 * np.log(max(len(values), 8) / 4.0))))
    scores = np.linspace(-edge, edge, count)
    knots = np.quantile(values, torch.special.ndtr(torch.from_numpy(scores)).numpy())
    least = 1e-4 * max(float(values.std()), 1e-12)
    tied = np.concatenate([[0], np.cumsum(np.diff(knots) > least)])  # a piece must rise, though many values be equal
    places = [np.flatnonzero(tied == group) for group in range(tied[-1] + 1)]
    if len(places) < 2:
        mean, std = float(values.mean()), float(values.std()) or 1.0
        return (mean - std, mean + std), (-1.0, 1.0)
    return tuple(float(knots[own[0]]) for own in places), tuple(float(scores[own].mean()) for own in places)

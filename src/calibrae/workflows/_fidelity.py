"""Fidelity of synthetic rows: shapes of columns, pairs of columns, and copies of training rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from ..data.tables import stored_rows
from ..errors import ArgumentError
from ..training import progress_bar
from ._over import stored_of
from ._run import Run

MOST_ROWS = 5000  # of each side of a comparison of distances
BLOCK = 256


@final
@dataclass(frozen=True)
class Fidelity:
    """How near synthetic rows are to held-out rows of the table, beside how near training rows are.

    Attributes:
        rows: number of synthetic rows.
        shapes: error of each column: the Kolmogorov-Smirnov distance of numbers, the total variation distance of categories; 0 to 1.
        shape_error: mean of them.
        pair_error: mean over pairs of columns of half the absolute difference of correlations (rank correlation of numbers, Cramer's V
            where a category is one of the two).
        held_out_shape_error: shape error of the training rows against the same held-out rows: what chance alone gives.
        nearest: median distance of a synthetic row to its nearest training row.
        held_out_nearest: median distance of a held-out row to its nearest training row; copies would make `nearest` much smaller.
        copies: share of synthetic rows that equal a training row in every cell.
        held_out_copies: that share of held-out rows.
    """

    rows: int
    shapes: dict[str, float]
    shape_error: float
    pair_error: float
    held_out_shape_error: float
    nearest: float
    held_out_nearest: float
    copies: float
    held_out_copies: float

    def __str__(self) -> str:
        """Table for people."""
        worst = sorted(self.shapes.items(), key=lambda item: -item[1])[:3]
        lines = [
            ("rows", f"{self.rows:,}"),
            (
                "column shapes",
                f"{self.shape_error:.2%} mean error ({self.held_out_shape_error:.2%} between training and held-out rows)",
            ),
            ("farthest", ", ".join(f"{name} {error:.2%}" for name, error in worst)),
            ("pairs", f"{self.pair_error:.2%} mean error"),
            ("nearest row", f"{self.nearest:.3f} to the training rows, {self.held_out_nearest:.3f} for held-out rows"),
            ("copies", f"{self.copies:.2%} equal a training row; {self.held_out_copies:.2%} of held-out rows do"),
        ]
        return "\n".join(f"{name:<14} {value}" for name, value in lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


@progress_bar()
def fidelity(run: Run, rows: Any) -> Fidelity:
    """Compare synthetic rows with the held-out (test) rows of the run's table.

    Args:
        run: trained on a table of mixed columns.
        rows: data frame of `sample_frame`, or a table of another synthesiser with the same columns; also a path.

    Raises:
        ArgumentError: if the run was not trained on such a table.
    """
    schema = run.preparation.schema
    if schema is None or not schema.is_mixed:
        raise ArgumentError(f"{run.path} was not trained on a table of mixed columns, so there are no rows to compare.")
    made = stored_rows(schema, rows)
    train, held_out = (stored_of(run.data, split) for split in ("train", "test"))
    is_category = np.array([column.type in ("categorical", "binary") for column in schema.fields])
    errors = [
        _shape_error(made[:, j], held_out[:, j], categories=bool(is_category[j])) for j in range(len(is_category))
    ]
    chance = [
        _shape_error(train[:, j], held_out[:, j], categories=bool(is_category[j])) for j in range(len(is_category))
    ]
    scale = _scale(train)
    return Fidelity(
        rows=len(made),
        shapes=dict(zip(schema.columns, errors, strict=True)),
        shape_error=float(np.mean(errors)),
        pair_error=_pair_error(made, held_out, is_category),
        held_out_shape_error=float(np.mean(chance)),
        nearest=_nearest(made, train, is_category, scale),
        held_out_nearest=_nearest(held_out, train, is_category, scale),
        copies=_copies(made, train),
        held_out_copies=_copies(held_out, train),
    )


def _shape_error(one: np.ndarray, other: np.ndarray, *, categories: bool) -> float:
    """Total variation distance of categories, Kolmogorov-Smirnov distance of numbers."""
    one, other = one[~np.isnan(one)], other[~np.isnan(other)]
    if not len(one) or not len(other):
        return 1.0
    values = np.unique(np.concatenate([one, other]))
    if categories:
        shares = [
            np.searchsorted(np.sort(x), values, "right") - np.searchsorted(np.sort(x), values, "left")
            for x in (one, other)
        ]
        return float(0.5 * np.abs(shares[0] / len(one) - shares[1] / len(other)).sum())
    below = [np.searchsorted(np.sort(x), values, "right") / len(x) for x in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def _pair_error(made: np.ndarray, held_out: np.ndarray, is_category: np.ndarray) -> float:
    pairs = [(a, b) for a in range(len(is_category)) for b in range(a)]
    errors = [
        abs(
            association(made[:, a], made[:, b], is_category[[a, b]])
            - association(held_out[:, a], held_out[:, b], is_category[[a, b]])
        )
        for a, b in pairs
    ]
    return float(np.mean(errors) / 2) if errors else 0.0


def association(a: np.ndarray, b: np.ndarray, is_category: np.ndarray) -> float:
    """Rank correlation of two numbers; Cramer's V where one is a category (numbers in ten groups of equal size)."""
    there = ~(np.isnan(a) | np.isnan(b))
    a, b = a[there], b[there]
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return 0.0
    if not is_category.any():
        return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])
    codes = [x if c else np.floor(10 * (_ranks(x) - 0.5) / len(x)) for x, c in zip((a, b), is_category, strict=True)]
    table = np.zeros([len(np.unique(x)) for x in codes])
    np.add.at(table, tuple(np.unique(x, return_inverse=True)[1] for x in codes), 1.0)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    chi = float(((table - expected) ** 2 / expected).sum())
    return float(np.sqrt(chi / table.sum() / max(1, min(table.shape) - 1)))


def _ranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 1; those of equal values are averaged."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    found: np.ndarray = (last - (counts - 1) / 2)[inverse]
    return found


def _scale(train: np.ndarray) -> np.ndarray:
    spread: np.ndarray = np.nanstd(train, axis=0)
    return np.where(spread > 0, spread, 1.0)


def _thinned(rows: np.ndarray) -> np.ndarray:
    return rows if len(rows) <= MOST_ROWS else rows[np.linspace(0, len(rows) - 1, MOST_ROWS).round().astype(np.int64)]


def _nearest(rows: np.ndarray, train: np.ndarray, is_category: np.ndarray, scale: np.ndarray) -> float:
    """Median distance to the nearest training row: mean over columns of standardised differences (at most 1), 0 or 1 for categories.

    A missing cell is 0 from another, .5 from a number and 1 from a category.
    """
    rows, train = _thinned(rows), _thinned(train)
    found = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        total = np.zeros((len(block), len(train)))
        for j, is_one in enumerate(is_category):
            one, other = block[:, j, None], train[None, :, j]
            apart = np.abs(one - other)
            near = (apart > 0).astype(float) if is_one else np.minimum(apart / scale[j], 1.0)
            both = np.isnan(one) & np.isnan(other)
            total = total + np.where(np.isnan(apart), np.where(both, 0.0, 1.0 if is_one else 0.5), near)
        found.append(total.min(1) / len(is_category))
    return float(np.median(np.concatenate(found)))


def _copies(rows: np.ndarray, train: np.ndarray) -> float:
    known = {row.tobytes() for row in _comparable(train)}
    return float(np.mean([row.tobytes() in known for row in _comparable(rows)]))


def _comparable(rows: np.ndarray) -> np.ndarray:
    """Rows whose equal cells have equal bytes: numbers as float32, one zero, one kind of missing cell."""
    found: np.ndarray = np.ascontiguousarray(np.where(np.isnan(rows), np.nan, rows).astype(np.float32) + 0.0)
    return found

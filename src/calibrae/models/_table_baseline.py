"""Baseline of a table of mixed columns: a product of marginals, a tree, and factor analysis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import Tensor

from .. import functional
from .._plain import record_of
from .._types import ColumnModel
from ..errors import ArgumentError
from ..likelihoods import MixedLikelihood


@final
@dataclass(frozen=True)
class TableBaseline:
    """Product of a Chow-Liu tree over categories, factor analysis of the normal scores of numbers, and marginals of the rest.

    Of a conditional table: factor analysis of what a regression on the condition leaves, and logistic regressions of the categories in
    place of the tree where they are better on the validation rows.

    Attributes:
        columns: models of the columns, whose marginals are those of training.
        discrete: columns of the tree.
        tree: the tree; `None` for fewer than two such columns.
        numeric: columns of the factor analysis.
        factor: the factor analysis; of one column a normal distribution after the regression, and `None` without one.
        slope: regression of the normal scores on the condition, `[K, numeric]`; `None` without one.
        weights: logistic regression of each discrete column on the condition, `[K + 1, levels]`; empty without one, or with a tree.
    """

    columns: tuple[ColumnModel, ...]
    discrete: tuple[int, ...]
    tree: functional.Tree | None
    numeric: tuple[int, ...]
    factor: functional.MissingFactor | None
    slope: Tensor | None = None
    weights: tuple[Tensor, ...] = ()

    @property
    def name(self) -> str:
        """Words for people."""
        rest = (
            len(self.columns)
            - len(self.discrete) * (self.tree is not None or bool(self.weights))
            - len(self.numeric) * (self.factor is not None)
        )
        parts = []
        if self.tree is not None:
            parts.append(f"a Chow-Liu tree of {len(self.discrete)} columns")
        if self.weights:
            many = len(self.discrete) > 1
            words = (
                f"logistic regressions of {len(self.discrete)} columns" if many else "logistic regression of 1 column"
            )
            parts.append(f"{words} on the condition")
        if self.factor is not None:
            count = self.factor.weight.shape[1]
            parts.append(
                "regression of 1 column on the condition"
                if len(self.numeric) == 1
                else f"factor analysis of {len(self.numeric)} columns with {count} {'factor' if count == 1 else 'factors'}"
                + ("" if self.slope is None else " after regression on the condition")
            )
        if rest:
            parts.append(f"marginals of {rest} {'column' if rest == 1 else 'columns'}")
        return " times ".join(parts)

    def marginals(self, x: Tensor) -> Tensor:
        """Log-probability of each cell under its column's own distribution in training, `[N, D]`, nats; 0 for a missing cell."""
        likelihood = MixedLikelihood(self.columns).double()
        likelihood.set_data_shape((len(self.columns),))
        start, _ = likelihood.output_init(torch.zeros(()), torch.ones(()))
        with torch.no_grad():
            found: Tensor = likelihood(start.double().expand(len(x), -1)).log_prob_per_element(x.double())
        return found

    def log_likelihood(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-likelihood of the observed cells of each row, `[N]`, nats, in the units of the table; given its condition, if it has one."""
        if context is None and (self.weights or self.slope is not None):
            raise ArgumentError("this baseline depends on the condition; got none. Pass `context`, [N, context_dim].")
        cells = self.marginals(x)
        used = [*self.discrete] * (self.tree is not None or bool(self.weights))
        used += [*self.numeric] * (self.factor is not None)
        rest = [i for i in range(len(self.columns)) if i not in used]
        total = cells[:, rest].sum(1)
        if self.tree is not None:
            total = total + self.tree.log_prob(levels_in(x, self.discrete))
        for column, weights in zip(levels_in(x, self.discrete).T, self.weights, strict=False):
            assert context is not None
            total = total + functional.level_log_prob(weights, context, column)
        if self.factor is not None:
            scores = scores_in(x, self.columns, self.numeric)
            slopes = cells[:, self.numeric] - _standard_log_prob(scores)
            left = scores if self.slope is None or context is None else scores - context.double() @ self.slope
            total = total + self.factor.log_prob(left) + slopes.sum(1)
        return total

    def to_arrays(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain facts, from which `from_arrays` makes it again."""
        arrays: dict[str, Tensor] = {}
        if self.tree is not None:
            arrays |= {f"tree{i}": table for i, table in enumerate(self.tree.tables)}
        if self.factor is not None:
            arrays |= {"mean": self.factor.mean, "weight": self.factor.weight, "noise": self.factor.noise}
        arrays |= {f"weights{i}": weights for i, weights in enumerate(self.weights)}
        arrays |= {} if self.slope is None else {"slope": self.slope}
        facts: dict[str, Any] = {"columns": [asdict(column) for column in self.columns]}
        facts |= {"discrete": list(self.discrete), "numeric": list(self.numeric)}
        facts |= {} if self.tree is None else {"parents": list(self.tree.parents), "order": list(self.tree.order)}
        return arrays, facts

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor], facts: Mapping[str, Any]) -> TableBaseline:
        """The inverse of `to_arrays`.

        Raises:
            KeyError: if a part is missing.
            ArgumentError: if a column is not described.
        """
        tree, factor = None, None
        if "parents" in facts:
            tables = tuple(arrays[f"tree{i}"] for i in range(len(facts["parents"])))
            tree = functional.Tree(tuple(facts["parents"]), tuple(facts["order"]), tables)
        if "weight" in arrays:
            factor = functional.MissingFactor(arrays["mean"], arrays["weight"], arrays["noise"])
        columns = tuple(record_of(ColumnModel, column) for column in facts["columns"])
        weights = tuple(arrays[f"weights{i}"] for i in range(len(facts["discrete"])) if f"weights{i}" in arrays)
        discrete, numeric = tuple(facts["discrete"]), tuple(facts["numeric"])
        return cls(columns, discrete, tree, numeric, factor, arrays.get("slope"), weights)


def _standard_log_prob(scores: Tensor) -> Tensor:
    """Log density of normal scores under a standard normal; 0 for a missing one."""
    found: Tensor = torch.distributions.Normal(0.0, 1.0, validate_args=False).log_prob(scores).nan_to_num(0.0)
    return found


def levels_in(x: Tensor, columns: tuple[int, ...]) -> Tensor:
    """Levels of discrete columns, `[N, n]`; -1 for a missing cell."""
    return x[:, list(columns)].nan_to_num(-1.0).round().long()


def scores_in(x: Tensor, columns: tuple[ColumnModel, ...], chosen: tuple[int, ...]) -> Tensor:
    """Normal scores of numeric columns, `[N, n]`, float64; NaN for a missing cell."""
    transform = MixedLikelihood.transform_of([columns[i] for i in chosen]).double()
    cells = x[:, list(chosen)].double()
    score, _ = transform(cells.nan_to_num(1.0))
    found: Tensor = score.masked_fill(cells.isnan(), torch.nan)
    return found

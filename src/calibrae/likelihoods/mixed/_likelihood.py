"""Likelihood of a table of mixed columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, final

import torch
from torch import Tensor, nn

from ..._plain import record_of
from ..._registry import component
from ..._types import ColumnModel, Float, Shape
from ...errors import ArgumentError, ShapeError
from .._base import InputLayer, Likelihood
from .._distributions import widened
from ._discrete import BernoulliHead, CategoricalHead, NegativeBinomialHead, OrdinalHead, PoissonHead
from ._distribution import MixedRow
from ._head import Head
from ._inputs import ColumnInput, by_head
from ._numbers import GaussianHead, HurdleHead, StudentHead, Transform

FAMILIES: dict[str, type[Head]] = {
    "gaussian": GaussianHead,
    "student-t": StudentHead,
    "poisson": PoissonHead,
    "negative-binomial": NegativeBinomialHead,
    "ordinal": OrdinalHead,
    "categorical": CategoricalHead,
    "bernoulli": BernoulliHead,
    "hurdle": HurdleHead,
}


@final
@component("mixed")
class MixedLikelihood(Likelihood):
    r"""$p(x|z) = \prod_{j\ \text{observed}} p_j(x_j|z)$: one family for each column of a table, in the units of the table.

    $$-\log p(x|z) = -\sum_{j\ \text{observed}} \log p_j(x_j | z)$$

    Numbers have log densities in the units of the table, categories, levels and counts log-probabilities, all in nats with every
    constant; a row's sum is a log density with respect to length in the first and counting in the others. A missing cell is NaN and
    counts nothing: it is integrated out, which is exact for cells that are missing at random.

    Args:
        columns: models of the columns, as `load_data(table).spec.columns` gives them; or the same as dicts.

    Raises:
        ArgumentError: if a column is not described.

    References:
        Mattei & Frellsen 2019, https://arxiv.org/abs/1812.02633 (missing cells); Nazabal et al. 2020,
        https://arxiv.org/abs/1807.03653 (families by column)

    Examples:
        >>> from calibrae.likelihoods import ColumnModel
        >>> likelihood = MixedLikelihood([ColumnModel("smoker", "bernoulli", shares=(0.5, 0.5))])
        >>> likelihood.set_data_shape((1,))
        >>> likelihood(torch.zeros(2, 1)).log_prob(torch.tensor([[1.0], [float("nan")]]))
        tensor([-0.6931,  0.0000])
    """

    support = "columns"
    takes_missing = True
    has_mean = False

    def __init__(self, columns: Sequence[ColumnModel | Mapping[str, Any]]) -> None:
        super().__init__()
        if not columns:
            raise ArgumentError("a mixed likelihood needs at least one column. Pass load_data(table).spec.columns.")
        self.columns = tuple(c if isinstance(c, ColumnModel) else record_of(ColumnModel, c) for c in columns)
        groups = by_head(self.columns)
        self.heads = nn.ModuleList(FAMILIES[name]([self.columns[i] for i in rows]) for name, rows in groups.items())
        places = torch.tensor([i for rows in groups.values() for i in rows])
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("order", places.argsort(), persistent=False)
        self.is_density = any(column.is_density for column in self.columns)

    places: Tensor
    order: Tensor

    @staticmethod
    def transform_of(columns: Sequence[ColumnModel]) -> Transform:
        """Monotone map of some numeric columns to normal scores, and the log of its slope by the units of the table."""
        return Transform(columns)

    def set_data_shape(self, data_shape: Shape) -> None:
        if tuple(data_shape) != (len(self.columns),):
            raise ShapeError(
                f"this likelihood is for a table of {len(self.columns)} columns; got data of shape {tuple(data_shape)}."
            )
        super().set_data_shape(data_shape)

    def output_shape(self, data_shape: Shape) -> Shape:
        return (sum(self._widths()),)

    def _widths(self) -> list[int]:
        return [head.outputs for head in self._heads()]

    def _heads(self) -> list[Head]:
        return list(self.heads)  # type: ignore[arg-type]

    def output_init(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Start at the product of the columns' distributions in training."""
        start = torch.cat([head.start() for head in self._heads()])
        return start, torch.ones_like(std)

    def input_layer(self) -> InputLayer:
        return ColumnInput(self.columns)

    def forward(self, output: Float[Tensor, "*s"]) -> MixedRow:
        return MixedRow(self._heads(), widened(output).split(self._widths(), -1), self.places, self.order)


def described(columns: Sequence[ColumnModel]) -> list[dict[str, Any]]:
    """Models of columns as plain data."""
    return [asdict(column) for column in columns]

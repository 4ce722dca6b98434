"""Distribution of a row of mixed columns, some of whose cells may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from .._distributions import SplitDistribution
from ._head import Head


@final
class MixedRow(SplitDistribution):
    """Independent cells given `z`, an example being the event. A missing cell (NaN) counts nothing.

    Args:
        heads: families of the columns.
        outputs: decoder's outputs of each, `[*S, outputs]`.
        places: columns in the order of the heads, `[D]`.
        order: place of each column in that order, `[D]`.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own name and form)

    def __init__(self, heads: Sequence[Head], outputs: Sequence[Tensor], places: Tensor, order: Tensor) -> None:
        self.heads = list(heads)
        self.outputs = list(outputs)
        self.places = places
        self.order = order
        super().__init__(outputs[0].shape[:-1], order.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> MixedRow:
        lead = torch.Size(batch_shape)
        return MixedRow(
            self.heads, [part.expand(*lead, part.shape[-1]) for part in self.outputs], self.places, self.order
        )

    def _by_head(self, x: Tensor) -> list[Tensor]:
        """Log-probability of the observed cells, zero for missing ones, by head."""
        found = []
        by_head = x[..., self.places].split([head.count for head in self.heads], -1)
        for head, outputs, cells in zip(self.heads, self.outputs, by_head, strict=True):
            observed = ~torch.isnan(cells)
            log_prob = head.log_prob(outputs, torch.where(observed, cells, head.fill.to(cells.dtype)))
            found.append(torch.where(observed, log_prob, 0.0))
        return found

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of the observed cells of each row, `[*S]`, nats."""
        return torch.stack([part.sum(-1) for part in self._by_head(value)]).sum(0)

    def log_prob_per_element(self, value: Tensor) -> Tensor:
        return torch.cat(self._by_head(value), -1)[..., self.order]

    @property
    def mean(self) -> Tensor:
        """Mean of each number, and the most probable category, `[*S, D]`."""
        return self._joined([head.mean(part) for head, part in zip(self.heads, self.outputs, strict=True)])

    def averaged(self, weights: Tensor) -> Tensor:
        """Best single value of each cell under a mixture over the first dimension: means of numbers, most probable categories.

        Args:
            weights: `[K, *S]`, which sum to 1 over `K`.
        """
        parts = zip(self.heads, self.outputs, strict=True)
        return self._joined([head.averaged(outputs, weights) for head, outputs in parts])

    def sample(self, sample_shape: Any = ()) -> Tensor:
        lead = torch.Size(sample_shape)
        with torch.no_grad():
            parts = [part.expand(*lead, *part.shape) for part in self.outputs]
            return self._joined([head.sample(part) for head, part in zip(self.heads, parts, strict=True)])

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts), -1)[..., self.order]

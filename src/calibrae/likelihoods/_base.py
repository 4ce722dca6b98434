"""What a decoder's output means: likelihoods."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .. import functional
from .._types import Shape


class AbstractConditional(ABC):
    """`p(x|z)` of a batch, given the decoder's output. One floor's rule: one number per example, `[B]`."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """Mean of `p(x|z)`, `[B, *data]`: the reconstruction that people look at."""

    @abstractmethod
    def nll(self, x: Tensor) -> Tensor:
        """`-log p(x|z)` summed over the data dimensions, `[B]`, in nats; nothing dropped."""

    @abstractmethod
    def nll_per_element(self, x: Tensor) -> Tensor:
        """`-log p(x_i|z)` of each element, `[B, *data]`, in nats; its sum over the data dimensions is `nll`."""

    def sse(self, x: Tensor) -> Tensor:
        """Squared error of the mean, summed over the data dimensions, `[B]`, in float32 or better."""
        return functional.sse(x, self.mean.to(torch.promote_types(self.mean.dtype, torch.float32)))

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A sample, with the decoder's noise, `[B, *data]`."""

    @abstractmethod
    def distribution(self) -> Distribution:
        """The same as a `torch.distributions.Distribution` over `[B]` examples."""


class AbstractLikelihood(nn.Module, ABC):
    """Reads decoder outputs as conditional densities; holds what all examples share, such as sigma."""

    @abstractmethod
    def forward(self, output: Tensor) -> AbstractConditional:
        """`p(x|z)` from the decoder's output, `[B, *data]`."""

    @abstractmethod
    def bind(self, data_shape: Shape, step: float | None) -> None:
        """Learn the shape of the data and the distance between neighbouring values (`None`: continuous)."""

    @abstractmethod
    def output_affine(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Shift `[*data]` and scale `[]` that make a decoder whose last layer gives noughts start at the data's mean.

        Args:
            mean: mean of the training data, `[*data]`.
            std: their root mean square distance from it, one number.
        """


def flatten_sum(per_element: Tensor) -> Tensor:
    """`[B, *data]` to `[B]`: the sum over the data dimensions, in float32 or better."""
    return per_element.flatten(1).sum(1)

"""Linear maps: with a Gaussian decoder, exactly probabilistic PCA."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from .._types import Shape
from ._context import appended


@final
class LinearEncoder(nn.Module):
    """`[B, *data]` to `[B, features]`: a linear map to the first `d` features; the others do not depend on the data.

    A linear Gaussian model has the same posterior covariance for every `x`, so one log std per latent suffices.

    Args:
        data_shape: shape of one example.
        latent_dim: `d`.
        features: number of features; the first `d` are linear in the data.
        context_dim: features of the context, which is appended to the data.
    """

    def __init__(self, data_shape: Shape, latent_dim: int, features: int, context_dim: int = 0) -> None:
        super().__init__()
        self.mean = nn.Linear(math.prod(data_shape) + context_dim, latent_dim)
        self.constant = nn.Parameter(torch.zeros(features - latent_dim))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        mean: Tensor = self.mean(appended(x.flatten(1), context))
        return torch.cat([mean, self.constant.to(mean.dtype).expand(mean.shape[0], -1)], dim=1)


@final
class LinearDecoder(nn.Module):
    """`[B, d]` to `[B, *output]` by one linear map."""

    def __init__(self, output_shape: Shape, latent_dim: int, context_dim: int = 0) -> None:
        super().__init__()
        self.output_shape = tuple(output_shape)
        self.output = nn.Linear(latent_dim + context_dim, math.prod(output_shape))

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        output: Tensor = self.output(appended(z, context))
        return output.reshape(-1, *self.output_shape)

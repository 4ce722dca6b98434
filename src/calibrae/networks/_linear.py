"""Linear maps: with a Gaussian decoder, exactly probabilistic PCA."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from .._types import Shape


@final
class LinearEncoder(nn.Module):
    """`[B, *data]` to `[B, m d]`: a linear map to the first `d` features; the others do not depend on the data.

    A linear Gaussian model has the same posterior covariance for every `x`, so one log std per latent suffices.

    Args:
        data_shape: shape of one example.
        latent_dim: `d`.
        features_per_latent: `m`, 1 for a point and 2 for a mean and a log std.
    """

    def __init__(self, data_shape: Shape, latent_dim: int, features_per_latent: int) -> None:
        super().__init__()
        self.mean = nn.Linear(math.prod(data_shape), latent_dim)
        self.constant = nn.Parameter(torch.zeros(latent_dim * (features_per_latent - 1)))

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.mean(x.flatten(1))
        return torch.cat([mean, self.constant.to(mean.dtype).expand(mean.shape[0], -1)], dim=1)


@final
class LinearDecoder(nn.Module):
    """`[B, d]` to `[B, *data]` by one linear map."""

    def __init__(self, data_shape: Shape, latent_dim: int) -> None:
        super().__init__()
        self.data_shape = tuple(data_shape)
        self.output = nn.Linear(latent_dim, math.prod(data_shape))

    def forward(self, z: Tensor) -> Tensor:
        output: Tensor = self.output(z)
        return output.reshape(-1, *self.data_shape)

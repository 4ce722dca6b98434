"""Fully connected networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from .._types import Shape
from ..errors import ArgumentError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """A fresh activation by its name.

    Example:
        >>> activation("tanh")
        Tanh()
    """
    if name not in ACTIVATIONS:
        raise ArgumentError(f"`activation` must be one of {', '.join(ACTIVATIONS)}; got {name!r}.")
    return ACTIVATIONS[name]()


def mlp(sizes: Sequence[int], act: str) -> nn.Sequential:
    """Linear layers of the given sizes with activations between them.

    Example:
        >>> [tuple(p.shape) for p in mlp([4, 3, 2], "relu").parameters()]
        [(3, 4), (3,), (2, 3), (2,)]
    """
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        layers += [activation(act)] * (i > 0) + [nn.Linear(fan_in, fan_out)]
    return nn.Sequential(*layers)


@final
class MLPEncoder(nn.Module):
    """`[B, *data]` to `[B, m d]` through hidden layers.

    Args:
        data_shape: shape of one example.
        latent_dim: `d`.
        features_per_latent: `m`.
        hidden: widths of the hidden layers, from the data inwards.
        act: name of the activation.
    """

    def __init__(
        self, data_shape: Shape, latent_dim: int, features_per_latent: int, hidden: Sequence[int], act: str
    ) -> None:
        super().__init__()
        self.layers = mlp([math.prod(data_shape), *hidden, features_per_latent * latent_dim], act)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x.flatten(1))
        return features


@final
class MLPDecoder(nn.Module):
    """`[B, d]` to `[B, *data]` through the same hidden layers in reverse."""

    def __init__(self, data_shape: Shape, latent_dim: int, hidden: Sequence[int], act: str) -> None:
        super().__init__()
        self.data_shape = tuple(data_shape)
        self.layers = mlp([latent_dim, *reversed(hidden), math.prod(data_shape)], act)

    def forward(self, z: Tensor) -> Tensor:
        output: Tensor = self.layers(z)
        return output.reshape(-1, *self.data_shape)

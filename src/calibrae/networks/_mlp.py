"""Fully connected networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from .._types import Shape
from ..errors import ArgumentError
from ._context import appended

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """A fresh activation by its name.

    Examples:
        >>> activation("tanh")
        Tanh()
    """
    if name not in ACTIVATIONS:
        raise ArgumentError(f"`activation` must be one of {', '.join(ACTIVATIONS)}; got {name!r}.")
    return ACTIVATIONS[name]()


def mlp(sizes: Sequence[int], act: str) -> nn.Sequential:
    """Linear layers of the given sizes with activations between them.

    Examples:
        >>> [tuple(p.shape) for p in mlp([4, 3, 2], "relu").parameters()]
        [(3, 4), (3,), (2, 3), (2,)]
    """
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        layers += [activation(act)] * (i > 0) + [nn.Linear(fan_in, fan_out)]
    return nn.Sequential(*layers)


@final
class MLPEncoder(nn.Module):
    """`[B, *data]` to `[B, features]` through hidden layers.

    Args:
        data_shape: shape of one example.
        features: number of features.
        hidden: widths of the hidden layers, from the data inwards.
        act: name of the activation.
        context_dim: features of the context, which is appended to the data.
    """

    def __init__(self, data_shape: Shape, features: int, hidden: Sequence[int], act: str, context_dim: int = 0) -> None:
        super().__init__()
        self.layers = mlp([math.prod(data_shape) + context_dim, *hidden, features], act)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        features: Tensor = self.layers(appended(x.flatten(1), context))
        return features


@final
class MLPDecoder(nn.Module):
    """`[B, d]` to `[B, *output]` through the same hidden layers in reverse."""

    def __init__(
        self, output_shape: Shape, latent_dim: int, hidden: Sequence[int], act: str, context_dim: int = 0
    ) -> None:
        super().__init__()
        self.output_shape = tuple(output_shape)
        self.layers = mlp([latent_dim + context_dim, *reversed(hidden), math.prod(output_shape)], act)

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        output: Tensor = self.layers(appended(z, context))
        return output.reshape(-1, *self.output_shape)

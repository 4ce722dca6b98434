"""Encoder and decoder pairs by name, for any shape of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor, nn

from .._types import Shape
from ..errors import ArgumentError
from ._affine import Restore, Standardise
from ._conv import ConvDecoder, ConvEncoder
from ._linear import LinearDecoder, LinearEncoder
from ._mlp import MLPDecoder, MLPEncoder, activation

NetworkName: TypeAlias = Literal["auto", "linear", "mlp", "conv"]
NETWORKS: tuple[NetworkName, ...] = get_args(NetworkName)
CONV_FROM = 16  # pixels of the longer side from which `auto` takes convolutions


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """Sizes that a user may set.

    Attributes:
        hidden: widths of an mlp's hidden layers, from the data inwards.
        activation: `silu`, `gelu`, `relu`, `leaky-relu` or `tanh`; of an mlp.
        width: channels of a conv net's finest feature map.
    """

    hidden: Sequence[int] = (512, 512)
    activation: str = "silu"
    width: int = 48

    def __post_init__(self) -> None:
        if min((*self.hidden, self.width), default=1) < 1:
            raise ArgumentError(f"widths must be positive; got hidden={tuple(self.hidden)}, width={self.width}.")
        activation(self.activation)  # an unknown one is refused here, whatever network it is for


def resolve_network(name: str, data_shape: Shape) -> str:
    """Network that `auto` stands for: `conv` for pictures and signals of 16 or more pixels a side, else `mlp`, also for volumes.

    Examples:
        >>> resolve_network("auto", (3, 32, 32)), resolve_network("auto", (13,))
        ('conv', 'mlp')
    """
    if name not in NETWORKS:
        raise ArgumentError(f"`network` must be one of {', '.join(NETWORKS)}; got {name!r}.")
    if not data_shape or min(data_shape) < 1 or len(data_shape) > 4:
        raise ArgumentError(
            f"`data_shape` must be (C, D, H, W), (C, H, W), (C, L) or (D,) with positive sides; got {tuple(data_shape)}."
        )
    if name == "conv" and len(data_shape) not in (2, 3):
        raise ArgumentError(f"a conv network needs (C, H, W) or (C, L); got {tuple(data_shape)}. Take network='mlp'.")
    if name != "auto":
        return name
    return "conv" if len(data_shape) in (2, 3) and max(data_shape[1:]) >= CONV_FROM else "mlp"


@final
class Encoder(nn.Module):
    """A preset's encoder: standardises the data and gives features, which it says how to read.

    Args:
        data_shape: shape of one example.
        body: network from `[B, *data]`, and a context if it takes one, to `[B, features]`.
        spread: meaning of the second half of the features: `log_std`; `None` if there is no such half.
        first: layer that the data go through first; by default one that standardises them.
    """

    def __init__(
        self, data_shape: Shape, body: nn.Module, spread: Literal["log_std"] | None, first: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.data_shape = tuple(data_shape)
        self.standardise = first or Standardise(data_shape)  # the name is that of stored weights
        self.body = body
        self.spread = spread

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        features: Tensor = self.body(self.standardise(x), context)
        return features


@final
class Decoder(nn.Module):
    """A preset's decoder, whose output starts at the mean of the data.

    Args:
        output_shape: shape of the output for one example.
        body: network from `[B, d]`, and a context if it takes one, to `[B, *output]`.
    """

    def __init__(self, output_shape: Shape, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.restore = Restore(output_shape)

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        output: Tensor = self.restore(self.body(z, context))
        return output


def build_networks(
    name: str,
    data_shape: Shape,
    latent_dim: int,
    *,
    features: int | None = None,
    output_shape: Shape | None = None,
    context_dim: int = 0,
    options: NetworkOptions | None = None,
    first: nn.Module | None = None,
    first_width: int | None = None,
) -> tuple[Encoder, Decoder]:
    """Build an encoder `[B, *data] -> [B, features]` and a decoder `[B, d] -> [B, *output]`.

    Both know a fixed affine map of the data, which `set_data_statistics` takes from the training set. With a context they are
    called with `(input, context)`.

    Args:
        name: `auto`, `linear`, `mlp` or `conv`.
        data_shape: `(C, H, W)`, `(C, L)` or `(D,)`.
        latent_dim: `d`.
        features: features of the encoder; by default `2 d`, a mean and a log std of each latent.
        output_shape: shape of the decoder's output; by default that of the data.
        context_dim: features of the context.
        options: sizes.
        first: layer that the data go through before the encoder's network; by default one that standardises them.
        first_width: number of features that it gives.

    Returns:
        `(encoder, decoder)`.

    Raises:
        ArgumentError: for an unknown name or a shape that it cannot take.

    Examples:
        >>> encoder, decoder = build_networks("mlp", (1, 5, 7), latent_dim=2)
        >>> decoder(encoder(torch.zeros(3, 1, 5, 7))[:, :2]).shape
        torch.Size([3, 1, 5, 7])
    """
    options = options or NetworkOptions()
    name = resolve_network(name, data_shape)
    if latent_dim < 1 or context_dim < 0:
        raise ArgumentError(
            f"`latent_dim` must be at least 1 and `context_dim` not negative; got {latent_dim} and {context_dim}."
        )
    features, output = features or 2 * latent_dim, tuple(output_shape or data_shape)
    seen = data_shape if first_width is None else (first_width,)
    encoder: nn.Module
    decoder: nn.Module
    if name == "linear":
        encoder = LinearEncoder(seen, latent_dim, features, context_dim)
        decoder = LinearDecoder(output, latent_dim, context_dim)
    elif name == "mlp":
        encoder = MLPEncoder(seen, features, options.hidden, options.activation, context_dim)
        decoder = MLPDecoder(output, latent_dim, options.hidden, options.activation, context_dim)
    else:
        encoder = ConvEncoder(data_shape, features, options.width, context_dim)
        decoder = ConvDecoder(output, latent_dim, options.width, context_dim)
    spread: Literal["log_std"] | None = "log_std" if features == 2 * latent_dim else None
    return Encoder(data_shape, encoder, spread, first), Decoder(output, decoder)


def set_data_statistics(
    encoder: nn.Module, decoder: nn.Module, *, mean: Tensor, std: Tensor, output: tuple[Tensor, Tensor] | None
) -> None:
    """Tell both ends of a pair from `build_networks` what the data look like; other modules are left alone.

    Args:
        encoder: its `Standardise` layers take the mean and the deviation.
        decoder: its `Restore` layers take the shift and the scale of the output.
        mean: mean of each element, `[*data]`.
        std: overall standard deviation, `[]`.
        output: shift `[*output]` and scale of the decoder's output; `None` to leave it.
    """
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, Standardise):
                module.set(mean, std)
        for module in decoder.modules():
            if isinstance(module, Restore) and output is not None:
                module.set(*output)

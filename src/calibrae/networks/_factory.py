"""Encoder and decoder pairs by name, for any shape of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from .._types import Shape
from ..errors import ArgumentError
from ._affine import Restore, Standardise
from ._conv import ConvDecoder, ConvEncoder
from ._linear import LinearDecoder, LinearEncoder
from ._mlp import MLPDecoder, MLPEncoder

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


def resolve_network(name: str, data_shape: Shape) -> str:
    """What `auto` stands for: `conv` for pictures and signals of 16 or more pixels a side, else `mlp`.

    Example:
        >>> resolve_network("auto", (3, 32, 32)), resolve_network("auto", (13,))
        ('conv', 'mlp')
    """
    if name not in NETWORKS:
        raise ArgumentError(f"`network` must be one of {', '.join(NETWORKS)}; got {name!r}.")
    if not data_shape or min(data_shape) < 1 or len(data_shape) > 3:
        raise ArgumentError(
            f"`data_shape` must be (C, H, W), (C, L) or (D,) with positive sides; got {tuple(data_shape)}."
        )
    if name == "conv" and len(data_shape) == 1:
        raise ArgumentError(f"a conv network needs (C, H, W) or (C, L); got {tuple(data_shape)}. Take network='mlp'.")
    if name != "auto":
        return name
    return "conv" if len(data_shape) > 1 and max(data_shape[1:]) >= CONV_FROM else "mlp"


def build_networks(
    name: str, data_shape: Shape, latent_dim: int, features_per_latent: int = 2, options: NetworkOptions | None = None
) -> tuple[nn.Sequential, nn.Sequential]:
    """An encoder `[B, *data] -> [B, features_per_latent * d]` and a decoder `[B, d] -> [B, *data]`.

    Both end in a fixed affine map (`Standardise`, `Restore`) that `set_data_statistics` takes from the data.

    Args:
        name: `auto`, `linear`, `mlp` or `conv`.
        data_shape: `(C, H, W)`, `(C, L)` or `(D,)`.
        latent_dim: `d`.
        features_per_latent: encoder features per latent.
        options: sizes.

    Returns:
        `(encoder, decoder)`.

    Raises:
        ArgumentError: for an unknown name or a shape that it cannot take.

    Example:
        >>> encoder, decoder = build_networks("mlp", (1, 5, 7), latent_dim=2)
        >>> decoder(encoder(torch.zeros(3, 1, 5, 7))[:, :2]).shape
        torch.Size([3, 1, 5, 7])
    """
    options = options or NetworkOptions()
    name = resolve_network(name, data_shape)
    if latent_dim < 1:
        raise ArgumentError(f"`latent_dim` must be at least 1; got {latent_dim}.")
    encoder: nn.Module
    decoder: nn.Module
    if name == "linear":
        encoder = LinearEncoder(data_shape, latent_dim, features_per_latent)
        decoder = LinearDecoder(data_shape, latent_dim)
    elif name == "mlp":
        encoder = MLPEncoder(data_shape, latent_dim, features_per_latent, options.hidden, options.activation)
        decoder = MLPDecoder(data_shape, latent_dim, options.hidden, options.activation)
    else:
        encoder = ConvEncoder(data_shape, latent_dim, features_per_latent, options.width)
        decoder = ConvDecoder(data_shape, latent_dim, options.width)
    return nn.Sequential(Standardise(data_shape), encoder), nn.Sequential(decoder, Restore(data_shape))


def set_data_statistics(
    encoder: nn.Module, decoder: nn.Module, *, mean: Tensor, std: Tensor, output_shift: Tensor, output_scale: Tensor
) -> None:
    """Tell both ends of a pair from `build_networks` what the data look like; other modules are left alone."""
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, Standardise):
                module.set(mean, std)
        for module in decoder.modules():
            if isinstance(module, Restore):
                module.set(output_shift, output_scale)

"""Convolutional networks for pictures and signals of any size."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from .._types import Shape
from ._grid import Grid, Pair

COARSEST = 8
WIDEST = 256


def picture_shape(data_shape: Shape) -> tuple[int, int, int]:
    """`(C, H, W)` of a picture; a signal `(C, L)` is a picture one pixel high.

    Example:
        >>> picture_shape((2, 100))
        (2, 1, 100)
    """
    if len(data_shape) == 2:
        return data_shape[0], 1, data_shape[1]
    channels, height, width = data_shape
    return channels, height, width


def stage_widths(width: int, stages: int) -> list[int]:
    """Channels of each feature map, doubling with every stage up to 256 (or the width itself).

    Example:
        >>> stage_widths(64, 4)
        [64, 128, 256, 256]
    """
    return [min(width * 2**i, max(width, WIDEST)) for i in range(stages)]


class _Residual(nn.Module):
    """`h + conv(act(conv(act(h))))`; the last layer starts at zero, so a new block changes nothing."""

    def __init__(self, channels: int, kernel: Pair) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.first = nn.Conv2d(channels, channels, kernel, padding=padding)
        self.second = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.second.weight)

    def forward(self, h: Tensor) -> Tensor:
        update: Tensor = self.second(F.silu(self.first(F.silu(h))))
        return h + update


def _down(fan_in: int, fan_out: int, stride: Pair) -> nn.Conv2d:
    """A convolution whose kernel is its stride: patches, without overlap."""
    return nn.Conv2d(fan_in, fan_out, stride, stride)


def _up(fan_in: int, fan_out: int, stride: Pair) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(fan_in, fan_out, stride, stride)


@final
class ConvEncoder(nn.Module):
    """`[B, C, H, W]` or `[B, C, L]` to `[B, m d]`.

    Args:
        data_shape: `(C, H, W)` or `(C, L)`.
        latent_dim: `d`.
        features_per_latent: `m`.
        width: channels of the finest feature map.
    """

    def __init__(self, data_shape: Shape, latent_dim: int, features_per_latent: int, width: int) -> None:
        super().__init__()
        channels, height, columns = picture_shape(data_shape)
        self.grid = Grid.of(height, columns, COARSEST)
        self.picture = (channels, height, columns)
        widths = stage_widths(width, max(len(self.grid.strides), 1))
        layers: list[nn.Module] = []
        fan_in = channels
        for stride, fan_out in zip(self.grid.strides or ((1, 1),), widths, strict=True):
            layers += [_down(fan_in, fan_out, stride), _Residual(fan_out, self.grid.kernel)]
            fan_in = fan_out
        self.layers = nn.Sequential(*layers)
        rows, cols = self.grid.coarse
        self.head = nn.Linear(fan_in * rows * cols, features_per_latent * latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, *self.picture)
        bottom, right = self.grid.padded[0] - self.grid.height, self.grid.padded[1] - self.grid.width
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        features: Tensor = self.head(F.silu(self.layers(x)).flatten(1))
        return features


@final
class ConvDecoder(nn.Module):
    """`[B, d]` to `[B, C, H, W]` or `[B, C, L]`: the encoder's ladder in reverse, cropped to the size of the data."""

    def __init__(self, data_shape: Shape, latent_dim: int, width: int) -> None:
        super().__init__()
        channels, height, columns = picture_shape(data_shape)
        self.data_shape = tuple(data_shape)
        self.grid = Grid.of(height, columns, COARSEST)
        widths = stage_widths(width, max(len(self.grid.strides), 1))
        rows, cols = self.grid.coarse
        self.coarse = (widths[-1], rows, cols)
        self.head = nn.Linear(latent_dim, widths[-1] * rows * cols)
        layers: list[nn.Module] = []
        strides = list(reversed(self.grid.strides or ((1, 1),)))
        outputs = [*reversed(widths[:-1]), channels]
        for fan_in, fan_out, stride in zip(reversed(widths), outputs, strides, strict=True):
            layers += [_Residual(fan_in, self.grid.kernel), nn.SiLU(), _up(fan_in, fan_out, stride)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        h: Tensor = self.layers(self.head(z).reshape(-1, *self.coarse))
        return h[:, :, : self.grid.height, : self.grid.width].reshape(-1, *self.data_shape)

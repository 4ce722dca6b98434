"""Convolutional networks for pictures and signals of any size.

The encoder is light: patches, then halvings, no overlap. Most of the work goes into the decoder, which has a residual
block at every size. On two CPU cores this reached a given ELBO several times sooner than overlapping strided
convolutions of the usual widths: almost all of it is matrix products on small maps.
"""

from __future__ import annotations

from typing import final

import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from .._types import Shape
from ._activation import LeakyReLU
from ._context import appended
from ._grid import Grid, Pair

WIDEST = 256
SLOPE = 0.2


def picture_shape(data_shape: Shape) -> tuple[int, int, int]:
    """`(C, H, W)` of a picture; a signal `(C, L)` is a picture one pixel high.

    Examples:
        >>> picture_shape((2, 100))
        (2, 1, 100)
    """
    if len(data_shape) == 2:
        return data_shape[0], 1, data_shape[1]
    channels, height, width = data_shape
    return channels, height, width


def stage_widths(width: int, stages: int) -> list[int]:
    """Channels of each feature map, doubling with every stage up to 256 (or the width itself).

    Examples:
        >>> stage_widths(64, 4)
        [64, 128, 256, 256]
    """
    return [min(width * 2**i, max(width, WIDEST)) for i in range(stages)]


def channels_last(h: Tensor) -> Tensor:
    """Keep the channels of each pixel side by side in memory, as `contiguous(memory_format=...)` does; under `vmap` too.

    Examples:
        >>> channels_last(torch.zeros(2, 3, 4, 5)).is_contiguous(memory_format=torch.channels_last)
        True
    """
    return h.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def unpatch(h: Tensor, patch: Pair) -> Tensor:
    """`[B, C * p * q, H, W]` to `[B, C, H * p, W * q]`: each group of channels becomes a patch of pixels. Channels-last stays so.

    Examples:
        >>> unpatch(torch.arange(4.0).reshape(1, 4, 1, 1), (2, 2))
        tensor([[[[0., 1.],
                  [2., 3.]]]])
    """
    batch, channels, height, width = h.shape
    p, q = patch
    h = h.permute(0, 2, 3, 1).reshape(batch, height, width, channels // (p * q), p, q)
    h = h.permute(0, 1, 4, 2, 5, 3).reshape(batch, height * p, width * q, channels // (p * q))
    return h.permute(0, 3, 1, 2)


def _act() -> nn.Module:
    return LeakyReLU(SLOPE)


class _Residual(nn.Module):
    """`h + conv(act(conv(act(h))))`; the last layer starts at zero, so a new block changes nothing."""

    def __init__(self, channels: int, kernel: Pair) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        last = nn.Conv2d(channels, channels, kernel, padding=padding)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(_act(), nn.Conv2d(channels, channels, kernel, padding=padding), _act(), last)

    def forward(self, h: Tensor) -> Tensor:
        update: Tensor = self.layers(h)
        return h + update


class _Unpatch(nn.Module):
    def __init__(self, patch: Pair) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, h: Tensor) -> Tensor:
        return unpatch(h, self.patch)


@final
class ConvEncoder(nn.Module):
    """`[B, C, H, W]` or `[B, C, L]` to `[B, features]`.

    A context shifts the channels of the first feature map, and is appended to what the last layer sees.

    Args:
        data_shape: `(C, H, W)` or `(C, L)`.
        features: number of features.
        width: channels of the finest feature map.
        context_dim: features of the context.
    """

    def __init__(self, data_shape: Shape, features: int, width: int, context_dim: int = 0) -> None:
        super().__init__()
        channels, height, columns = self.picture = picture_shape(data_shape)
        self.grid = grid = Grid.of(height, columns)
        widths = stage_widths(width, 1 + len(grid.strides))
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], grid.patch, grid.patch), _act()]
        for stride, fan_in, fan_out in zip(grid.strides, widths, widths[1:], strict=False):
            layers += [nn.Conv2d(fan_in, fan_out, stride, stride), _act()]
        rows, cols = grid.coarse
        self.layers = nn.Sequential(*layers)
        self.shift = nn.Linear(context_dim, widths[0], bias=False) if context_dim else None
        self.head = nn.Linear(widths[-1] * rows * cols + context_dim, features)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x.reshape(-1, *self.picture)
        bottom, right = self.grid.padded[0] - self.grid.height, self.grid.padded[1] - self.grid.width
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        x = channels_last(x)
        if self.shift is None or context is None:
            h = self.layers(x)
        else:
            shift = self.shift(context.to(self.shift.weight.dtype))
            h = self.layers[1:](self.layers[0](x) + shift[:, :, None, None])
        features: Tensor = self.head(appended(h.flatten(1), context))
        return features


@final
class ConvDecoder(nn.Module):
    """`[B, d]` to `[B, C, H, W]` or `[B, C, L]`: the encoder's ladder in reverse, cropped to the size of the data.

    Args:
        output_shape: `(C, H, W)` or `(C, L)`.
        latent_dim: `d`.
        width: channels of the finest feature map.
        context_dim: features of the context, which is appended to the latents.
    """

    def __init__(self, output_shape: Shape, latent_dim: int, width: int, context_dim: int = 0) -> None:
        super().__init__()
        channels, height, columns = picture_shape(output_shape)
        self.output_shape = tuple(output_shape)
        self.grid = grid = Grid.of(height, columns)
        widths = stage_widths(width, 1 + len(grid.strides))
        rows, cols = grid.coarse
        self.coarse = (widths[-1], rows, cols)
        self.head = nn.Linear(latent_dim + context_dim, widths[-1] * rows * cols)
        kernel = grid.kernel
        layers: list[nn.Module] = [_Residual(widths[-1], kernel)]
        for stride, fan_out, fan_in in zip(grid.strides[::-1], widths[-2::-1], widths[:0:-1], strict=True):
            cells = stride[0] * stride[1]
            layers += [_act(), nn.Conv2d(fan_in, cells * fan_out, 1), _Unpatch(stride), _Residual(fan_out, kernel)]
        cells = grid.patch[0] * grid.patch[1]
        last = nn.Conv2d(widths[0], cells * channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
        self.layers = nn.Sequential(*layers, _act(), last, _Unpatch(grid.patch))

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        h = channels_last(self.head(appended(z, context)).reshape(-1, *self.coarse))
        x: Tensor = self.layers(h)
        return x[:, :, : self.grid.height, : self.grid.width].reshape(-1, *self.output_shape)

"""Fixed affine maps at both ends of a network, taken from the training data and stored with it."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from .._types import Shape
from ..errors import ShapeError


class _Affine(nn.Module):
    shift: Tensor
    scale: Tensor

    def __init__(self, data_shape: Shape) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(data_shape))
        self.register_buffer("scale", torch.ones((data_shape[0], *(1,) * (len(data_shape) - 1))))

    def set(self, shift: Tensor, scale: Tensor) -> None:
        """Store the shift, `[*data]`, and the scale, one number or one for each channel (column)."""
        if shift.shape != self.shift.shape:
            raise ShapeError(
                f"this network was built for data of shape {tuple(self.shift.shape)}; got data of {tuple(shift.shape)}. Build one "
                "for that shape."
            )
        self.shift.copy_(shift)
        self.scale.copy_(scale)


@final
class Standardise(_Affine):
    """`(x - shift) / scale`: what a network sees has zero mean and unit size.

    Examples:
        >>> layer = Standardise((2,))
        >>> layer.set(torch.tensor([1.0, 0.0]), torch.tensor(2.0))
        >>> layer(torch.tensor([[3.0, 4.0]]))
        tensor([[1., 2.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shift.shape:
            raise ShapeError(
                f"this network takes data of shape {tuple(self.shift.shape)}; got a batch of {tuple(x.shape)}. "
                "Build one for that shape, or reshape the data."
            )
        return (x - self.shift) / self.scale


@final
class Restore(_Affine):
    """`shift + scale * h`: back to the units of the data (or, for log odds, to their starting point)."""

    def forward(self, h: Tensor) -> Tensor:
        return self.shift + self.scale * h

"""Sizes by which a convolutional network halves a picture of any size, and finds back to it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ShapeError

Pair = tuple[int, int]
COARSEST = 4  # pixels a side of the last feature map, at most
LARGEST_PATCH = 4


def patch_side(side: int) -> int:
    """Pixels that the first layer takes together: 4 from 17 pixels a side, 2 from 9, else 1.

    Examples:
        >>> [patch_side(side) for side in (1, 8, 16, 28, 512)]
        [1, 1, 2, 4, 4]
    """
    patch = 1
    while patch < LARGEST_PATCH and side > 2 * COARSEST * patch:
        patch *= 2
    return patch


@dataclass(frozen=True, slots=True)
class Grid:
    """The ladder of sizes between a picture and the coarsest feature map.

    The first layer takes patches; each stage after it shrinks a side by 2 until it is at most 4; a side that is already
    small is left as it is. The picture is padded up to a multiple of the total shrinkage, and the decoder's output cropped.

    Attributes:
        height: height of the picture; 1 for a signal.
        width: width of the picture, or the length of a signal.
        patch: pixels that the first layer takes together, `(vertical, horizontal)`.
        strides: strides of each stage after it.
    """

    height: int
    width: int
    patch: Pair
    strides: tuple[Pair, ...]

    @classmethod
    def of(cls, height: int, width: int) -> Grid:
        """The ladder for a picture.

        Examples:
            >>> Grid.of(32, 32).patch, Grid.of(32, 32).strides
            ((4, 4), ((2, 2),))
            >>> Grid.of(1, 40).patch, Grid.of(1, 40).strides
            ((1, 4), ((1, 2), (1, 2)))
        """
        if height < 1 or width < 1:
            raise ShapeError(f"a picture needs at least one pixel a side; got {height} x {width}.")
        patch = patch_side(height), patch_side(width)
        rows, columns = -(-height // patch[0]), -(-width // patch[1])
        strides: list[Pair] = []
        while rows > COARSEST or columns > COARSEST:
            stride = (2 if rows > COARSEST else 1, 2 if columns > COARSEST else 1)
            strides.append(stride)
            rows, columns = -(-rows // stride[0]), -(-columns // stride[1])
        return cls(height, width, patch, tuple(strides))

    @property
    def total_stride(self) -> Pair:
        """Product of the patch and all strides."""
        rows, columns = self.patch
        for stride in self.strides:
            rows, columns = rows * stride[0], columns * stride[1]
        return rows, columns

    @property
    def padded(self) -> Pair:
        """Size of the picture after padding."""
        rows, columns = self.total_stride
        return -(-self.height // rows) * rows, -(-self.width // columns) * columns

    @property
    def coarse(self) -> Pair:
        """Size of the coarsest feature map."""
        rows, columns = self.total_stride
        return self.padded[0] // rows, self.padded[1] // columns

    @property
    def kernel(self) -> Pair:
        """Kernel of a 3 x 3 convolution that does not reach over a side of one pixel."""
        return 3 if self.height > 1 else 1, 3 if self.width > 1 else 1

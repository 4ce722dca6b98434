"""How a convolutional network halves a picture of any size, and finds back to it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ShapeError

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Grid:
    """The ladder of sizes between a picture and the coarsest feature map.

    Each stage shrinks a side by 2 until it is at most `coarsest`; a side that is already small is left as it is. The
    picture is padded up to a multiple of the total shrinkage, and the decoder's output cropped back.

    Attributes:
        height: of the picture; 1 for a signal.
        width: of the picture, or the length of a signal.
        strides: of each stage, `(vertical, horizontal)`.
    """

    height: int
    width: int
    strides: tuple[Pair, ...]

    @classmethod
    def of(cls, height: int, width: int, coarsest: int) -> Grid:
        """The ladder for a picture.

        Example:
            >>> Grid.of(28, 28, coarsest=8).strides
            ((2, 2), (2, 2))
            >>> Grid.of(1, 20, coarsest=8).strides
            ((1, 2), (1, 2))
        """
        if height < 1 or width < 1:
            raise ShapeError(f"a picture needs at least one pixel a side; got {height} x {width}.")
        strides: list[Pair] = []
        rows, columns = height, width
        while rows > coarsest or columns > coarsest:
            stride = (2 if rows > coarsest else 1, 2 if columns > coarsest else 1)
            strides.append(stride)
            rows, columns = -(-rows // stride[0]), -(-columns // stride[1])
        return cls(height, width, tuple(strides))

    @property
    def total_stride(self) -> Pair:
        """Product of all strides."""
        rows, columns = 1, 1
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

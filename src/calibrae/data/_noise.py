"""Noise that belongs to an example, not to a batch."""

from __future__ import annotations

from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from .._types import Shape

BLOCK_NUMBERS = 1 << 21  # numbers drawn at once; a constant, so that noise does not depend on the batch size
BLOCK_EXAMPLES = 256
_MIX = 0x9E3779B97F4A7C15
_MASK = (1 << 63) - 1


def mixed_seed(*parts: int) -> int:
    """One seed from several numbers, so that streams with neighbouring numbers are unrelated.

    Example:
        >>> mixed_seed(0, 1) != mixed_seed(1, 0)
        True
    """
    state = 0
    for part in parts:
        state = (state ^ (part & _MASK)) + _MIX & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def byte_source(*parts: int) -> np.random.Generator:
    """A source of `byte_noise`, from the numbers that make its seed: the fastest generator of NumPy's.

    Example:
        >>> byte_source(0, 1).bytes(2) == byte_source(0, 1).bytes(2)
        True
    """
    return np.random.Generator(np.random.SFC64(mixed_seed(*parts)))


def byte_noise(shape: Shape, source: np.random.Generator) -> Tensor:
    """Random bytes: uniform noise in 256 steps, several times cheaper than 24 bits of it.

    Args:
        shape: of the noise.
        source: of whole words of 64 bits, as `byte_source` is.

    Example:
        >>> byte_noise((2, 3), byte_source(0)).dtype
        torch.uint8
    """
    count = torch.Size(shape).numel()
    words = source.bit_generator.random_raw(-(-count // 8))
    return torch.from_numpy(words.view(np.uint8)[:count]).reshape(shape)


@final
class ExampleNoise:
    """Random numbers of each example of a data set, the same however the examples are batched.

    They are drawn in blocks of a fixed number of examples, each from its own seed, on the CPU.

    Args:
        kind: `uniform` on [0, 1) or standard `normal`.
        shape: of one example's noise.
        seed: any integer.
        stream: distinguishes uses with one seed.

    Example:
        >>> noise = ExampleNoise("normal", (2,), seed=0)
        >>> torch.equal(noise.rows(0, 5)[3:], noise.rows(3, 5))
        True
    """

    def __init__(self, kind: Literal["uniform", "normal"], shape: Shape, seed: int, stream: int = 0) -> None:
        self.kind = kind
        self.shape = tuple(shape)
        self.seed = seed
        self.stream = stream
        per_example = max(1, torch.Size(self.shape).numel())
        self.block = max(1, min(BLOCK_EXAMPLES, BLOCK_NUMBERS // per_example))
        self._last: tuple[int, Tensor] | None = None

    def rows(self, start: int, stop: int) -> Tensor:
        """Noise of the examples `start` to `stop - 1`, `[stop - start, *shape]`."""
        pieces = []
        for index in range(start // self.block, (stop - 1) // self.block + 1):
            first = index * self.block
            pieces.append(self._draw(index)[max(start - first, 0) : stop - first])
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _draw(self, index: int) -> Tensor:
        if self._last is None or self._last[0] != index:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.stream, index))
            draw = torch.rand if self.kind == "uniform" else torch.randn
            self._last = (index, draw(self.block, *self.shape, generator=generator, dtype=torch.float32))
        return self._last[1]

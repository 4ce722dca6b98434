"""Noise that belongs to an example, not to a batch."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import Tensor

from ._types import Shape

BLOCK_NUMBERS = 1 << 21  # numbers drawn at once; a constant, so that noise does not depend on the batch size
BLOCK_EXAMPLES = 256
_MIX = 0x9E3779B97F4A7C15
_MASK = (1 << 63) - 1


def seed_torch(seed: int) -> None:
    """Seed torch's global generators: that of the CPU, and those of the accelerator if there is one.

    `torch.manual_seed` keeps a traceback for each kind of accelerator that is not there, which takes milliseconds a call.

    Examples:
        >>> from calibrae._noise import seed_torch
        >>> seed_torch(3)
        >>> torch.initial_seed()
        3
    """
    torch.default_generator.manual_seed(seed)
    if torch.accelerator.is_available():
        module: Any = torch.get_device_module(torch.accelerator.current_accelerator())
        seed_all = getattr(module, "manual_seed_all", None) or module.manual_seed
        seed_all(seed)


def mixed_seed(*parts: int) -> int:
    """Mix several numbers into one seed, so that streams with neighbouring numbers are unrelated.

    Examples:
        >>> from calibrae._noise import mixed_seed
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


@final
class ExampleNoise:
    """Random numbers of each example of a data set; they do not depend on how the examples are batched.

    They are drawn in blocks of a fixed number of examples, each from its own seed, on the CPU.

    Args:
        kind: `uniform` on [0, 1) or standard `normal`.
        shape: shape of one example's noise.
        seed: any integer.
        stream: distinguishes uses with one seed.

    Examples:
        >>> from calibrae._noise import ExampleNoise
        >>> noise = ExampleNoise("normal", (2,), seed=0)
        >>> torch.equal(noise.rows(torch.arange(5))[3:], noise.rows(torch.tensor([3, 4])))
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

    def rows(self, index: Tensor) -> Tensor:
        """Noise of the examples at some positions `[B]`, `[B, *shape]`; cheapest if they are in order."""
        if len(index) == 0:
            return torch.empty(0, *self.shape)
        start, stop = int(index[0]), int(index[-1]) + 1
        if stop - start == len(index) and torch.equal(index, torch.arange(start, stop)):
            return self._between(start, stop)
        blocks = index // self.block
        pieces = torch.empty(len(index), *self.shape)
        for block in blocks.unique().tolist():
            mine = blocks == block
            pieces[mine] = self._draw(block)[index[mine] - block * self.block]
        return pieces

    def _between(self, start: int, stop: int) -> Tensor:
        """Noise of consecutive examples."""
        pieces = []
        for block in range(start // self.block, (stop - 1) // self.block + 1):
            first = block * self.block
            pieces.append(self._draw(block)[max(start - first, 0) : stop - first])
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _draw(self, block: int) -> Tensor:
        if self._last is None or self._last[0] != block:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.stream, block))
            draw = torch.rand if self.kind == "uniform" else torch.randn
            self._last = (block, draw(self.block, *self.shape, generator=generator, dtype=torch.float32))
        return self._last[1]

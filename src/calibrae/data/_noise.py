"""Random bytes for dequantisation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .._noise import mixed_seed
from .._types import Shape


def byte_source(*parts: int) -> np.random.Generator:
    """A source of `byte_noise`, from the numbers that make its seed: the fastest generator of NumPy's.

    Examples:
        >>> byte_source(0, 1).bytes(2) == byte_source(0, 1).bytes(2)
        True
    """
    return np.random.Generator(np.random.SFC64(mixed_seed(*parts)))


def byte_noise(shape: Shape, source: np.random.Generator) -> Tensor:
    """Random bytes: uniform noise in 256 steps, several times cheaper than 24 bits of it.

    Args:
        shape: shape of the noise.
        source: source of whole words of 64 bits, such as `byte_source`.

    Examples:
        >>> byte_noise((2, 3), byte_source(0)).dtype
        torch.uint8
    """
    count = torch.Size(shape).numel()
    words = source.bit_generator.random_raw(-(-count // 8))
    return torch.from_numpy(words.view(np.uint8)[:count]).reshape(shape)

"""Complexity of an example: the length of a file that holds it."""

from __future__ import annotations

import io
import lzma
import math
import zlib

import numpy as np
import torch
from torch import Tensor

NATS_A_BYTE = 8.0 * math.log(2.0)


def compressed_nats(levels: Tensor) -> Tensor:
    r"""Length of each example when it is compressed without loss, in nats: an upper bound of its complexity.

    $$L(x) = 8 \ln 2 \cdot \min(\text{bytes of zlib, LZMA and, for pictures of 8 bits, PNG})$$

    A likelihood prefers simple examples, whatever it has learnt: a blank picture is more likely than any digit. $-\log P(x) - L(x)$, with the
    probability of the whole numbers, takes that away: it is low where the model knows more of an example than a general compressor does, and high where it knows less.

    Args:
        levels: whole numbers from 0, `[N, *data]`; bytes, or up to 16 bits.

    Returns:
        `[N]`, float64.

    References:
        Serrà et al. 2020, https://arxiv.org/abs/1909.11480

    Examples:
        >>> blank, noise = torch.zeros(1, 1, 16, 16), torch.randint(256, (1, 1, 16, 16))
        >>> bool(compressed_nats(blank) < compressed_nats(noise))
        True
    """
    values = levels.numpy()
    kind = np.uint8 if values.max(initial=0) < 256 else np.uint16
    return torch.tensor([_bytes_of(one) * NATS_A_BYTE for one in values.astype(kind)], dtype=torch.float64)


def _bytes_of(example: np.ndarray) -> int:
    """Bytes of the shortest file."""
    raw = example.tobytes()
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
    found = [len(zlib.compress(raw, 9)), len(lzma.compress(raw, lzma.FORMAT_RAW, filters=filters))]
    is_picture = example.ndim == 3 and example.shape[0] in (1, 3) and example.dtype == np.uint8
    return min(*found, _png(example)) if is_picture else min(found)


def _png(picture: np.ndarray) -> int:
    from PIL import Image

    pixels = picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return stream.tell()

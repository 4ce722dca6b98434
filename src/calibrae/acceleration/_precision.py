"""Precision, chosen by measurement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch

from ._timing import time_interleaved

SIDE_ON_CPU = 512  # of the matrices that are multiplied
SIDE = 4096  # elsewhere: a graphics card is done with small ones sooner than it can be told to
MIN_GAIN = 1.3  # how much faster bf16 must multiply before its rounding is worth it
BUDGET = 0.1  # seconds of measurement


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Multiply and convolve in whole float32 for a while: CUDA devices round the inputs of convolutions to 10 bits (TF32) by default.

    It is a setting of the whole process; on other devices nothing is changed.
    """
    if device.type != "cuda":
        yield
        return
    if hasattr(torch.backends.cudnn, "conv"):  # torch 2.9 gave each kind of operation a precision of its own
        places: list[tuple[Any, str, Any]] = [
            (torch.backends.cudnn.conv, "fp32_precision", "ieee"),
            (torch.backends.cuda.matmul, "fp32_precision", "ieee"),
        ]
    else:
        places = [(torch.backends.cudnn, "allow_tf32", False), (torch.backends.cuda.matmul, "allow_tf32", False)]
    before = [getattr(place, name) for place, name, _ in places]
    for place, name, value in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for (place, name, _), value in zip(places, before, strict=True):
            setattr(place, name, value)


@cache
def bf16_gain(device: torch.device) -> float:
    """Measure how many times as fast as in float32 a device multiplies matrices in bf16, by the quickest products of each.

    A process measures a device once, so that all its runs choose alike.
    """
    side = SIDE_ON_CPU if device.type == "cpu" else SIDE
    exact = torch.linspace(-1.0, 1.0, side * side, device=device).view(
        side, side
    )  # no random numbers: their source is the user's
    products = [partial(torch.matmul, a, a) for a in (exact, exact.bfloat16())]
    in_fp32, in_bf16 = map(min, time_interleaved(products, device, turns=2, budget=BUDGET))
    return in_fp32 / in_bf16


def choose_precision(choice: str, device: torch.device) -> tuple[str, str]:
    """Choose `fp32` or `bf16`, and say why.

    Args:
        choice: `fp32`, `bf16` or `auto`.
        device: where the networks run.

    Examples:
        >>> from calibrae.acceleration import choose_precision
        >>> choose_precision("fp32", torch.device("cpu"))
        ('fp32', 'as asked')
    """
    if choice != "auto":
        return choice, "as asked"
    gain = bf16_gain(device)
    return ("bf16" if gain >= MIN_GAIN else "fp32"), f"bf16 multiplies {gain:.2g}x as fast here"

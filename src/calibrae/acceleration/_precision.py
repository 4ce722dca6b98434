"""Precision, chosen by measurement."""

from __future__ import annotations

from functools import partial

import torch

from ._timing import time_interleaved

SIDE_ON_CPU = 512  # of the matrices that are multiplied
SIDE = 4096  # elsewhere: a graphics card is done with small ones sooner than it can be told to
MIN_GAIN = 1.3  # how much faster bf16 must multiply before its rounding is worth it
BUDGET = 0.1  # seconds of measurement


def bf16_gain(device: torch.device) -> float:
    """Measure how many times as fast as in float32 a device multiplies matrices in bf16, by the quickest products of each."""
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

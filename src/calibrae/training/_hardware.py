"""Devices, and precision chosen by measurement."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from ..errors import ArgumentError
from ..models import seconds_in_turns
from ._settings import TrainSettings

SIDE_ON_CPU = 512  # of the matrices that are multiplied
SIDE = 4096  # elsewhere: a graphics card is done with small ones sooner than it can be told to
WORTH = 1.3  # how much faster bf16 must multiply before its rounding is worth it
BUDGET = 0.1  # seconds of measurement


def bf16_gain(device: torch.device) -> float:
    """How many times as fast as in float32 a device multiplies matrices in bf16; by the quickest products, since other work hurts some."""
    side = SIDE_ON_CPU if device.type == "cpu" else SIDE
    exact = torch.randn(side, side, device=device)
    products = [partial(torch.matmul, a, a) for a in (exact, exact.bfloat16())]
    in_fp32, in_bf16 = map(min, seconds_in_turns(products, device, turns=2, budget=BUDGET))
    return in_fp32 / in_bf16


def find_device(accelerator: str) -> torch.device:
    """The device that Fabric means by an accelerator's name.

    Raises:
        ArgumentError: if this machine has none.
    """
    from lightning_fabric import Fabric

    try:
        return Fabric(accelerator=accelerator, devices=1).device
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(
            f"`accelerator` must be one that this machine has, or auto; got {accelerator} ({reason})"
        ) from error


def choose_precision(settings: TrainSettings, device: torch.device) -> tuple[str, str]:
    """Fabric's name of the precision, and why."""
    if settings.precision != "auto":
        return ("bf16-mixed" if settings.precision == "bf16" else "32-true"), "as asked"
    gain = bf16_gain(device)
    if gain >= WORTH:
        return "bf16-mixed", f"bf16 multiplies {gain:.1f}x as fast here"
    return "32-true", f"bf16 multiplies {gain:.2g}x as fast here"


@contextmanager
def quiet_fabric() -> Iterator[None]:
    """Without Fabric's hints on the environment, which a user of ours cannot act on."""
    log = logging.getLogger("lightning_fabric")
    level = log.level
    log.setLevel(logging.ERROR)  # it announces the precision, as we do
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning_fabric")
            yield
    finally:
        log.setLevel(level)

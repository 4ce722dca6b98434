"""Devices, and precision chosen by measurement."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import ArgumentError
from ..models import synchronise
from ._settings import TrainSettings

SIDE_ON_CPU = 512  # of the matrices that are multiplied
SIDE = 4096  # elsewhere: a graphics card is done with small ones sooner than it can be told to
WORTH = 1.3  # how much faster bf16 must multiply before its rounding is worth it
BUDGET = 0.05  # seconds of measurement for each type


def _products_per_second(dtype: torch.dtype, device: torch.device) -> float:
    side = SIDE_ON_CPU if device.type == "cpu" else SIDE
    a = torch.randn(side, side, device=device).to(dtype)
    a @ a
    synchronise(device)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < BUDGET:
        a @ a
        count += 1
        synchronise(device)
    return count / (time.perf_counter() - start)


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
    gain = _products_per_second(torch.bfloat16, device) / _products_per_second(torch.float32, device)
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

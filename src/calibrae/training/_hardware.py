"""Devices by name, through Lightning Fabric."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import ArgumentError


def find_device(name: str) -> torch.device:
    """Find the device that a name means: `auto`, `cpu`, `cuda`, `mps`.

    Raises:
        ArgumentError: if this machine has none.
    """
    from lightning_fabric import Fabric

    try:
        return Fabric(accelerator=name, devices=1).device
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(f"`device` must be one that this machine has, or auto; got {name} ({reason})") from error


@contextmanager
def quiet_fabric() -> Iterator[None]:
    """Silence Fabric's hints on the environment, which a user of ours cannot act on."""
    log = logging.getLogger("lightning_fabric")
    level = log.level
    log.setLevel(logging.ERROR)  # it announces the precision, as we do
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning_fabric")
            yield
    finally:
        log.setLevel(level)

"""Quiet use of Lightning Fabric."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


def one_process_fabric(device: torch.device, precision: str) -> Fabric:
    """Fabric for one process on one device; how several are connected is `join_world`'s."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    devices = [device.index or 0] if device.type == "cuda" else 1
    return Fabric(
        accelerator=device.type,
        devices=devices,
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
        plugins=[LightningEnvironment()],  # whatever a scheduler has said of several processes
    )


@contextmanager
def quiet_fabric() -> Iterator[None]:
    """Silence Fabric's hints on the environment, which a user of ours cannot act on."""
    import lightning_fabric  # noqa: F401  (its first import sets the level of its own messages)

    log = logging.getLogger("lightning_fabric")
    level = log.level
    log.setLevel(logging.ERROR)  # it announces the precision, as we do
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning_fabric")
            yield
    finally:
        log.setLevel(level)

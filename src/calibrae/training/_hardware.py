"""Quiet use of Lightning Fabric."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


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

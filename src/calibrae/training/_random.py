"""The global generators of random numbers, which modules and data sets of one's own may draw from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .._noise import mixed_seed

GLOBAL_STREAM = 11


def random_states(device: torch.device) -> dict[str, Any]:
    """States of Python's, NumPy's and torch's global generators, as plain data."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (the global generator is what is meant)
    found: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [
            name,
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
    }
    if device.type != "cpu":
        found["device"] = torch.get_device_module(device).get_rng_state(device)
    return found


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Put the global generators into states that `random_states` found."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    if device.type != "cpu" and "device" in states:
        torch.get_device_module(device).set_rng_state(states["device"].cpu(), device)


@contextmanager
def own_randomness(seed: int, device: torch.device, rank: int = 0) -> Iterator[None]:
    """Draw from global generators that a seed alone decides, others in each process, and leave them as they were.

    Examples:
        >>> def drawn():
        ...     with own_randomness(3, torch.device("cpu")):
        ...         return random.random(), float(np.random.rand()), float(torch.rand(()))
        >>> drawn() == drawn()
        True
    """
    before = random_states(device)
    chosen = mixed_seed(seed, GLOBAL_STREAM, rank)
    random.seed(chosen)
    np.random.seed(chosen % 2**32)  # noqa: NPY002
    torch.manual_seed(chosen % 2**63)
    try:
        yield
    finally:
        set_random_states(before, device)

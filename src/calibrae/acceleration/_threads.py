"""Threads of a small network on a shared machine, chosen by measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ._timing import time_interleaved

TURNS = 4
MIN_GAIN = 0.1  # share of a step that all threads must save before they are kept: fewer disturb other work less


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with a number of threads for a while; `None` leaves torch's own.

    It is a setting of the process, so only the command line, or a user who asks for it, changes it.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_threads(step: Callable[[], object], device: torch.device) -> tuple[int, str]:
    """Time a step with one thread and with all, in turns, and choose.

    A small network waits longer for its threads than they compute, above all beside other programs.

    Args:
        step: action without consequences.
        device: where it runs; threads matter on the CPU alone.

    Returns:
        Number of threads, and the reason.
    """
    most = torch.get_num_threads()
    if device.type != "cpu" or most == 1:
        return most, "nothing to choose"

    def with_threads(count: int) -> Callable[[], None]:
        def run() -> None:
            torch.set_num_threads(count)
            step()

        return run

    try:
        alone, together = map(min, time_interleaved([with_threads(1), with_threads(most)], device, TURNS))
    finally:
        torch.set_num_threads(most)
    measured = f"measured: {1e3 * alone:.3g} ms a step with one, {1e3 * together:.3g} with {most}"
    return (most if together < (1.0 - MIN_GAIN) * alone else 1), measured

"""Batches made while a device computes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def prefetch(items: Iterator[T], generator: torch.Generator) -> Generator[T, None, None]:
    """Make each item in a thread while the one before it is in use.

    Args:
        items: iterator that makes them.
        generator: generator that the items draw from. After this has ended or was closed, it stands where the last item that came out left it, even
            if another was made.

    Examples:
        >>> from calibrae.acceleration import prefetch
        >>> generator = torch.Generator().manual_seed(0)
        >>> batches = prefetch((torch.rand(2, generator=generator) for _ in range(3)), generator)
        >>> first = next(batches)
        >>> batches.close()
        >>> again = torch.Generator().manual_seed(0)
        >>> bool((torch.rand(2, generator=again) == first).all()), bool((generator.get_state() == again.get_state()).all())
        (True, True)
    """

    def made() -> tuple[T | None, Tensor]:
        return next(items, None), generator.get_state()

    state = generator.get_state()
    with ThreadPoolExecutor(1, thread_name_prefix="calibrae-batches") as pool:
        pending = pool.submit(made)
        try:
            while True:
                item, after = pending.result()
                if item is None:
                    return
                pending, state = pool.submit(made), after
                yield item
        finally:
            pending.exception()  # waits for what is being made
            generator.set_state(state)

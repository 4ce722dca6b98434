"""Examples in blocks of a fixed size, and threads over the blocks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2  # blocks in flight for each thread


def reblocked(batches: Iterable[tuple[int, Tensor]], size: int) -> Iterator[Tensor]:
    """The same examples, `size` at a time, however they came; the last block may be smaller.

    Example:
        >>> [len(block) for block in reblocked([(0, torch.zeros(3, 1)), (3, torch.zeros(4, 1))], 5)]
        [5, 2]
    """
    pending: Tensor | None = None
    for _, x in batches:
        pending = x if pending is None else torch.cat([pending, x])
        while len(pending) >= size:
            yield pending[:size]
            pending = pending[size:]
    if pending is not None and len(pending):
        yield pending


def in_threads(
    function: Callable[[Item, threading.Event], Result], items: Iterable[Item], device: torch.device
) -> Iterator[tuple[Item, Result]]:
    """Each item with the function of it, in order, without gradients; on a CPU as many at once as torch has threads.

    Small blocks side by side, each in one thread, use a CPU better than one after another in all threads: nothing waits,
    random numbers are drawn in parallel too, and a block stays in its core's cache. The event is set when nobody waits for
    the result any more, as after Ctrl-C.
    """
    stop = threading.Event()
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    if workers == 1:
        yield from ((item, function(item, stop)) for item in items)
        return

    def alone(item: Item) -> Result:
        torch.set_num_threads(1)
        with torch.no_grad():
            return function(item, stop)

    waiting: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append((item, pool.submit(alone, item)))
            if len(waiting) >= AHEAD * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(workers)

"""Examples in blocks of a fixed size, and threads over the blocks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from .._types import Batch

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2  # blocks in flight for each thread


def reblocked(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Cut examples into blocks of a fixed size, however they came; the last block may be smaller.

    Examples:
        >>> from calibrae.evaluation._blocks import reblocked
        >>> [len(block) for block in reblocked([cb.Batch(torch.zeros(3, 1)), cb.Batch(torch.zeros(4, 1))], 5)]
        [5, 2]
    """
    pending: Batch | None = None
    for batch in batches:
        pending = batch if pending is None else pending.followed_by(batch)
        while len(pending) >= size:
            yield pending.rows(slice(None, size))
            pending = pending.rows(slice(size, None))
    if pending is not None and len(pending):
        yield pending


def in_threads(
    function: Callable[[Item, threading.Event], Result],
    items: Iterable[Item],
    device: torch.device,
    *,
    alone: bool = False,
) -> Iterator[tuple[Item, Result]]:
    """Map a function over items in a thread pool, without gradients; yield `(item, result)` in order.

    On a CPU there are as many threads as torch has, unless the work must be `alone`: one that draws from global generators must.

    Small blocks side by side, each in one thread, use a CPU better than one after another in all threads: nothing waits,
    random numbers are drawn in parallel too, and a block stays in its core's cache. The event is set when nobody waits for
    the result any more, as after Ctrl-C.
    """
    stop = threading.Event()
    workers = torch.get_num_threads() if device.type == "cpu" and not alone else 1
    if workers == 1:
        yield from ((item, function(item, stop)) for item in items)
        return

    def in_one_thread(item: Item) -> Result:
        torch.set_num_threads(1)
        with torch.no_grad():
            return function(item, stop)

    waiting: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append((item, pool.submit(in_one_thread, item)))
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

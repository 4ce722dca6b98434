"""The store through which the processes of one start find one another."""

from __future__ import annotations

import time
import uuid
from typing import Any, cast

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from ..errors import RunError

PREFIX = "calibrae-start"
LOOK_EVERY = 0.01  # seconds
LOOK = "Start all processes that the launcher was told of, and look at what they printed."


def store_of_this_start(rank: int, size: int) -> Store:
    """A store that holds nothing of an earlier start of the same launcher.

    torchrun keeps one store through all its restarts (https://github.com/pytorch/pytorch/issues/135712), so a process that is started
    again may read where a dead one listened, and fail. The count of restarts cannot tell the starts apart: each machine counts its own.

    Args:
        rank: number of this process.
        size: number of processes.
    """
    store, _, _ = next(rendezvous("env://", rank, size))
    return PrefixStore(agree_on_start(store, rank, size), store)


def agree_on_start(store: Store, rank: int, size: int) -> str:
    """A name that all processes of this start share, and no earlier start.

    Each process asks with a word of its own, and the first process answers that word with the name. What earlier processes left in the
    store is answered too, but nobody reads it.

    Raises:
        RunError: if a process does not come within the store's time.
    """
    return _ask(store, rank, size) if rank else _answer(store, size)


def _ask(store: Store, rank: int, size: int) -> str:
    """The name, from the first process."""
    own = uuid.uuid4().hex
    store.set(f"{PREFIX}-{rank}", own)
    try:
        start = store.get(f"{PREFIX}-answer-{own}").decode()
    except RuntimeError as error:
        said = f"the first of {size} processes has not connected, so this one (rank {rank}) cannot go on. {LOOK}"
        raise RunError(said) from error
    store.set(f"{start}-{rank}", "here")
    return start


def _answer(store: Store, size: int) -> str:
    """A new name, once all other processes have it."""
    start, missing = f"{PREFIX}-{uuid.uuid4().hex}", set(range(1, size))
    end = time.monotonic() + cast(Any, store).timeout.total_seconds()
    while missing:
        for other in missing:
            if store.check([f"{PREFIX}-{other}"]):
                store.set(f"{PREFIX}-answer-{store.get(f'{PREFIX}-{other}').decode()}", start)
        missing = {other for other in missing if not store.check([f"{start}-{other}"])}
        if missing and time.monotonic() > end:
            ranks = ", ".join(map(str, sorted(missing)))
            raise RunError(f"{len(missing)} of {size} processes have not connected (ranks {ranks}). {LOOK}")
        time.sleep(LOOK_EVERY)
    return start

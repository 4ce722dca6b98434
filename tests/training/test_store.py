"""Processes of one start agree on a name, whatever an earlier start has left in their store."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import timedelta

import pytest
from torch import distributed as dist

from calibrae.errors import RunError
from calibrae.training._store import agree_on_start

SIZE = 3


def start(store: dist.Store, ranks: Iterable[int]) -> dict[int, str | BaseException]:
    """What each of some processes gets, here threads."""
    found: dict[int, str | BaseException] = {}

    def take_part(rank: int) -> None:
        try:
            found[rank] = agree_on_start(store, rank, SIZE)
        except RunError as error:
            found[rank] = error

    threads = [threading.Thread(target=take_part, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def store_of(seconds: float) -> dist.Store:
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=seconds))
    return store


@pytest.mark.parametrize("ranks", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_each_start_has_a_name_of_its_own(ranks) -> None:
    store, names = store_of(20), []
    for _ in range(4):
        found = start(store, ranks)
        assert len(found) == SIZE
        assert len(set(found.values())) == 1
        names.append(found[0])
    assert len(set(names)) == 4


@pytest.mark.parametrize("dead", [(0,), (1,), (0, 1), (1, 2)])
def test_a_start_that_some_never_reached_leaves_nothing_for_the_next(dead) -> None:
    store = store_of(0.3)
    failed = start(store, set(range(SIZE)) - set(dead))
    assert isinstance(failed[min(failed)], RunError)
    store.set_timeout(timedelta(seconds=20))
    found = start(store, range(SIZE))
    assert len(set(found.values())) == 1
    assert isinstance(found[0], str)


def test_the_first_process_says_who_is_missing() -> None:
    said = str(start(store_of(0.2), [0, 2])[0])
    assert "1 of 3 processes have not connected (ranks 1)" in said


def test_a_process_says_that_the_first_is_missing() -> None:
    assert "the first of 3 processes has not connected, so this one (rank 2) cannot go on" in str(
        start(store_of(0.2), [2])[2]
    )

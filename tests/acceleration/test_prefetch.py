"""Batches made ahead are those made in turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from calibrae.acceleration import prefetch


def draws(generator: torch.Generator, count: int = 6) -> Iterator[Tensor]:
    return (torch.randn(5, generator=generator) for _ in range(count))


def test_items_and_generator_are_those_of_a_plain_loop():
    ahead, plain = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for found, expected in zip(prefetch(draws(ahead), ahead), draws(plain), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(ahead.get_state(), plain.get_state())


@pytest.mark.parametrize("taken", [0, 1, 4, 6])
def test_closed_early_it_leaves_the_generator_behind_the_last_item_that_came_out(taken):
    ahead, plain = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    batches, expected = prefetch(draws(ahead), ahead), draws(plain)
    for _ in range(taken):
        assert torch.equal(next(batches), next(expected))
    batches.close()
    assert torch.equal(ahead.get_state(), plain.get_state())


def test_the_next_item_is_made_while_one_is_in_use():
    """Whoever makes the second item waits for the user of the first, who would otherwise wait for it in vain."""
    in_use, made = threading.Event(), threading.Event()

    def items() -> Iterator[str]:
        yield "first"
        assert in_use.wait(timeout=60)
        made.set()
        yield "second"

    batches = prefetch(items(), torch.Generator())
    assert next(batches) == "first"
    in_use.set()
    assert made.wait(timeout=60)
    assert list(batches) == ["second"]


def test_what_goes_wrong_in_the_thread_goes_wrong_where_the_item_is_needed():
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    batches = prefetch(items(), torch.Generator())
    assert next(batches) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert all("calibrae-batches" not in thread.name for thread in threading.enumerate())

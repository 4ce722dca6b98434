"""Threads of a small network are chosen by measuring, and torch's own number comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from calibrae.acceleration import _threads, choose_threads, threads

CPU = torch.device("cpu")


@pytest.fixture
def four() -> Iterator[None]:
    """Four threads of torch's, whatever this machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def decreed(monkeypatch: pytest.MonkeyPatch, alone: list[float], together: list[float]) -> list[int]:
    """Times by decree; returns the numbers of threads with which the step was taken."""
    seen: list[int] = []

    def timed(actions: Any, *_: Any, **__: Any) -> list[list[float]]:
        for action in actions:
            action()
        return [alone, together]

    monkeypatch.setattr(_threads, "time_interleaved", timed)
    return seen


@pytest.mark.parametrize(
    ("alone", "together", "expected"),
    [([2.0, 1.0], [3.0, 0.85], 4), ([1.0, 2.0], [0.95, 0.96], 1), ([1.0], [2.0], 1)],
    ids=["faster together", "hardly faster together", "faster alone"],
)
@pytest.mark.usefixtures("four")
def test_the_quickest_steps_decide(monkeypatch, alone, together, expected) -> None:
    """All threads are kept only where they save a tenth, by the shortest time of each."""
    seen = decreed(monkeypatch, alone, together)
    count, why = choose_threads(lambda: seen.append(torch.get_num_threads()), CPU)
    assert count == expected
    assert seen == [1, 4]
    assert torch.get_num_threads() == 4
    assert why == f"measured: {1e3 * min(alone):.3g} ms a step with one, {1e3 * min(together):.3g} with 4"


@pytest.mark.usefixtures("four")
def test_a_step_that_fails_leaves_the_number_as_it_was() -> None:
    def fails() -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        choose_threads(fails, CPU)
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four")
def test_one_thread_and_other_devices_leave_nothing_to_choose() -> None:
    def never() -> None:
        raise AssertionError("nothing was to be timed")

    assert choose_threads(never, torch.device("meta")) == (4, "nothing to choose")
    torch.set_num_threads(1)
    assert choose_threads(never, CPU) == (1, "nothing to choose")


@pytest.mark.parametrize(("count", "within"), [(2, 2), (None, 4)])
@pytest.mark.usefixtures("four")
def test_a_number_holds_for_a_while(count, within) -> None:
    def interrupted() -> None:
        with threads(count):
            assert torch.get_num_threads() == within
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.get_num_threads() == 4

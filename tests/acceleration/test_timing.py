"""Timing in turns, with a clock that stands still but in actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from calibrae.acceleration import _timing, time_interleaved

CPU = torch.device("cpu")


class Clock:
    """Time passes only in actions, which take as long as their script says."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def action(self, *seconds: float) -> Callable[[], None]:
        script: Iterator[float] = iter(seconds)

        def run() -> None:
            self.now += next(script)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_timing, "time", clock)
    return clock


def test_every_run_of_every_action_is_told(clock):
    found = time_interleaved([clock.action(5.0, 2.0, 9.0), clock.action(1.0, 40.0, 1.0)], CPU, turns=3)
    assert found == [pytest.approx([5.0, 2.0, 9.0]), pytest.approx([1.0, 40.0, 1.0])]


def test_turns_go_on_until_the_budget_is_spent(clock):
    found = time_interleaved([clock.action(1.0, 1.0, 1.0, 1.0), clock.action(2.0, 2.0, 2.0, 2.0)], CPU, 2, budget=10.0)
    assert list(map(len, found)) == [4, 4]

"""What is measured of the machine does not depend on what else it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from calibrae.training import TrainSettings, _hardware


class Clock:
    """Time passes only in actions, which take as long as their script says."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def action(self, seconds: Iterator[float]) -> Callable[[], None]:
        def run() -> None:
            self.now += next(seconds)

        return run


def scripted(usual: float, *first: float) -> Iterator[float]:
    yield from first
    while True:
        yield usual


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_hardware, "time", clock)
    return clock


def test_interrupted_runs_do_not_count(clock):
    found = _hardware.quickest([clock.action(scripted(2e-3, 5e-3, 2e-3, 9e-3)), clock.action(scripted(1e-3, 40e-3))])
    assert found == pytest.approx([2e-3, 1e-3])


def test_a_slow_action_is_run_twice_and_no_more(clock):
    found = _hardware.quickest([clock.action(iter([3.0, 2.0])), clock.action(iter([1.0, 1.0]))])
    assert found == pytest.approx([2.0, 1.0])


@pytest.mark.parametrize(("gain", "expected"), [(1.31, "bf16-mixed"), (1.29, "32-true")])
def test_bf16_is_taken_where_it_is_worth_its_rounding(gain, expected, monkeypatch):
    monkeypatch.setattr(_hardware, "bf16_gain", lambda _: gain)
    precision, why = _hardware.choose_precision(TrainSettings(), torch.device("cpu"))
    assert precision == expected
    assert f"bf16 multiplies {gain:.1f}" in why or f"bf16 multiplies {gain:.2g}" in why


def test_the_gain_is_a_ratio_of_real_products():
    assert 0.0005 < _hardware.bf16_gain(torch.device("cpu")) < 100

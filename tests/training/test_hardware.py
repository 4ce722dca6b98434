"""Bf16 is chosen by what products of matrices take, whatever else the machine does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from calibrae.training import TrainSettings, _hardware

CPU = torch.device("cpu")


def test_the_gain_is_that_of_the_quickest_products(monkeypatch):
    multiplied = []

    def timed(actions: Any, *_: Any, **__: Any) -> list[list[float]]:
        multiplied.extend(action().dtype for action in actions)
        return [[9e-3, 3e-3, 4e-3], [40e-3, 1.5e-3, 2e-3]]

    monkeypatch.setattr(_hardware, "seconds_in_turns", timed)
    assert _hardware.bf16_gain(CPU) == pytest.approx(2.0)
    assert multiplied == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize(("gain", "expected"), [(1.31, "bf16-mixed"), (1.29, "32-true")])
def test_bf16_is_taken_where_it_is_worth_its_rounding(gain, expected, monkeypatch):
    monkeypatch.setattr(_hardware, "bf16_gain", lambda _: gain)
    assert _hardware.choose_precision(TrainSettings(), CPU) == (expected, "bf16 multiplies 1.3x as fast here")

"""Bf16 is chosen by what products of matrices take, whatever else the machine does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from calibrae.acceleration import _precision, full_float32

CPU = torch.device("cpu")


def test_the_gain_is_that_of_the_quickest_products(monkeypatch):
    multiplied = []

    def timed(actions: Any, *_: Any, **__: Any) -> list[list[float]]:
        multiplied.extend(action().dtype for action in actions)
        return [[9e-3, 3e-3, 4e-3], [40e-3, 1.5e-3, 2e-3]]

    monkeypatch.setattr(_precision, "time_interleaved", timed)
    assert _precision.bf16_gain.__wrapped__(CPU) == pytest.approx(2.0)
    assert multiplied == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize(("gain", "expected"), [(1.31, "bf16"), (1.29, "fp32")])
def test_bf16_is_taken_where_it_is_worth_its_rounding(gain, expected, monkeypatch):
    monkeypatch.setattr(_precision, "bf16_gain", lambda _: gain)
    assert _precision.choose_precision("auto", CPU) == (expected, "bf16 multiplies 1.3x as fast here")


@pytest.mark.parametrize("choice", ["fp32", "bf16"])
def test_what_is_asked_for_is_taken_without_measuring(choice, monkeypatch):
    monkeypatch.delattr(_precision, "bf16_gain")
    assert _precision.choose_precision(choice, CPU) == (choice, "as asked")


def test_a_process_measures_a_device_once(monkeypatch):
    measured = []

    def timed(actions: Any, *_: Any, **__: Any) -> list[list[float]]:
        measured.append(actions)
        return [[2.0], [1.0]]

    monkeypatch.setattr(_precision, "time_interleaved", timed)
    _precision.bf16_gain.cache_clear()
    try:
        chosen = [_precision.choose_precision("auto", CPU) for _ in range(3)]
    finally:
        _precision.bf16_gain.cache_clear()
    assert chosen == [("bf16", "bf16 multiplies 2x as fast here")] * 3
    assert len(measured) == 1


def test_evaluation_on_cuda_is_in_whole_float32() -> None:
    """F3: cuDNN's convolutions take TF32 by default. The settings can be looked at without a CUDA device."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    place, name = (torch.backends.cudnn, "allow_tf32") if conv is None else (conv, "fp32_precision")
    before = getattr(place, name)
    with full_float32(torch.device("cpu")):
        assert getattr(place, name) == before
    with full_float32(torch.device("cuda")):
        assert getattr(place, name) == (False if conv is None else "ieee")
    assert getattr(place, name) == before

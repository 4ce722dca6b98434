"""Acceleration can be switched off, and changes no number but by rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import calibrae as cb
from calibrae.acceleration import _accelerated, _fused
from calibrae.training import EagerStep

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 120)
IMAGES = (RNG.integers(0, 90, (120, 3, 8, 8)) + 40 * LABELS[:, None, None, None]).astype(np.uint8)
TABLE = RNG.normal(size=(120, 2)) @ RNG.normal(size=(2, 5)) + 0.1 * RNG.normal(size=(120, 5))
SHORT = {"epochs": 2, "batch_size": 16, "precision": "fp32", "quiet": True, "pictures": False}


def preset(shape: tuple[int, ...] = (3, 8, 8), **parts: Any) -> cb.VAE:
    options = cb.NetworkOptions(hidden=(16,), width=4)
    return cb.build("sigma-vae", data_shape=shape, latent_dim=2, options=options, **parts)


class Cast(nn.Module):
    """Brings pictures to the precision of the layers behind it, which the presets do themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.get_default_dtype())


def own() -> cb.VAE:
    encoder = nn.Sequential(
        Cast(), nn.Conv2d(3, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)
    )
    decoder = nn.Sequential(nn.Linear(2, 64), nn.Unflatten(1, (4, 4, 4)), nn.ConvTranspose2d(4, 3, 4, 2, 1))
    likelihood, prior = cb.LaplaceLikelihood("learned"), cb.StandardNormalPrior(2)
    return cb.VAE(encoder, decoder, likelihood, prior, posterior=cb.GaussianPosterior("log_var"))


RUNS: dict[str, tuple[Callable[[], cb.VAE], Any, dict[str, Any]]] = {
    "mlp": (lambda: preset(network="mlp"), IMAGES, {"kl_warmup": 0.5}),
    "conv": (lambda: preset(network="conv", sigma="learned", sigma_shared="channel"), IMAGES, {}),
    "pieces": (lambda: preset(network="mlp", sigma_shared="element"), IMAGES, {"micro_batches": 3}),
    "average and mirrors": (lambda: preset(network="mlp"), IMAGES, {"ema_decay": 0.9, "horizontal_flip": True}),
    "own modules": (own, IMAGES, {}),
    "iwae and a mixture": (lambda: preset((5,), prior="mixture:components=3", objective="iwae:samples=3"), TABLE, {}),
    "condition": (lambda: preset(network="mlp", context_dim=3, prior="conditional-gaussian"), IMAGES, {"condition": LABELS}),
    "autoencoder": (lambda: preset((5,), sigma=1.0, prior="none", posterior="point", objective="reconstruction"), TABLE, {}),
}  # fmt: skip


def history(name: str, **settings: Any) -> list[dict[str, float]]:
    make, data, options = RUNS[name]
    torch.manual_seed(0)
    run = cb.fit(make(), data, **SHORT | options | settings)
    return [{column: value for column, value in row.items() if column != "seconds"} for row in run.history]


def assert_same(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert [list(row) for row in found] == [list(row) for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@pytest.mark.usefixtures("double")  # in float32 rounding grows with the steps, and would hide what is not rounding
@pytest.mark.parametrize("name", RUNS)
def test_on_and_off_give_the_same_numbers(name, monkeypatch) -> None:
    """`compile="on"` takes the fused step, or the loss apart from it, here without the compiler's own minutes."""
    fused: list[int] = []

    def uncompiled(function: Any, **_: Any) -> Any:
        def call(*given: Any) -> Any:
            fused.append(1)
            return function(*given)

        return call

    monkeypatch.setattr(_fused, "compile_alone", uncompiled)
    monkeypatch.setattr(_accelerated, "compile_alone", uncompiled)
    expected = history(name, acceleration="off")
    assert not fused
    assert_same(history(name, acceleration="on", compile="off"), expected)
    assert not fused
    assert_same(history(name, acceleration="on", compile="on"), expected)
    assert len(fused) >= len(expected) * 6


def test_off_measures_arranges_and_prefetches_nothing(monkeypatch) -> None:
    """Every way into acceleration that the trainer knows raises, and the run does not notice."""
    from calibrae.training import _choices, _trainer

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("acceleration was used")

    for name in (
        "AcceleratedStep",
        "StepTrial",
        "choose_compile",
        "choose_layout",
        "choose_threads",
        "fast_gradients",
        "prefetch",
        "usual_layout_afterwards",
        "retain_freed_memory",
    ):
        room = _trainer if hasattr(_trainer, name) else _choices
        assert hasattr(room, name)
        monkeypatch.setattr(room, name, never)
    monkeypatch.setattr("calibrae.acceleration._precision.bf16_gain", never)
    taken: list[int] = []
    original = EagerStep.__call__
    monkeypatch.setattr(EagerStep, "__call__", lambda self, *given: (taken.append(1), original(self, *given))[1])
    torch.manual_seed(0)
    cb.fit(own(), IMAGES, acceleration="off", **SHORT | {"precision": "auto", "compile": "on"})
    assert len(taken) == 2 * (97 // 16)

"""Compiling a step is chosen by what it saves, and a trial leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import calibrae as cb
from calibrae.acceleration import (
    AcceleratedStep,
    StepTrial,
    _accelerated,
    _fused,
    _trial,
    choose_compile,
    undisturbed,
)
from calibrae.training import EagerStep, Piece, PieceLoss, TrainSettings, build_optimisers

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, when it compiles
needs_tracing = pytest.mark.skipif(
    not _fused.can_trace_gradients(), reason="needs a torch that compiles functions that take gradients"
)
CPU = torch.device("cpu")
X, EPS = torch.rand(8, 3, 4), torch.randn(1, 8, 2)
BATCH = Piece(X, None, None, None, EPS)


def accelerated(max_norm: float = 1.0) -> AcceleratedStep:
    torch.manual_seed(0)
    options = cb.NetworkOptions(hidden=(16,))
    model = cb.build("sigma-vae", data_shape=(3, 4), latent_dim=2, network="mlp", beta=2.0, options=options)
    loss = PieceLoss(model, model.objective)
    return AcceleratedStep(EagerStep(loss, build_optimisers(model, TrainSettings()), 100, max_norm), CPU)


@pytest.fixture
def step() -> AcceleratedStep:
    return accelerated()


def choose(step: AcceleratedStep, steps: int = 100_000, choice: str = "auto", batch: Piece = BATCH) -> str:
    return choose_compile(choice, StepTrial(step, [batch]), steps)


def same(function: Any, **_: Any) -> Any:
    """A compiler that returns what it is given."""
    return function


def test_a_compiler_that_fails_is_left_with_a_word(step, monkeypatch):
    def failing(*_, **__):
        def run(*_):
            raise RuntimeError("no C++ compiler found")

        return run

    monkeypatch.setattr(torch, "compile", failing)
    monkeypatch.setattr(_trial, "_medians", lambda steps, _: [(step(), 1.0)[1] for step in steps])
    assert choose(step) == "not compiled (the compiler failed: no C++ compiler found)"
    assert step.compiled == "none"


def test_what_the_model_itself_raises_is_raised(step, monkeypatch):
    """A compiled loss that raises is called again as it is, so that the user sees the model's own error."""
    for where in (_fused, _accelerated):
        monkeypatch.setattr(where, "compile_alone", same)
    bad = BATCH._replace(eps=torch.randn(1, 8, 3))
    with pytest.raises(cb.errors.ShapeError, match=r"`eps` must be \[K, B, d\] = \[1, 8, 2\]; got \[1, 8, 3\]"):
        step.compile([bad])


@needs_tracing
def test_short_runs_are_not_compiled(step, monkeypatch):
    """A quarter of 1,000 steps of 50 ms would not repay the compiler's 25 s; a quarter of 3,000 would."""
    monkeypatch.setattr(_trial, "_medians", lambda steps, _: [0.05][: len(steps)])
    assert choose(step, steps=1000) == "not compiled (the steps take about 50 s, too short to repay it)"
    monkeypatch.setattr(_fused, "compile_alone", same)
    monkeypatch.setattr(_trial, "_medians", lambda steps, _: [0.05, 0.01][: len(steps)])
    assert choose(accelerated(), steps=3000) == "compiled (measured: 10 ms a step instead of 50)"
    assert choose(step, steps=10) == "not compiled (10 steps are too few to repay it)"
    assert choose(step, choice="off") == "not compiled (as asked)"
    assert step.compiled == "none"


@pytest.mark.parametrize(("compiled", "kept"), [(0.5, True), (0.98, False), (2.0, False)])
def test_the_faster_one_is_kept(step, monkeypatch, compiled, kept):
    monkeypatch.setattr(_fused, "compile_alone", same)
    monkeypatch.setattr(_trial, "_medians", lambda steps, _: [1.0, compiled][: len(steps)])
    message = choose(step)
    assert (step.compiled != "none") == kept
    assert message.startswith("compiled (measured: 500 ms" if kept else "not compiled (measured:")


@needs_tracing
@pytest.mark.parametrize(("choice", "said"), [("auto", "too short"), ("on", "compiled (as asked)")])
def test_a_trial_leaves_no_trace(step, monkeypatch, choice, said):
    monkeypatch.setattr(_fused, "compile_alone", same)
    model = step.eager.module.model
    model.encoder.register_buffer("count", torch.zeros(()))
    model.encoder.register_forward_pre_hook(lambda module, _: (module.count.add_(torch.rand(()) + 1), None)[1])
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr(_trial, "_medians", lambda steps, _: [[step() for step in steps], [1e-3] * len(steps)][1])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert said in choose(step, steps=1000, choice=choice)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    optimisers = step.eager.optimisers
    assert not any(optimiser.state for optimiser in optimisers)
    assert [group["lr"] for optimiser in optimisers for group in optimiser.param_groups] == [4e-3, 4e-3]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_trial_whose_gradient_is_not_finite_leaves_the_weights():
    """A rate of zero alone would not: zero times what is not a number is none either."""
    eager = accelerated(max_norm=0.0).eager
    weights = {name: value.clone() for name, value in eager.module.state_dict().items()}
    handle = next(eager.module.model.decoder.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    with undisturbed(eager):
        eager([BATCH], 0)
        assert not all(value.isfinite().all() for value in eager.module.state_dict().values())
    handle.remove()
    assert all(torch.equal(value, weights[name]) for name, value in eager.module.state_dict().items())


@pytest.mark.parametrize("choice", ["auto", "on"])
def test_a_first_step_that_is_not_finite_is_left_to_training(step, choice, monkeypatch):
    monkeypatch.setattr(_fused, "compile_alone", same)
    infinite = BATCH._replace(values=torch.full_like(X, torch.inf))
    assert choose(step, choice=choice, batch=infinite) == "not compiled (a first step is not finite)"
    assert step.compiled == "none"

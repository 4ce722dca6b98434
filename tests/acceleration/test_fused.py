"""A step in one function takes the steps that torch's own optimiser takes."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import calibrae as cb
from calibrae.acceleration import AcceleratedStep, _accelerated, _fused, adamw_update, undisturbed
from calibrae.errors import NonFiniteError
from calibrae.training import EagerStep, Piece, PieceLoss, TrainSettings, build_optimisers
from calibrae.training._optimiser import set_rates

pytestmark = pytest.mark.skipif(
    not _fused.can_trace_gradients(), reason="needs a torch that compiles functions that take gradients"
)
STEPS = 12


@pytest.fixture(autouse=True)
def not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function itself: a compiler takes its time."""
    monkeypatch.setattr(_fused, "compile_alone", lambda function, **_: function)


def model_of(sigma: Any = "optimal", shared: str = "all") -> cb.VAE:
    torch.manual_seed(1)
    made = {"data_shape": (3, 4), "latent_dim": 2, "network": "mlp", "options": cb.NetworkOptions(hidden=(16,))}
    return cb.build("sigma-vae", sigma=sigma, sigma_shared=shared, **made).double().train()


def with_batch_norm() -> cb.VAE:
    torch.manual_seed(1)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    decoder = nn.Sequential(nn.Linear(2, 12), nn.Unflatten(1, (3, 4)))
    likelihood, prior = cb.GaussianLikelihood(0.3), cb.StandardNormalPrior(2)
    return cb.VAE(encoder, decoder, likelihood, prior, posterior=cb.GaussianPosterior("log_std")).double().train()


class IdleFirst(nn.Module):
    """A parameter that no loss reaches, before all others."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.ones(3, 3, dtype=torch.float64))
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


def with_idle_first() -> cb.VAE:
    model = with_batch_norm()
    model.encoder = IdleFirst(model.encoder)
    return model


def with_idle_parameter() -> cb.VAE:
    model = model_of()
    model.encoder.idle = nn.Parameter(torch.ones(3, 3, dtype=torch.float64))
    return model


def batch(step: int) -> Piece:
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.rand(8, 3, 4, dtype=torch.float64, generator=generator)
    return Piece(x, None, None, None, torch.randn(1, 8, 2, dtype=torch.float64, generator=generator))


class Run:
    """Steps on one model, in pieces or fused."""

    def __init__(self, model: cb.VAE, max_norm: float, *, fused: bool) -> None:
        self.model = model
        self.optimisers = build_optimisers(model, TrainSettings(weight_decay=0.3, lr=0.02))
        self.eager = EagerStep(PieceLoss(model, cb.BetaELBO(0.5)), self.optimisers, STEPS, max_norm)
        self.step = AcceleratedStep(self.eager, torch.device("cpu"))
        if fused:
            self.compile()
            assert self.eager.loss is self.eager.module  # the loss alone is as it was
            assert self.step.part == ""
            assert self.step.compiled == "whole"

    def compile(self) -> None:
        with undisturbed(self.eager):
            assert self.step.compile([batch(0)]) is None

    def steps(self, first: int, last: int) -> list[dict[str, float]]:
        found = []
        for step in range(first, last):
            set_rates(self.optimisers, 1.0 / (1 + step % 3))
            found.append(self.step([batch(step)], step))
        return found

    def state(self) -> dict[str, Tensor]:
        state = {name: value.clone() for name, value in self.model.state_dict().items()}
        for optimiser in self.optimisers:
            for index, parts in optimiser.state_dict()["state"].items():
                state |= {f"{type(optimiser).__name__}.{index}.{name}": part.clone() for name, part in parts.items()}
        return state


@pytest.mark.parametrize("max_norm", [0.0, 0.02, 1e6])
@pytest.mark.parametrize(
    "make",
    [
        model_of,
        lambda: model_of("learned"),
        lambda: model_of("learned", "element"),
        lambda: model_of(0.3),
        with_batch_norm,
    ],
    ids=["optimal", "learned", "learned per element", "given", "batch norm"],
)
def test_steps_and_states_are_those_of_torch(make: Callable[[], cb.VAE], max_norm: float) -> None:
    pieces, fused = Run(make(), max_norm, fused=False), Run(make(), max_norm, fused=True)
    for ours, theirs in zip(fused.steps(0, STEPS), pieces.steps(0, STEPS), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9)
    torch.testing.assert_close(fused.state(), pieces.state(), rtol=1e-8, atol=1e-10)


def test_a_parameter_that_the_loss_does_not_reach_stays() -> None:
    fused = Run(with_idle_parameter(), 1.0, fused=True)
    fused.steps(0, 3)
    assert torch.equal(fused.model.encoder.idle, torch.ones(3, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    "make",
    [model_of, lambda: model_of("learned"), with_idle_first],
    ids=["optimal", "learned", "idle"],
)
@pytest.mark.parametrize("first_fused", [True, False])
def test_either_goes_on_from_what_the_other_stored(make: Callable[[], cb.VAE], first_fused: bool) -> None:
    expected = Run(make(), 0.02, fused=False)
    expected.steps(0, STEPS)
    first = Run(make(), 0.02, fused=first_fused)
    first.steps(0, 5)
    stored = copy.deepcopy((first.model.state_dict(), [o.state_dict() for o in first.optimisers]))
    first.steps(5, 7)  # whose consequences are not in the copy
    second = Run(make(), 0.02, fused=not first_fused)
    second.model.load_state_dict(stored[0])
    for optimiser, state in zip(second.optimisers, stored[1], strict=True):
        optimiser.load_state_dict(state)
    second.steps(5, STEPS)
    found, wanted = second.state(), expected.state()
    common = found.keys() & wanted.keys()  # torch keeps no state of a parameter that no loss reaches
    assert len(common) >= len(wanted) - 3
    for name in common - {"AdamW.0.step"} if make is with_idle_first else common:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("sigma", ["optimal", "learned"])
def test_what_is_not_finite_changes_nothing(sigma: str) -> None:
    fused = Run(model_of(sigma), 1.0, fused=True)
    fused.steps(0, 2)
    before = fused.state()
    bad = batch(2)
    bad.values[0, 0, 0] = torch.inf
    with pytest.raises(NonFiniteError, match=r"reconstruction .*largest \|x\| not finite"):
        fused.step([bad], 2)
    torch.testing.assert_close(fused.state(), before, rtol=0, atol=0)
    fused.steps(2, 4)  # and it goes on from there
    expected = Run(model_of(sigma), 1.0, fused=True)
    expected.steps(0, 4)
    torch.testing.assert_close(fused.state(), expected.state(), rtol=0, atol=0)


class _FiniteLossInfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.inf


@pytest.mark.parametrize("fused", [True, False])
def test_a_gradient_that_is_not_finite_changes_nothing(fused: bool) -> None:
    run = Run(model_of(), 1.0, fused=fused)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    handle = run.model.decoder.register_forward_hook(lambda *parts: _FiniteLossInfiniteGradient.apply(parts[-1]))
    with pytest.raises(NonFiniteError, match="gradient is not finite, though the loss is"):
        run.steps(0, 1)
    handle.remove()
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    run.steps(0, 1)


def test_hooks_on_gradients_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need gradients that arrive one by one, which a fused step does not have."""
    monkeypatch.setattr(_accelerated, "compile_alone", lambda function, **_: function)
    run, seen = Run(model_of(), 1.0, fused=False), []
    next(run.model.parameters()).register_post_accumulate_grad_hook(lambda p: seen.append(p.grad is not None))
    run.compile()
    assert run.eager.loss is not run.eager.module
    assert "hooks" in run.step.part
    run.steps(0, 1)
    assert seen[-1]


def test_adamw_is_torch_s() -> None:
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(7, dtype=torch.float64))
    adamw = torch.optim.AdamW([p], lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2)
    ours, mean, square = p.detach().clone(), torch.zeros(7, dtype=torch.float64), torch.zeros(7, dtype=torch.float64)
    for step in range(1, 6):
        p.grad = torch.randn(7, dtype=torch.float64)
        rates = torch.tensor([0.1, 1 - 0.8**step, (1 - 0.95**step) ** 0.5], dtype=torch.float64)
        ours, mean, square = adamw_update(ours, p.grad, mean, square, rates, (0.8, 0.95), 1e-3, 0.2)
        adamw.step()
        torch.testing.assert_close(ours, p.detach(), rtol=1e-13, atol=1e-14)


PROGRAM = """
import sys, tempfile, numpy as np, torch, calibrae as cb
from torch import nn
from torch._dynamo.utils import counters

class Breaking(nn.Module):
    def forward(self, x):
        torch._dynamo.graph_break()
        return x

def model(kind):
    torch.manual_seed(0)
    middle = {"norm": nn.BatchNorm1d(16), "breaking": Breaking()}[kind]
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), middle, nn.ReLU(), nn.Linear(16, 4))
    decoder = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 48), nn.Unflatten(1, (3, 4, 4)))
    sigma = cb.GaussianLikelihood("learned" if kind == "norm" else "optimal")
    return cb.VAE(encoder, decoder, sigma, cb.StandardNormalPrior(2), posterior=cb.GaussianPosterior("log_std"))

x = np.random.default_rng(0).integers(0, 256, (300, 3, 4, 4), dtype=np.uint8)
for kind in sys.argv[1:]:
    counters.clear()
    scores = []
    for choice in ("off", "on"):
        with tempfile.TemporaryDirectory() as folder:
            settings = dict(epochs=3, batch_size=32, compile=choice, precision="fp32", quiet=True, pictures=False)
            run = cb.fit(model(kind), x, folder + "/run", **settings)
            scores.append(run.history[-1]["validation_elbo"])
    print(kind, counters["stats"]["unique_graphs"], abs(scores[0] - scores[1]) < 1e-3 * abs(scores[0]))
"""


@pytest.mark.slow
def test_compiled_it_trains_as_in_pieces() -> None:
    """Own modules: batch normalisation with a learned sigma, and one that breaks the graph."""
    command = [sys.executable, "-c", PROGRAM, "norm", "breaking"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    norm, breaking = (line.split() for line in done.stdout.splitlines())
    assert norm == ["norm", "1", "True"]
    assert breaking[2] == "True"

"""The step in one function takes the steps that torch's own optimiser takes."""

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
from calibrae.errors import NonFiniteError
from calibrae.training import TrainSettings, _terms, _whole_step
from calibrae.training._descent import Descent
from calibrae.training._optimiser import adamw_update, build_optimisers, set_rates
from calibrae.training._terms import MicroBatch, StepTerms

STEPS = 12


@pytest.fixture(autouse=True)
def not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function itself: with its shape checks on, as in tests, it cannot be traced."""
    monkeypatch.setattr(_whole_step, "compile_alone", lambda function, **_: function)


def model_of(sigma: Any = "optimal", shared: str = "all") -> cb.VAE:
    torch.manual_seed(1)
    model = cb.build("sigma-vae", data_shape=(3, 4), latent_dim=2, network="mlp", sigma=sigma, sigma_shared=shared)
    return model.double().train()


def with_batch_norm() -> cb.VAE:
    torch.manual_seed(1)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    decoder = nn.Sequential(nn.Linear(2, 12), nn.Unflatten(1, (3, 4)))
    return cb.VAE(encoder, decoder, cb.GaussianLikelihood(0.3), cb.StandardNormalPrior(2)).double().train()


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


def batch(step: int) -> MicroBatch:
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.rand(8, 3, 4, dtype=torch.float64, generator=generator)
    return MicroBatch(x, None, torch.randn(8, 2, dtype=torch.float64, generator=generator))


class Run:
    """Steps on one model, in pieces or as a whole."""

    def __init__(self, model: cb.VAE, limit: float, *, whole: bool) -> None:
        self.model = model
        self.optimisers = build_optimisers(model, TrainSettings(weight_decay=0.3, lr=0.02))
        self.descent = Descent(StepTerms(model), self.optimisers, limit)
        if whole:
            with self.descent.undisturbed():
                assert self.descent.compile([batch(0)]) is None
            assert not self.descent.terms.is_compiled
            assert self.descent.is_compiled

    def steps(self, first: int, last: int) -> list[dict[str, float]]:
        found = []
        for step in range(first, last):
            set_rates(self.optimisers, 1.0 / (1 + step % 3))
            found.append(self.descent([batch(step)], cb.BetaELBO(0.5), step))
        return found

    def state(self) -> dict[str, Tensor]:
        state = {name: value.clone() for name, value in self.model.state_dict().items()}
        for optimiser in self.optimisers:
            for index, parts in optimiser.state_dict()["state"].items():
                state |= {f"{type(optimiser).__name__}.{index}.{name}": part.clone() for name, part in parts.items()}
        return state


@pytest.mark.parametrize("limit", [0.0, 0.02, 1e6])
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
def test_steps_and_states_are_those_of_torch(make: Callable[[], cb.VAE], limit: float) -> None:
    pieces, whole = Run(make(), limit, whole=False), Run(make(), limit, whole=True)
    for ours, theirs in zip(whole.steps(0, STEPS), pieces.steps(0, STEPS), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9)
    torch.testing.assert_close(whole.state(), pieces.state(), rtol=1e-8, atol=1e-10)


def test_a_parameter_that_the_loss_does_not_reach_stays() -> None:
    whole = Run(with_idle_parameter(), 1.0, whole=True)
    whole.steps(0, 3)
    assert torch.equal(whole.model.encoder.idle, torch.ones(3, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    "make",
    [model_of, lambda: model_of("learned"), with_idle_first],
    ids=["optimal", "learned", "idle"],
)
@pytest.mark.parametrize("first_whole", [True, False])
def test_either_goes_on_from_what_the_other_stored(make: Callable[[], cb.VAE], first_whole: bool) -> None:
    expected = Run(make(), 0.02, whole=False)
    expected.steps(0, STEPS)
    first = Run(make(), 0.02, whole=first_whole)
    first.steps(0, 5)
    stored = copy.deepcopy((first.model.state_dict(), [o.state_dict() for o in first.optimisers]))
    first.steps(5, 7)  # whose consequences are not in the copy
    second = Run(make(), 0.02, whole=not first_whole)
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
    whole = Run(model_of(sigma), 1.0, whole=True)
    whole.steps(0, 2)
    before = whole.state()
    bad = batch(2)
    bad.values[0, 0, 0] = torch.inf
    with pytest.raises(NonFiniteError, match=r"reconstruction .*largest \|x\| not finite"):
        whole.descent([bad], cb.BetaELBO(), 2)
    torch.testing.assert_close(whole.state(), before, rtol=0, atol=0)
    whole.steps(2, 4)  # and it goes on from there
    expected = Run(model_of(sigma), 1.0, whole=True)
    expected.steps(0, 4)
    torch.testing.assert_close(whole.state(), expected.state(), rtol=0, atol=0)


class _FiniteLossInfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.inf


@pytest.mark.parametrize("whole", [True, False])
def test_a_gradient_that_is_not_finite_changes_nothing(whole: bool) -> None:
    run = Run(model_of(), 1.0, whole=whole)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    handle = run.model.decoder.register_forward_hook(lambda *parts: _FiniteLossInfiniteGradient.apply(parts[-1]))
    with pytest.raises(NonFiniteError, match="gradient is not finite, though the loss is"):
        run.steps(0, 1)
    handle.remove()
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    run.steps(0, 1)


def test_hooks_on_gradients_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need gradients that arrive one by one, which a whole step does not have."""
    monkeypatch.setattr(_terms, "compile_alone", lambda function, **_: function)
    run, seen = Run(model_of(), 1.0, whole=False), []
    next(run.model.parameters()).register_post_accumulate_grad_hook(lambda p: seen.append(p.grad is not None))
    with run.descent.undisturbed():
        assert run.descent.compile([batch(0)]) is None
    assert run.descent.terms.is_compiled
    assert "hooks" in run.descent.part
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
    middle = {"plain": nn.Identity(), "norm": nn.BatchNorm1d(16), "breaking": Breaking()}[kind]
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), middle, nn.ReLU(), nn.Linear(16, 4))
    decoder = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 48), nn.Unflatten(1, (3, 4, 4)))
    sigma = cb.GaussianLikelihood("learned" if kind == "plain" else "optimal")
    return cb.VAE(encoder, decoder, sigma, cb.StandardNormalPrior(2))

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
    """Own modules: a learned sigma, batch normalisation, and one that breaks the graph."""
    command = [sys.executable, "-c", PROGRAM, "plain", "norm", "breaking"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    plain, norm, breaking = (line.split() for line in done.stdout.splitlines())
    assert plain == ["plain", "1", "True"]
    assert norm == ["norm", "1", "True"]
    assert breaking[2] == "True"

"""What is descended is the objective: in the plain step, cut into pieces, and fused, for every objective that is registered and two more.

Run as a program, it compares the fused step as a compiler traces it: so that nothing else has been compiled in that process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import calibrae as cb
from calibrae._registry import describe, find, names
from calibrae.acceleration import FusedStep, _fused
from calibrae.testing import _step as testing_step
from calibrae.training import EagerStep, Piece, PieceLoss

STEP, TOTAL = 30, 100


class FreeBits(cb.Objective):
    """A KL of each latent that costs nothing under a quarter of a nat."""

    def __call__(self, draw: cb.Draw, weights: Mapping[str, Any]) -> cb.Terms:
        nll, each = draw.nll.mean(0), draw.kl_per_dim
        assert each is not None
        return cb.Terms(nll + each.clamp_min(0.25).sum(1), {"nll": nll, "kl": draw.kl})


class Capacity(cb.Objective):
    """A KL that is held at a growing capacity, from two samples."""

    samples = 2

    def schedule(self, step: int, total: int) -> dict[str, float]:
        return {"capacity": 5.0 * step / total, "gamma": 3.0}

    def __call__(self, draw: cb.Draw, weights: Mapping[str, Any]) -> cb.Terms:
        nll = draw.nll.mean(0)
        return cb.Terms(nll + weights["gamma"] * (draw.kl - weights["capacity"]).abs(), {"nll": nll, "kl": draw.kl})


class RisingPower(cb.Objective):
    """Several samples, and a schedule of its own."""

    samples = 3

    def schedule(self, step: int, total: int) -> dict[str, float]:
        return {"power": 1.0 + step / total}

    def __call__(self, draw: cb.Draw, weights: Any) -> cb.Terms:
        nll = torch.logsumexp(draw.nll, 0)
        return cb.Terms(nll + draw.kl ** weights["power"], {"nll": nll})


OBJECTIVES: dict[str, cb.Objective] = {
    "ELBO": cb.BetaELBO(),
    "beta": cb.BetaELBO(4.0),
    "warm-up": cb.BetaELBO(2.0, kl_warmup=0.5),
    "iwae": cb.IWAE(3),
    "reconstruction": cb.ReconstructionError(),
    "free bits": FreeBits(),
    "capacity": Capacity(),
    "rising power": RisingPower(),
}
SIGMAS = ("optimal", "learned", 0.3)


def model_of(sigma: Any, **parts: Any) -> cb.VAE:
    torch.manual_seed(3)
    made = {"data_shape": (3, 4), "latent_dim": 2, "network": "mlp", "options": cb.NetworkOptions(hidden=(8,))}
    return cb.build("sigma-vae", sigma=sigma, **made | parts)


def examples(objective: cb.Objective, count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 3, 4, dtype=torch.float64, generator=generator)
    return x, torch.randn(objective.samples, count, 2, dtype=torch.float64, generator=generator)


def flat(model: cb.VAE) -> Tensor:
    zeros = (torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters())
    return torch.cat([gradient.flatten() for gradient in zeros])


def of_objective(model: cb.VAE, objective: cb.Objective, x: Tensor, eps: Tensor) -> Tensor:
    """Gradient by autograd from the objective itself, in nats per data dimension."""
    model.zero_grad(set_to_none=True)
    draw = model.draw(x, objective.samples, eps)
    (objective(draw, objective.schedule(STEP, TOTAL)).loss.sum() / x.numel()).backward()
    return flat(model)


def of_step(model: cb.VAE, objective: cb.Objective, x: Tensor, eps: Tensor, pieces: int = 1) -> Tensor:
    """Gradient of the plain step."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    size = len(x) // pieces
    cut = zip(x.split(size), eps.split(size, dim=1), strict=True)
    EagerStep(PieceLoss(model, objective), [optimiser], TOTAL)([Piece(a, None, None, None, b) for a, b in cut], STEP)
    return flat(model)


def of_fused_step(model: cb.VAE, objective: cb.Objective, x: Tensor, eps: Tensor) -> Tensor:
    """Gradient of the fused step, from the first running mean of its optimiser."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.75, 0.9))
    loss, piece = PieceLoss(model, objective), Piece(x, None, None, None, eps)
    eager = EagerStep(loss, [optimiser], TOTAL)
    FusedStep(loss, [optimiser], 0.0, eager.autocast, torch.device("cpu"))(eager.weights([piece], STEP), *piece)
    return torch.cat([optimiser.state[p]["exp_avg"].flatten() for p in model.parameters()]) / 0.25


def test_every_objective_of_calibrae_is_here() -> None:
    ours = {name for name in names("objective") if find("objective", name).__module__.startswith("calibrae.")}
    here = [describe(objective) for objective in OBJECTIVES.values()]
    assert {described["name"] for described in here if described is not None} == ours


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_of_every_step_is_the_objectives(name, sigma, monkeypatch) -> None:
    monkeypatch.setattr(_fused, "compile_alone", lambda function, **_: function)
    objective = OBJECTIVES[name]
    x, eps = examples(objective)
    expected = of_objective(model_of(sigma).double(), objective, x, eps)
    assert expected.norm() > 1e-3
    close = {"rtol": 1e-7, "atol": 1e-9}  # an optimal scale of one Gaussian enters through its own closed form
    torch.testing.assert_close(of_step(model_of(sigma).double(), objective, x, eps), expected, **close)
    if _fused.can_trace_gradients():  # older versions of torch cannot: there no step is fused
        torch.testing.assert_close(of_fused_step(model_of(sigma).double(), objective, x, eps), expected, **close)
    if sigma != "optimal" or objective.samples == 1:
        for pieces in (2, 3):
            cut = of_step(model_of(sigma).double(), objective, x, eps, pieces)
            torch.testing.assert_close(cut, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_has_the_mean_gradient_of_its_halves(name) -> None:
    """The loss is a mean over examples, whatever the batch size."""
    objective = OBJECTIVES[name]
    x, eps = examples(objective)
    halves = [of_step(model_of(0.3).double(), objective, x[i : i + 6], eps[:, i : i + 6]) for i in (0, 6)]
    whole = of_step(model_of(0.3).double(), objective, x, eps)
    torch.testing.assert_close(whole, torch.stack(halves).mean(0), rtol=1e-9, atol=1e-12)


def test_a_warm_up_reaches_the_step() -> None:
    """Half of the warm-up's 50 steps less 20 gives beta 1.2, and that gradient."""
    warm, at = OBJECTIVES["warm-up"], cb.BetaELBO(1.2)
    x, eps = examples(warm)
    found, expected = (of_step(model_of(0.3).double(), goal, x, eps) for goal in (warm, at))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def small_data() -> Any:
    return cb.load_data(np.random.default_rng(0).integers(0, 256, (60, 1, 3, 4), dtype=np.uint8))


def test_a_step_that_ignores_the_objective_is_found(monkeypatch) -> None:
    """S1: a step with a loss of its own, whatever it was asked to descend."""

    class BetaAlways(PieceLoss):  # type: ignore[misc]
        def forward(self, weights: Tensor, *piece: Any) -> Any:
            self.objective = cb.BetaELBO()
            self.weight_names = ("beta",)
            return super().forward(torch.cat([weights[:1], torch.ones(1)]), *piece)

    monkeypatch.setattr(testing_step, "PieceLoss", BetaAlways)
    model = model_of(0.3, data_shape=(1, 3, 4))
    with pytest.raises(AssertionError, match=r"the plain step: the gradient of \S+ differs from the objective's"):
        cb.testing.assert_step_follows_objective(model, small_data(), FreeBits())
    cb.testing.assert_step_follows_objective(model, small_data(), cb.BetaELBO())


@pytest.mark.slow
@pytest.mark.skipif(
    not _fused.can_trace_gradients(), reason="needs a torch that compiles functions that take gradients"
)
def test_traced_by_the_compiler_the_gradient_is_the_objectives() -> None:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == list(OBJECTIVES)


def main() -> None:
    """Check plain, cut and traced steps of every objective, and name those that are right."""
    data = small_data()
    for number, (name, objective) in enumerate(OBJECTIVES.items()):
        model = model_of(SIGMAS[number % 3], data_shape=(1, 3, 4))
        cb.testing.assert_step_follows_objective(model, data, objective, fused=True)
        print(name, flush=True)


if __name__ == "__main__":
    main()

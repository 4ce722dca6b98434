"""Processes that share the examples: two equal ones give the numbers of one that has every example twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import calibrae as cb
from calibrae._types import World
from calibrae.models import Tally, batches_of, scale_over, summarise
from calibrae.training import EagerStep, Piece, PieceLoss

TWO = World(rank=0, size=2, sum=lambda own: 2.0 * own)
X = torch.rand(12, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
EPS = torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TWICE, EPS_TWICE = X.repeat(2, 1, 1), EPS.repeat(2, 1)


def model_of(likelihood: str = "gaussian", shared: str = "all") -> cb.VAE:
    torch.manual_seed(3)
    options = cb.NetworkOptions(hidden=(8,))
    parts = {"data_shape": (3, 4), "latent_dim": 2, "network": "mlp", "options": options, "likelihood": likelihood}
    return cb.build("sigma-vae", sigma_shared=shared, **parts).double()


def test_means_variances_and_errors() -> None:
    values = {"one": torch.randn(7), "many": torch.randn(7, 3)}
    shared, alone = Tally(TWO), Tally()
    shared.add(values)
    for _ in range(2):
        alone.add(values)
    assert shared.count() == alone.count() == 14
    assert shared.mean("one") == pytest.approx(values["one"].double().mean().item(), rel=1e-12)
    assert shared.error("one") == pytest.approx(alone.error("one"), rel=1e-12)
    for name in values:
        for of in (Tally.means, Tally.variances, Tally.errors):
            torch.testing.assert_close(of(shared, name), of(alone, name), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shared", ["all", "channel", "element"])
@pytest.mark.parametrize(("likelihood", "power"), [("gaussian", 2), ("laplace", 1)])
def test_the_scale_over_a_data_set(likelihood, power, shared) -> None:
    model = model_of(likelihood, shared)
    found = scale_over(model, model.likelihood.scale, batches_of(X, batch_size=5), lambda rows: EPS[rows], TWO)
    residuals = (TWICE - model.draw(TWICE, eps=EPS_TWICE[None]).px.mean[0]).abs().pow(power)
    axes = {"all": (0, 1, 2), "channel": (0, 2), "element": (0,)}[shared]
    torch.testing.assert_close(found, residuals.mean(axes).pow(1 / power).detach(), rtol=1e-9, atol=0)


def test_a_summary() -> None:
    model = model_of()
    cb.fix_scale(model, X)
    shared = summarise(model, batches_of(X, batch_size=5), lambda rows: EPS[rows], world=TWO)
    alone = summarise(model, batches_of(TWICE, batch_size=5), lambda rows: EPS_TWICE[rows])
    assert shared.n == alone.n == 24
    for name in ("nll", "kl", "mse", "standard_error"):
        assert getattr(shared, name) == pytest.approx(getattr(alone, name), rel=1e-9)
    torch.testing.assert_close(shared.kl_per_dim, alone.kl_per_dim)
    torch.testing.assert_close(shared.posterior_mean_var, alone.posterior_mean_var)


def taken(model: cb.VAE, x: Tensor, eps: Tensor, pieces: int, world: World) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the loss, the scale that the gradient was taken at, and the gradient, of a step."""
    size, scales = len(x) // pieces, []
    batch = [Piece(a, None, None, None, b[None]) for a, b in zip(x.split(size), eps.split(size), strict=True)]
    model.likelihood.register_forward_hook(lambda head, *_: scales.append(head.scale.value.clone()))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    step = EagerStep(PieceLoss(model, cb.BetaELBO(2.0)), [optimiser], 100, world=world)
    step(batch, 0)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return step.weights(batch, 0), scales[-1], gradient


@pytest.mark.parametrize("shared", ["all", "element"])
@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_step(pieces, likelihood, shared) -> None:
    """The gradients of two equal processes, summed, are that of one that has every example twice."""
    weights, scale, gradient = taken(model_of(likelihood, shared), X, EPS, pieces, TWO)
    expected = taken(model_of(likelihood, shared), TWICE, EPS_TWICE, 4, World())
    torch.testing.assert_close(weights, expected[0], rtol=1e-12, atol=0)
    if pieces > 1:  # a batch in pieces is held at its scale
        torch.testing.assert_close(scale, expected[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, expected[2], rtol=1e-5, atol=1e-9)

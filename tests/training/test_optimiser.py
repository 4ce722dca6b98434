"""Sigma's descent, the schedule, and one batch's gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import calibrae as cb
from calibrae import functional as F
from calibrae.errors import ArgumentError, NonFiniteError
from calibrae.training import SigmaDescent, TrainSettings
from calibrae.training._optimiser import build_optimisers, rate_at
from calibrae.training._step import backward_batch, clip
from calibrae.training._terms import MicroBatch, StepTerms


@pytest.mark.parametrize("shared", ["all", "channel", "element"])
@pytest.mark.parametrize("start", [1e-2, 1.0, 1e2])
def test_sigma_descends_to_the_optimum_from_anywhere(start, shared):
    x, x_hat = torch.randn(64, 3, 5) * 0.07, torch.zeros(64, 3, 5)
    likelihood = cb.GaussianLikelihood("learned", shared, initial_sigma=start)
    likelihood(x_hat)
    raw = likelihood.sigma.raw
    optimiser = SigmaDescent([raw], [-30.0], elements=15 / raw.numel() / 15)
    for _ in range(150):
        optimiser.zero_grad()
        (likelihood(x_hat).nll(x).mean() / 15).backward()
        optimiser.step()
    torch.testing.assert_close(raw.detach().exp(), F.optimal_sigma(x, x_hat, shared), rtol=1e-3, atol=0)


def test_sigma_stops_at_its_floor_and_leaves_it_again():
    likelihood = cb.GaussianLikelihood("learned", floor=0.01, initial_sigma=0.02)
    likelihood(torch.zeros(8, 4))
    raw = likelihood.sigma.raw
    optimiser = SigmaDescent([raw], [likelihood.sigma.log_floor], elements=1.0)

    def descend(x, steps):
        for _ in range(steps):
            optimiser.zero_grad()
            (likelihood(torch.zeros(8, 4)).nll(x).mean() / 4).backward()
            optimiser.step()
        return likelihood.sigma.log_sigma.exp().item()

    assert descend(torch.zeros(8, 4), 60) == pytest.approx(0.01)
    assert descend(torch.ones(8, 4), 200) == pytest.approx(1.0, rel=1e-3)


@given(st.integers(3, 5000), st.floats(0, 0.5))
def test_the_rate_rises_then_falls_to_nothing(total, warmup):
    rates = [rate_at(step, total, warmup) for step in range(total)]
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rate_at(total, total, warmup) < 1e-9


def make(sigma="optimal", shared="all"):
    torch.manual_seed(3)
    return cb.build(
        "sigma-vae", data_shape=(3, 4), latent_dim=2, network="mlp", sigma=sigma, sigma_shared=shared
    ).double()


def gradients(model, pieces, beta=1.0):
    torch.manual_seed(0)
    x, noise = torch.rand(12, 3, 4, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64)
    size = 12 // pieces
    micro = [MicroBatch(a, None, b) for a, b in zip(x.split(size), noise.split(size), strict=True)]
    model.zero_grad()
    sums = backward_batch(StepTerms(model), lambda loss: loss.backward(), cb.BetaELBO(beta), micro, 0)
    return sums, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("sigma", ["optimal", "learned", 0.3])
@pytest.mark.parametrize("pieces", [2, 3, 12])
@pytest.mark.parametrize("shared", ["all", "element"])
def test_accumulation_has_the_gradient_of_the_whole_batch(sigma, pieces, shared):
    """Also for an optimal sigma, which is that of the global batch."""
    whole_sums, whole = gradients(make(sigma, shared), 1)
    cut_sums, cut = gradients(make(sigma, shared), pieces)
    torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-8)
    assert cut_sums["nll"] == pytest.approx(whole_sums["nll"], rel=1e-6)


def test_the_gradient_is_that_of_the_profile_written_out():
    model = make()
    _, ours = gradients(model, 1)
    torch.manual_seed(0)
    x, noise = torch.rand(12, 3, 4, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64)
    model.zero_grad()
    output = model(x, noise)
    mse = (x - output.likelihood.mean).square().mean()
    kl = F.kl_standard_normal(output.posterior.mean, output.posterior.log_std).sum(1).mean()
    ((6.0 * (1.0 + torch.log(2 * math.pi * mse)) + kl) / 12).backward()
    written = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(ours, written, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
def test_the_loss_is_the_objective_per_data_dimension(beta):
    model = make()
    _, ours = gradients(model, 1, beta)
    torch.manual_seed(0)
    x, noise = torch.rand(12, 3, 4, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64)
    model.zero_grad()
    (cb.BetaELBO(beta).loss(model.elbo(x, noise), 0) / 12).backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)


def test_weights_decay_and_biases_do_not():
    model = make("learned")
    adam, sigma = build_optimisers(model, TrainSettings(weight_decay=0.1))
    assert [group["weight_decay"] for group in adam.param_groups] == [0.1, 0.0]
    assert all(p.ndim > 1 for p in adam.param_groups[0]["params"])
    assert sigma.param_groups[0]["params"] == [model.likelihood.sigma.raw]


def test_clip():
    p = torch.nn.Parameter(torch.zeros(4))
    p.grad = torch.full((4,), 3.0)
    clip([p], 1.0)
    assert p.grad.norm().item() == pytest.approx(1.0, rel=1e-4)
    p.grad = torch.full((4,), 3.0)
    clip([p], 0.0)
    assert p.grad.tolist() == [3.0] * 4
    p.grad = torch.tensor([float("nan"), 0.0, 0.0, 0.0])
    with pytest.raises(NonFiniteError, match="gradient is not finite"):
        clip([p], 1.0)


@pytest.mark.parametrize(
    "field",
    [
        {"epochs": 0},
        {"lr": 0.0},
        {"lr": math.nan},
        {"clip": -1.0},
        {"warmup": 1.0},
        {"accumulate": 200},
        {"precision": "fp8"},
    ],
)
def test_bad_settings(field):
    with pytest.raises(ArgumentError, match=next(iter(field))):
        TrainSettings(**field)

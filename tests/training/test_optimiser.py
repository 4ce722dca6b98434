"""A scale's descent, the schedule, and one batch's gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import calibrae as cb
from calibrae.errors import ArgumentError, NonFiniteError
from calibrae.training import EagerStep, Piece, PieceLoss, ScaleDescent, TrainSettings, build_optimisers
from calibrae.training._optimiser import rate_at, scale_rate, set_rates


def descend(likelihood, optimiser, x, steps):
    """Steps on the mean loss in nats per data dimension, with a decoder that always gives zeros."""
    for _ in range(steps):
        optimiser.zero_grad()
        (-likelihood(torch.zeros_like(x)).log_prob(x).mean() / x[0].numel()).backward()
        optimiser.step()
    return likelihood.scale.value


@pytest.mark.parametrize("shared", ["all", "channel", "element"])
@pytest.mark.parametrize("start", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize(("head", "power"), [("gaussian", 2), ("laplace", 1)])
def test_a_scale_descends_to_the_optimum_from_anywhere(start, shared, head, power):
    """To the root mean square of a Gaussian's residuals, and to the mean absolute one of a Laplace density's."""
    x = torch.randn(64, 3, 5) * 0.07
    given = {"likelihood": head, "sigma": "learned", "sigma_shared": shared, "initial_sigma": start}
    likelihood = cb.build("vae", data_shape=(3, 5), latent_dim=1, network="linear", **given).likelihood
    raw = likelihood.scale.parameter
    found = descend(likelihood, ScaleDescent(likelihood.scale, elements=1 / raw.numel()), x, 150)
    axes = {"all": (0, 1, 2), "channel": (0, 2), "element": (0,)}[shared]
    torch.testing.assert_close(found, x.abs().pow(power).mean(axes).pow(1 / power), rtol=1e-3, atol=0)


def test_a_scale_stops_at_its_floor_and_leaves_it_again():
    likelihood = cb.GaussianLikelihood("learned", floor=0.01, initial_sigma=0.02)
    likelihood.set_data_shape((4,))
    optimiser = ScaleDescent(likelihood.scale, elements=1.0)
    assert descend(likelihood, optimiser, torch.zeros(8, 4), 60).item() == pytest.approx(0.01)
    assert descend(likelihood, optimiser, torch.ones(8, 4), 200).item() == pytest.approx(1.0, rel=1e-3)


@given(st.integers(3, 5000), st.floats(0, 0.5))
def test_the_rate_rises_then_falls_to_nothing(total, warmup):
    rates = [rate_at(step, total, warmup) for step in range(total)]
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rate_at(total, total, warmup) < 1e-9


def make(sigma="optimal", shared="all", **parts):
    torch.manual_seed(3)
    options = cb.NetworkOptions(hidden=(16,))
    made = {"data_shape": (3, 4), "latent_dim": 2, "network": "mlp", "options": options, **parts}
    return cb.build("sigma-vae", sigma=sigma, sigma_shared=shared, **made).double()


def examples():
    torch.manual_seed(0)
    return torch.rand(12, 3, 4, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64)


def gradients(model, pieces, beta=1.0, max_norm=0.0):
    x, eps = examples()
    size = 12 // pieces
    batch = [Piece(a, None, None, None, b[None]) for a, b in zip(x.split(size), eps.split(size), strict=True)]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    sums = EagerStep(PieceLoss(model, cb.BetaELBO(beta)), [optimiser], 100, max_norm)(batch, 0)
    return sums, flat_gradient(model)


def flat_gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("sigma", ["optimal", "learned", 0.3])
@pytest.mark.parametrize("pieces", [2, 3, 12])
@pytest.mark.parametrize("shared", ["all", "element"])
@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_accumulation_has_the_gradient_of_the_whole_batch(likelihood, sigma, pieces, shared):
    """Also for an optimal scale, which is that of the global batch."""
    whole_sums, whole = gradients(make(sigma, shared, likelihood=likelihood), 1)
    cut_sums, cut = gradients(make(sigma, shared, likelihood=likelihood), pieces)
    torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-8)
    assert cut_sums == pytest.approx(whole_sums, rel=1e-6)


def test_the_gradient_is_that_of_the_profile_written_out():
    model = make()
    _, ours = gradients(model, 1)
    x, eps = examples()
    model.zero_grad()
    mean, log_std = model.encoder(x).chunk(2, dim=1)
    mse = (x - model.decoder(mean + log_std.exp() * eps)).square().mean()
    q = torch.distributions.Normal(mean, log_std.exp())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    ((6.0 * (1.0 + torch.log(2 * math.pi * mse)) + kl) / 12).backward()
    torch.testing.assert_close(ours, flat_gradient(model), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
def test_the_loss_is_the_objective_per_data_dimension(beta):
    model = make()
    _, ours = gradients(model, 1, beta)
    x, eps = examples()
    model.zero_grad()
    terms = model.elbo(x, eps=eps)
    ((terms.nll + beta * terms.kl).mean() / 12).backward()
    torch.testing.assert_close(ours, flat_gradient(model), rtol=1e-12, atol=1e-14)


def test_weights_decay_and_biases_do_not():
    model = make("learned")
    adam, scale = build_optimisers(model, TrainSettings(weight_decay=0.1))
    assert [group["weight_decay"] for group in adam.param_groups] == [0.1, 0.0]
    assert all(p.ndim > 1 for p in adam.param_groups[0]["params"])
    assert all(p is not model.likelihood.scale.parameter for group in adam.param_groups for p in group["params"])
    assert scale.param_groups[0]["params"] == [model.likelihood.scale.parameter]


def test_the_gradient_is_clipped_to_its_largest_norm():
    _, plain = gradients(make(), 1)
    norm = plain.norm().item()
    for max_norm, expected in ((0.5 * norm, 0.5), (2.0 * norm, 1.0), (0.0, 1.0)):
        _, clipped = gradients(make(), 1, max_norm=max_norm)
        torch.testing.assert_close(clipped, expected * plain, rtol=1e-4, atol=0)


def test_clipping_leaves_a_learned_scale_alone():
    """Its step is bounded by itself, so its gradient neither counts nor shrinks."""
    plain, clipped = make("learned"), make("learned")
    gradients(plain, 1)
    optimisers = build_optimisers(clipped, TrainSettings())
    x, eps = examples()
    EagerStep(PieceLoss(clipped, cb.BetaELBO()), optimisers, 100, max_norm=1e-3)(
        [Piece(x, None, None, None, eps[None])], 0
    )
    networks = [p.grad.flatten() for group in optimisers[0].param_groups for p in group["params"]]
    assert torch.cat(networks).norm().item() == pytest.approx(1e-3, rel=1e-3)
    torch.testing.assert_close(clipped.likelihood.scale.parameter.grad, plain.likelihood.scale.parameter.grad)


@pytest.mark.parametrize("max_norm", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_is_refused_where_its_norm_is_taken(max_norm):
    model = make()
    next(model.decoder.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    if max_norm:
        with pytest.raises(NonFiniteError, match="gradient is not finite, though the loss is"):
            gradients(model, 1, max_norm=max_norm)
    else:
        assert gradients(model, 1)[1].isnan().any()


@pytest.mark.parametrize(
    "field",
    [
        {"epochs": 0},
        {"lr": 0.0},
        {"lr": math.nan},
        {"grad_clip_norm": -1.0},
        {"lr_warmup": 1.0},
        {"micro_batches": 200},
        {"precision": "fp8"},
        {"acceleration": "auto"},
        {"ema_decay": 1.0},
        {"threads": 0},
        {"threads": "all"},
    ],
)
def test_bad_settings(field):
    with pytest.raises(ArgumentError, match=next(iter(field))):
        TrainSettings(**field)


@pytest.mark.parametrize("share", [0.3, 0.09, 0.03, 0.01])
def test_a_scale_of_rare_residuals_is_their_root_mean_square(share):
    """An element that is lit in one batch of a hundred: a bound on one step's ratio would drive its scale to the floor."""
    likelihood = cb.GaussianLikelihood("learned", shared="element", initial_sigma=1.0)
    likelihood.set_data_shape((1,))
    steps, generator = 8000, torch.Generator().manual_seed(0)
    optimiser = ScaleDescent(likelihood.scale, 1.0, scale_rate(2, steps))
    squares = (torch.rand(steps, generator=generator) < share).double()
    for step in range(steps):
        set_rates([optimiser], rate_at(step, steps, 0.05))
        optimiser.zero_grad()
        (-likelihood(torch.zeros(8, 1)).log_prob(squares[step].float().sqrt().expand(8, 1)).mean()).backward()
        optimiser.step()
    recent = squares[steps // 2 :].mean().sqrt().item()
    assert likelihood.scale.value.item() == pytest.approx(recent, rel=0.25)

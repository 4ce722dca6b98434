"""Estimators of log p(x) with every kind of prior: against each other, closed forms, and sampling by brute force."""

from __future__ import annotations

import copy
import math
from functools import cache

import pytest
import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Cauchy,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
)

import calibrae as cb
from calibrae._registry import names
from calibrae.errors import ArgumentError
from calibrae.evaluation import AnnealedSettings, annealed_importance, importance_weighted, quadrature_log_likelihood

LATENT, DATA, CLASSES = 2, 4, 3
SURE = 5.0  # standard errors
TOLERANCE = 3e-8  # of integrals: a density with an edge takes its time


class Encoder(nn.Module):
    """An encoder that does not look: somewhat too wide a Gaussian in the middle of the prior."""

    def __init__(self, middle: float = 0.0, std: float = 1.2) -> None:
        super().__init__()
        half = [torch.full((LATENT,), value) for value in (middle, math.log(std))]
        self.features = nn.Parameter(torch.cat(half))

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return self.features.expand(len(x), -1)


class Decoder(nn.Module):
    """A curved decoder of latents that are shifted by a constant, and perhaps of a condition."""

    def __init__(self, context_dim: int = 0) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(LATENT + context_dim, 8), nn.Tanh(), nn.Linear(8, DATA))
        self.shift = 0.0

    def forward(self, z: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        z = z - self.shift
        output: torch.Tensor = self.net(z if context is None else torch.cat([z, context.to(z)], 1))
        return output


def fixed(distribution) -> cb.DistributionPrior:
    return cb.DistributionPrior(Independent(distribution, 1))


def wide(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def make_mixture() -> cb.MixturePrior:
    prior = cb.MixturePrior(LATENT, components=3, spread=1.5)
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.0, 1.0, -0.5]))
        prior.log_stds.copy_(torch.tensor([[-1.0, 0.2], [0.0, -0.5], [-0.3, -0.3]]))
    return prior


def make_conditional() -> cb.ConditionalGaussianPrior:
    prior = cb.ConditionalGaussianPrior(LATENT, CLASSES)
    nn.init.normal_(prior.affine.weight, std=0.7)
    return prior


PRIORS = {
    "standard-normal": lambda: cb.StandardNormalPrior(LATENT),
    "mixture": make_mixture,
    "conditional-gaussian": make_conditional,
    "laplace": lambda: fixed(Laplace(wide(0.3, -0.3), wide(0.7, 0.9))),
    "student-t": lambda: fixed(StudentT(wide(5.0, 5.0), wide(0.0, 0.2), wide(0.8, 1.0))),
}


@cache
def model_with(name: str) -> cb.VAE:
    """A small model in float64 with a prior of this name."""
    torch.manual_seed(5)
    prior = PRIORS[name]()
    context_dim = CLASSES if name == "conditional-gaussian" else 0
    decoder, posterior = Decoder(context_dim), cb.GaussianPosterior("log_std")
    likelihood = cb.GaussianLikelihood(0.6)
    model = cb.VAE(Encoder(), decoder, likelihood, prior, posterior=posterior, context_dim=context_dim)
    return model.double().eval()


@cache
def examples(name: str, n: int = 6) -> cb.Batch:
    """Examples of the model itself, with their conditions."""
    model = model_with(name)
    context = torch.eye(CLASSES, dtype=torch.float64)[torch.arange(n) % CLASSES] if model.context_dim else None
    generator = torch.Generator().manual_seed(0)
    return cb.Batch(model.sample(n, observation_noise=True, context=context, generator=generator), context)


@cache
def exact(name: str) -> torch.Tensor:
    batch = examples(name)
    return quadrature_log_likelihood(model_with(name), batch.x, batch.context, tolerance=TOLERANCE)


def test_every_registered_prior_is_among_these():
    ours = {name for name in names("prior") if name != "none" and name in PRIORS}
    assert ours == {"standard-normal", "mixture", "conditional-gaussian"}


@pytest.mark.parametrize("name", PRIORS)
def test_the_importance_weighted_bound_agrees_with_quadrature(name):
    summary = importance_weighted(model_with(name), [examples(name)], samples=8000, compile="off")
    assert float(summary.sample_error.max()) < 0.1
    error = (summary.log_likelihood - exact(name)) / summary.sample_error
    assert float(error.abs().max()) < SURE


@pytest.mark.parametrize("name", PRIORS)
def test_annealing_agrees_with_quadrature(name):
    settings = AnnealedSettings(chains=48, temperatures=60, leapfrog=3)
    summary = annealed_importance(model_with(name), [examples(name)], settings)
    assert float(summary.chain_error.max()) < 0.2
    assert (summary.log_likelihood - exact(name)).abs().lt(SURE * summary.chain_error + 1e-3).all()


@pytest.mark.parametrize("name", PRIORS)
def test_quadrature_agrees_with_samples_of_the_prior(name):
    """By brute force: the mean of p(x|z) over samples that torch draws of the prior."""
    model, batch, n = model_with(name), examples(name), 200_000
    torch.manual_seed(1)
    for i, x in enumerate(batch.x):
        context = None if batch.context is None else batch.context[i : i + 1]
        p = model.prior(context)
        with torch.no_grad():
            z = p.sample((n,)).reshape(n, LATENT)
            output = model.decoder(z, None if context is None else context.expand(n, -1))
            log_likelihood = Normal(output, 0.6).log_prob(x).sum(1)
        weights = (log_likelihood - log_likelihood.max()).exp()
        found = math.log(float(weights.mean())) + float(log_likelihood.max())
        error = float(weights.std() / weights.mean()) / math.sqrt(n)
        assert error < 0.02
        assert abs(found - float(exact(name)[i])) < SURE * error


def shifted(name: str, by: float) -> cb.VAE:
    """Equal density of the data: the prior moved, and a decoder that undoes it. The encoder stays where it was."""
    model = copy.deepcopy(model_with(name))
    model.decoder.shift = by
    with torch.no_grad():
        if name == "mixture":
            model.prior.means += by
        elif name == "conditional-gaussian":
            model.prior.affine.bias[:LATENT] += by
        elif name == "standard-normal":
            model.prior = fixed(Normal(wide(by, by), wide(1.0, 1.0)))
        else:
            model.prior.distribution.base_dist.loc += by
    return model


@pytest.mark.parametrize("name", PRIORS)
def test_it_does_not_matter_where_the_prior_lies(name):
    batch = examples(name)
    found = quadrature_log_likelihood(shifted(name, 12.0), batch.x, batch.context, tolerance=TOLERANCE)
    torch.testing.assert_close(found, exact(name), rtol=0, atol=1e-6)


class Ignoring(nn.Module):
    """A decoder that ignores z."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(z), 2).to(z)


class Constant(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), 2)


def of_one_latent(decoder: nn.Module, prior: cb.Prior) -> cb.VAE:
    return cb.VAE(Constant(), decoder, cb.GaussianLikelihood(1.0), prior, posterior=cb.GaussianPosterior("log_std"))


def test_a_prior_far_from_zero_is_found():
    """Prior N(12, 1), and two standard normal elements whatever z is: log p(0) = -log 2 pi = -1.84; within +- 10 it would be -5.62."""
    model = of_one_latent(Ignoring(), cb.DistributionPrior(Independent(Normal(torch.full((1,), 12.0), 1.0), 1)))
    found = float(quadrature_log_likelihood(model, torch.zeros(1, 2)))
    assert found == pytest.approx(-math.log(2.0 * math.pi), abs=1e-7)
    assert found == pytest.approx(-1.84, abs=0.005)


def test_a_linear_decoder_of_a_prior_far_from_zero_has_a_closed_form():
    """x = A z + e with z ~ N(12, 2^2) is N(12 A, 4 A A^T + I)."""
    decoder = nn.Linear(1, 2, bias=False)
    loc, std = torch.full((1,), 12.0, dtype=torch.float64), torch.full((1,), 2.0, dtype=torch.float64)
    model = of_one_latent(decoder, fixed(Normal(loc, std))).double()
    a = decoder.weight.detach()[:, 0]
    p = MultivariateNormal(12.0 * a, 4.0 * torch.outer(a, a) + torch.eye(2, dtype=torch.float64))
    x = p.sample((5,))
    torch.testing.assert_close(quadrature_log_likelihood(model, x), p.log_prob(x), rtol=0, atol=1e-7)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_tails_that_hold_too_much_are_refused_in_one_line(latent_dim):
    prior = fixed(Cauchy(torch.zeros(latent_dim, dtype=torch.float64), 1.0))
    encoder, decoder = nn.Linear(2, 2 * latent_dim), nn.Linear(latent_dim, 2)
    model = cb.VAE(encoder, decoder, cb.GaussianLikelihood(1.0), prior, posterior=cb.GaussianPosterior("log_std"))
    with pytest.raises(ArgumentError, match="its tails are too heavy") as refused:
        quadrature_log_likelihood(model, torch.zeros(1, 2))
    assert "\n" not in str(refused.value)
    assert "Take `annealed_importance` or an importance-weighted bound." in str(refused.value)


@pytest.fixture(scope="module")
def mixture_of_factors():
    """A linear decoder with a mixture prior, and the mixture of Gaussians with shared loadings that it is."""
    torch.manual_seed(2)
    decoder, sigma = nn.Linear(LATENT, DATA), 0.7
    model = cb.VAE(
        Encoder(), decoder, cb.GaussianLikelihood(sigma), make_mixture(), posterior=cb.GaussianPosterior("log_std")
    )
    model = model.double().eval()
    loadings, prior = decoder.weight.detach(), model.prior
    variances = (2.0 * prior.log_stds.detach()).exp()
    noise = model.likelihood.scale.value**2 * torch.eye(DATA, dtype=torch.float64)
    covariances = torch.einsum("ij,kj,lj->kil", loadings, variances, loadings) + noise
    parts = MultivariateNormal(prior.means.detach() @ loadings.T + decoder.bias.detach(), covariances)
    marginal = MixtureSameFamily(Categorical(logits=prior.logits.detach()), parts)
    x = marginal.sample((8,))
    return model, x, marginal.log_prob(x)


def test_a_linear_decoder_with_a_mixture_prior_is_a_mixture_of_gaussians(mixture_of_factors):
    model, x, truth = mixture_of_factors
    torch.testing.assert_close(quadrature_log_likelihood(model, x), truth, rtol=0, atol=1e-7)


def test_estimates_of_a_mixture_of_gaussians_hold_the_truth(mixture_of_factors):
    model, x, truth = mixture_of_factors
    weighted = importance_weighted(model, [cb.Batch(x)], samples=8000, compile="off")
    assert float(weighted.sample_error.max()) < 0.1
    assert (weighted.log_likelihood - truth).abs().lt(SURE * weighted.sample_error).all()
    annealed = annealed_importance(model, [cb.Batch(x)], AnnealedSettings(chains=48, temperatures=60, leapfrog=3))
    assert float(annealed.chain_error.max()) < 0.2
    assert (annealed.log_likelihood - truth).abs().lt(SURE * annealed.chain_error + 1e-3).all()

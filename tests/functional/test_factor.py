"""Factor analysis against scikit-learn's and torch's densities, and probabilistic PCA at every number of latents at once."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis as SkFactorAnalysis

import calibrae.functional as F
from calibrae.errors import ArgumentError, ShapeError
from calibrae.functional import FactorAnalysis, Spectrum, factor_analysis, factor_log_likelihood

D, LATENTS, N = 7, 2, 800


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(N, D)) * np.linspace(0.2, 2.0, D)
    return torch.from_numpy(rng.normal(size=(N, LATENTS)) @ rng.normal(size=(LATENTS, D)) * 2 + noise + 3.0)


def moments(x):
    centred = x - x.mean(0)
    return x.mean(0), centred.T @ centred / len(x)


def start(covariance, latents=LATENTS):
    values, vectors = F.spectrum(covariance)
    return vectors[:, :latents] * values[:latents].sqrt()


def test_the_fit_is_scikit_learns(x):
    mean, covariance = moments(x)
    ours = factor_analysis(mean, covariance, start(covariance))
    theirs = SkFactorAnalysis(LATENTS, tol=1e-5, max_iter=20_000, svd_method="lapack").fit(x.numpy())
    assert factor_log_likelihood(ours, x).mean().item() == pytest.approx(theirs.score(x.numpy()), abs=2e-3)
    implied = ours.weight @ ours.weight.T + ours.noise.diag()  # the factors alone are not unique
    torch.testing.assert_close(implied, torch.from_numpy(theirs.get_covariance()), rtol=0, atol=0.05)


def test_the_density_is_that_of_the_marginal_normal(x):
    mean, covariance = moments(x)
    model = factor_analysis(mean, covariance, start(covariance))
    full = model.weight @ model.weight.T + model.noise.diag()
    expected = torch.distributions.MultivariateNormal(mean, full).log_prob(x)
    torch.testing.assert_close(factor_log_likelihood(model, x), expected)


def test_one_group_is_probabilistic_pca(x):
    mean, covariance = moments(x)
    values, vectors = F.spectrum(covariance)
    exact = F.ppca(mean, values, vectors, float(values.sum()), LATENTS)
    ours = factor_analysis(mean, covariance, start(covariance), groups=torch.zeros(D, dtype=torch.long))
    assert ours.sigma == pytest.approx(exact.sigma, rel=1e-3)
    torch.testing.assert_close(factor_log_likelihood(ours, x), F.ppca_log_likelihood(exact, x), atol=5e-2, rtol=0)


def test_groups_share_their_noise_and_do_not_beat_single_entries(x):
    mean, covariance = moments(x)
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    shared = factor_analysis(mean, covariance, start(covariance), groups=groups)
    assert len(shared.noise.unique()) == 2
    single = factor_analysis(mean, covariance, start(covariance))
    scores = [factor_log_likelihood(model, x).mean().item() for model in (shared, single)]
    assert scores[0] <= scores[1] + 1e-6


def test_an_element_that_the_factors_explain_stops_at_the_least_noise():
    z = torch.randn(500, 1, dtype=torch.float64)
    x = torch.cat([z, z + 0.3 * torch.randn(500, 1, dtype=torch.float64)], 1)
    mean, covariance = moments(x)
    found = factor_analysis(mean, covariance, start(covariance, 1), min_noise=0.01)
    assert found.noise.min().item() >= 0.01


def test_every_number_of_latents_at_once(x):
    mean, covariance = moments(x)
    values, vectors = F.spectrum(covariance)
    known = Spectrum(mean, values, vectors, float(values.sum()), N, is_exact=True)
    together = F.ppca_log_likelihoods(known, x, D - 1)
    for latents in range(1, D):
        torch.testing.assert_close(together[:, latents - 1], F.ppca_log_likelihood(known.ppca(latents), x))


def test_no_noise_is_minus_infinity():
    known = Spectrum(torch.zeros(3), torch.tensor([4.0, 0.0, 0.0]), torch.eye(3), 4.0, 10, is_exact=True)
    assert F.ppca_log_likelihoods(known, torch.zeros(1, 3), 2).tolist() == [[-math.inf, -math.inf]]


def test_shapes_and_noise_are_checked():
    with pytest.raises(ShapeError):
        factor_analysis(torch.zeros(3), torch.eye(2), torch.ones(2, 1))
    with pytest.raises(ArgumentError, match="min_noise"):
        factor_analysis(torch.zeros(2), torch.eye(2), torch.ones(2, 1), min_noise=0.0)
    with pytest.raises(ShapeError, match="Flatten"):
        factor_log_likelihood(FactorAnalysis(torch.zeros(2), torch.ones(2, 1), torch.ones(2)), torch.zeros(1, 3))

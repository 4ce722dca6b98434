"""Estimators of log p(x) against exact answers: bias, variance, and whether their error bars are true."""

from __future__ import annotations

import copy
import math
from functools import cache

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal

import calibrae as cb
from calibrae import functional as F
from calibrae._noise import mixed_seed
from calibrae.data import _row_cache, load_data
from calibrae.errors import ArgumentError, NoDensityError
from calibrae.evaluation import (
    AnnealedSettings,
    Ring,
    annealed_importance,
    bidirectional,
    importance_weighted,
    linear_vae_at_ppca,
    quadrature_log_likelihood,
    sample_ppca,
    split_bounds,
)
from calibrae.evaluation._annealed import ANNEALED_STREAM, BLOCK_EXAMPLES
from calibrae.models import sample_data, sample_latents, summarise


def ppca_of(latent_dim: int, data_dim: int = 5, sigma: float = 0.4) -> F.PPCA:
    generator = torch.Generator().manual_seed(latent_dim)
    vectors = torch.linalg.qr(torch.randn(data_dim, data_dim, dtype=torch.float64, generator=generator)).Q
    eigenvalues = torch.linspace(3.0, 1.0, latent_dim, dtype=torch.float64)
    return F.PPCA(torch.ones(data_dim, dtype=torch.float64), vectors[:, :latent_dim], eigenvalues, sigma)


def off_posterior(model: cb.VAE, shift: float = 0.3, widen: float = 1.3) -> cb.VAE:
    """This model with an encoder that is somewhat wrong, so that there is something to estimate."""
    with torch.no_grad():
        model.encoder.body.mean.bias += shift * model.encoder.body.constant.exp()
        model.encoder.body.constant += math.log(widen)
    return model


class Constant(nn.Module):
    """An encoder that does not look."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.features = nn.Parameter(torch.zeros(2 * latent_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features.expand(len(x), -1)


@cache
def curved(latent_dim: int, likelihood: str = "gaussian") -> cb.VAE:
    """A curved decoder with an encoder that was trained for a moment, so that q is near the posterior but not at it."""
    torch.manual_seed(3)
    chosen = cb.GaussianLikelihood(0.3) if likelihood == "gaussian" else cb.BernoulliLikelihood()
    decoder = nn.Sequential(nn.Linear(latent_dim, 16), nn.Tanh(), nn.Linear(16, 6))
    with torch.no_grad():
        decoder[0].weight *= 2.0
        decoder[2].weight *= 3.0
    encoder = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 2 * latent_dim))
    model = cb.VAE(
        encoder,
        decoder.requires_grad_(False),
        chosen,
        cb.StandardNormalPrior(latent_dim),
        posterior=cb.GaussianPosterior("log_std"),
    )
    optimiser = torch.optim.Adam(encoder.parameters(), lr=5e-3)
    for _ in range(300):
        optimiser.zero_grad()
        (-model.elbo(model.sample(256, observation_noise=True)).elbo.mean()).backward()
        optimiser.step()
    return model.eval()


def drawn_from(model: cb.VAE, n: int, seed: int = 0) -> torch.Tensor:
    return model.sample(n, observation_noise=True, generator=torch.Generator().manual_seed(seed))


def simulated(model: cb.VAE, n: int, seed: int) -> torch.Tensor:
    """The examples that `bidirectional` draws."""
    found = []
    for block, start in enumerate(range(0, n, BLOCK_EXAMPLES)):
        generator = torch.Generator().manual_seed(mixed_seed(seed, ANNEALED_STREAM, block, 1))
        z = sample_latents(model.prior(), min(BLOCK_EXAMPLES, n - start), model.device, generator)
        with torch.no_grad():
            found.append(sample_data(model.decode(z), model.device, generator))
    return torch.cat(found)


# quadrature


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_quadrature_of_a_linear_model_is_its_closed_form(latent_dim):
    ppca = ppca_of(latent_dim)
    x = sample_ppca(ppca, 20, torch.Generator().manual_seed(0))
    found = quadrature_log_likelihood(linear_vae_at_ppca(ppca, (5,)), x)
    torch.testing.assert_close(found, F.ppca_log_likelihood(ppca, x), rtol=0, atol=1e-8)


@pytest.mark.parametrize("sigma", [0.5, 0.05, 0.003])
def test_quadrature_of_a_ring_is_the_bessel_function(sigma):
    ring = Ring(1.0, sigma)
    x = ring.sample(20, torch.Generator().manual_seed(0))
    torch.testing.assert_close(quadrature_log_likelihood(ring.vae(Constant(1)), x), ring.log_prob(x), rtol=0, atol=1e-6)


def test_the_density_of_a_ring_integrates_to_one():
    ring = Ring(1.0, 0.2)
    side = torch.linspace(-3, 3, 601, dtype=torch.float64)
    density = ring.log_prob(torch.cartesian_prod(side, side)).exp()
    assert float(density.sum()) * 0.01**2 == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_quadrature_of_a_curved_decoder_is_a_dense_grid(likelihood):
    model = curved(2, likelihood=likelihood)
    x = drawn_from(model, 6)
    side = torch.linspace(-8, 8, 801, dtype=torch.float64)
    z = torch.cartesian_prod(side, side)
    wide = copy.deepcopy(model).double()
    with torch.no_grad():
        prior, output = Normal(0.0, 1.0).log_prob(z).sum(1), wide.decoder(z)
        elements = Normal(output, wide.likelihood.scale.value) if likelihood == "gaussian" else Bernoulli(logits=output)
        joint = torch.stack([prior + elements.log_prob(row.double()).sum(1) for row in x])
    exact = joint.logsumexp(1) + 2 * math.log(0.02)
    torch.testing.assert_close(quadrature_log_likelihood(model, x), exact, rtol=0, atol=1e-7)


def test_quadrature_refuses_many_latents_and_points():
    with pytest.raises(ArgumentError, match=r"one or two latents; got 3\. Take"):
        quadrature_log_likelihood(curved(3), torch.zeros(1, 6))
    model = cb.build("autoencoder", data_shape=(6,), latent_dim=1)
    with pytest.raises(NoDensityError):
        quadrature_log_likelihood(model, torch.zeros(1, 6))


# the importance-weighted bound


def test_error_bars_of_the_importance_bound_cover():
    """95 % intervals of 1000 examples, with an encoder that is wrong: 93 to 97 % hold the truth."""
    ppca = ppca_of(2)
    x = sample_ppca(ppca, 1000, torch.Generator().manual_seed(1))
    summary = importance_weighted(off_posterior(linear_vae_at_ppca(ppca, (5,))), [cb.Batch(x)], samples=500)
    error = summary.log_likelihood - F.ppca_log_likelihood(ppca, x)
    covered = (error.abs() < 1.96 * summary.sample_error).double().mean()
    assert 0.93 <= float(covered) <= 0.97
    # bias is minus half the variance of log w-bar, to first order, and far below the error bar here
    assert abs(float(error.mean()) + 0.5 * float(summary.sample_error.square().mean())) < 3 * float(
        error.std()
    ) / math.sqrt(1000)


def test_fewer_samples_are_the_first_ones():
    model = curved(2)
    x = drawn_from(model, 10)
    summary = importance_weighted(model, [cb.Batch(x)], samples=700, fewer=(1, 50, 500))
    assert list(summary.fewer) == [1, 50, 500]
    alone = importance_weighted(model, [cb.Batch(x)], samples=50)
    torch.testing.assert_close(summary.fewer[50], alone.log_likelihood, rtol=0, atol=1e-5)
    assert summary.fewer[1].mean() < summary.fewer[50].mean() < summary.mean + 0.05


def test_the_importance_bound_does_not_depend_on_threads():
    model = curved(2)
    x = drawn_from(model, 100)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(importance_weighted(model, [cb.Batch(x)], samples=300).log_likelihood)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-9)


# annealed importance sampling


@pytest.mark.slow
@pytest.mark.parametrize(("latent_dim", "likelihood"), [(1, "gaussian"), (2, "bernoulli")])
def test_annealing_against_quadrature(latent_dim, likelihood):
    model = curved(latent_dim, likelihood=likelihood)
    x = drawn_from(model, 12)
    exact = quadrature_log_likelihood(model, x)
    summary = annealed_importance(model, [cb.Batch(x)], AnnealedSettings(chains=64, temperatures=250, leapfrog=5))
    assert float((summary.log_likelihood - exact).abs().mean()) < 0.05
    weighted = importance_weighted(model, [cb.Batch(x)], samples=64)
    assert float((weighted.log_likelihood - exact).abs().mean()) > float((summary.log_likelihood - exact).abs().mean())


@pytest.mark.slow
def test_error_bars_of_annealing_cover():
    ppca = ppca_of(2)
    x = sample_ppca(ppca, 1000, torch.Generator().manual_seed(2))
    model = off_posterior(linear_vae_at_ppca(ppca, (5,)), 0.5, 1.0)
    summary = annealed_importance(model, [cb.Batch(x)], AnnealedSettings(chains=64, temperatures=6, leapfrog=3))
    error = summary.log_likelihood - F.ppca_log_likelihood(ppca, x)
    assert 0.93 <= float((error.abs() < 1.96 * summary.chain_error).double().mean()) <= 0.97


def test_annealing_does_not_depend_on_batches():
    model = curved(2)
    x = drawn_from(model, 20)
    settings = AnnealedSettings(chains=3, temperatures=5, leapfrog=2)
    whole = annealed_importance(model, [cb.Batch(x)], settings).log_likelihood
    pieces = annealed_importance(model, [cb.Batch(x[i : i + 3]) for i in range(0, 20, 3)], settings).log_likelihood
    torch.testing.assert_close(whole, pieces, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_bidirectional_bounds_enclose_the_truth(latent_dim):
    model = curved(latent_dim)
    settings = AnnealedSettings(chains=16, temperatures=100, leapfrog=5)
    summary = bidirectional(model, 32, settings, seed=1)
    assert -3 * summary.gap_standard_error - 1e-3 < summary.gap < 0.1
    # with few temperatures and one chain the bounds are loose, on their own sides
    loose = bidirectional(model, 32, AnnealedSettings(chains=1, temperatures=2, leapfrog=1), seed=1)
    assert loose.gap > summary.gap + 0.1


def test_bidirectional_bounds_of_a_linear_model_are_on_their_sides():
    ppca = ppca_of(2)
    model = off_posterior(linear_vae_at_ppca(ppca, (5,)), 1.0, 0.8)
    summary = bidirectional(model, 400, AnnealedSettings(chains=2, temperatures=4, leapfrog=3))
    # the expected log p(x) of the source is its negative entropy, known in closed form
    entropy = 0.5 * (5 * math.log(2 * math.pi * math.e) + float(ppca.eigenvalues.log().sum()) + 3 * math.log(0.4**2))
    noise = 4 * 1.6 / math.sqrt(400)
    assert float(summary.lower.mean()) < -entropy + noise
    assert float(summary.upper.mean()) > -entropy - noise
    assert float((summary.upper - summary.lower).mean()) > 0


@pytest.mark.slow
def test_error_bars_of_the_bidirectional_bounds_cover():
    """Bounds of 100 simulated examples, whose log p(x) is known by quadrature."""
    model = curved(1)
    both = bidirectional(model, 100, AnnealedSettings(chains=64, temperatures=100, leapfrog=3), seed=1)
    truth = quadrature_log_likelihood(model, simulated(model, 100, seed=1))
    for bound, error in ((both.lower, both.lower_error), (both.upper, both.upper_error)):
        assert 0.90 <= float(((bound - truth).abs() < 1.96 * error).double().mean()) <= 0.99
        assert float((bound - truth).abs().mean()) < 0.05


def test_settings_are_checked():
    with pytest.raises(ArgumentError, match="`chains` of annealed importance sampling must be at least 1; got 0"):
        AnnealedSettings(chains=0)


# the ELBO's own error bar


@pytest.mark.slow
def test_error_bars_of_the_elbo_cover():
    """1000 data sets of a source whose expected ELBO is known: 93 to 97 % of the intervals hold it."""
    ppca = ppca_of(2)
    model = linear_vae_at_ppca(ppca, (5,))
    entropy = 0.5 * (5 * math.log(2 * math.pi * math.e) + float(ppca.eigenvalues.log().sum()) + 3 * math.log(0.4**2))
    generator = torch.Generator().manual_seed(0)

    def noise(index: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(index), 2, generator=generator, dtype=torch.float64)

    covered, index = 0, torch.arange(100)
    for _ in range(1000):
        summary = summarise(model, [cb.Batch(sample_ppca(ppca, 100, generator), index=index)], noise)
        covered += abs(summary.elbo + entropy) < 1.96 * summary.standard_error
    assert 930 <= covered <= 970


def test_kept_blocks_are_those_of_the_same_numbers_of_samples(monkeypatch):
    monkeypatch.setattr(_row_cache, "WRITE_EVERY", -1.0)
    data = load_data("digits")
    model = cb.build("vae", data_shape=(1, 8, 8), latent_dim=2, network="mlp", sigma=0.3).eval()
    alone = split_bounds(model, data, "test", 40, limit=20)
    found = split_bounds(model, data, "test", 40, fewer=(1, 5), limit=20)
    again = split_bounds(model, data, "test", 40, fewer=(1, 5), limit=20)
    assert set(found.fewer) == {1, 5}
    torch.testing.assert_close(found.log_likelihood, alone.log_likelihood, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(found.effective_samples, alone.effective_samples, rtol=1e-4, atol=0.0)
    assert torch.equal(again.fewer[5], found.fewer[5])


def test_a_compiler_that_fails_costs_a_warning_and_no_number(monkeypatch):
    def failing(*_, **__):
        def call(*_):
            raise RuntimeError("no C++ compiler was found")

        return call

    model = cb.build("vae", data_shape=(5,), latent_dim=2, network="mlp", options=cb.NetworkOptions(hidden=(8,))).eval()
    x = torch.rand(64, 5)
    expected = importance_weighted(model, [cb.Batch(x)], 64, compile="off")
    monkeypatch.setattr(torch, "compile", failing)
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler was found") as warned:
        found = importance_weighted(model, [cb.Batch(x)], 64, examples=64, compile="on")
    assert len(warned) == 1
    assert "the compiler failed" in found.compilation
    assert torch.equal(found.log_likelihood, expected.log_likelihood)

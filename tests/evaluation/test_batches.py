"""Numbers that belong to the examples: whatever the batch size, the limit, and the number of samples."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, StudentT

import calibrae as cb
from calibrae._noise import ExampleNoise
from calibrae.data import Data, load_data
from calibrae.errors import ArgumentError
from calibrae.evaluation import (
    calibration,
    diagnose_latents,
    digest_of,
    evaluate_model,
    importance_weighted,
    split_bounds,
    summarise_split,
)

N, WIDTH, CLASSES = 36, 5, 3
SIZES = (1, 7, 128)
LIKELIHOODS = ("gaussian", "laplace", "bernoulli", "gaussian-per-example")
PRIORS = ("standard-normal", "mixture:components=3", "conditional-gaussian", "student-t")


def student() -> cb.DistributionPrior:
    return cb.DistributionPrior(Independent(StudentT(torch.full((2,), 5.0)), 1))


@cache
def case(likelihood: str, prior: str) -> tuple[cb.VAE, Data]:
    """A model with random weights, and data that it is for."""
    torch.manual_seed(1)
    context_dim = CLASSES if prior == "conditional-gaussian" else 0
    model = cb.build(
        "vae", data_shape=(WIDTH,), latent_dim=2, network="mlp", likelihood=likelihood, context_dim=context_dim,
        prior=student() if prior == "student-t" else prior, options=cb.NetworkOptions(hidden=(8,)),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    x = torch.randn(N, WIDTH)
    x = (x > 0).long() if likelihood == "bernoulli" else x
    condition = torch.arange(N) % CLASSES if context_dim else None
    data = load_data(x, condition=condition, split=False)
    return model.eval(), data.prepared_for(model.likelihood.support, is_density=model.likelihood.is_density)


def require_same(one: object, other: object, name: str = "") -> None:
    """Equal but for rounding, all the way down."""
    if isinstance(one, dict):
        assert set(one) == set(other)
        for key, value in one.items():
            require_same(value, other[key], f"{name} {key}")
    elif isinstance(one, list | tuple) and one and isinstance(one[0], dict):
        for i, pair in enumerate(zip(one, other, strict=True)):
            require_same(*pair, f"{name} {i}")
    elif isinstance(one, float) or (isinstance(one, list) and one and isinstance(one[0], float)):
        assert other == pytest.approx(one, rel=1e-5, abs=1e-6), name
    else:
        assert other == one, name


@pytest.mark.parametrize(("likelihood", "prior"), list(itertools.product(LIKELIHOODS, PRIORS)))
def test_evaluation_does_not_depend_on_the_batch_size(likelihood, prior):
    model, data = case(likelihood, prior)
    assert data.spec.data_shape == (WIDTH,)
    one, *others = (evaluate_model(model, data, batch_size=size, importance_samples=3).to_dict() for size in SIZES)
    assert one["elbo_nats"] is not None
    for other in others:
        require_same(one, other)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_diagnosis_does_not_depend_on_the_batch_size(prior):
    model, data = case("gaussian", prior)
    one, *others = (diagnose_latents(model, data.batches("test", size)).to_dict() for size in SIZES)
    for other in others:
        require_same(one, other)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_calibration_does_not_depend_on_the_batch_size(likelihood):
    model, data = case(likelihood, "standard-normal")
    noise = ExampleNoise("normal", (2,), 0)
    if likelihood == "bernoulli":
        with pytest.raises(ArgumentError, match="gives probabilities"):
            calibration(model, data.batches("test", 7), noise.rows)
        return
    one, *others = (calibration(model, data.batches("test", size), noise.rows).to_dict() for size in SIZES)
    for other in others:
        require_same(one, other)


@pytest.mark.parametrize(("likelihood", "prior"), list(zip(LIKELIHOODS, PRIORS, strict=True)))
def test_the_noise_of_an_example_does_not_depend_on_the_limit(likelihood, prior):
    model, data = case(likelihood, prior)
    rows = data.positions("test", 10)
    assert len(rows) == 10
    assert not torch.equal(rows, torch.arange(10))
    every, few = (summarise_split(model, data, "test", limit=limit).elbos for limit in (None, 10))
    torch.testing.assert_close(few, every[rows], rtol=3e-6, atol=1e-6)  # some ten roundings of float32
    every, few = (split_bounds(model, data, "test", 40, limit=limit).log_likelihood for limit in (None, 10))
    torch.testing.assert_close(few, every[rows], rtol=3e-6, atol=1e-6)
    other = split_bounds(model, data, "test", 40, seed=1).log_likelihood
    assert not torch.allclose(other, every, atol=1e-4)


@pytest.mark.parametrize("samples", [101, 700, 9_000, 20_000])
def test_the_first_samples_are_the_same_for_every_number(samples):
    """Those of 9,000 and more too, for which fewer examples stand in a block."""
    model, data = case("gaussian", "standard-normal")
    batches = list(data.batches("test", 50, limit=12))
    alone = importance_weighted(model, batches, 100, compile="off").log_likelihood
    found = importance_weighted(model, batches, samples, fewer=(100,), compile="off")
    torch.testing.assert_close(found.fewer[100], alone, rtol=0, atol=1e-5)


def test_noise_of_different_examples_and_samples_differs():
    """A thousand equal examples: their bounds differ as those of independent samples do, and the mean weight is 1."""
    model = cb.VAE(
        nn.Linear(1, 2), nn.Linear(1, 1), cb.GaussianLikelihood(1.0), cb.StandardNormalPrior(1),
        posterior=cb.GaussianPosterior("log_std"),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.decoder.weight += 1.0
    n = 1000
    batch = cb.Batch(torch.zeros(n, 1), index=torch.arange(n))
    found = importance_weighted(model, [batch], 1, compile="off").log_likelihood
    # one sample: log w = -z^2 / 2 - log(2 pi) / 2 with a standard normal z
    z_squared = -2.0 * found - torch.log(torch.tensor(2.0 * torch.pi, dtype=torch.float64))
    assert len(z_squared.unique()) > 0.98 * n
    assert float(z_squared.mean()) == pytest.approx(1.0, abs=5 * (2 / n) ** 0.5)
    many = importance_weighted(model, [batch], 200, compile="off").log_likelihood
    assert float(many.exp().mean()) == pytest.approx(
        float(Normal(0.0, 2.0**0.5).log_prob(torch.zeros(())).exp()), rel=0.01
    )


class Scaled(nn.Module):
    """A decoder with a plain attribute, which no state holds."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.k * z


def test_kept_bounds_are_of_the_model_itself():
    """Models that differ in a plain attribute, or in a fixed prior, are not taken for each other."""

    def digest(k: float = 1.0, df: float = 5.0, loc: float = 0.0, floor: float | None = None) -> str:
        torch.manual_seed(0)
        prior = cb.DistributionPrior(Independent(StudentT(torch.full((2,), df), loc), 1))
        likelihood = cb.GaussianLikelihood("learned", floor=floor)
        return digest_of(
            cb.VAE(nn.Linear(2, 4), Scaled(k), likelihood, prior, posterior=cb.GaussianPosterior("log_std"))
        )

    assert digest() == digest()
    assert len({digest(), digest(k=5.0), digest(df=4.0), digest(loc=1.0), digest(floor=0.5)}) == 5

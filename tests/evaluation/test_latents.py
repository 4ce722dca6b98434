"""What the latents hold, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

import calibrae as cb
from calibrae.errors import ArgumentError, NoDensityError
from calibrae.evaluation import diagnose_latents
from calibrae.evaluation._latents import KL_SAMPLES


class Given(nn.Module):
    """An encoder whose input is the posterior's mean, with one width."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.tensor(math.log(std)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.log_std.expand_as(x)], 1)


def model(std: float, latent_dim: int, prior: cb.Prior | None = None) -> cb.VAE:
    prior, posterior = prior or cb.StandardNormalPrior(latent_dim), cb.GaussianPosterior("log_std")
    return cb.VAE(Given(std), nn.Linear(latent_dim, latent_dim), cb.GaussianLikelihood(1.0), prior, posterior=posterior)


def batches(x: torch.Tensor, size: int = 10_000) -> list[cb.Batch]:
    index = torch.arange(len(x))
    return [cb.Batch(x[i : i + size], index=index[i : i + size]) for i in range(0, len(x), size)]


def means(n: int, scale: list[float]) -> torch.Tensor:
    return torch.tensor(scale) * torch.randn(n, len(scale), generator=torch.Generator().manual_seed(0))


def test_a_gaussian_aggregate_is_its_closed_form():
    """mu ~ N(0, 1 - s^2), std s: q(z) is the prior, and x and z share -ln s nats per latent."""
    std = 0.5
    x = means(8000, [math.sqrt(1 - std**2)])
    found = diagnose_latents(model(std, 1), batches(x))
    assert found.mutual_information == pytest.approx(-math.log(std), abs=4 * found.mutual_information_error + 0.02)
    assert found.aggregate_kl == pytest.approx(0.0, abs=0.02)
    assert found.dimensionwise_kl == pytest.approx(0.0, abs=0.02)
    assert found.hole_share == pytest.approx(0.01, abs=0.01)
    assert found.collapse == "none"


@pytest.mark.slow
def test_the_error_bars_are_those_of_repeated_data():
    """120 data sets: what is claimed is the spread that is seen, for a given aggregate posterior of many examples."""
    vae, n = model(0.5, 2), 400
    x = torch.tensor([0.9, 0.4]) * torch.randn(120, n, 2, generator=torch.Generator().manual_seed(1))
    results = [diagnose_latents(vae, batches(part), seed=i) for i, part in enumerate(x)]
    for name in ("kl_per_dim", "posterior_mean_variance"):
        seen = torch.stack([getattr(r, name) for r in results]).std(0)
        claimed = torch.tensor([r.standard_errors[name] for r in results]).square().mean(0).sqrt()
        torch.testing.assert_close(claimed.double(), seen.double(), rtol=0.25, atol=0)
    seen = torch.tensor([r.mutual_information for r in results]).std()
    claimed = torch.tensor([r.mutual_information_error for r in results]).square().mean().sqrt()
    assert float(claimed / seen) == pytest.approx(1.0, abs=0.25)


@pytest.mark.slow
def test_the_error_of_the_hole_share_counts_the_threshold_too():
    """Posteriors that are narrower than the prior: 60 data sets."""
    vae = model(0.3, 2)
    x = 0.7 * torch.randn(60, 400, 2, generator=torch.Generator().manual_seed(2))
    results = [diagnose_latents(vae, batches(part), seed=i) for i, part in enumerate(x)]
    seen = torch.tensor([r.hole_share for r in results]).std()
    claimed = torch.tensor([r.standard_errors["hole_share"] for r in results]).square().mean().sqrt()
    assert float(claimed / seen) == pytest.approx(1.0, abs=0.35)


def test_the_parts_sum_to_the_kl():
    x = means(3000, [0.9, 0.5, 0.0])
    found = diagnose_latents(model(0.3, 3), batches(x))
    parts = found.mutual_information + found.total_correlation + found.dimensionwise_kl
    assert found.aggregate_kl == pytest.approx(found.total_correlation + found.dimensionwise_kl, abs=1e-9)
    # the parts are estimated at one sample of each of 1000 examples, the KL is exact over all
    assert parts == pytest.approx(float(found.kl_per_dim.sum()), abs=0.15)


def test_total_correlation_of_dependent_latents():
    """Two latents that repeat one another: correlation r of the aggregate, TC = -ln(1 - r^2) / 2."""
    common = means(6000, [0.9])
    found = diagnose_latents(model(0.4, 2), batches(common.expand(-1, 2)))
    r = 0.81 / (0.81 + 0.16)
    assert found.total_correlation == pytest.approx(-0.5 * math.log(1 - r**2), abs=0.05)


def test_mutual_information_is_capped_and_says_so():
    x = means(500, [1.0] * 20)
    found = diagnose_latents(model(0.01, 20), batches(x))
    assert found.cap == pytest.approx(math.log(500))
    assert found.mutual_information == pytest.approx(found.cap, abs=1e-6)
    assert "at its estimator's cap" in found.sentence


def test_collapse_is_named():
    full = diagnose_latents(model(1.0, 4), batches(means(200, [0.0] * 4)))
    assert (full.collapse, full.active_units) == ("full", 0)
    assert full.sentence.startswith("Posterior collapse: no latent is active")
    partial = diagnose_latents(model(1.0, 4), batches(means(200, [1.0, 0.0, 0.0, 0.0])))
    assert (partial.collapse, partial.active_units) == ("partial", 1)
    assert "3 latents are unused" in partial.sentence


def test_holes_are_found():
    """Codes on two far islands: most prior samples fall between or around them."""
    islands = torch.where(torch.arange(2000)[:, None] % 2 == 0, -2.0, 2.0).expand(-1, 2)
    found = diagnose_latents(model(0.2, 2), batches(islands + 0.1 * means(2000, [1.0, 1.0])))
    assert found.hole_share > 0.8
    assert "fall into holes" in found.sentence


def test_it_does_not_depend_on_batches_and_is_plain():
    x = means(300, [1.0, 0.3])
    vae = model(0.5, 2)
    one = diagnose_latents(vae, batches(x), seed=4).to_dict()
    two = diagnose_latents(vae, batches(x, 7), seed=4).to_dict()
    assert one["mutual_information"] == pytest.approx(two["mutual_information"], rel=1e-9)
    assert one["active_units"] == 2
    assert one != diagnose_latents(vae, batches(x), seed=5).to_dict()


def test_what_has_no_density_and_too_few_examples_are_refused():
    with pytest.raises(NoDensityError):
        diagnose_latents(cb.build("autoencoder", data_shape=(2,), latent_dim=1), batches(torch.zeros(3, 2)))
    with pytest.raises(ArgumentError, match="at least two examples; got 1"):
        diagnose_latents(model(0.5, 2), batches(torch.zeros(1, 2)))


# priors other than N(0, I)


class WidePrior(cb.Prior):
    """Prior N(.5, 2^2) of each latent, as a user writes it."""

    def forward(self, context: torch.Tensor | None = None) -> Independent:
        return Independent(Normal(torch.full((self.latent_dim,), 0.5), 2.0), 1)


def test_the_kl_to_another_gaussian_is_its_closed_form():
    """For N(x, .5^2) and N(.5, 2^2) it is 1.07 nats; log q - log p at the posterior's mean would be 1.54."""
    x = means(4000, [1.0])
    found = diagnose_latents(model(0.5, 1, WidePrior(1)), batches(x))
    truth = kl_divergence(Normal(x.double(), 0.5), Normal(0.5, 2.0))
    at_mean = Normal(x, 0.5).log_prob(x) - Normal(0.5, 2.0).log_prob(x)
    assert float(truth.mean()) == pytest.approx(math.log(4) + (0.25 + 1.25) / 8 - 0.5, abs=0.02)  # 1.0738
    assert float(at_mean.mean()) == pytest.approx(1.54, abs=0.02)
    assert found.kl == pytest.approx(float(truth.mean()), rel=1e-6)
    torch.testing.assert_close(found.kl_per_dim, truth.mean(0), rtol=1e-6, atol=0)
    assert found.standard_errors["kl"] == pytest.approx(stats.sem(truth[:, 0].numpy()), rel=1e-5)
    assert found.notes == ()


def mixture() -> cb.MixturePrior:
    torch.manual_seed(3)
    return cb.MixturePrior(2, components=4, spread=1.5)


def log_ratio(q: Normal, p: torch.distributions.Distribution, samples: int) -> torch.Tensor:
    """`log q(z) - log p(z)` at samples that torch draws, `[K, N]`."""
    z = q.sample((samples,))
    return q.log_prob(z).sum(-1) - p.log_prob(z).detach()


def test_a_mixture_prior_has_no_kl_per_latent_and_says_so():
    x = means(400, [1.5, 0.8])
    found = diagnose_latents(model(0.4, 2, mixture()), batches(x))
    assert found.kl_per_dim is None
    assert found.dimensionwise_kl is None
    assert "kl_per_dim" not in found.standard_errors
    assert any("there is no KL per latent" in note for note in found.notes)
    assert any(f"estimated from {KL_SAMPLES} samples" in note for note in found.notes)
    assert found.active.tolist() == [True, True]
    assert "unused" not in found.sentence
    plain = found.to_dict()
    assert plain["kl_per_dim"] is None
    assert plain["active_units"] == 2


def test_the_estimated_kl_is_that_of_many_samples():
    x, prior = means(300, [1.5, 0.8]), mixture()
    found = diagnose_latents(model(0.4, 2, prior), batches(x))
    many = log_ratio(Normal(x, 0.4), prior(), 4000)
    noise = float((many.var(0) / KL_SAMPLES).mean().sqrt()) / math.sqrt(len(x))
    assert noise < 0.02
    assert abs(found.kl - float(many.mean())) < 5 * noise
    assert found.standard_errors["kl"] == pytest.approx(stats.sem(many.mean(0).numpy()), rel=0.05)
    # the mean KL is the mutual information and what is left, each at one sample of each example
    parts, error = found.mutual_information + found.aggregate_kl, found.standard_errors
    assert abs(parts - found.kl) < 5 * math.hypot(error["mutual_information"], error["aggregate_kl"])


def test_a_prior_with_dependent_latents_is_compared_exactly_or_by_samples():
    covariance = torch.tensor([[1.0, 0.6], [0.6, 2.0]])
    prior = cb.DistributionPrior(MultivariateNormal(torch.tensor([0.5, -0.5]), covariance))
    x = means(300, [1.0, 1.0])
    found = diagnose_latents(model(0.5, 2, prior), batches(x))
    q = MultivariateNormal(x, 0.25 * torch.eye(2))
    many = log_ratio(Normal(x, 0.5), prior(), 2000)
    noise = float((many.var(0) / KL_SAMPLES).mean().sqrt()) / math.sqrt(len(x))
    assert abs(found.kl - float(kl_divergence(q, prior()).mean())) < 5 * noise
    assert found.kl_per_dim is None


def test_factors_without_a_closed_form_are_not_called_dependent():
    prior = cb.DistributionPrior(Independent(torch.distributions.StudentT(torch.full((2,), 5.0)), 1))
    found = diagnose_latents(model(0.5, 2, prior), batches(means(50, [1.0, 1.0])))
    assert found.kl_per_dim is None
    assert found.dimensionwise_kl is not None  # from densities, which factorise
    assert not any("do not both factorise" in note for note in found.notes)
    assert any("there is no KL per latent" in note for note in found.notes)


class GivenContext(Given):
    """An encoder that is given a condition too."""

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x)


class Blind(nn.Module):
    """A decoder that does not look at the condition."""

    def forward(self, z: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return z


def test_a_conditional_prior_has_no_aggregate_and_says_so():
    """Its KL is that to the Gaussian of each example's class."""
    prior = cb.ConditionalGaussianPrior(2, 3)
    nn.init.normal_(prior.affine.weight)
    vae = cb.VAE(
        GivenContext(0.5), Blind(), cb.GaussianLikelihood(1.0), prior, posterior=cb.GaussianPosterior("log_std"), context_dim=3
    )  # fmt: skip
    x, context = means(90, [1.0, 0.5]), torch.eye(3)[torch.arange(90) % 3]
    index = torch.arange(90)
    found = diagnose_latents(
        vae, [cb.Batch(x[i : i + 20], context[i : i + 20], index=index[i : i + 20]) for i in range(0, 90, 20)]
    )
    affine = (context @ prior.affine.weight.T + prior.affine.bias).detach()
    truth = kl_divergence(Normal(x, 0.5), Normal(affine[:, :2], affine[:, 2:].exp()))
    torch.testing.assert_close(found.kl_per_dim, truth.double().mean(0), rtol=1e-5, atol=0)
    assert found.kl == pytest.approx(float(truth.sum(1).mean()), rel=1e-5)
    assert found.aggregate_kl is found.dimensionwise_kl is found.hole_share is None
    assert not found.has_holes
    assert any("the prior depends on the condition" in note for note in found.notes)


@pytest.mark.parametrize("prior", [None, mixture])
def test_an_estimated_kl_does_not_depend_on_batches(prior):
    x, given = means(40, [1.0, 0.5]), None if prior is None else prior()
    one, two, three = (diagnose_latents(model(0.5, 2, given), batches(x, size)) for size in (1, 7, 128))
    for other in (two, three):
        assert other.kl == pytest.approx(one.kl, rel=1e-6)
        assert other.mutual_information == pytest.approx(one.mutual_information, rel=1e-6)
        assert other.aggregate_kl == pytest.approx(one.aggregate_kl, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("prior", [None, WidePrior(2), mixture()])
def test_a_diagnosis_never_calls_latents_unused_because_of_a_prior(prior):
    """The codes of these data vary in both latents, whatever the prior; and in one alone, where one is constant."""
    codes = {finding.code for finding in cb.diagnose(model(0.5, 2, prior).eval(), means(200, [1.0, 1.0]))}
    assert "unused-latents" not in codes
    assert "posterior-collapse" not in codes
    (unused,) = [
        f for f in cb.diagnose(model(0.5, 2, prior).eval(), means(200, [1.0, 0.0])) if f.code == "unused-latents"
    ]
    assert unused.message.startswith("1 of 2 latents")

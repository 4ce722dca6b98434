"""One contract for every posterior and prior."""

import pytest
import torch
from torch.distributions import kl_divergence

import calibrae as cb
from calibrae.errors import ArgumentError, NoDensityError, ShapeError
from calibrae.latents import AbstractPosterior

pytestmark = pytest.mark.usefixtures("double")

POSTERIORS = {"gaussian": cb.DiagonalGaussianPosterior, "point": cb.PointPosterior}
PRIORS = {"standard-normal": cb.StandardNormalPrior}


@pytest.fixture(params=POSTERIORS)
def posterior(request):
    family = POSTERIORS[request.param]
    return family.from_features(torch.randn(5, 3 * family.features_per_latent))


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param](3).double()


def test_a_sample_without_noise_is_the_mean(posterior):
    torch.testing.assert_close(posterior.sample(torch.zeros(5, 3)), posterior.mean)
    assert posterior.sample(torch.randn(7, 5, 3)).shape == (7, 5, 3)


def test_from_features_takes_a_tuple_too(posterior):
    family = type(posterior)
    parts = tuple(torch.randn(5, 3) for _ in range(family.features_per_latent))
    torch.testing.assert_close(family.from_features(parts).mean, family.from_features(torch.cat(parts, 1)).mean)


def test_a_density_agrees_with_its_distribution_and_a_point_has_none(posterior):
    z = torch.randn(5, 3)
    if not posterior.is_density:
        for call in (posterior.distribution, lambda: posterior.log_prob(z)):
            with pytest.raises(NoDensityError, match="sigma-vae"):
                call()
        return
    torch.testing.assert_close(posterior.log_prob(z).sum(1), posterior.distribution().log_prob(z))
    drawn = posterior.sample(torch.randn(20_000, 5, 3))
    torch.testing.assert_close(drawn.mean(0), posterior.distribution().mean, rtol=0.1, atol=0.05 * float(drawn.std()))


def test_the_density_of_a_sample_follows_from_its_noise(posterior):
    noise = torch.randn(4, 5, 3)
    if not posterior.is_density:
        with pytest.raises(NoDensityError, match="sigma-vae"):
            posterior.log_prob_of(noise)
        return
    torch.testing.assert_close(posterior.log_prob_of(noise), posterior.log_prob(posterior.sample(noise)))


def test_features_are_what_a_posterior_is_read_from(posterior):
    again = type(posterior).from_features(posterior.features())
    for one, other in zip(again.features(), posterior.features(), strict=True):
        assert torch.equal(one, other)


def test_prior_density_and_samples(prior):
    z = prior.sample(20_000, torch.Generator().manual_seed(0))
    assert z.shape == (20_000, 3)
    torch.testing.assert_close(prior.log_prob(z).sum(1), prior.distribution().log_prob(z))
    entropy = -prior.log_prob(z).sum(1).mean()
    torch.testing.assert_close(entropy, prior.distribution().entropy(), rtol=0.02, atol=0.0)


def test_kl_is_torchs(prior):
    q = cb.DiagonalGaussianPosterior(torch.randn(5, 3), torch.randn(5, 3))
    expected = kl_divergence(q.distribution(), prior.distribution().expand((5,)))
    torch.testing.assert_close(prior.kl(q, q.mean).sum(1), expected)


def test_kl_of_a_point_contributes_nothing(prior):
    assert torch.equal(prior.kl(cb.PointPosterior(torch.randn(5, 3)), torch.randn(5, 3)), torch.zeros(5, 3))


def test_kl_of_another_family_is_estimated_from_the_density_ratio(prior):
    class Wrapped(AbstractPosterior):  # a family that the prior has no closed form for
        is_density, features_per_latent = True, 2

        def __init__(self, inner):
            self.inner = inner

        from_features = classmethod(lambda cls, features: cls(features))
        mean = property(lambda self: self.inner.mean)

        def sample(self, noise):
            return self.inner.sample(noise)

        def log_prob(self, z):
            return self.inner.log_prob(z)

        def log_prob_of(self, noise):
            return self.inner.log_prob_of(noise)

        def features(self):
            return self.inner.features()

        def distribution(self):
            return self.inner.distribution()

    q = cb.DiagonalGaussianPosterior(torch.randn(1, 3), torch.randn(1, 3) * 0.3)
    z = q.sample(torch.randn(200_000, 1, 3))[:, 0]
    many = cb.DiagonalGaussianPosterior(q.mean.expand_as(z), q.log_std.expand_as(z))
    estimate = prior.kl(Wrapped(many), z).mean(0, keepdim=True)
    torch.testing.assert_close(estimate, prior.kl(q, q.mean), rtol=0.02, atol=0.01)


def test_bad_shapes_and_sizes():
    with pytest.raises(ShapeError, match=r"\[B, 2 d\]"):
        cb.DiagonalGaussianPosterior.from_features(torch.zeros(2, 3))
    with pytest.raises(ArgumentError, match="at least 1"):
        cb.StandardNormalPrior(0)

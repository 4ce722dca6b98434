"""KL of posteriors to priors: closed forms against torch's and Monte Carlo, estimates against closed forms."""

import pytest
import torch
from torch.distributions import (
    Independent,
    Laplace,
    LogNormal,
    MultivariateNormal,
    Normal,
    StudentT,
    TransformedDistribution,
    kl_divergence,
)
from torch.distributions.transforms import TanhTransform

import calibrae as cb
from calibrae.latents import DiagonalGaussian, exact_kl, factors_of, kl, kl_per_dimension, reparameterise

pytestmark = pytest.mark.usefixtures("double")

B, D = 4, 3
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def mean_and_std(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, D, generator=generator), 0.5 + torch.rand(B, D, generator=generator)


def covariance(seed):
    root = torch.randn(B, D, D, generator=torch.Generator().manual_seed(seed))
    return root @ root.mT + torch.eye(D)


def conditional():
    prior = cb.ConditionalGaussianPrior(D, 2).double()
    torch.nn.init.normal_(prior.affine.weight)
    return prior(torch.randn(B, 2, generator=torch.Generator().manual_seed(9))), True


def mixture():
    torch.manual_seed(4)
    return cb.MixturePrior(D, components=3).double()()


POSTERIORS = {
    "gaussian": lambda: DiagonalGaussian(mean_and_std(0)[0], mean_and_std(0)[1].log()),
    "plain-normal": lambda: Independent(Normal(*mean_and_std(0)), 1),
    "laplace": lambda: Independent(Laplace(*mean_and_std(1)), 1),
    "full-covariance": lambda: MultivariateNormal(mean_and_std(2)[0], covariance(2)),
    "flow": lambda: TransformedDistribution(Independent(Normal(*mean_and_std(3)), 1), [TanhTransform()]),
}
PRIORS = {
    "standard-normal": lambda: cb.StandardNormalPrior(D).double()(),
    "conditional": lambda: conditional()[0],
    "laplace": lambda: Independent(Laplace(torch.zeros(D), 0.8), 1),
    "student-t": lambda: Independent(StudentT(5.0 * torch.ones(D)), 1),
    "full-covariance": lambda: cb.DistributionPrior(MultivariateNormal(torch.ones(D), covariance(5)[0]))(),
    "mixture": mixture,
}
# where both factorise and torch knows the divergence of the factors; all else is estimated, or joint
BY_LATENT = {(q, p) for q in ("gaussian", "plain-normal") for p in ("standard-normal", "conditional", "laplace")} | {
    ("laplace", "laplace"),
    ("laplace", "standard-normal"),
    ("laplace", "conditional"),
}
JOINT = {("full-covariance", "full-covariance")}
PAIRS = [(q, p) for q in POSTERIORS for p in PRIORS]


def factors(distribution):
    """Torch's plain distribution of the single latents."""
    base = distribution.base_dist
    return Normal(base.loc, base.scale) if isinstance(base, Normal) else base


@pytest.mark.parametrize(("q_name", "p_name"), PAIRS)
def test_a_kl_per_latent_is_torchs_and_is_given_only_where_both_factorise(q_name, p_name):
    q, p = POSTERIORS[q_name](), PRIORS[p_name]()
    found = kl_per_dimension(q, p)
    if (q_name, p_name) not in BY_LATENT:
        assert found is None
        return
    assert found.shape == (B, D)
    expected = kl_divergence(factors(q), factors(p)).expand(B, D)
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(exact_kl(q, p), expected.sum(1), **EXACT)


@pytest.mark.parametrize(("q_name", "p_name"), PAIRS)
def test_a_closed_form_is_the_mean_of_the_density_ratio(q_name, p_name):
    """Within five standard errors of the Monte Carlo estimate from torch's own samples and densities."""
    q, p = POSTERIORS[q_name](), PRIORS[p_name]()
    exact = exact_kl(q, p)
    assert (exact is not None) == ((q_name, p_name) in BY_LATENT | JOINT)
    z = q.sample((20_000,))
    ratio = q.log_prob(z) - p.log_prob(z)
    mean, error = ratio.mean(0), ratio.std(0) / 20_000**0.5
    if exact is not None:
        assert exact.shape == (B,)
        assert ((exact - mean).abs() < 5 * error).all()
    else:  # an estimate, from the samples that are given
        torch.testing.assert_close(kl(q, p, z), mean)


@pytest.mark.parametrize(("q_name", "p_name"), PAIRS)
def test_the_kl_of_a_draw_is_closed_where_it_can_be_and_unbiased_where_not(q_name, p_name):
    q, p = POSTERIORS[q_name](), PRIORS[p_name]()
    eps = torch.randn(20_000, B, D)
    z = reparameterise(q, eps)
    found = kl(q, p, z, eps)
    assert found.shape == (B,)
    if (q_name, p_name) in BY_LATENT | JOINT:
        torch.testing.assert_close(found, exact_kl(q, p))
    else:
        other = q.sample((20_000,))
        ratio = q.log_prob(other) - p.log_prob(other)
        ours = q.log_prob(z) - p.log_prob(z)
        error = (ratio.var(0) + ours.var(0)).div(20_000).sqrt()
        assert ((found - ratio.mean(0)).abs() < 5 * error).all()


@pytest.mark.parametrize(("q_name", "p_name"), sorted(BY_LATENT))
def test_a_closed_form_has_the_gradient_of_torchs(q_name, p_name):
    """With respect to the posterior's location and spread."""
    q, p = POSTERIORS[q_name](), PRIORS[p_name]()
    location, spread = (part.detach().clone().requires_grad_() for part in (q.base_dist.loc, q.base_dist.scale))
    family = Laplace if q_name == "laplace" else Normal
    if q_name == "gaussian":
        ours = exact_kl(DiagonalGaussian(location, spread.log()), p)
    else:
        ours = exact_kl(Independent(family(location, spread), 1), p)
    theirs = kl_divergence(family(location, spread), factors(p)).sum(-1)
    for one, other in zip(
        torch.autograd.grad(ours.sum(), (location, spread)),
        torch.autograd.grad(theirs.sum(), (location, spread)),
        strict=True,
    ):
        torch.testing.assert_close(one, other.detach(), **EXACT)


def test_the_kl_of_the_prior_to_itself_is_zero():
    p = cb.StandardNormalPrior(D).double()()
    q = DiagonalGaussian(torch.zeros(B, D), torch.zeros(B, D))
    assert torch.equal(exact_kl(q, p), torch.zeros(B))
    q, _ = conditional()
    torch.testing.assert_close(exact_kl(q, q), torch.zeros(B))


def test_a_small_kl_keeps_its_relative_precision_through_the_heads():
    """Torch's own form cancels near the prior; ours must not, on the whole way from features to KL."""
    log_std = torch.tensor([[1e-4, -1e-4, 3e-5]], dtype=torch.float32)
    q = cb.GaussianPosterior("log_std")(torch.cat([torch.zeros(1, D, dtype=torch.float32), log_std], 1))
    found = kl_per_dimension(q, cb.StandardNormalPrior(D)()).double()
    exact = log_std.double() ** 2 + 2 / 3 * log_std.double() ** 3
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=0.0)


def test_latents_that_depend_on_one_another_have_no_factors():
    assert factors_of(POSTERIORS["full-covariance"]()) is None
    assert factors_of(POSTERIORS["flow"]()) is None
    assert factors_of(mixture()) is None
    assert factors_of(Independent(Normal(torch.zeros(2, B, D), 1.0), 2)) is None
    together = Independent(Normal(torch.zeros(B, D), 1.0), 1)
    assert factors_of(together) is together.base_dist


def test_a_posterior_on_part_of_the_line_may_have_a_closed_form_too():
    q = Independent(LogNormal(*mean_and_std(6)), 1)
    p = Independent(LogNormal(torch.zeros(D), 1.0), 1)
    expected = kl_divergence(Normal(*mean_and_std(6)), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_per_dimension(q, p), expected, **EXACT)


@pytest.mark.parametrize("q_name", ["gaussian", "full-covariance", "flow"])
def test_a_models_terms_say_whether_the_kl_splits(q_name):
    q = POSTERIORS[q_name]()

    class Given(cb.Posterior):
        def features_shape(self, latent_dim):
            return (latent_dim,)

        def forward(self, features):
            return q

    model = cb.build("vae", data_shape=(5,), latent_dim=D, network="linear", posterior=Given()).double()
    terms = model.elbo(torch.randn(B, 5))
    assert terms.kl.shape == (B,)
    assert (terms.kl_per_dim is None) == (q_name != "gaussian")
    if terms.kl_per_dim is not None:
        torch.testing.assert_close(terms.kl_per_dim.sum(1), terms.kl)
    torch.testing.assert_close(terms.elbo, -(terms.nll + terms.kl))

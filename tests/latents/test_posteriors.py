"""One contract for every posterior, registered or of one's own: samples, noise and density belong together."""

import inspect
import math

import pytest
import torch
from scipy.stats import kstest
from torch import nn
from torch.distributions import (
    AffineTransform,
    Beta,
    Gamma,
    Independent,
    Laplace,
    LogNormal,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    Uniform,
)
from torch.distributions.transforms import SigmoidTransform, TanhTransform

import calibrae as cb
from calibrae import _registry
from calibrae.errors import ArgumentError, NoDensityError, ShapeError
from calibrae.latents import Delta, DiagonalGaussian, log_prob_of, log_std_of, reparameterise, widened_features

pytestmark = pytest.mark.usefixtures("double")

D = 3


class FlowPosterior(cb.Posterior):
    """A Gaussian bent by a learned map: a flow with one layer."""

    def __init__(self):
        super().__init__()
        self.reach = nn.Parameter(torch.full((D,), 1.5))

    def features_shape(self, latent_dim):
        return (2 * latent_dim,)

    def forward(self, features):
        mean, log_std = features.chunk(2, 1)
        bent = [TanhTransform(), AffineTransform(0.3, self.reach)]
        return Independent(TransformedDistribution(Normal(mean, log_std.exp()), bent), 1)


class JointFlowPosterior(cb.Posterior):
    """A flow whose base is a full Gaussian over the latents, as zuko's are built: the event is in the base."""

    def features_shape(self, latent_dim):
        return (2 * latent_dim,)

    def forward(self, features):
        return TransformedDistribution(DiagonalGaussian(*features.chunk(2, 1)), [SigmoidTransform()])


class FullCovariance(cb.Posterior):
    """A Gaussian with any covariance."""

    def features_shape(self, latent_dim):
        return (latent_dim + latent_dim**2,)

    def forward(self, features):
        mean, root = features[:, :D], features[:, D:].unflatten(1, (D, D))
        tril = torch.tril(root, -1) + torch.diag_embed(root.diagonal(dim1=1, dim2=2).exp())
        return MultivariateNormal(mean, scale_tril=tril)


class LowRank(cb.Posterior):
    """A diagonal covariance with one more direction."""

    def features_shape(self, latent_dim):
        return (3 * latent_dim,)

    def forward(self, features):
        mean, direction, log_var = features.chunk(3, 1)
        return LowRankMultivariateNormal(mean, direction.unsqueeze(-1), log_var.exp())


class LaplacePosterior(cb.Posterior):
    """Independent Laplace densities: a map from noise through the inverse CDF."""

    def features_shape(self, latent_dim):
        return (2 * latent_dim,)

    def forward(self, features):
        location, log_scale = features.chunk(2, 1)
        return Independent(Laplace(location, log_scale.exp()), 1)


class PlainNormal(cb.Posterior):
    """Torch's own independent normals, not our subclass."""

    def features_shape(self, latent_dim):
        return (2 * latent_dim,)

    def forward(self, features):
        mean, log_std = features.chunk(2, 1)
        return Independent(Normal(mean, log_std.exp()), 1)


class BetaPosterior(cb.Posterior):
    """A density on the unit cube, for which no map from normal noise is known."""

    def features_shape(self, latent_dim):
        return (2 * latent_dim,)

    def forward(self, features):
        a, b = features.exp().add(1.0).chunk(2, 1)
        return Independent(Beta(a, b), 1)


MEMBERS = {
    "gaussian-log-std": lambda: cb.GaussianPosterior("log_std"),
    "gaussian-log-var": lambda: cb.GaussianPosterior("log_var"),
    "plain-normal": PlainNormal,
    "laplace": LaplacePosterior,
    "full-covariance": FullCovariance,
    "low-rank": LowRank,
    "flow": FlowPosterior,
    "joint-flow": JointFlowPosterior,
    "beta": BetaPosterior,
}
MAPPED = [name for name in MEMBERS if name != "beta"]


def head(name):
    posterior = MEMBERS[name]()
    generator = torch.Generator().manual_seed(3)
    features = 0.5 * torch.randn(5, *posterior.features_shape(D), generator=generator)
    return posterior, features.requires_grad_()


def normal(z, mean, std):
    return -0.5 * ((z - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)


def gaussian(z, mean, covariance):
    away = z - mean
    solved = torch.linalg.solve(covariance, away.unsqueeze(-1)).squeeze(-1)
    return -0.5 * ((away * solved).sum(-1) + covariance.logdet() + D * math.log(2 * math.pi))


def covariance_of(name, features):
    """Covariance that the features of a joint Gaussian stand for."""
    if name == "low-rank":
        direction, log_var = features[:, D : 2 * D].unsqueeze(-1), features[:, 2 * D :]
        return direction @ direction.mT + torch.diag_embed(log_var.exp())
    root = features[:, D:].unflatten(1, (D, D))
    tril = root.tril(-1) + torch.diag_embed(root.diagonal(dim1=1, dim2=2).exp())
    return tril @ tril.mT


def written_out(name, features):
    """Density of the same features by its formula, `[K, B, d] -> [K, B]`."""
    a, b = features[:, :D], features[:, D : 2 * D]

    def bent(z):
        y = (z - 0.3) / 1.5
        return (normal(torch.atanh(y), a, b.exp()) - torch.log(1 - y**2) - math.log(1.5)).sum(-1)

    def beta(z):
        p, q = a.exp() + 1, b.exp() + 1
        norm = torch.lgamma(p) + torch.lgamma(q) - torch.lgamma(p + q)
        return ((p - 1) * z.log() + (q - 1) * (1 - z).log() - norm).sum(-1)

    if name in ("full-covariance", "low-rank"):
        return lambda z: gaussian(z, a, covariance_of(name, features))
    return {
        "gaussian-log-std": lambda z: normal(z, a, b.exp()).sum(-1),
        "plain-normal": lambda z: normal(z, a, b.exp()).sum(-1),
        "gaussian-log-var": lambda z: normal(z, a, b.exp().sqrt()).sum(-1),
        "laplace": lambda z: (-(z - a).abs() / b.exp() - b - math.log(2.0)).sum(-1),
        "flow": bent,
        "joint-flow": lambda z: (normal(torch.logit(z), a, b.exp()) - torch.log(z * (1 - z))).sum(-1),
        "beta": beta,
    }[name]


@pytest.fixture(params=MEMBERS)
def name(request):
    return request.param


def test_every_registered_posterior_is_a_member():
    ours = {c for c in _registry._CLASSES["posterior"].values() if getattr(cb, c.__name__, None) is c}
    assert ours - {cb.PointPosterior} <= {type(make()) for make in MEMBERS.values()}


def test_the_density_is_that_of_the_formula(name):
    posterior, features = head(name)
    q = posterior(features)
    assert (tuple(q.batch_shape), tuple(q.event_shape)) == ((5,), (D,))
    z = q.sample((4,))
    torch.testing.assert_close(q.log_prob(z), written_out(name, features)(z), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MAPPED)
def test_samples_from_noise_have_the_density(name):
    """Each latent's samples pass a test against samples that torch draws itself, and the entropies agree."""
    posterior, features = head(name)
    with torch.no_grad():
        q = posterior(features)
        eps = torch.randn(20_000, 5, D)
        z, own = reparameterise(q, eps), q.sample((20_000,))
        assert z.shape == (20_000, 5, D)
        for row in range(2):
            for latent in range(D):
                assert kstest(z[:, row, latent].numpy(), own[:, row, latent].numpy()).pvalue > 1e-4
        pairs = (z.unsqueeze(-1) * z.unsqueeze(-2)).flatten(2), (own.unsqueeze(-1) * own.unsqueeze(-2)).flatten(2)
        error = (pairs[0].mean(0) - pairs[1].mean(0)) / (2 * pairs[1].var(0) / 20_000).sqrt()
        assert error.abs().max() < 5  # second moments: what ties the latents together
        entropies = q.log_prob(z), q.log_prob(own)
        error = (entropies[0].mean(0) - entropies[1].mean(0)) / (2 * entropies[1].var(0) / 20_000).sqrt()
        assert error.abs().max() < 5


@pytest.mark.parametrize("name", MAPPED)
def test_samples_from_noise_have_the_gradient_of_finite_differences(name):
    posterior, features = head(name)
    eps = torch.randn(2, 5, D)
    assert torch.autograd.gradcheck(lambda f: reparameterise(posterior(f), eps), (features,))


@pytest.mark.parametrize("name", MAPPED)
def test_the_density_of_a_sample_follows_from_its_noise(name):
    """In value and in its whole gradient, that through the sample included."""
    posterior, features = head(name)
    eps = torch.randn(4, 5, D)
    found = []
    for density in (
        lambda q, z: log_prob_of(q, z, eps),
        lambda q, z: q.log_prob(z),
        lambda q, z: log_prob_of(q, z, None),
    ):
        q = posterior(features)
        value = density(q, reparameterise(q, eps))
        assert value.shape == (4, 5)
        found.append((value, torch.autograd.grad(value.sum(), features)[0]))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-9, atol=1e-9)


def test_a_sample_of_an_example_does_not_depend_on_the_others(name):
    posterior, features = head(name)
    eps = torch.randn(2, 5, D)
    q, alone = posterior(features), posterior(features[2:3])
    z = reparameterise(q, eps)
    if name == "beta":
        assert z is None
        z = q.rsample((2,))
        assert torch.isfinite(torch.autograd.grad(z.sum(), features)[0]).all()
    else:
        torch.testing.assert_close(reparameterise(alone, eps[:, 2:3]), z[:, 2:3])
    torch.testing.assert_close(alone.log_prob(z[:, 2:3]), q.log_prob(z)[:, 2:3])


def test_a_model_draws_with_it(name):
    """The model's draw: samples, densities and weights as the posterior itself gives them."""
    encoder_features = int(torch.tensor(MEMBERS[name]().features_shape(D)).prod())
    model = cb.VAE(
        nn.Linear(4, encoder_features),
        nn.Linear(D, 4),
        cb.GaussianLikelihood(0.7),
        cb.StandardNormalPrior(D),
        posterior=MEMBERS[name](),
    ).double()
    x, eps = torch.randn(5, 4), torch.randn(2, 5, D)
    draw = model.draw(x, samples=2, eps=eps)
    q = model.posterior(model.encoder(x))
    mapped = reparameterise(q, eps)
    if mapped is None:
        assert draw.eps is None
    else:
        torch.testing.assert_close(draw.z, mapped)
    torch.testing.assert_close(draw.log_q, q.log_prob(draw.z))
    torch.testing.assert_close(draw.log_p, Normal(0.0, 1.0).log_prob(draw.z).sum(-1))
    nll = -Normal(model.decoder(draw.z), 0.7).log_prob(x).sum(-1)
    torch.testing.assert_close(draw.nll, nll)
    torch.testing.assert_close(draw.log_weights, draw.log_p - draw.log_q - nll)


def test_it_passes_the_check_that_users_call(name):
    torch.set_default_dtype(torch.float32)
    cb.testing.check_posterior(MEMBERS[name](), D)


@pytest.mark.parametrize("name", [n for n in MAPPED if n not in ("joint-flow", "low-rank")])
def test_a_distribution_expands_as_torchs_do(name):
    posterior, features = head(name)
    q, z = posterior(features), torch.rand(4, 5, D)
    wide = q.expand((4, 5))
    assert (tuple(wide.batch_shape), tuple(wide.event_shape)) == ((4, 5), (D,))
    torch.testing.assert_close(wide.log_prob(z), q.log_prob(z))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_tails_of_an_inverse_cdf_stay_finite(dtype):
    """At 6 standard deviations float32 rounds the CDF to 1, whose quantile is infinite."""
    q = Independent(Laplace(torch.zeros(1, 2, dtype=dtype), torch.ones(1, 2, dtype=dtype)), 1)
    z = reparameterise(q, torch.tensor([[6.0, -6.0]], dtype=dtype))
    tail = 0.5 * math.erfc(6.0 / math.sqrt(2.0))
    assert z.dtype == dtype
    assert z[0].tolist() == pytest.approx([-math.log(2 * tail), math.log(2 * tail)], rel=1e-6)


def test_other_inverse_cdfs_and_densities_without_one():
    eps = torch.randn(50_000, 1, 2)
    log_normal = reparameterise(Independent(LogNormal(torch.zeros(1, 2), torch.ones(1, 2)), 1), eps)
    torch.testing.assert_close(log_normal, eps.exp())
    uniform = reparameterise(Independent(Uniform(torch.zeros(1, 2), torch.full((1, 2), 2.0)), 1), eps)
    torch.testing.assert_close(uniform, 2.0 * Normal(0.0, 1.0).cdf(eps))
    assert reparameterise(Independent(Gamma(torch.ones(1, 2), torch.ones(1, 2)), 1), eps) is None
    flow = TransformedDistribution(Independent(Gamma(torch.ones(1, 2), torch.ones(1, 2)), 1), [SigmoidTransform()])
    assert reparameterise(flow, eps) is None


def test_a_users_distribution_registers_its_map():
    class Shifted(torch.distributions.Distribution):
        def __init__(self, middle):
            super().__init__(middle.shape[:-1], middle.shape[-1:], validate_args=False)
            self.middle = middle

    q = Shifted(torch.ones(1, 2))
    assert reparameterise(q, torch.zeros(1, 2)) is None
    reparameterise.register(Shifted)(lambda q, eps: q.middle + eps)
    torch.testing.assert_close(reparameterise(q, torch.ones(1, 2)), torch.full((1, 2), 2.0))


def test_the_two_spreads_are_one_density():
    mean, log_std = torch.randn(5, D), torch.randn(5, D)
    one = cb.GaussianPosterior("log_std")(torch.cat([mean, log_std], 1))
    other = cb.GaussianPosterior("log_var")((mean, 2 * log_std))
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.log_std, other.log_std)
    torch.testing.assert_close(one.stddev, log_std.exp())
    torch.testing.assert_close(one.entropy(), Normal(mean, log_std.exp()).entropy().sum(1))


def test_the_log_std_is_told_of_diagonal_gaussians_alone():
    log_std = torch.randn(5, D)
    torch.testing.assert_close(log_std_of(DiagonalGaussian(torch.zeros(5, D), log_std)), log_std)
    torch.testing.assert_close(log_std_of(Independent(Normal(torch.zeros(5, D), log_std.exp()), 1)), log_std)
    for name in ("laplace", "full-covariance", "flow"):
        posterior, features = head(name)
        assert log_std_of(posterior(features)) is None


def test_a_point_is_its_own_sample_and_has_no_density():
    q = cb.PointPosterior()(features := torch.randn(5, D))
    assert isinstance(q, Delta)
    assert torch.equal(q.mean, features)
    assert torch.equal(reparameterise(q, torch.randn(7, 5, D)), features.expand(7, 5, D))
    assert torch.equal(q.rsample((2,)), features.expand(2, 5, D))
    assert torch.equal(q.expand((2, 5)).mean, features.expand(2, 5, D))
    assert torch.equal(cb.PointPosterior()((features,)).mean, features)
    assert not cb.PointPosterior.is_density
    for call in (lambda: q.log_prob(features), lambda: log_prob_of(q, features, features)):
        with pytest.raises(NoDensityError, match="sigma-vae"):
            call()


def test_features_in_half_precision_are_widened():
    single = widened_features(torch.zeros(2, 4, dtype=torch.bfloat16))
    pair = widened_features((torch.zeros(2, 2, dtype=torch.float16), torch.zeros(2, 2, dtype=torch.float64)))
    assert single.dtype == torch.float32
    assert [part.dtype for part in pair] == [torch.float32, torch.float64]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cb.GaussianPosterior()(torch.zeros(2, 3)), r"\[B, 2 d\]"),
        (lambda: cb.GaussianPosterior()(torch.zeros(2, 2, 3)), r"\[B, 2 d\]"),
        (lambda: cb.GaussianPosterior()((torch.zeros(2, 3),)), "return a pair; got 1"),
        (lambda: cb.GaussianPosterior()((torch.zeros(2, 3), torch.zeros(2, 1))), r"must both be \[\*S, d\]"),
        (lambda: cb.PointPosterior()(torch.zeros(2, 3, 1)), r"must return \[B, d\]"),
    ],
)
def test_features_of_another_shape_are_refused(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def test_a_spread_must_be_said_as_we_say_it():
    without_type_checks = inspect.unwrap(cb.GaussianPosterior.__init__)  # the tests' hook would refuse it first
    with pytest.raises(ArgumentError, match="`spread` must be log_std or log_var; got 'std'"):
        without_type_checks(object.__new__(cb.GaussianPosterior), "std")


class NoBatch(cb.Posterior):
    """A posterior that is the same for every example, and says so by having no batch."""

    def features_shape(self, latent_dim):
        return (latent_dim,)

    def forward(self, features):
        return Independent(Normal(features.mean(0), 1.0), 1)


class LatentsInTheBatch(cb.Posterior):
    """A posterior that forgets to make the latents the event."""

    def features_shape(self, latent_dim):
        return (latent_dim,)

    def forward(self, features):
        return Normal(features, 1.0)


class HalfTheLatents(cb.Posterior):
    """A posterior over fewer latents than the prior."""

    def features_shape(self, latent_dim):
        return (latent_dim,)

    def forward(self, features):
        return Independent(Normal(features[:, :1], 1.0), 1)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (NoBatch, r"the batch \[B\] = \[5\]; got the event \[2\] and the batch \[\]"),
        (LatentsInTheBatch, r"as many latents as the prior has, 2; got \[\]"),
        (HalfTheLatents, r"as many latents as the prior has, 2; got \[1\]"),
    ],
)
def test_a_model_refuses_a_posterior_of_another_shape(broken, message):
    model = cb.build("vae", data_shape=(4,), latent_dim=2, network="linear", posterior=broken()).double()
    with pytest.raises(ShapeError, match=message):
        model.elbo(torch.zeros(5, 4))

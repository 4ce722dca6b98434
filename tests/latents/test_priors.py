"""One contract for every prior, registered or of one's own: a density over `[d]` whose samples follow it."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
)

import calibrae as cb
from calibrae import _registry
from calibrae.errors import ArgumentError, NoDensityError, ShapeError

pytestmark = pytest.mark.usefixtures("double")

D, CLASSES = 2, 3


class StudentTPrior(cb.Prior):
    """Heavy tails, with a learned scale."""

    def __init__(self, latent_dim):
        super().__init__(latent_dim)
        self.log_scale = nn.Parameter(torch.tensor(0.2))

    def forward(self, context=None):
        return Independent(StudentT(6.0, torch.zeros(self.latent_dim), self.log_scale.exp()), 1)


class LaplacePrior(cb.Prior):
    """Sparse latents."""

    def forward(self, context=None):
        return Independent(Laplace(torch.zeros(self.latent_dim), 0.7), 1)


class LabelPrior(cb.Prior):
    """A Gaussian for each class, from torch's own parts."""

    def __init__(self, latent_dim, classes):
        super().__init__(latent_dim)
        self.means = nn.Parameter(torch.randn(classes, latent_dim))

    def forward(self, context=None):
        return Independent(Normal(context @ self.means, 0.5), 1)


COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=torch.float64)


def fixed_covariance():
    return cb.DistributionPrior(MultivariateNormal(torch.ones(D), COVARIANCE))


def conditional():
    prior = cb.ConditionalGaussianPrior(D, CLASSES)
    nn.init.normal_(prior.affine.weight, std=0.5)
    return prior


MEMBERS = {
    "standard-normal": lambda: cb.StandardNormalPrior(D),
    "mixture": lambda: cb.MixturePrior(D, components=4, spread=2.0),
    "conditional-gaussian": conditional,
    "distribution-student-t": lambda: cb.DistributionPrior(Independent(StudentT(6.0 * torch.ones(D)), 1)),
    "distribution-covariance": fixed_covariance,
    "student-t": lambda: StudentTPrior(D),
    "laplace": lambda: LaplacePrior(D),
    "label": lambda: LabelPrior(D, CLASSES),
}
CONDITIONAL = ("conditional-gaussian", "label")


@pytest.fixture(params=MEMBERS)
def name(request):
    return request.param


def density(name, prior, z, context=None):
    """Log density by the formula of each member."""

    def normal(z, mean, std):
        return -0.5 * ((z - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)

    one = torch.tensor(1.0)
    if name == "standard-normal":
        return normal(z, 0.0, one).sum(-1)
    if name == "mixture":
        parts = normal(z.unsqueeze(-2), prior.means, prior.log_stds.exp()).sum(-1)
        return torch.logsumexp(parts + prior.logits.log_softmax(0), -1)
    if name == "conditional-gaussian":
        mean, log_std = (context @ prior.affine.weight.T + prior.affine.bias).chunk(2, -1)
        return normal(z, mean, log_std.exp()).sum(-1)
    if name == "label":
        return normal(z, context.argmax(1)[:, None].eq(torch.arange(CLASSES)).double() @ prior.means, 0.5 * one).sum(-1)
    if name == "laplace":
        return (-z.abs() / 0.7 - math.log(1.4)).sum(-1)
    if name == "distribution-covariance":
        away = z - 1.0
        quadratic = (away @ COVARIANCE.inverse() * away).sum(-1)
        return -0.5 * (quadratic + COVARIANCE.logdet() + D * math.log(2 * math.pi))
    scale = prior.log_scale.exp() if name == "student-t" else one
    norm = math.lgamma(3.5) - math.lgamma(3.0) - 0.5 * math.log(6 * math.pi) - scale.log()
    return (norm - 3.5 * torch.log1p((z / scale) ** 2 / 6.0)).sum(-1)


def made(name):
    prior = MEMBERS[name]().double()
    context = torch.eye(CLASSES)[[0, 2, 1, 0, 1]] if name in CONDITIONAL else None
    return prior, context


def test_every_registered_prior_is_a_member():
    ours = {c for c in _registry._CLASSES["prior"].values() if getattr(cb, c.__name__, None) is c}
    assert ours - {cb.NoPrior} <= {type(make()) for make in MEMBERS.values()}


def test_the_density_is_that_of_the_formula(name):
    prior, context = made(name)
    p = prior(context)
    assert tuple(p.event_shape) == (D,)
    assert tuple(p.batch_shape) == ((5,) if name in CONDITIONAL else ())
    z = 2.0 * torch.randn(4, 5, D)
    torch.testing.assert_close(p.log_prob(z), density(name, prior, z, context), rtol=1e-10, atol=1e-10)


def integral(p, function):
    """Integral of a function over a density of two latents, all of the plane: midpoints under `z = tan(angle)`."""
    angle = torch.pi * ((torch.arange(600) + 0.5) / 600 - 0.5)
    side, slope = angle.tan(), torch.pi / 600 / angle.cos().square()
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 1, D)
    with torch.no_grad():
        values = p.log_prob(grid).exp().flatten() * function(grid[:, 0])
    return (values.reshape(600, 600) * slope * slope[:, None]).sum().item()


def test_the_density_integrates_to_one(name):
    prior, context = made(name)
    total = integral(prior(None if context is None else context[:1]), lambda z: torch.ones(len(z)))
    assert total == pytest.approx(1.0, abs=1e-4)  # a corner of a Laplace density costs as much


def test_samples_follow_the_density(name):
    """Means over samples of two bounded functions, against their integrals over the density."""
    prior, context = made(name)
    p = prior(None if context is None else context[:1])
    with torch.no_grad():
        z = p.sample((40_000,)).reshape(-1, D)
    for function in (lambda z: torch.cos(z).prod(-1), lambda z: torch.tanh(z.sum(-1)) + torch.sigmoid(z[..., 0])):
        found = function(z)
        assert abs(found.mean().item() - integral(p, function)) < 5 * found.std().item() / 200 + 1e-4


def test_the_density_has_gradients_to_all_that_is_learned(name):
    prior, context = made(name)
    z = torch.randn(3, 5, D)
    for label, parameter in prior.named_parameters():
        (found,) = torch.autograd.grad(prior(context).log_prob(z).sum(), parameter)
        (expected,) = torch.autograd.grad(density(name, prior, z, context).sum(), parameter)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=label)


def test_a_model_is_drawn_from_it(name):
    """`sample` draws latents from this prior: with a decoder that returns them, the data are the latents."""
    prior, context = made(name)
    context_dim = CLASSES if name in CONDITIONAL else 0

    class Identity(nn.Module):
        def forward(self, z, context=None):
            return z

    model = cb.VAE(
        nn.Identity(),
        Identity(),
        cb.GaussianLikelihood(0.1),
        prior,
        posterior=cb.GaussianPosterior("log_std"),
        context_dim=context_dim,
    ).double()
    given = None if context is None else torch.eye(CLASSES)[1]
    x = model.sample(20_000, context=given, generator=torch.Generator().manual_seed(0))
    own = prior(None if given is None else given[None]).sample((20_000,)).reshape(-1, D)
    error = (torch.tanh(x).mean(0) - torch.tanh(own).mean(0)) / (2 * torch.tanh(own).var(0) / 20_000).sqrt()
    assert error.abs().max() < 5
    assert torch.equal(x, model.sample(20_000, context=given, generator=torch.Generator().manual_seed(0)))


def test_it_passes_the_check_that_users_call(name):
    prior, context = made(name)
    cb.testing.check_prior(prior, context)


def test_a_state_round_trip_gives_the_same_density(name):
    (prior, context), (other, _) = made(name), made(name)
    other.load_state_dict(prior.state_dict())
    z = torch.randn(3, 5, D)
    assert torch.equal(other(context).log_prob(z), prior(context).log_prob(z))


def test_a_mixture_starts_spread_out_and_with_unit_size():
    prior = cb.MixturePrior(200, components=50, spread=3.0)
    assert prior.means.std().item() == pytest.approx(3.0, rel=0.05)
    assert torch.equal(prior().component_distribution.stddev, torch.ones(50, 200))
    assert torch.equal(prior().mixture_distribution.probs, torch.full((50,), 1 / 50))


def test_a_conditional_prior_starts_at_the_standard_normal():
    p = cb.ConditionalGaussianPrior(D, CLASSES)(torch.eye(CLASSES))
    assert torch.equal(p.mean, torch.zeros(CLASSES, D))
    assert torch.equal(p.stddev, torch.ones(CLASSES, D))


def test_no_prior_has_no_distribution():
    assert not cb.NoPrior(2).is_density
    with pytest.raises(NoDensityError, match="sigma-vae"):
        cb.NoPrior(2)()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cb.StandardNormalPrior(0), "at least 1; got 0"),
        (lambda: cb.MixturePrior(2, components=0), "`components` must be at least 1"),
        (lambda: cb.MixturePrior(2, spread=math.nan), "`spread` not negative"),
        (lambda: cb.ConditionalGaussianPrior(2, 0), "needs a context; got `context_dim` 0"),
        (lambda: cb.ConditionalGaussianPrior(2, 3)(), "depends on the condition; got none"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (lambda: Normal(torch.zeros(2), 1.0), r"event \[d\]; got \[\] and the batch \[2\].*Independent"),
        (lambda: Independent(Normal(torch.zeros(2, 3), 1.0), 2), r"event \[d\]; got \[2, 3\]"),
        (lambda: Independent(Normal(torch.zeros(5, 2), 1.0), 1), r"no batch; got \[5\]|batch \[5\]"),
    ],
)
def test_a_fixed_prior_must_be_one_distribution_over_the_latents(distribution, message):
    with pytest.raises(ShapeError, match=message):
        cb.DistributionPrior(distribution())


class OneColumn(cb.Prior):
    """A mixture whose density is `[B, 1]`: it broadcasts against `[B]` to `[B, B]` where nobody looks."""

    def forward(self, context=None):
        parts = Independent(Normal(torch.zeros(1, 4, self.latent_dim), 1.0), 1)
        return MixtureSameFamily(Categorical(logits=torch.zeros(1, 4)), parts)


class BatchAndColumn(cb.Prior):
    """A mixture whose batch shape is `[5, 1]`: no entry for each example."""

    def forward(self, context=None):
        parts = Independent(Normal(torch.zeros(5, 1, 4, self.latent_dim), 1.0), 1)
        return MixtureSameFamily(Categorical(logits=torch.zeros(5, 1, 4)), parts)


class AnotherBatch(cb.Prior):
    """A prior with a batch that is not the data's."""

    def forward(self, context=None):
        return Independent(Normal(torch.zeros(3, self.latent_dim), 1.0), 1)


class LatentsInTheBatch(cb.Prior):
    """A prior that forgets to make the latents the event."""

    def forward(self, context=None):
        return Normal(torch.zeros(self.latent_dim), 1.0)


class FewerLatents(cb.Prior):
    """A prior over another number of latents than it says."""

    def forward(self, context=None):
        return Independent(Normal(torch.zeros(1), 1.0), 1)


@pytest.mark.parametrize(
    ("broken", "shapes"),
    [
        (OneColumn, r"the event \[2\] and the batch \[1\]"),
        (BatchAndColumn, r"the event \[2\] and the batch \[5, 1\]"),
        (AnotherBatch, r"the event \[2\] and the batch \[3\]"),
        (LatentsInTheBatch, r"the event \[\] and the batch \[2\]"),
        (FewerLatents, r"the event \[1\] and the batch \[\]"),
    ],
)
def test_a_model_refuses_a_prior_of_another_shape(broken, shapes):
    """Fault S4: a mixture prior that returned `[B, 1]` passed everywhere."""
    model = cb.build("vae", data_shape=(4,), latent_dim=2, network="linear", prior=broken(2)).double()
    for call in (
        lambda: model.elbo(torch.zeros(5, 4)),
        lambda: model.draw(torch.zeros(5, 4), samples=2),
        lambda: model.sample(5),
        lambda: cb.testing.check_prior(broken(2)) if broken is not OneColumn else model.elbo(torch.zeros(5, 4)),
    ):
        with pytest.raises((ShapeError, AssertionError), match=rf"\[\] or \[B\].*got {shapes}"):
            call()

"""One contract for every likelihood, registered or of one's own: its distribution is the one that torch knows."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    Poisson,
    StudentT,
)

import calibrae as cb
from calibrae import _registry
from calibrae.errors import ArgumentError, ShapeError
from calibrae.likelihoods import elements_of, nll_per_element, squared_error

pytestmark = pytest.mark.usefixtures("double")

SHAPE = (3, 4, 5)
LEVELS = 4


class StudentTLikelihood(cb.Likelihood):
    """A heavy-tailed density with a learned scale, as a user writes it."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-0.3))

    def forward(self, output):
        return Independent(StudentT(7.0, output, self.log_scale.exp()), len(self.data_shape))


class PoissonLikelihood(cb.Likelihood):
    """Probabilities of counts."""

    support, is_density = "count", False

    def forward(self, output):
        return Independent(Poisson(output.exp()), len(self.data_shape))


class BinomialLikelihood(cb.Likelihood):
    """Probabilities of a few levels, 0 to 3."""

    support, is_density = "levels", False

    def forward(self, output):
        return Independent(Binomial(LEVELS - 1, logits=output), len(self.data_shape))


class Levels(Categorical):
    """A categorical distribution over numbers, which have a mean."""

    @property
    def mean(self):
        return (self.probs * torch.arange(LEVELS)).sum(-1)

    @property
    def variance(self):
        return (self.probs * torch.arange(LEVELS) ** 2).sum(-1) - self.mean**2


class CategoricalLikelihood(cb.Likelihood):
    """A free probability for each level: the decoder gives four log odds per element."""

    support, is_density = "levels", False

    def output_shape(self, data_shape):
        return (LEVELS * data_shape[0], *data_shape[1:])

    def output_init(self, mean, std):
        return None

    def forward(self, output):
        first = output.ndim - len(self.data_shape)
        logits = output.unflatten(first, (LEVELS, self.data_shape[0])).movedim(first, -1)
        return Independent(Levels(logits=logits), len(self.data_shape))


def fixed(likelihood):
    """Fix an optimal scale to some value."""
    likelihood.set_data_shape(SHAPE)
    likelihood.scale.fix(torch.rand(likelihood.scale.shape) + 0.1)
    return likelihood


def learned(likelihood):
    """Set a learned scale to some value."""
    likelihood.set_data_shape(SHAPE)
    likelihood.scale.raw.data = torch.randn(likelihood.scale.shape)
    return likelihood


SHARED = ("all", "channel", "element")
MEMBERS = {
    "gaussian-fixed": lambda: cb.GaussianLikelihood(0.3),
    "gaussian-fixed-channel": lambda: cb.GaussianLikelihood(0.3, "channel"),
    **{f"gaussian-learned-{s}": (lambda s=s: learned(cb.GaussianLikelihood("learned", s))) for s in SHARED},
    **{f"gaussian-optimal-{s}": (lambda s=s: fixed(cb.GaussianLikelihood("optimal", s))) for s in SHARED},
    "laplace-fixed": lambda: cb.LaplaceLikelihood(0.3),
    **{f"laplace-learned-{s}": (lambda s=s: learned(cb.LaplaceLikelihood("learned", s))) for s in SHARED},
    **{f"laplace-optimal-{s}": (lambda s=s: fixed(cb.LaplaceLikelihood("optimal", s))) for s in SHARED},
    "bernoulli": cb.BernoulliLikelihood,
    "gaussian-per-example": cb.HeteroscedasticGaussianLikelihood,
    "student-t": StudentTLikelihood,
    "poisson": PoissonLikelihood,
    "binomial": BinomialLikelihood,
    "categorical": CategoricalLikelihood,
}


def written_out(likelihood, output):
    """Elements' distribution from torch alone, from the definition of each member."""
    scale = likelihood.scale
    if scale is not None:
        spread = scale.log_scale.detach().exp()
        spread = spread[:, None, None] if scale.shared == "channel" else spread
        return (Normal if isinstance(likelihood, cb.GaussianLikelihood) else Laplace)(output, spread)
    if isinstance(likelihood, cb.HeteroscedasticGaussianLikelihood):
        half = SHAPE[0]
        return Normal(output[..., :half, :, :], output[..., half:, :, :].exp())
    if isinstance(likelihood, CategoricalLikelihood):
        logits = torch.stack(output.split(SHAPE[0], -3), -1)
        return Categorical(logits=logits)
    return {
        cb.BernoulliLikelihood: lambda: Bernoulli(logits=output),
        StudentTLikelihood: lambda: StudentT(7.0, output, likelihood.log_scale.exp()),
        PoissonLikelihood: lambda: Poisson(output.exp()),
        BinomialLikelihood: lambda: Binomial(LEVELS - 1, logits=output),
    }[type(likelihood)]()


@pytest.fixture(params=MEMBERS, ids=str)
def likelihood(request):
    made = MEMBERS[request.param]().double().eval()
    made.set_data_shape(SHAPE)
    return made


def outputs(likelihood, *lead):
    return torch.randn(*lead, *likelihood.output_shape(SHAPE))


def examples(likelihood, *lead):
    """Data that any member can explain."""
    if likelihood.support == "real":
        return torch.randn(*lead, *SHAPE)
    return torch.randint(0, 2 if likelihood.support == "binary" else LEVELS, (*lead, *SHAPE)).double()


def test_every_registered_likelihood_is_a_member():
    ours = {c for c in _registry._CLASSES["likelihood"].values() if getattr(cb, c.__name__, None) is c}
    assert ours - {cb.MixedLikelihood} <= {type(make()) for make in MEMBERS.values()}  # of tables alone: test_mixed.py


@pytest.mark.parametrize("lead", [(), (6,), (2, 6), (1, 3, 2)], ids=str)
def test_any_leading_dimensions_are_the_batch_and_an_example_is_the_event(likelihood, lead):
    output = outputs(likelihood, *lead)
    px = likelihood(output)
    assert tuple(px.batch_shape) == lead
    assert tuple(px.event_shape) == SHAPE
    x = examples(likelihood, *lead)
    expected = written_out(likelihood, output).log_prob(x).sum((-3, -2, -1))
    torch.testing.assert_close(px.log_prob(x), expected, rtol=1e-10, atol=1e-10)


def test_several_samples_are_scored_against_one_batch(likelihood):
    output, x = outputs(likelihood, 2, 6), examples(likelihood, 6)
    found = likelihood(output).log_prob(x)
    expected = written_out(likelihood, output).log_prob(x.expand(2, 6, *SHAPE)).sum((-3, -2, -1))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_scoring_without_gradients_gives_the_same(likelihood):
    output, x = outputs(likelihood, 2, 6), examples(likelihood, 6)
    with torch.no_grad():
        alone = likelihood(output).log_prob(x)
    torch.testing.assert_close(alone, likelihood(output).log_prob(x).detach(), rtol=1e-12, atol=1e-12)


def test_the_elements_are_torchs(likelihood):
    output, x = outputs(likelihood, 6), examples(likelihood, 6)
    px, reference = likelihood(output), written_out(likelihood, output)
    torch.testing.assert_close(nll_per_element(px, x), -reference.log_prob(x), rtol=1e-10, atol=1e-10)
    assert tuple(elements_of(px).batch_shape) == (6, *SHAPE)
    if not isinstance(likelihood, CategoricalLikelihood):  # torch's has no mean
        torch.testing.assert_close(px.mean, reference.mean)
        torch.testing.assert_close(px.stddev, reference.stddev)


def test_the_squared_error_is_that_of_the_mean(likelihood):
    px = likelihood(outputs(likelihood, 6))
    x = examples(likelihood, 6)
    for batch in (x, x + 1.0):  # and not that of the batch before
        expected = torch.cdist(batch.flatten(1), px.mean.flatten(1)).diagonal().square()
        torch.testing.assert_close(squared_error(px, batch), expected, rtol=1e-10, atol=1e-10)
    many = likelihood(outputs(likelihood, 2, 6))
    expected = (x - many.mean).square().sum((2, 3, 4))
    torch.testing.assert_close(squared_error(many, x), expected, rtol=1e-10, atol=1e-10)


def test_samples_have_the_mean_and_spread_of_the_distribution(likelihood):
    px = likelihood(outputs(likelihood, 1).expand(4000, *likelihood.output_shape(SHAPE)))
    drawn = px.sample().double()
    assert drawn.shape == (4000, *SHAPE)
    error = (drawn.mean(0) - px.mean[0]) / (px.stddev[0] / 4000**0.5)
    assert error.abs().max() < 5
    torch.testing.assert_close(drawn.std(0), px.stddev[0], rtol=0.15, atol=0.05)


def test_samples_are_seeded(likelihood):
    px, drawn = likelihood(outputs(likelihood, 2)), []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(px.sample())
    assert torch.equal(*drawn)


def test_the_log_density_has_the_gradient_of_finite_differences(likelihood):
    output, x = outputs(likelihood, 2).requires_grad_(), examples(likelihood, 2)
    assert torch.autograd.gradcheck(lambda y: likelihood(y).log_prob(x), (output,))


def test_every_parameter_has_the_gradient_of_finite_differences(likelihood):
    """Gradients of `log_prob` in what the likelihood learns itself."""
    parameters = list(likelihood.parameters())
    if not parameters:
        return
    (parameter,) = parameters
    output, x = outputs(likelihood, 3), examples(likelihood, 3)
    (found,) = torch.autograd.grad(likelihood(output).log_prob(x).sum(), parameter)
    numeric = torch.zeros_like(parameter)
    with torch.no_grad():
        for index in range(parameter.numel()):
            flat, both = parameter.view(-1), []
            for step in (1e-5, -1e-5):
                flat[index] += step
                both.append(likelihood(output).log_prob(x).sum())
                flat[index] -= step
            numeric.view(-1)[index] = (both[0] - both[1]) / 2e-5
    torch.testing.assert_close(found, numeric, rtol=1e-6, atol=1e-6)


def test_a_stored_state_gives_the_same_density(likelihood):
    fresh = copy.deepcopy(likelihood)
    with torch.no_grad():
        for tensor in fresh.state_dict().values():
            tensor.mul_(3) if tensor.is_floating_point() else tensor.zero_()
    fresh.load_state_dict(likelihood.state_dict())
    output, x = outputs(likelihood, 2), examples(likelihood, 2)
    assert torch.equal(fresh.eval()(output).log_prob(x), likelihood(output).log_prob(x))


@pytest.mark.parametrize("shared", SHARED)
def test_a_state_loads_into_a_new_likelihood_of_that_choice(shared):
    for made in (fixed(cb.LaplaceLikelihood("optimal", shared)), learned(cb.GaussianLikelihood("learned", shared))):
        other = type(made)(made.scale.choice, shared)
        other.set_data_shape(SHAPE)
        other.double().load_state_dict(made.double().state_dict())
        assert other.scale.is_fixed
        output, x = torch.randn(2, *SHAPE), torch.randn(2, *SHAPE)
        assert torch.equal(other.eval()(output).log_prob(x), made.eval()(output).log_prob(x))


def test_the_output_starts_at_the_mean_of_the_data(likelihood):
    mean, std = torch.rand(SHAPE) * 0.8 + 0.1, torch.tensor(0.3)
    start = likelihood.output_init(mean, std)
    if start is None:
        return
    shift, scale = start
    output = shift + scale * torch.zeros(likelihood.output_shape(SHAPE))
    assert tuple(output.shape) == tuple(likelihood.output_shape(SHAPE))
    if likelihood.support in ("real", "binary"):
        torch.testing.assert_close(likelihood(output[None]).mean[0], mean)
    if isinstance(likelihood, cb.HeteroscedasticGaussianLikelihood):
        torch.testing.assert_close(likelihood(output[None]).stddev[0], std.expand(SHAPE))


def test_the_density_is_computed_in_float32_when_the_network_is_not(likelihood):
    if type(likelihood).__module__.startswith("calibrae."):
        likelihood.float()
        px = likelihood(outputs(likelihood, 2).bfloat16())
        assert px.log_prob(torch.ones(2, *SHAPE, dtype=torch.float32)).dtype == torch.float32


def test_a_distribution_expands_as_torchs_do(likelihood):
    output, x = outputs(likelihood, 2), examples(likelihood, 4, 2)
    wide = likelihood(output).expand((4, 2))
    assert tuple(wide.batch_shape) == (4, 2)
    expected = written_out(likelihood, output).log_prob(x).sum((-3, -2, -1))
    torch.testing.assert_close(wide.log_prob(x), expected, rtol=1e-10, atol=1e-10)


def test_the_shape_of_the_data_is_known_once_and_for_all(likelihood):
    with pytest.raises(ShapeError, match=r"belongs to data of shape \(3, 4, 5\); got \(5,\)"):
        likelihood.set_data_shape((5,))
    likelihood.set_data_shape(SHAPE)
    with pytest.raises(ShapeError, match="Call `set_data_shape"):
        PoissonLikelihood()(torch.zeros(1, 3))


def test_only_densities_of_real_data_have_a_linear_baseline(likelihood):
    values, vectors = torch.arange(6.0, 0.0, -1.0), torch.eye(6)
    spectrum = cb.functional.Spectrum(torch.zeros(6), values, vectors, float(values.sum()), n=50, is_exact=True)
    baseline = likelihood.baseline(spectrum, 2)
    if likelihood.support == "real":
        assert baseline.sigma**2 == pytest.approx(
            (4 + 3 + 2 + 1) / 4
        )  # what the eigenvalues beyond the second have on average
    else:
        assert baseline is None


def test_it_passes_the_check_that_users_call(likelihood):
    torch.set_default_dtype(torch.float32)
    cb.testing.check_likelihood(likelihood.float(), SHAPE)


def test_a_model_trains_with_it(likelihood):
    """The whole way: the model's terms are those of the written-out distribution, and a step lowers them."""
    flat = int(torch.tensor(likelihood.output_shape(SHAPE)).prod())
    decoder = nn.Sequential(nn.Linear(2, flat), nn.Unflatten(1, likelihood.output_shape(SHAPE)))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(60, 4))
    posterior = cb.GaussianPosterior("log_std")
    model = cb.VAE(encoder, decoder, likelihood, cb.StandardNormalPrior(2), posterior=posterior).double().eval()
    x, eps = examples(likelihood, 6), torch.randn(6, 2)
    terms = model.elbo(x, eps=eps)
    mean, log_std = encoder(x).chunk(2, 1)
    output = decoder(mean + log_std.exp() * eps)
    torch.testing.assert_close(terms.nll, -written_out(likelihood, output).log_prob(x).sum((1, 2, 3)))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-6)
    (-terms.elbo.sum()).backward()
    optimiser.step()
    assert model.elbo(x, eps=eps).elbo.sum() > terms.elbo.sum()


class NoEvent(cb.Likelihood):
    """A likelihood that forgets to make an example the event."""

    def forward(self, output):
        return Normal(output, 1.0)


class PartOfTheEvent(cb.Likelihood):
    """A likelihood whose event is the last dimension alone."""

    def forward(self, output):
        return Independent(Normal(output, 1.0), 1)


class MeanOverTheBatch(cb.Likelihood):
    """A likelihood that loses the batch."""

    def forward(self, output):
        return Independent(Normal(output.mean(0), 1.0), len(self.data_shape))


@pytest.mark.parametrize("broken", [NoEvent, PartOfTheEvent, MeanOverTheBatch])
def test_a_model_refuses_a_likelihood_of_another_event_or_batch(broken):
    model = cb.build("vae", data_shape=(2, 4), latent_dim=2, network="mlp", likelihood=broken()).double()
    with pytest.raises(ShapeError, match=r"event \[2, 4\] and the batch \[1, 3\].*Independent"):
        model.elbo(torch.zeros(3, 2, 4))
    with pytest.raises(ShapeError, match=r"event \[2, 4\] and the batch \[3\]"):
        model.decode(torch.zeros(3, 2))


def test_elements_that_depend_on_one_another_are_not_split():
    """A full covariance over the data: the log density is the joint one, and a per-element share is refused."""
    root = torch.tril(torch.rand(3, 3)) + torch.eye(3)

    class Correlated(cb.Likelihood):
        def forward(self, output):
            return MultivariateNormal(output, scale_tril=root)

    model = cb.build("vae", data_shape=(3,), latent_dim=2, network="linear", likelihood=Correlated()).double()
    x = torch.randn(5, 3)
    draw = model.draw(x, samples=2)
    expected = MultivariateNormal(draw.px.mean, covariance_matrix=root @ root.T).log_prob(x)
    torch.testing.assert_close(draw.nll, -expected)
    assert elements_of(draw.px) is None
    with pytest.raises(ArgumentError, match="cannot be split"):
        nll_per_element(draw.px, x)


def test_bernoulli_at_large_log_odds_stays_finite():
    likelihood = cb.BernoulliLikelihood()
    likelihood.set_data_shape((3,))
    px = likelihood(torch.tensor([[-1e4, 1e4, 0.0]]))
    assert px.log_prob(torch.tensor([[1.0, 0.0, 1.0]])).item() == pytest.approx(-2e4 - math.log(2.0))
    assert torch.isfinite(px.mean).all()


@pytest.mark.parametrize("floor", [0.0, -1.0, math.nan, math.inf])
def test_a_bad_floor_is_refused(floor):
    for make in (cb.HeteroscedasticGaussianLikelihood, lambda floor: cb.LaplaceLikelihood(floor=floor)):
        with pytest.raises(ArgumentError, match="`floor` must be a positive number"):
            make(floor=floor)


@pytest.mark.parametrize(("step", "floor"), [(1 / 256, 1 / 256 / math.sqrt(12)), (None, 1e-6)])
def test_a_sigma_that_the_decoder_gives_has_the_floor_of_the_data(step, floor):
    likelihood = cb.HeteroscedasticGaussianLikelihood()
    likelihood.set_data_shape((2,))
    likelihood.set_step(1 / 8)
    likelihood.set_step(step)
    px = likelihood(torch.tensor([[0.0, 0.0, -50.0, 2.0]]))
    assert px.stddev[0].tolist() == pytest.approx([floor, math.exp(2.0)], rel=1e-6)
    given = cb.HeteroscedasticGaussianLikelihood(floor=0.5)
    given.set_data_shape((2,))
    given.set_step(step)
    assert given(torch.tensor([[0.0, 0.0, -50.0, 2.0]])).stddev[0, 0].item() == pytest.approx(0.5)

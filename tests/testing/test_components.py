"""The checks that users call: good members pass (in each contract's own tests), planted faults do not."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import (
    Beta,
    Categorical,
    Cauchy,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Poisson,
    TransformedDistribution,
    Uniform,
)
from torch.distributions.transforms import SigmoidTransform

import calibrae as cb
from calibrae.testing import check_likelihood, check_objective, check_posterior, check_prior

SHAPE = (2, 3)


class Likelihood(cb.Likelihood):
    """A good Gaussian, the ground of every fault below."""

    def __init__(self):
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(-0.5))

    def normal(self, output):
        return Normal(output, self.log_sigma.exp())

    def forward(self, output):
        return Independent(self.normal(output), len(self.data_shape))


class NoEvent(Likelihood):
    def forward(self, output):
        return self.normal(output)


class WholeBatchAsEvent(Likelihood):
    def forward(self, output):
        return Independent(self.normal(output), output.ndim)


class ScaleOfTheBatch(Likelihood):
    """The fault that an optimal sigma invites: an example is scored with the spread of the others."""

    def forward(self, output):
        return Independent(Normal(output, output.std()), len(self.data_shape))


class CentredOnTheBatch(Likelihood):
    def forward(self, output):
        return Independent(self.normal(output - output.mean(0, keepdim=True)), len(self.data_shape))


class DeafToTheDecoder(Likelihood):
    def forward(self, output):
        return Independent(self.normal(torch.zeros_like(output)), len(self.data_shape))


class Detached(Likelihood):
    def __init__(self):
        cb.Likelihood.__init__(self)

    def forward(self, output):
        return Independent(Normal(output.detach(), 1.0), len(self.data_shape))


class IdleParameter(Likelihood):
    def __init__(self):
        super().__init__()
        self.forgotten = nn.Parameter(torch.zeros(()))


class AllIdle(IdleParameter):
    def forward(self, output):
        return Independent(Normal(output, 1.0), len(self.data_shape))


class WithoutItsConstant(Normal):
    """The squared error without the logarithm of sigma: what most code minimises, and no density."""

    def log_prob(self, value):
        return -0.5 * ((value - self.loc) / self.scale) ** 2


class SquaredError(Likelihood):
    def normal(self, output):
        return WithoutItsConstant(output, self.log_sigma.exp())


class MeanOverElements(Independent):
    """A log density that is averaged over the elements of an example: it does not even sum to the parts."""

    def log_prob(self, value):
        return self.base_dist.log_prob(value)


class PerElement(Likelihood):
    def forward(self, output):
        return MeanOverElements(self.normal(output), len(self.data_shape))


class InfiniteOnItsData(Likelihood):
    """A density of [0, 1] that claims the whole line."""

    def forward(self, output):
        return Independent(
            Beta(output.exp(), output.exp(), validate_args=False), len(self.data_shape), validate_args=False
        )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (NoEvent, r"must have the event \[2, 3\]; got \[\]"),
        (WholeBatchAsEvent, r"must have the event \[2, 3\]; got \[2, 6, 2, 3\]"),
        (ScaleOfTheBatch, "depends on the others"),
        (CentredOnTheBatch, "depends on the others"),
        (DeafToTheDecoder, "no gradient in the decoder's output"),
        (Detached, "no gradient in the decoder's output"),
        (IdleParameter, "the parameter forgotten has no influence"),
        (AllIdle, "forgotten.*influence|influence.*forgotten|log_sigma"),
        (SquaredError, "integrates to 1.5"),
        (PerElement, r"must be \[K, B\]; got \[2, 6, 2, 3\]"),
        (InfiniteOnItsData, "must be finite"),
    ],
)
def test_a_broken_likelihood_is_found_out(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_likelihood(broken(), SHAPE)


class CauchyLikelihood(Likelihood):
    """No mean, no variance, and a density all the same."""

    def normal(self, output):
        return Cauchy(output, self.log_sigma.exp())


class BetaLikelihood(cb.Likelihood):
    support = "unit"

    def forward(self, output):
        mean = output.sigmoid()
        return Independent(Beta(5 * mean, 5 * (1 - mean)), len(self.data_shape))


class TwoPeaks(Likelihood):
    def normal(self, output):
        parts = Normal(torch.stack([output - 2.0, output + 2.0], -1), self.log_sigma.exp())
        return MixtureSameFamily(Categorical(logits=torch.zeros(*output.shape, 2)), parts)


class ExplainsCounts(cb.Likelihood):
    support, is_density = "count", False

    def forward(self, output):
        return Independent(Poisson(output.exp()), len(self.data_shape))


@pytest.mark.parametrize("good", [Likelihood, CauchyLikelihood, BetaLikelihood, TwoPeaks, ExplainsCounts])
def test_a_good_likelihood_passes(good):
    check_likelihood(good(), SHAPE)
    check_likelihood(good().train(), (5,))


def test_the_check_leaves_the_likelihood_as_it_was():
    likelihood = Likelihood()
    check_likelihood(likelihood, SHAPE)
    assert likelihood.training
    assert not likelihood.knows_data_shape
    assert likelihood.log_sigma.grad is None


@pytest.mark.parametrize("validate", [True, False])
def test_examples_of_ones_own_are_taken(validate):
    """A density of positive data: its integral is taken over its support, and its examples are given."""

    class Positive(cb.Likelihood):
        def forward(self, output):
            elements = torch.distributions.LogNormal(output, 1.0, validate_args=validate)
            return Independent(elements, 1, validate_args=validate)

    with pytest.raises((AssertionError, ValueError), match=r"must be finite|within the support"):
        check_likelihood(Positive(), (3,))
    check_likelihood(Positive(), (3,), x=torch.rand(6, 3) + 0.1)


class Prior(cb.Prior):
    """A good prior, the ground of every fault below."""

    def __init__(self, latent_dim=2):
        super().__init__(latent_dim)
        self.log_scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, context=None):
        return Independent(Normal(torch.zeros(self.latent_dim), self.log_scale.exp()), 1)


class ColumnPrior(Prior):
    """Fault S4."""

    def forward(self, context=None):
        parts = Independent(Normal(torch.zeros(5, 1, 4, self.latent_dim), 1.0), 1)
        return MixtureSameFamily(Categorical(logits=torch.zeros(5, 1, 4)), parts)


class LatentsInTheBatch(Prior):
    def forward(self, context=None):
        return Normal(torch.zeros(self.latent_dim), self.log_scale.exp())


class OneLatentMore(Prior):
    def forward(self, context=None):
        return Independent(Normal(torch.zeros(self.latent_dim + 1), self.log_scale.exp()), 1)


class Unnormalised(Independent):
    """A density without its constant."""

    def log_prob(self, value):
        return -0.5 * (value / self.base_dist.scale).square().sum(-1)


class UnnormalisedPrior(Prior):
    def forward(self, context=None):
        return Unnormalised(Normal(torch.zeros(self.latent_dim), self.log_scale.exp()), 1)


class SharperSamples(Independent):
    """Samples of another temperature than the density."""

    def sample(self, sample_shape=()):
        return 0.8 * super().sample(sample_shape)


class SharpPrior(Prior):
    def forward(self, context=None):
        return SharperSamples(Normal(torch.zeros(self.latent_dim), self.log_scale.exp()), 1)


class Clipped(Independent):
    """Samples that leave out the tails of the density."""

    def sample(self, sample_shape=()):
        drawn = super().sample(sample_shape)
        return torch.where(drawn.abs() > 1.0, torch.rand_like(drawn), drawn)


class ClippedPrior(Prior):
    def forward(self, context=None):
        return Clipped(Normal(torch.zeros(self.latent_dim), self.log_scale.exp()), 1)


class IdlePrior(Prior):
    def forward(self, context=None):
        return Independent(Normal(torch.zeros(self.latent_dim), 1.0), 1)


class HalfIdlePrior(Prior):
    def __init__(self, latent_dim=2):
        super().__init__(latent_dim)
        self.forgotten = nn.Parameter(torch.zeros(2))


class DeafToTheContext(Prior):
    """One distribution where there is a context for each example: another batch."""

    def forward(self, context=None):
        return Independent(Normal(torch.zeros(3, self.latent_dim), self.log_scale.exp()), 1)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ColumnPrior, r"got the event \[2\] and the batch \[5, 1\]"),
        (LatentsInTheBatch, r"got the event \[\] and the batch \[2\]"),
        (OneLatentMore, r"got the event \[3\]"),
        (UnnormalisedPrior, "samples do not follow the density"),
        (SharpPrior, "samples do not follow the density"),
        (ClippedPrior, "samples do not follow the density"),
        (IdlePrior, "log_scale"),
        (HalfIdlePrior, "the parameter forgotten has no influence"),
    ],
)
def test_a_broken_prior_is_found_out(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_prior(broken())


def test_a_prior_of_another_batch_than_the_context_is_found_out():
    with pytest.raises(AssertionError, match=r"batch \[\] or \[B\] = \[5\]; got the event \[2\] and the batch \[3\]"):
        check_prior(DeafToTheContext(), torch.eye(5))


@pytest.mark.parametrize(
    "distribution",
    [
        lambda: Independent(Uniform(-torch.ones(3), torch.ones(3)), 1),
        lambda: Independent(Laplace(torch.zeros(3), 1.0), 1),
        lambda: Independent(Cauchy(torch.zeros(3), 1.0), 1),
        lambda: TransformedDistribution(Independent(Normal(torch.zeros(3), 2.0), 1), [SigmoidTransform()]),
        lambda: MultivariateNormal(torch.zeros(3), torch.eye(3) + 0.9 * (1 - torch.eye(3))),
        lambda: MixtureSameFamily(
            Categorical(logits=torch.zeros(2)), Independent(Normal(torch.tensor([[-6.0] * 3, [6.0] * 3]), 1.0), 1)
        ),
        lambda: MixtureSameFamily(
            Categorical(logits=torch.zeros(10)),
            Independent(Normal(20.0 * torch.eye(10)[:, :3] + 9.0 * torch.arange(10.0)[:, None], 1.0), 1),
        ),
    ],
)
def test_bounded_heavy_tied_and_split_priors_pass(distribution):
    check_prior(cb.DistributionPrior(distribution()))


@pytest.mark.parametrize("latent_dim", [1, 2, 20])
def test_a_good_prior_passes_with_any_number_of_latents(latent_dim):
    check_prior(Prior(latent_dim))


class Posterior(cb.Posterior):
    """A good posterior, the ground of every fault below."""

    def features_shape(self, latent_dim):
        return (2 * latent_dim,)

    def forward(self, features):
        mean, log_std = features.chunk(2, 1)
        return Independent(Normal(mean, log_std.exp()), 1)


class MeanPosterior(Posterior):
    def forward(self, features):
        mean, log_std = features.mean(0).chunk(2)
        return Independent(Normal(mean, log_std.exp()), 1)


class NoEventPosterior(Posterior):
    def forward(self, features):
        mean, log_std = features.chunk(2, 1)
        return Normal(mean, log_std.exp())


class NormalisedOverTheBatch(Posterior):
    """A batch normalisation of the means: an example's posterior depends on its neighbours."""

    def forward(self, features):
        mean, log_std = features.chunk(2, 1)
        return Independent(Normal((mean - mean.mean(0)) / mean.std(0), log_std.exp()), 1)


class DetachedPosterior(Posterior):
    def forward(self, features):
        mean, log_std = features.detach().chunk(2, 1)
        return Independent(Normal(mean, log_std.exp()), 1)


class NotReparameterised(Posterior):
    """Samples without a gradient: the encoder would never learn from the reconstruction."""

    def forward(self, features):
        mean, log_std = features.chunk(2, 1)
        parts = Independent(Normal(torch.stack([mean, -mean], 1), log_std.exp().unsqueeze(1)), 1)
        return MixtureSameFamily(Categorical(logits=torch.zeros(len(mean), 2)), parts)


class VarianceForDeviation(Normal):
    """The density of `exp(log_var)` as a deviation, the samples of its root: the classic slip."""

    def log_prob(self, value):
        return Normal(self.loc, self.scale**2).log_prob(value)


class Slip(Posterior):
    def forward(self, features):
        mean, log_std = features.chunk(2, 1)
        return Independent(VarianceForDeviation(mean, (0.3 + log_std).exp()), 1)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (MeanPosterior, r"batch \[B\] = \[6\]; got the event \[3\] and the batch \[\]"),
        (NoEventPosterior, r"event \[3\].*got the event \[\] and the batch \[6, 3\]"),
        (NormalisedOverTheBatch, "depends on the others"),
        (DetachedPosterior, "no gradient in the features"),
        (NotReparameterised, "no rsample"),
        (Slip, "samples do not follow the density"),
    ],
)
def test_a_broken_posterior_is_found_out(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_posterior(broken(), 3)


@pytest.mark.parametrize("latent_dim", [1, 3, 12])
def test_a_good_posterior_passes(latent_dim):
    check_posterior(Posterior(), latent_dim)


class Objective(cb.Objective):
    """A good objective, the ground of every fault below."""

    def schedule(self, step, total):
        return {"beta": step / total}

    def __call__(self, draw, weights):
        nll = draw.nll.mean(0)
        return cb.Terms(nll + weights["beta"] * draw.kl, {"nll": nll})


class MeanOverTheBatch(Objective):
    def __call__(self, draw, weights):
        return cb.Terms(draw.nll.mean() + draw.kl.mean(), {})


class PerSample(Objective):
    samples = 3

    def __call__(self, draw, weights):
        return cb.Terms(draw.nll, {})


class PartWithoutExamples(Objective):
    def __call__(self, draw, weights):
        return cb.Terms(draw.nll.mean(0), {"kl": draw.kl.mean()})


class CapacityOfTheBatch(Objective):
    """Burgess's capacity on the batch's mean KL, spread over the examples: each depends on all."""

    def __call__(self, draw, weights):
        return cb.Terms(draw.nll.mean(0) + 100.0 * (draw.kl.mean() - 1.0).abs(), {})


class NamesComeAndGo(Objective):
    def schedule(self, step, total):
        return {"beta": 1.0} if step else {"beta": 0.0, "warm": 1.0}


class NotANumber(Objective):
    def __call__(self, draw, weights):
        return cb.Terms(draw.nll.mean(0) + (draw.kl - 1e9).log(), {})


class WithoutGradient(Objective):
    def __call__(self, draw, weights):
        return cb.Terms(draw.nll.mean(0).detach(), {})


class RootAtZero(Objective):
    """A finite loss whose gradient is not: the root of a difference that is zero."""

    def __call__(self, draw, weights):
        return cb.Terms(draw.nll.mean(0) + (draw.kl - draw.kl.detach()).sqrt(), {})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (MeanOverTheBatch, r"one number per example, \[5\]; got loss \[\]"),
        (PerSample, r"got loss \[3, 5\]"),
        (PartWithoutExamples, r"got kl \[\]"),
        (CapacityOfTheBatch, "depends on the others"),
        (NamesComeAndGo, "must always name the same weights"),
        (NotANumber, "the loss must be finite"),
        (WithoutGradient, "no gradient for any parameter"),
        (RootAtZero, "gradient of the loss is not finite"),
    ],
)
def test_a_broken_objective_is_found_out(broken, message):
    model = cb.build("vae", data_shape=(4,), latent_dim=2, network="linear")
    with pytest.raises(AssertionError, match=message):
        check_objective(broken(), model, torch.randn(5, 4))


def test_a_good_objective_passes_also_with_a_context():
    check_objective(Objective(), cb.build("vae", data_shape=(4,), latent_dim=2), torch.randn(5, 4))
    model = cb.build(
        "vae", data_shape=(4,), latent_dim=2, network="linear", prior="conditional-gaussian", context_dim=3
    )
    check_objective(Objective(), model, torch.randn(3, 4), torch.eye(3))
    assert all(p.grad is None for p in model.parameters())
    assert math.isfinite(model.elbo(torch.zeros(3, 4), torch.eye(3)).elbo.sum().item())

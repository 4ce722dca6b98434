"""One contract for every likelihood: it is a density, and its parts agree with torch.distributions."""

import pytest
import torch

import calibrae as cb
from calibrae.likelihoods import OptimalSigma

pytestmark = pytest.mark.usefixtures("double")

SHAPE = (3, 4, 5)


def frozen(shared):
    likelihood = cb.GaussianLikelihood("optimal", shared)
    likelihood.bind(SHAPE, None)
    likelihood.sigma.freeze(torch.rand(likelihood.sigma.sigma_shape) + 0.1)
    return likelihood.double()


def learned(shared):
    likelihood = cb.GaussianLikelihood("learned", shared)
    likelihood.bind(SHAPE, None)
    likelihood.double()
    likelihood.sigma.raw.data = torch.randn(likelihood.sigma.sigma_shape)
    return likelihood


LIKELIHOODS = {
    "manual": lambda: cb.GaussianLikelihood(0.3),
    "manual-channel": lambda: cb.GaussianLikelihood(0.3, "channel"),
    **{f"learned-{s}": (lambda s=s: learned(s)) for s in ("all", "channel", "element")},
    **{f"optimal-{s}": (lambda s=s: frozen(s)) for s in ("all", "channel", "element")},
    "bernoulli": cb.BernoulliLikelihood,
}


@pytest.fixture(params=LIKELIHOODS, ids=str)
def likelihood(request):
    return LIKELIHOODS[request.param]().double().eval()


def test_nll_is_that_of_the_distribution_per_example(likelihood):
    output, x = torch.randn(6, *SHAPE), torch.randint(0, 2, (6, *SHAPE)).double()
    conditional = likelihood(output)
    nll = conditional.nll(x)
    assert nll.shape == (6,)
    torch.testing.assert_close(nll, -conditional.distribution().log_prob(x), rtol=1e-10, atol=1e-10)


def test_the_elements_are_those_of_the_distribution(likelihood):
    output, x = torch.randn(6, *SHAPE), torch.randint(0, 2, (6, *SHAPE)).double()
    conditional = likelihood(output)
    expected = -conditional.distribution().base_dist.log_prob(x)
    torch.testing.assert_close(conditional.nll_per_element(x), expected, rtol=1e-10, atol=1e-10)


def test_sse_is_that_of_the_mean(likelihood):
    output, x = torch.randn(6, *SHAPE), torch.randint(0, 2, (6, *SHAPE)).double()
    conditional = likelihood(output)
    for batch in (x, 1.0 - x):  # and not that of the batch before
        expected = torch.cdist(batch.flatten(1), conditional.mean.flatten(1)).diagonal().square()
        torch.testing.assert_close(conditional.sse(batch), expected, rtol=1e-10, atol=1e-10)


def test_samples_have_the_mean_and_spread_of_the_distribution(likelihood):
    conditional = likelihood(torch.randn(1, *SHAPE).expand(4000, *SHAPE))
    drawn = conditional.sample(torch.Generator().manual_seed(0))
    distribution = conditional.distribution()
    assert drawn.shape == (4000, *SHAPE)
    error = (drawn.mean(0) - distribution.mean[0]) / (distribution.stddev[0] / 4000**0.5)
    assert error.abs().max() < 5
    torch.testing.assert_close(drawn.std(0), distribution.stddev[0], rtol=0.15, atol=0.05)


def test_samples_are_seeded(likelihood):
    conditional = likelihood(torch.randn(2, *SHAPE))
    a, b = (conditional.sample(torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b)


def test_the_mean_is_the_distributions(likelihood):
    conditional = likelihood(torch.randn(2, *SHAPE))
    torch.testing.assert_close(conditional.mean, conditional.distribution().mean)


def test_the_nll_has_a_gradient_in_the_output(likelihood):
    output = torch.randn(2, *SHAPE, requires_grad=True)
    likelihood(output).nll(torch.ones(2, *SHAPE)).sum().backward()
    assert torch.isfinite(output.grad).all()
    assert (output.grad != 0).any()


def test_state_round_trip(likelihood):
    other = type(likelihood)(*(("optimal",) if isinstance(getattr(likelihood, "sigma", None), OptimalSigma) else ()))
    if hasattr(likelihood, "sigma"):
        kind = {"ManualSigma": 1.0, "LearnedSigma": "learned", "OptimalSigma": "optimal"}[
            type(likelihood.sigma).__name__
        ]
        other = cb.GaussianLikelihood(kind, likelihood.sigma.shared)
        likelihood(torch.zeros(1, *SHAPE))
    other.bind(SHAPE, None)
    other.double().load_state_dict(likelihood.state_dict())
    output, x = torch.randn(2, *SHAPE), torch.ones(2, *SHAPE)
    torch.testing.assert_close(other.eval()(output).nll(x), likelihood(output).nll(x))


def test_the_output_affine_starts_the_mean_at_the_datas(likelihood):
    mean = torch.rand(SHAPE) * 0.8 + 0.1
    shift, scale = likelihood.output_affine(mean, torch.tensor(0.3))
    start = likelihood((shift + scale * torch.zeros(SHAPE))[None]).mean[0]
    torch.testing.assert_close(start, mean)


def test_the_nll_is_computed_in_float32_when_the_network_is_not(likelihood):
    likelihood.float()
    conditional = likelihood(torch.randn(2, *SHAPE).bfloat16())
    assert conditional.nll(torch.ones(2, *SHAPE, dtype=torch.float32)).dtype == torch.float32

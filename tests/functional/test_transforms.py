"""Derivatives by `torch.func` (fault D7): `grad`, `vmap` and `jvp` agree with plain autograd."""

import pytest
import torch
from torch.autograd import functional as plain
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

import calibrae as cb
from calibrae import functional as F

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),  # torch's own, at its first jvp
]

# near the prior and far from it: the two branches of exp(u) - 1 - u; above and below the bound
MEAN = torch.tensor([[0.3, -1.2, 0.0], [2.0, 0.1, -0.4]], dtype=torch.float64)
LOG_STD = torch.tensor([[0.01, -1.0, 0.5], [-0.05, 0.9, -2.0]], dtype=torch.float64)
FUNCTIONS = {
    "kl-standard-normal": lambda m, s: F.kl_standard_normal(m, s),
    "kl-diagonal-gaussian": lambda m, s: F.kl_diagonal_gaussian(m, s, s.flip(0), 0.3 * m),
    "lower-bound": lambda m, s: F.lower_bound(m, -5.0) * s.exp(),
    "gaussian-nll": lambda m, s: F.gaussian_nll(torch.ones_like(m), m, s),
    "laplace-nll": lambda m, s: F.laplace_nll(torch.full_like(m, 5.0), m, s),
    "log-density-ratio": lambda m, s: F.log_density_ratio(torch.ones_like(m), m, s),
    "optimal-scale": lambda m, s: F.optimal_scale(m, s, "element", 2),
    "importance-bound": lambda m, s: F.importance_bound(m * s, dim=0),
}


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return FUNCTIONS[request.param]


def test_grad_is_autograds(function):
    found = grad(lambda m, s: function(m, s).square().sum(), argnums=(0, 1))(MEAN, LOG_STD)
    mean, log_std = MEAN.clone().requires_grad_(), LOG_STD.clone().requires_grad_()
    expected = torch.autograd.grad(function(mean, log_std).square().sum(), (mean, log_std))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_jacobians_forward_and_backward_are_autograds(function):
    expected = plain.jacobian(function, (MEAN, LOG_STD))
    for transform in (jacrev, jacfwd):
        found = transform(function, argnums=(0, 1))(MEAN, LOG_STD)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_jvp_is_the_jacobian_times_the_tangent(function):
    tangents = torch.randn_like(MEAN), torch.randn_like(LOG_STD)
    value, found = jvp(function, (MEAN, LOG_STD), tangents)
    torch.testing.assert_close(value, function(MEAN, LOG_STD))
    jacobians = plain.jacobian(function, (MEAN, LOG_STD))
    expected = sum((jacobian * tangent).sum((-2, -1)) for jacobian, tangent in zip(jacobians, tangents, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_vmap_is_a_loop(function):
    many = torch.randn(5, 2, 3), 0.5 * torch.randn(5, 2, 3)
    found = vmap(function)(*many)
    expected = torch.stack([function(*pair) for pair in zip(*many, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_per_example_gradients_are_those_of_a_loop(function):
    many = torch.randn(5, 2, 3), 0.5 * torch.randn(5, 2, 3)
    found = vmap(grad(lambda m, s: function(m, s).sum(), argnums=(0, 1)))(*many)
    for row in range(5):
        mean, log_std = (part[row].clone().requires_grad_() for part in many)
        expected = torch.autograd.grad(function(mean, log_std).sum(), (mean, log_std))
        torch.testing.assert_close(tuple(part[row] for part in found), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["kl-standard-normal", "kl-diagonal-gaussian", "gaussian-nll"])
def test_hessians_are_autograds(name):
    def total(mean):
        return FUNCTIONS[name](mean, LOG_STD).sum()

    torch.testing.assert_close(hessian(total)(MEAN), plain.hessian(total, MEAN), rtol=1e-10, atol=1e-10)


def test_the_hessian_of_the_kl_is_that_of_its_formula():
    """In the log std: `2 s^2`, to full precision also near the prior, where the value is a series."""

    def total(log_std):
        return F.kl_standard_normal(MEAN, log_std).sum()

    expected = torch.diag((2 * (2 * LOG_STD).exp()).flatten()).reshape(2, 3, 2, 3)
    torch.testing.assert_close(hessian(total)(LOG_STD), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(plain.hessian(total, LOG_STD), expected, rtol=1e-12, atol=1e-12)


def nll_of(likelihood):
    x, x_hat = torch.randn(4, 2, 3), torch.randn(4, 2, 3)

    def total(state, index=None):
        rows = slice(None) if index is None else index
        return -functional_call(likelihood, state, (x_hat[rows],)).log_prob(x[rows]).sum()

    return total


@pytest.mark.parametrize("shared", ["all", "channel", "element"])
@pytest.mark.parametrize("kind", [cb.GaussianLikelihood, cb.LaplaceLikelihood])
@pytest.mark.parametrize("start", [0.7, 1e-9])
def test_a_learned_scale_has_one_gradient(kind, shared, start):
    """Above its floor, and below it, where the gradient that would raise it is passed on."""
    likelihood = kind("learned", shared)
    likelihood.set_data_shape((2, 3))
    likelihood.double()
    likelihood.scale.parameter.data.fill_(float(torch.tensor(start).log()))
    total = nll_of(likelihood)
    found = grad(total)(dict(likelihood.named_parameters()))
    (expected,) = torch.autograd.grad(total(dict(likelihood.named_parameters())), likelihood.scale.parameter)
    torch.testing.assert_close(found["scale.raw"], expected, rtol=1e-12, atol=0.0)
    if start > 1e-6:
        state = {name: p.detach() for name, p in likelihood.named_parameters()}
        tangent = {name: torch.randn_like(p) for name, p in state.items()}
        _, directional = jvp(total, (state,), (tangent,))
        torch.testing.assert_close(directional, (expected * tangent["scale.raw"]).sum())


@pytest.mark.parametrize("network", ["linear", "mlp", "conv"])
@pytest.mark.parametrize("likelihood", ["gaussian", "laplace", "bernoulli"])
def test_per_example_gradients_of_a_whole_model_are_those_of_a_loop(network, likelihood):
    """Differentially private training and Laplace approximations need this: one gradient for each example."""
    torch.manual_seed(0)
    model = cb.build(
        "vae",
        data_shape=(1, 6, 6),
        latent_dim=2,
        network=network,
        likelihood=likelihood,
        sigma=None if likelihood == "bernoulli" else "learned",
        options=cb.NetworkOptions(hidden=(5,), width=3),
    ).double()
    x, eps = torch.rand(3, 1, 6, 6).round(), torch.randn(3, 2)
    state = {name: p.detach() for name, p in model.named_parameters()}

    def loss(state, x, eps):
        draw = functional_call(model, state, (x[None], 1, eps[None, None]))
        return model.objective(draw, {"beta": 1.0}).loss.sum()

    found = vmap(grad(loss), in_dims=(None, 0, 0))(state, x, eps)
    for row in range(3):
        terms = model.elbo(x[row : row + 1], eps=eps[row : row + 1])
        gradients = torch.autograd.grad(-terms.elbo.sum(), list(model.parameters()))
        for name, expected in zip(state, gradients, strict=True):
            torch.testing.assert_close(found[name][row], expected, rtol=1e-9, atol=1e-10, msg=name)

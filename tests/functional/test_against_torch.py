"""Every density and divergence against torch.distributions in float64, to 1e-10."""

import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch.distributions import Bernoulli, Laplace, Normal, kl_divergence

from calibrae import functional as F

pytestmark = pytest.mark.usefixtures("double")
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def normals(*shape):
    return torch.randn(*shape), torch.randn(*shape) * 2.0


def test_mse_and_sse():
    x, y = torch.randn(4, 3, 5, 2), torch.randn(4, 3, 5, 2)
    torch.testing.assert_close(F.sse(x, y), torch.cdist(x.flatten(1), y.flatten(1)).diagonal() ** 2, **EXACT)
    torch.testing.assert_close(
        F.mse(x, y), torch.nn.functional.mse_loss(x, y, reduction="none").mean((1, 2, 3)), **EXACT
    )
    torch.testing.assert_close(F.sse(x, y), 30 * F.mse(x, y), **EXACT)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (3, 4, 2), (5, 3, 4, 2), (5, 1, 1, 1)])
def test_gaussian_nll(shape):
    x, mean = normals(5, 3, 4, 2)
    log_sigma = torch.randn(shape)
    expected = -Normal(mean, log_sigma.exp()).log_prob(x)
    torch.testing.assert_close(F.gaussian_nll(x, mean, log_sigma), expected, **EXACT)


def test_gaussian_nll_of_a_python_number():
    x, mean = normals(5, 3)
    torch.testing.assert_close(F.gaussian_nll(x, mean, -0.5), -Normal(mean, math.exp(-0.5)).log_prob(x), **EXACT)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (3, 4, 2), (5, 3, 4, 2), (5, 1, 1, 1)])
def test_laplace_nll(shape):
    x, location = normals(5, 3, 4, 2)
    log_scale = torch.randn(shape)
    expected = -Laplace(location, log_scale.exp()).log_prob(x)
    torch.testing.assert_close(F.laplace_nll(x, location, log_scale), expected, **EXACT)
    torch.testing.assert_close(
        F.laplace_nll(x, location, -0.5), -Laplace(location, math.exp(-0.5)).log_prob(x), **EXACT
    )


def test_squared_errors_of_two_types_have_the_gradient_of_the_wider():
    x, y = torch.rand(3, 5), torch.rand(3, 5, dtype=torch.float64, requires_grad=True)
    F.sse(x, y).sum().backward()
    torch.testing.assert_close(y.grad, 2 * (y.detach() - x.double()), **EXACT)


def test_gaussian_nll_of_sse():
    x, mean = normals(5, 3, 4, 2)
    log_sigma = torch.tensor(-0.7)
    expected = -Normal(mean, log_sigma.exp()).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(F.gaussian_nll_of_sse(F.sse(x, mean), log_sigma, 24), expected, **EXACT)


def test_gaussian_nll_keeps_half_and_constant():
    value = F.gaussian_nll(torch.tensor([2.0]), torch.tensor([0.0]), torch.tensor(0.0))
    assert value.item() == pytest.approx(2.0 + 0.5 * math.log(2 * math.pi), rel=1e-14)


@pytest.mark.parametrize("shape", [(3, 5), (2, 64), (2, 1, 28, 28), (2, 3, 7, 11)])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_bernoulli_nll_sum(shape, dtype, near):
    x, logits = (torch.rand(shape) < 0.3).to(dtype), 30 * torch.randn(shape, dtype=dtype)
    exact = -Bernoulli(logits=logits.double()).log_prob(x.double()).flatten(1).sum(1)
    torch.testing.assert_close(F.bernoulli_nll_sum(x, logits).double(), exact, rtol=near, atol=near)
    flat = torch.zeros(shape, dtype=dtype)  # every factor is 2: the largest product
    count = torch.tensor(float(flat[0].numel())) * torch.tensor(2.0, dtype=torch.float64).log()
    torch.testing.assert_close(F.bernoulli_nll_sum(x, flat).double(), count.double().expand(len(x)), rtol=near, atol=0)


def test_bernoulli_nll():
    x, logits = torch.randint(0, 2, (6, 7)).double(), torch.randn(6, 7) * 5
    torch.testing.assert_close(F.bernoulli_nll(x, logits), -Bernoulli(logits=logits).log_prob(x), **EXACT)


def test_log_density_ratio():
    mean, log_std = normals(6, 4)
    z = torch.randn(6, 4)
    expected = Normal(mean, log_std.exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    torch.testing.assert_close(F.log_density_ratio(z, mean, log_std), expected, **EXACT)


def test_kl_standard_normal():
    mean, log_std = normals(6, 4)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(F.kl_standard_normal(mean, log_std), expected, **EXACT)


def test_kl_diagonal_gaussian():
    (mean_q, log_q), (mean_p, log_p) = normals(6, 4), normals(6, 4)
    expected = kl_divergence(Normal(mean_q, log_q.exp()), Normal(mean_p, log_p.exp()))
    torch.testing.assert_close(F.kl_diagonal_gaussian(mean_q, log_q, mean_p, log_p), expected, **EXACT)
    zero = torch.zeros_like(mean_q)
    torch.testing.assert_close(
        F.kl_diagonal_gaussian(mean_q, log_q, zero, zero), F.kl_standard_normal(mean_q, log_q), **EXACT
    )


def test_kl_is_the_mean_of_the_log_density_ratio():
    mean, log_std = torch.tensor([[0.7]]), torch.tensor([[-0.4]])
    nodes, weights = (torch.from_numpy(part) for part in hermegauss(40))
    z = mean + log_std.exp() * nodes[:, None]
    ratio = F.log_density_ratio(z, mean.expand_as(z), log_std.expand_as(z))[:, 0]
    torch.testing.assert_close(
        (weights * ratio).sum() / math.sqrt(2 * math.pi), F.kl_standard_normal(mean, log_std)[0, 0], **EXACT
    )


def test_importance_bound():
    log_weights = torch.randn(7, 5) * 30
    expected = torch.stack([w.exp().mean().log() for w in (log_weights - log_weights.amax(0)).T]) + log_weights.amax(0)
    torch.testing.assert_close(F.importance_bound(log_weights), expected, **EXACT)
    torch.testing.assert_close(F.importance_bound(log_weights[:1]), log_weights[0], **EXACT)
    torch.testing.assert_close(F.importance_bound(log_weights.T, dim=1), expected, **EXACT)


@pytest.mark.parametrize(("levels", "offset"), [(256, 8.0), (128, 7.0), (17, math.log2(17)), (1, 0.0)])
def test_bits_per_dim(levels, offset):
    nats = torch.tensor([10.0, -20.0])
    torch.testing.assert_close(F.bits_per_dim(nats, 5, levels), nats / (5 * math.log(2)) + offset, **EXACT)


@pytest.mark.parametrize(
    ("d", "nats", "bits"), [(2, 726.4, 7.659), (10, 1550.9, 7.272), (50, 2676.1, 6.743), (500, 5415.3, 5.457)]
)
def test_bits_per_dim_of_the_published_cifar_floors(d, nats, bits):
    assert F.bits_per_dim(-nats, 3072) == pytest.approx(bits, abs=5e-4), d


def test_optimal_sigma_is_the_root_mean_square():
    x, y = torch.randn(4, 3, 5, 2), torch.randn(4, 3, 5, 2)
    squares = (x - y) ** 2
    torch.testing.assert_close(F.optimal_sigma(x, y), squares.mean().sqrt(), **EXACT)
    torch.testing.assert_close(F.optimal_sigma(x, y, "channel"), squares.mean((0, 2, 3)).sqrt(), **EXACT)
    torch.testing.assert_close(F.optimal_sigma(x, y, "element"), squares.mean(0).sqrt(), **EXACT)


def test_optimal_scale_is_the_root_mean_square_or_the_mean_absolute_residual():
    x, y = torch.randn(4, 3, 5, 2), torch.randn(4, 3, 5, 2)
    for shared, dims in (("all", (0, 1, 2, 3)), ("channel", (0, 2, 3)), ("element", (0,))):
        torch.testing.assert_close(F.optimal_scale(x, y, shared, 1), (x - y).abs().mean(dims), **EXACT)
        torch.testing.assert_close(F.optimal_scale(x, y, shared, 2), F.optimal_sigma(x, y, shared), **EXACT)


def test_a_spectrum_is_the_probabilistic_pca_of_any_size():
    """From one set of eigenpairs, for every number of latents: what PCA of scikit-learn's scores say."""
    from sklearn.decomposition import PCA

    x = torch.randn(300, 6) @ torch.diag(torch.arange(1.0, 7.0))
    covariance = torch.cov(x.T)
    spectrum = F.Spectrum(x.mean(0), *F.spectrum(covariance), float(covariance.trace()), n=300, is_exact=True)
    for latents in (1, 3, 5):
        found = F.ppca_log_likelihood(spectrum.ppca(latents), x).mean().item()
        assert found == pytest.approx(PCA(latents, svd_solver="full").fit(x.numpy()).score(x.numpy()), rel=1e-10)


def test_ppca_log_likelihood_is_the_multivariate_normals():
    x = torch.randn(200, 6) @ torch.randn(6, 6) + torch.randn(6)
    covariance = torch.cov(x.T, correction=0)
    values, vectors = F.spectrum(covariance)
    model = F.ppca(x.mean(0), values, vectors, float(values.sum()), latent_dim=2)
    full = model.weight @ model.weight.T + model.sigma**2 * torch.eye(6)
    expected = torch.distributions.MultivariateNormal(x.mean(0), full).log_prob(x)
    torch.testing.assert_close(F.ppca_log_likelihood(model, x), expected, **EXACT)


def test_ppca_agrees_with_scikit_learn():
    from sklearn.decomposition import PCA

    x = torch.randn(300, 8) @ torch.diag(torch.arange(1.0, 9.0))
    values, vectors = F.spectrum(torch.cov(x.T))  # scikit-learn divides by N - 1
    model = F.ppca(x.mean(0), values, vectors, float(values.sum()), latent_dim=3)
    theirs = PCA(3, svd_solver="full").fit(x.numpy())
    assert F.ppca_log_likelihood(model, x).mean().item() == pytest.approx(theirs.score(x.numpy()), rel=1e-10)
    assert model.sigma**2 == pytest.approx(theirs.noise_variance_, rel=1e-10)

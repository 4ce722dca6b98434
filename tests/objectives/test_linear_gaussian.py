"""Bounds on a model whose likelihood is known: probabilistic PCA as a linear VAE, in float64."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import calibrae as cb
from calibrae import functional as F
from calibrae.evaluation import cubature_noise, linear_vae_at_ppca
from calibrae.objectives import elbo_terms

pytestmark = pytest.mark.usefixtures("double")

D, LATENTS, N = 6, 2, 7
generator = torch.Generator().manual_seed(5)
BASIS, _ = torch.linalg.qr(torch.randn(D, LATENTS, generator=generator, dtype=torch.float64))
PPCA = F.PPCA(torch.randn(D, generator=generator, dtype=torch.float64), BASIS, torch.tensor([4.0, 1.5]).double(), 0.7)
X = PPCA.mean + 1.5 * torch.randn(N, D, generator=generator, dtype=torch.float64)


def linear_vae(stretch=0.0, shift=0.0):
    """Linear VAE with a learned sigma; its posterior is the exact one, or wider and beside it."""
    exact = linear_vae_at_ppca(PPCA, (D,))
    likelihood = cb.GaussianLikelihood("learned", initial_sigma=PPCA.sigma)
    model = cb.VAE(exact.encoder, exact.decoder, likelihood, exact.prior).double().eval()
    likelihood.scale.raw.data.fill_(math.log(PPCA.sigma))
    with torch.no_grad():
        model.encoder.body.constant.add_(stretch)
        model.encoder.body.mean.bias.add_(shift)
    return model


def exact_log_likelihood(model):
    """`log p(x)` of each example: a Gaussian with covariance `W W^T + sigma^2 I`."""
    weight, bias = model.decoder.body.output.weight, model.decoder.body.output.bias
    covariance = weight @ weight.T + (2 * model.likelihood.scale.raw).exp() * torch.eye(D)
    return MultivariateNormal(bias, covariance_matrix=covariance).log_prob(X)


def gradients(value, model):
    named = dict(model.named_parameters())
    return dict(
        zip(
            named,
            torch.autograd.grad(value, list(named.values()), materialize_grads=True, allow_unused=True),
            strict=True,
        )
    )


def bound(model, samples, eps, x=X):
    objective = cb.IWAE(samples)
    return -objective(model.draw(x, samples, eps), objective.final_weights()).loss


@pytest.mark.parametrize("samples", [1, 2, 9, 200])
def test_with_the_exact_posterior_the_bound_is_log_p_for_any_number_of_samples(samples):
    """The weights `p(x|z) p(z) / q(z|x)` are then `p(x)`, whatever `z`: to rounding, not on average."""
    model = linear_vae()
    found = bound(model, samples, torch.randn(samples, N, LATENTS))
    torch.testing.assert_close(found, exact_log_likelihood(model), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found, F.ppca_log_likelihood(PPCA, X), rtol=1e-10, atol=1e-10)


def test_with_the_exact_posterior_the_elbo_is_log_p_on_average():
    """Its NLL is quadratic in `z`, so noise points that are exact for quadratics give the expectation itself."""
    model, points = linear_vae(), cubature_noise(LATENTS)
    terms = elbo_terms(model.draw(X, len(points), points[:, None].expand(-1, N, -1)))
    torch.testing.assert_close(terms.elbo, exact_log_likelihood(model), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("which", ["iwae", "elbo"])
def test_with_the_exact_posterior_the_gradient_is_that_of_log_p(which):
    """Gradients of decoder and sigma are the closed form's; the encoder's is zero, since the bound touches (Fisher's identity)."""
    model, points = linear_vae(), cubature_noise(LATENTS)
    eps = points[:, None].expand(-1, N, -1)
    if which == "iwae":
        value = bound(model, len(points), eps).mean()
    else:
        value = elbo_terms(model.draw(X, len(points), eps)).elbo.mean()
    found, expected = gradients(value, model), gradients(exact_log_likelihood(model).mean(), model)
    assert float(expected["likelihood.scale.raw"].abs()) > 0.1
    for name, gradient in found.items():
        truth = torch.zeros_like(gradient) if name.startswith("encoder") else expected[name]
        torch.testing.assert_close(gradient, truth, rtol=1e-9, atol=1e-9, msg=name)


def test_away_from_it_the_bound_rises_with_the_samples_to_log_p():
    """Means over many draws: each step of `K` gains more than its error, and the last is `log p(x)` within its error."""
    model = linear_vae(stretch=0.5, shift=0.6)
    with torch.no_grad():
        exact = exact_log_likelihood(model).mean()
        means, errors = [], []
        for samples, draws in ((1, 4000), (3, 4000), (10, 4000), (5000, 20)):
            values = bound(model, samples, torch.randn(samples, N * draws, LATENTS), X.repeat(draws, 1))
            values = values.reshape(draws, N).mean(1)
            means.append(float(values.mean()))
            errors.append(float(values.std()) / draws**0.5)
    for low, high, one, other in zip(means, means[1:], errors, errors[1:], strict=False):
        assert high - low > 5 * math.hypot(one, other)
    assert means[-1] == pytest.approx(float(exact), abs=5 * errors[-1] + 1e-3)
    assert means[0] == pytest.approx(expected_elbo(model), abs=5 * errors[0])


def expected_elbo(model):
    points = cubature_noise(LATENTS)
    with torch.no_grad():
        terms = elbo_terms(model.draw(X, len(points), points[:, None].expand(-1, N, -1)))
    return float(terms.elbo.mean())


def test_away_from_it_the_gradient_tends_to_that_of_log_p():
    """With 20,000 samples, from ten draws: within five standard errors of the closed form in every entry."""
    model = linear_vae(stretch=0.4, shift=0.3)
    expected = gradients(exact_log_likelihood(model).mean(), model)
    draws = [gradients(bound(model, 20_000, torch.randn(20_000, N, LATENTS)).mean(), model) for _ in range(10)]
    for name, truth in expected.items():
        found = torch.stack([draw[name] for draw in draws])
        error = found.std(0) / 10**0.5
        assert ((found.mean(0) - truth).abs() < 5 * error + 2e-3).all(), name  # the bias is of order 1 / K


@pytest.mark.parametrize("samples", [1, 3, 8])
def test_the_gradient_is_that_of_finite_differences(samples):
    model = linear_vae(stretch=0.4, shift=0.3)
    eps = torch.randn(samples, N, LATENTS)
    found = gradients(bound(model, samples, eps).sum(), model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for index in range(0, parameter.numel(), 5):
                both = []
                for step in (1e-5, -1e-5):
                    parameter.view(-1)[index] += step
                    both.append(float(bound(model, samples, eps).sum()))
                    parameter.view(-1)[index] -= step
                numeric = (both[0] - both[1]) / 2e-5
                assert float(found[name].view(-1)[index]) == pytest.approx(numeric, rel=1e-6, abs=1e-6), name


def test_the_gradient_is_the_weighted_mean_of_the_log_weights_gradients():
    """Burda et al. 2016, equation 13: each sample counts with its share of the weights."""
    model, eps = linear_vae(stretch=0.4, shift=0.3), torch.randn(4, N, LATENTS)
    draw = model.draw(X, 4, eps)
    shares = torch.softmax(draw.log_weights, 0).detach()
    expected = gradients((shares * model.draw(X, 4, eps).log_weights).sum(), model)
    found = gradients(bound(model, 4, eps).sum(), model)
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-9, msg=name)

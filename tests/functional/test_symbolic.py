"""The derivation, done again by SymPy, and the code evaluated against it."""

import math

import pytest
import sympy as sp
import torch

from calibrae import functional as F

pytestmark = pytest.mark.usefixtures("double")

z, mu = sp.symbols("z mu", real=True)
s, sigma, mse = sp.symbols("s sigma MSE", positive=True)


def log_normal(value, mean, std):
    return -(((value - mean) / std) ** 2) / 2 - sp.log(std) - sp.log(2 * sp.pi) / 2


def expectation_under_q(expression):
    """E[f(z)] for z ~ N(mu, s^2), of a polynomial in z."""
    e = sp.symbols("e", real=True)
    density = sp.exp(-(e**2) / 2) / sp.sqrt(2 * sp.pi)
    polynomial = sp.expand(expression.subs(z, mu + s * e))
    return sp.simplify(sp.integrate(polynomial * density, (e, -sp.oo, sp.oo)))


def derived_kl():
    return expectation_under_q(log_normal(z, mu, s) - log_normal(z, 0, 1))


def test_kl_follows_from_the_density_ratio():
    assert sp.simplify(derived_kl() - (-sp.log(s) + (mu**2 + s**2 - 1) / 2)) == 0


@pytest.mark.parametrize(("at_mu", "at_s"), [(0.0, 1.0), (0.0, math.exp(-1)), (1.5, 0.3), (-2.0, 4.0)])
def test_code_equals_the_derived_kl(at_mu, at_s):
    expected = float(derived_kl().subs({mu: at_mu, s: at_s}))
    got = F.kl_standard_normal(torch.tensor([[at_mu]]), torch.tensor([[math.log(at_s)]]))
    assert got.item() == pytest.approx(expected, abs=1e-12)


def test_erratum_sign_of_log_s():
    """The printed note has + log s, which makes the KL of (mu, s) = (0, 1/e) negative: -1.43 instead of 0.5677."""
    printed = sp.log(s) + (mu**2 + s**2 - 1) / 2
    assert float(printed.subs({mu: 0, s: sp.exp(-1)})) == pytest.approx(-1.4323, abs=1e-4)
    got = F.kl_standard_normal(torch.tensor([[0.0]]), torch.tensor([[-1.0]])).item()
    assert got == pytest.approx(0.5676676416, abs=1e-10)
    assert sp.diff(derived_kl(), s).subs({mu: 0, s: 1}) == 0
    assert sp.diff(derived_kl(), s, 2).subs({mu: 0, s: 1}) > 0


def test_log_density_ratio_code_equals_the_symbol():
    ratio = log_normal(z, mu, s) - log_normal(z, 0, 1)
    expected = float(ratio.subs({z: 0.3, mu: -1.2, s: 0.4}))
    got = F.log_density_ratio(torch.tensor([[0.3]]), torch.tensor([[-1.2]]), torch.tensor([[math.log(0.4)]]))
    assert got.item() == pytest.approx(expected, abs=1e-12)


def test_sigma_star_minimises_the_reconstruction_term():
    dim = sp.symbols("D", positive=True)
    term = dim * sp.log(sigma) + dim / 2 * sp.log(2 * sp.pi) + dim / (2 * sigma**2) * mse
    (star,) = sp.solve(sp.diff(term, sigma), sigma)
    assert sp.simplify(star - sp.sqrt(mse)) == 0
    assert sp.simplify(sp.diff(term, sigma, 2).subs(sigma, star)) == 2 * dim / mse
    at_star = sp.simplify(term.subs(sigma, star) - dim / 2 * (1 + sp.log(2 * sp.pi * mse)))
    assert sp.simplify(sp.expand_log(at_star, force=True)) == 0


def test_profile_equals_half_d_one_plus_log():
    x, x_hat = torch.randn(8, 5), torch.randn(8, 5)
    star = F.optimal_sigma(x, x_hat)
    mean_nll = F.gaussian_nll(x, x_hat, star.log()).sum(1).mean()
    assert mean_nll.item() == pytest.approx(2.5 * (1 + math.log(2 * math.pi * star.item() ** 2)), rel=1e-12)


def test_general_kl_follows_from_the_density_ratio():
    mu_p = sp.symbols("mu_p", real=True)
    s_p = sp.symbols("s_p", positive=True)
    derived = expectation_under_q(log_normal(z, mu, s) - log_normal(z, mu_p, s_p))
    expected = float(derived.subs({mu: 0.2, s: 1.7, mu_p: -0.5, s_p: 0.6}))
    got = F.kl_diagonal_gaussian(*(torch.tensor([[v]]) for v in (0.2, math.log(1.7), -0.5, math.log(0.6))))
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_the_scale_of_a_laplace_density_minimises_the_reconstruction_term():
    """The mean absolute residual, and a minimum: `D log 2b + D MAE / b` has the slope zero and curves upwards there."""
    b, mae, dim = sp.symbols("b MAE D", positive=True)
    term = dim * sp.log(2 * b) + dim * mae / b
    (star,) = sp.solve(sp.diff(term, b), b)
    assert sp.simplify(star - mae) == 0
    assert sp.simplify(sp.diff(term, b, 2).subs(b, star)) == dim / mae**2
    at_star = sp.simplify(term.subs(b, star) - dim * (1 + sp.log(2 * mae)))
    assert sp.simplify(sp.expand_log(at_star, force=True)) == 0
    x, x_hat = torch.randn(8, 5), torch.randn(8, 5)
    found = F.optimal_scale(x, x_hat, "all", 1)
    mean_nll = F.laplace_nll(x, x_hat, found.log()).sum(1).mean()
    assert mean_nll.item() == pytest.approx(5 * (1 + math.log(2 * found.item())), rel=1e-12)


def test_the_floors_are_the_statistics_of_uniform_noise():
    """`step / sqrt(12)` of a Gaussian's scale, `step / 4` of a Laplace density's."""
    u, step = sp.symbols("u step", positive=True)
    half = step / 2
    square, absolute = (sp.integrate(f, (u, 0, half)) * 2 / step for f in (u**2, u))
    assert sp.simplify(sp.sqrt(square) - step / sp.sqrt(12)) == 0
    assert sp.simplify(absolute - step / 4) == 0
    from calibrae.likelihoods import MEAN_ABSOLUTE, ROOT_MEAN_SQUARE

    assert ROOT_MEAN_SQUARE.floor(0.5) == pytest.approx(float((step / sp.sqrt(12)).subs(step, 0.5)))
    assert MEAN_ABSOLUTE.floor(0.5) == 0.125

"""The three sigmas: profile, freezing, floor."""

import math

import pytest
import torch

import calibrae as cb
from calibrae import functional as F
from calibrae.errors import ArgumentError, ShapeError, UnfrozenSigmaError

X, X_HAT = torch.randn(8, 3, 4), torch.randn(8, 3, 4)


@pytest.mark.parametrize("shared", ["all", "channel", "element"])
def test_training_uses_the_batchs_optimum(shared):
    likelihood = cb.GaussianLikelihood("optimal", shared)
    star = F.optimal_sigma(X, X_HAT, shared)
    spread = star[:, None] if shared == "channel" else star
    expected = F.gaussian_nll(X, X_HAT, spread.log()).flatten(1).sum(1)
    torch.testing.assert_close(likelihood(X_HAT).nll(X), expected)


def test_the_profile_has_the_gradient_of_the_log_mse():
    x_hat = X_HAT.clone().requires_grad_()
    cb.GaussianLikelihood("optimal")(x_hat).nll(X).mean().backward()
    other = X_HAT.clone().requires_grad_()
    (0.5 * 12 * torch.log((X - other).square().mean())).backward()
    torch.testing.assert_close(x_hat.grad, other.grad)


def test_evaluating_an_unfrozen_sigma_is_an_error_that_says_what_to_do():
    likelihood = cb.GaussianLikelihood("optimal").eval()
    for use in (lambda c: c.nll(X), lambda c: c.sample(), lambda c: c.distribution()):
        with pytest.raises(UnfrozenSigmaError, match="fixed on the training set"):
            use(likelihood(X_HAT))
    assert torch.equal(likelihood(X_HAT).mean, X_HAT)


def test_a_frozen_sigma_does_not_look_at_what_it_scores():
    likelihood = cb.GaussianLikelihood("optimal")
    likelihood.bind((3, 4), None)
    likelihood.sigma.freeze(torch.tensor(0.5))
    for mode in (likelihood.train(), likelihood.eval()):
        expected = F.gaussian_nll(X, X_HAT, math.log(0.5)).flatten(1).sum(1)
        torch.testing.assert_close(mode(X_HAT).nll(X), expected)
    likelihood.sigma.unfreeze()
    assert not likelihood.sigma.is_fixed


@pytest.mark.parametrize("kind", ["optimal", "learned"])
def test_the_floor_follows_from_the_step(kind):
    likelihood = cb.GaussianLikelihood(kind, initial_sigma=1e-9)
    likelihood.bind((3, 4), 1 / 256)
    assert likelihood.sigma.floor == pytest.approx(1 / 256 / math.sqrt(12))
    likelihood(X)
    if kind == "optimal":
        likelihood.sigma.freeze(torch.tensor(0.0))
    assert likelihood.sigma.log_sigma.exp().item() == pytest.approx(likelihood.sigma.floor, rel=1e-6)
    assert torch.isfinite(likelihood(X).nll(X)).all()


def test_a_perfect_reconstruction_in_training_stays_finite():
    likelihood = cb.GaussianLikelihood("optimal")
    x_hat = X.clone().requires_grad_()
    nll = likelihood(x_hat).nll(X)
    nll.sum().backward()
    assert torch.isfinite(nll).all()
    assert torch.isfinite(x_hat.grad).all()


def test_a_given_floor_is_kept():
    likelihood = cb.GaussianLikelihood("learned", floor=0.01)
    likelihood.bind((3, 4), 1 / 256)
    assert likelihood.sigma.floor == 0.01


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_bad_sigmas_are_refused(bad):
    with pytest.raises(ArgumentError, match="'learned' or 'optimal'"):
        cb.GaussianLikelihood(bad)


def test_a_sigma_belongs_to_one_shape():
    likelihood = cb.GaussianLikelihood("learned", "element")
    likelihood(X)
    with pytest.raises(ShapeError, match="belongs to data of shape"):
        likelihood.bind((5,), None)

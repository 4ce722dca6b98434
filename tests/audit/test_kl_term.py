"""Classes of the KL's sum type, each from a loss that is one."""

import math

import pytest
import torch
from corpus import kl_terms
from other_priors import sampled, to_gaussian, to_mixture

from calibrae.audit._classify_kl import classify_kl
from calibrae.audit._inputs import Inputs, Sizes
from calibrae.audit._kl_term import (
    Coefficients,
    CoupledExamples,
    CoupledTerm,
    JointMismatch,
    KLTerm,
    Misread,
    NoFit,
    NoKL,
    PriorKL,
    StandardKL,
    StdClamped,
    UnequalWeights,
    UnrecognisedSample,
    WrongFormula,
)
from calibrae.audit._preparation import make_kl_probe
from calibrae.audit._probe import Probe

SIZES = Sizes((1, 4, 4), 5, 8)


@pytest.fixture(autouse=True)
def few_seeds(monkeypatch):
    """Average sampled terms over 8 seeds: what they are does not depend on it."""
    monkeypatch.setattr("calibrae.audit._classify_kl.NOISY_SEEDS", 8)


def classify(divergence, *, is_sampled=False):
    """Term of the batch mean of a divergence `[B]`."""
    torch.manual_seed(0)
    probe = Probe(lambda x, x_hat, mu, logvar: (x - x_hat).square().sum() + divergence(mu, logvar).mean())
    return classify_kl(make_kl_probe(probe, Inputs((0.0, 1.0), "data"), SIZES), sampled=is_sampled)


def kl(mu, logvar):
    return kl_terms(mu, logvar).sum(1)


def log_ratio(mu, logvar):
    z, log_q = sampled(mu, logvar)
    return log_q - torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)


def covariance(mu, logvar):
    return kl(mu, logvar) + torch.cov(mu.T).fill_diagonal_(0).square().sum()


STANDARD = {
    "itself": (kl, None),
    "clamped above": (lambda m, v: kl(m, v.clamp(max=2.0)), StdClamped("above")),
    "clamped below": (lambda m, v: kl(m, v.clamp(min=-3.0)), StdClamped("below")),
    "weighted latents": (lambda m, v: kl_terms(m, v) @ torch.arange(1.0, 6.0).to(m), UnequalWeights("latents", False)),
    "three latents": (lambda m, v: kl(m[:, :2], v[:, :2]), UnequalWeights("latents", True)),
    "two examples": (lambda m, v: kl(m, v)[:2] / 4, UnequalWeights("examples", True)),
    "a covariance": (covariance, CoupledExamples()),
}


@pytest.mark.parametrize("name", STANDARD)
def test_a_standard_kl_and_its_defects(name):
    divergence, defect = STANDARD[name]
    term = classify(divergence)
    assert isinstance(term, StandardKL)
    assert (term.kind, term.least_std, term.defect) == ("exact", 1.0, defect)


def test_a_kl_along_the_axes_alone():
    term = classify(lambda m, v: (0.5 * (m**2 * v.exp() + v.exp() - 1 - v)).sum(1))
    assert isinstance(term.defect, JointMismatch)
    assert abs(term.defect.relative) > 0.05


def test_a_sampled_kl():
    term = classify(log_ratio, is_sampled=True)
    assert isinstance(term, StandardKL)
    assert (term.kind, term.sampled, term.defect) == ("monte_carlo", True, None)
    assert term.weight.value == pytest.approx(1 / 8)
    assert 0 < term.weight.error < 0.1


@pytest.mark.parametrize(
    ("coefficients", "defect", "std"),
    [
        ((-0.5, -0.5, 0.5), "wrong-sign", None),
        ((0.5, 0.5, 0.5), "log-sign", None),
        ((0.5, 0.5, -1.0), "missing-half", math.sqrt(2)),
        ((0.5, 0.35, -0.5), "unequal", math.sqrt(1 / 0.7)),
        ((0.5, 0.0, 0.0), "no-variance", None),
    ],
)
def test_coefficients_of_a_wrong_formula(coefficients, defect, std):
    of_mean, of_variance, of_log = coefficients
    term = classify(lambda m, v: (of_mean * m**2 + of_variance * (v.exp() - 1) + of_log * v).sum(1))
    assert isinstance(term, WrongFormula)
    assert term.coefficient_defect == defect
    assert term.least_std == (None if std is None else pytest.approx(std))
    assert isinstance(term.formula, Coefficients)
    ratios = (of_variance / of_mean, -of_log / of_mean)
    assert (term.formula.variance, term.formula.log) == pytest.approx(ratios, abs=1e-6)


def test_formulas_without_coefficients():
    misread = classify(lambda m, v: kl(m, 2 * v))
    assert misread.formula == Misread("the log-variance is read as a log standard deviation")
    assert misread.coefficient_defect is None
    other = classify(lambda m, v: (0.5 * m**2 + v.abs()).sum(1))
    assert isinstance(other.formula, NoFit)
    assert other.formula.misfit > 0.01
    of_std_alone = classify(lambda _, v: kl(0 * v, v))
    assert (of_std_alone.weight.value, of_std_alone.least_std) == (0.0, pytest.approx(1.0, rel=1e-3))


def test_other_divergences():
    assert isinstance(classify(lambda m, _: 0 * m.sum(1)), NoKL)
    prior = classify(to_gaussian(1.0, 2.0))
    assert isinstance(prior, PriorKL)
    assert (prior.kind, prior.least_std, prior.prior.mean) == ("exact", pytest.approx(2.0), pytest.approx(1.0))
    mixture = classify(to_mixture, is_sampled=True)
    assert isinstance(mixture, PriorKL)
    assert (mixture.kind, mixture.least_std, mixture.weight.value) == ("monte_carlo", None, pytest.approx(1 / 8))
    floored = classify(lambda m, v: to_mixture(m, v).clamp(min=4.0), is_sampled=True)
    assert isinstance(floored, UnrecognisedSample)
    assert floored.weight.value is None


def test_a_term_of_the_whole_batch_is_no_formula():
    def total_variance(mu, logvar):
        return mu.var(0).sum() * logvar.exp().mean() + 0.5 * mu.square().sum(1)

    assert isinstance(classify(total_variance), CoupledTerm)


def test_every_class_of_the_sum_is_rescaled_alike():
    for term in (classify(kl), classify(to_gaussian(1.0, 2.0)), classify(lambda m, v: kl(m, 2 * v))):
        twice = term.rescaled(2.0)
        assert twice.weight.value == 2.0 * term.weight.value
        assert type(twice) is type(term)
    assert {c.__name__ for c in KLTerm.__args__} == {
        "NotMeasured", "NoKL", "StandardKL", "PriorKL", "ImportanceBound", "WrongFormula", "CoupledTerm", "UnrecognisedSample",
    }  # fmt: skip

"""The one place that decides what the KL term is."""

from __future__ import annotations

import math
from dataclasses import replace

from ._kl_curve import Curve, find_constant, find_curve, find_scope
from ._kl_probe import KLProbe
from ._kl_random import are_examples_coupled, defect_at_random, random_posterior
from ._kl_sweep import clamp_far_out, has_no_variance, judge_sweep, least_std
from ._kl_term import (
    CoupledExamples,
    CoupledTerm,
    ImportanceBound,
    JointMismatch,
    KLTerm,
    KLWeight,
    Misread,
    NoFit,
    NoKL,
    PriorKL,
    StandardKL,
    UnrecognisedSample,
    WrongFormula,
)
from ._prior import Prior, find_prior, is_bound_of_several
from ._probe import ProbeError
from ._tolerances import Tolerances

NOISY_SEEDS, FEWEST_SEEDS = 64, 8
CALLS, SECONDS = 80.0, 40.0  # of a sampled loss for each seed, and what they may take together
NUMBERS_PER_SWEEP = 400_000
CONFUSED_VARIANCES = (2.0, 0.5)  # variances of a prior that a missing half looks like


def classify_kl(kl: KLProbe, *, sampled: bool) -> KLTerm:
    """Decide what the term is: first beside N(0, I), then, if that is not all of it, among the other divergences.

    Args:
        kl: the loss as a function of the posterior.
        sampled: whether its part of the loss varies from seed to seed.
    """
    if sampled:
        affordable = int(SECONDS / (CALLS * kl.seconds_of_a_call()))
        kl.seeds = max(FEWEST_SEEDS, min(NOISY_SEEDS, -(-NUMBERS_PER_SWEEP // kl.count), affordable))
    term = _beside_standard_normal(kl, sampled=sampled)
    if not _is_suspect(term, sampled=sampled):
        return term
    if sampled and _has_joint_mismatch(term) and are_examples_coupled(kl):
        assert isinstance(term, StandardKL)
        return replace(term, defect=CoupledExamples())
    return _other_divergence(kl, term, sampled=sampled)


def _beside_standard_normal(kl: KLProbe, *, sampled: bool) -> NoKL | StandardKL | WrongFormula | CoupledTerm:
    """Compare the term with a KL to N(0, I): along the mean, the standard deviation, and at random posteriors."""
    curve = find_curve(kl)
    slopes = (curve.slopes[0], curve.slopes[-1])
    if not any(curve.slopes):
        nothing = KLWeight(0.0, slopes=slopes)
        return NoKL(nothing) if has_no_variance(kl) else WrongFormula(nothing, NoFit(0.0), least_std(kl, 0.0))
    if curve.weight is None:
        return _nonlinear(kl, KLWeight(None, 1.0, curve.transform, slopes))
    curve = _with_constant(kl, curve)
    error = math.sqrt(2.0 / (kl.count * kl.seeds)) if sampled else 0.0
    weight = KLWeight(curve.weight, curve.level, curve.transform, slopes, error)
    term = judge_sweep(kl, curve, weight)
    if isinstance(term, WrongFormula) and weight.is_nonlinear and _is_function_of_kl(kl, curve.level):
        return StandardKL(weight, least_mean=term.least_mean)
    if isinstance(term, StandardKL) and term.defect is None:
        return replace(term, defect=clamp_far_out(kl, curve, term) or defect_at_random(kl, curve, term))
    if not isinstance(term, WrongFormula) or (weight.value or 0.0) <= 0 or isinstance(term.formula, Misread):
        return term
    coupled = are_examples_coupled(kl, random_posterior(kl, 4.0 * curve.level, seed=1))
    return CoupledTerm(weight, term.least_std, term.least_mean) if coupled else term


def _with_constant(kl: KLProbe, curve: Curve) -> Curve:
    """Add the place and the scope of a kink."""
    constant = find_constant(kl, curve)
    if curve.transform is None or constant is None:
        return curve
    return replace(curve, transform=replace(curve.transform, constant=constant, scope=find_scope(kl, curve, constant)))


def _nonlinear(kl: KLProbe, weight: KLWeight) -> StandardKL | WrongFormula | CoupledTerm:
    """Judge a term whose slope settles nowhere: perhaps a function of the KL."""
    if _is_function_of_kl(kl, 1.0):
        return StandardKL(weight)
    return CoupledTerm(weight) if are_examples_coupled(kl) else WrongFormula(weight, NoFit(0.0))


def _is_function_of_kl(kl: KLProbe, level: float) -> bool:
    """Tell whether equal KLs, made of means or of standard deviations, give equal losses."""
    size = max(abs(kl.at(kl.mean_at(v)) - kl.at(0.0)) for v in (1.0, 4.0))
    for nats in (1.0, 4.0, max(1.0, min(level, 100.0))):
        log_s = _log_std_at(nats / kl.sizes.latent_dim)
        if abs(kl.at(kl.mean_at(nats)) - kl.at(0.0, log_s)) > Tolerances.function_of_kl.value * size:
            return False
    return size > 0


def _log_std_at(nats: float) -> float:
    """Negative log standard deviation at which a latent of mean 0 has so many nats."""
    low, high = -60.0, 0.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        if 0.5 * (math.exp(2.0 * middle) - 1.0) - middle > nats:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def _has_joint_mismatch(term: KLTerm) -> bool:
    return isinstance(term, StandardKL) and isinstance(term.defect, JointMismatch)


def _is_suspect(term: NoKL | StandardKL | WrongFormula | CoupledTerm, *, sampled: bool) -> bool:
    """Tell whether another divergence may explain the term better; what couples examples is none."""
    if isinstance(term, StandardKL):
        coupled = isinstance(term.defect, CoupledExamples)
        unexplained = bool(term.least_mean) or _has_joint_mismatch(term) or (sampled and term.weight.is_nonlinear)
        return unexplained and not coupled
    return isinstance(term, WrongFormula)


def _other_divergence(kl: KLProbe, term: KLTerm, *, sampled: bool) -> KLTerm:
    """Explain the term by another prior or by a bound of several samples; else leave it, or give it up if it is sampled."""
    prior = find_prior(kl)
    if prior is not None and not (prior.is_gaussian and _looks_like_a_missing_half(kl, prior)):
        return PriorKL(replace(term.weight, value=prior.weight, transform=None), prior)
    first, last = term.weight.slopes
    misread = isinstance(term, WrongFormula) and isinstance(term.formula, Misread)
    if sampled and term.weight.is_nonlinear and 0.0 < first < last and not misread and is_bound_of_several(kl, last):
        return ImportanceBound(replace(term.weight, value=last))
    off = not isinstance(term, StandardKL) or bool(term.least_mean) or term.weight.is_nonlinear
    if sampled and term.weight.transform is not None and off:
        return UnrecognisedSample(replace(term.weight, value=None))
    return term


def _looks_like_a_missing_half(kl: KLProbe, prior: Prior) -> bool:
    """Tell whether a KL to N(0, I) without a half fits as well: not if the whole loss is 0 at that prior's own minimum."""
    same = Tolerances.same_prior.value
    if prior.mean is None or prior.std is None or abs(prior.mean) > same:
        return False
    if all(abs(prior.std**2 / v - 1.0) > same for v in CONFUSED_VARIANCES):
        return False
    try:
        rest = kl.probe.value(kl.x, kl.x, kl.full(0.0), kl.full(math.log(prior.std)))
    except ProbeError:
        return True
    return abs(rest) > Tolerances.zero_at_minimum.value * prior.weight * kl.count


def remeasured_weight(kl: KLProbe, term: KLTerm) -> float:
    """Measure the weight of a known term again, at other sizes.

    Raises:
        ProbeError: if the loss does not accept them.
    """
    if not isinstance(term, PriorKL):
        return kl.curvature(term.weight.level or 1.0)[0]
    prior = find_prior(kl)
    if prior is None:
        raise ProbeError("the divergence could not be told at these sizes.")
    return prior.weight

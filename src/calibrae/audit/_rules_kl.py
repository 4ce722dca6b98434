"""Rules about the KL: its formula, and the function applied to it."""

from __future__ import annotations

from collections.abc import Callable

from ._checks import GradientCheck
from ._evidence import Evidence
from ._kl_term import (
    Coefficients,
    CoupledExamples,
    CoupledTerm,
    ImportanceBound,
    JointMismatch,
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
from ._prior import Prior
from ._rule import Facts, Rule, if_true
from ._tolerances import Tolerances

SCOPES = {"example": " of each example", "batch": " of the batch's mean", "dimension": " of each latent"}
PART_NAMES = {"x_hat": "x_hat", "mu": "the posterior's mean", "log_std": "the posterior's standard deviation"}
DERIVATIVES = "along {part} the value changes by {difference:.4g} a unit and autograd says {autograd:.4g}"
COEFFICIENTS = "mu^2/2 is weighted {mean:.4g}, s^2/2 {variance:.4g} and -ln s {log:.4g}"


def _wrong(e: Evidence) -> WrongFormula | None:
    return e.kl if isinstance(e.kl, WrongFormula) else None


def _defect(e: Evidence) -> object:
    return e.kl.defect if isinstance(e.kl, StandardKL) else None


def _prior(e: Evidence) -> Prior | None:
    return e.kl.prior if isinstance(e.kl, PriorKL) else None


def _coefficients(defect: str) -> Callable[[Evidence], Facts | None]:
    """Condition: the coefficients have this mistake."""

    def condition(e: Evidence) -> Facts | None:
        term = _wrong(e)
        if term is None or term.coefficient_defect != defect or not isinstance(term.formula, Coefficients):
            return None
        mean = term.weight.value or 0.0
        variance, log = mean * term.formula.variance, mean * term.formula.log
        return {"mean": mean, "variance": variance, "log": log, "minus_log": -log}

    return condition


def _misread(e: Evidence) -> Facts | None:
    term = _wrong(e)
    return {"confusion": term.formula.confusion} if term is not None and isinstance(term.formula, Misread) else None


def _no_fit(e: Evidence) -> Facts | None:
    term = _wrong(e)
    if term is None or isinstance(term.formula, Misread) or term.coefficient_defect is not None:
        return None
    misfit = term.formula.misfit if isinstance(term.formula, NoFit) else 0.0
    return {"how_far": f", {100 * misfit:.2g} % off" if 0 < misfit < 10 else ""}


def _joint_mismatch(e: Evidence) -> Facts | None:
    defect = _defect(e)
    return {"percent": 100 * defect.relative} if isinstance(defect, JointMismatch) else None


def _least_std(e: Evidence) -> Facts | None:
    term = _wrong(e)
    if term is None or isinstance(term.formula, Misread) or term.least_std is None:
        return None
    off = abs(term.least_std - 1.0) > Tolerances.off_prior.value
    return {"std": term.least_std} if off else None


def _least_mean(e: Evidence) -> Facts | None:
    term = e.kl
    has_mean = isinstance(term, StandardKL | WrongFormula | CoupledTerm) and term.least_mean
    return {"mean": term.least_mean} if has_mean else None  # type: ignore[union-attr]


def _gaussian_prior(e: Evidence) -> Facts | None:
    prior = _prior(e)
    if prior is None or not prior.is_gaussian:
        return None
    mean = "a mean of each latent's own" if prior.mean is None else f"mean {round(prior.mean, 6) + 0.0:.4g}"
    return {"mean": mean, "std": prior.std}


def _term_beside(e: Evidence) -> Facts | None:
    prior = _prior(e)
    if prior is None or prior.is_gaussian or prior.closed != 1.0:
        return None
    return {"place": "posterior's mean" if prior.kind == "penalty" else "sampled code"}


def _other_prior(e: Evidence) -> Facts | None:
    prior = _prior(e)
    return if_true(prior is not None and not prior.is_gaussian and prior.closed != 1.0)


def _std_clamped(e: Evidence) -> Facts | None:
    defect = _defect(e)
    return {"side": defect.side} if isinstance(defect, StdClamped) else None


def _unequal(axis: str, *, missing: bool) -> Callable[[Evidence], Facts | None]:
    """Condition: halves of this axis weigh differently, or some have no KL."""
    return lambda e: if_true(_defect(e) == UnequalWeights(axis, missing))


def _transform(kind: str) -> Callable[[Evidence], Facts | None]:
    """Condition: the KL goes through this function before it is weighed."""

    def condition(e: Evidence) -> Facts | None:
        transform = e.kl.weight.transform
        if transform is None or transform.kind != kind:
            return None
        constant = transform.constant
        place = "" if constant is None else f" at {constant:.4g} nats of the summed KL"
        return {"scope": SCOPES.get(transform.scope or "", ""), "place": place}

    return condition


def _slopes(*, bound: bool) -> Callable[[Evidence], Facts | None]:
    """Condition: the weight moves with the KL, as that of an importance-weighted bound does or otherwise."""

    def condition(e: Evidence) -> Facts | None:
        low, high = e.kl.weight.slopes
        applies = e.kl.weight.is_nonlinear and isinstance(e.kl, ImportanceBound) == bound
        return {"low": low, "high": high} if applies else None

    return condition


def _disagreement(e: Evidence, name: str) -> GradientCheck | None:
    """First derivative of a term that autograd does not give, a missing one before others."""
    checks = sorted(e.gradients, key=lambda c: not c.is_missing)
    wrong = (c for c in checks if not c.agrees and ("reconstruction" if c.part == "x_hat" else "kl") == name)
    return next(wrong, None)


def gradient(name: str, *, missing: bool) -> Callable[[Evidence], Facts | None]:
    """Condition: the gradient of a term is missing, or it differs from the value's change."""

    def condition(e: Evidence) -> Facts | None:
        check = _disagreement(e, name)
        if check is None:
            return None
        noisy = e.kl.kind == "monte_carlo" and check.autograd != 0
        if (check.is_missing and not noisy) != missing:
            return None
        return {"part": PART_NAMES[check.part], "difference": check.difference, "autograd": check.autograd}

    return condition


KL_RULES: tuple[Rule, ...] = (
    Rule(
        "kl-missing",
        "error",
        lambda e: if_true(isinstance(e.kl, NoKL) and not e.returns_several),
        "the loss does not change with the posterior",
        "Add the KL; if a clamp hides it, raise its upper bound; if a schedule starts at 0, audit it at its end.",
        "an autoencoder, a clamp that hides the KL, a schedule that starts at 0",
    ),
    Rule(
        "kl-missing",
        "warning",
        lambda e: if_true(isinstance(e.kl, NoKL) and e.returns_several),
        "the first of the numbers that the loss returns does not change with the posterior",
        "Only the first was audited. If another is the total, pick it: lambda *a: loss(*a)[-1].",
        "the loss returns several numbers, and the first has no KL",
    ),
    Rule(
        "kl-no-gradient",
        "error",
        gradient("kl", missing=True),
        DERIVATIVES,
        "Something is detached, or computed under no_grad, or rounded.",
        "the value has a KL, the gradient has not: `kl.item()`, `.detach()`, `no_grad`",
    ),
    Rule(
        "kl-wrong-sign",
        "error",
        _coefficients("wrong-sign"),
        COEFFICIENTS,
        "Add the KL instead of subtracting it.",
        "`rec - kl`, or `0.5 * sum(1 + logvar - mu**2 - logvar.exp())` without its minus: the posterior is driven away from the prior",
    ),
    Rule(
        "kl-log-sign",
        "error",
        _coefficients("log-sign"),
        "the variance is weighted {variance:.4g} and the logarithm of s +{minus_log:.4g}: the term falls without bound as s goes to 0",
        "The KL has minus ln s: sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        "`-logvar` has become `+logvar`: the loss falls without bound as the noise vanishes",
    ),
    Rule(
        "kl-missing-half",
        "error",
        _coefficients("missing-half"),
        COEFFICIENTS + "; in a KL the three are one",
        "Check that the 1/2 stands before the whole bracket.",
        "the 1/2 stands before a part only, as in `0.5 * mu**2 + var - 1 - logvar`",
    ),
    Rule(
        "kl-logvar-confusion",
        "error",
        _misread,
        "the sweep of the standard deviation fits a KL in which {confusion}",
        "Use log_var = 2 log_std in 1/2 (mu^2 + exp(log_var) - 1 - log_var). If the loss is meant to be given something else, pass --posterior.",
        "log-variance, log standard deviation and standard deviation are mixed up between sampler and KL, as with `std = logvar.exp()`",
    ),
    Rule(
        "kl-no-variance",
        "error",
        _coefficients("no-variance"),
        "the term depends on the posterior's mean alone",
        "Add 1/2 (s^2 - 1) - ln s for each latent: without it the posterior's noise vanishes.",
        "a penalty on `mu` only: an autoencoder with a weight decay on its codes is left",
    ),
    Rule(
        "kl-not-a-kl",
        "error",
        _no_fit,
        "the term follows no KL of Gaussians in the standard deviation{how_far}",
        "Compare with sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        "the standard deviation enters by another formula",
    ),
    Rule(
        "kl-not-a-kl",
        "error",
        _coefficients("unequal"),
        COEFFICIENTS + "; in a KL the three are one",
        "Compare with sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        "the three parts of a KL have weights of their own",
    ),
    Rule(
        "kl-not-a-kl",
        "error",
        _joint_mismatch,
        "the term is a KL along the mean and along the standard deviation, and {percent:.2g} % off where both differ from latent to latent",
        "Mean and variance must not act on one another: sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        "mean and standard deviation act on one another, or the KL is that of the batch's average",
    ),
    Rule(
        "kl-minimum-off-prior",
        "error",
        _least_std,
        "the term is least at a posterior standard deviation of {std:.4g}, not 1",
        "A KL to N(0, I) is least at the prior.",
        "a wrong formula is least at another standard deviation than 1",
    ),
    Rule(
        "kl-minimum-off-prior",
        "error",
        _least_mean,
        "the term is least at a posterior mean of {mean:.4g}, not 0",
        "A KL to N(0, I) is least at the prior; another prior's mean needs to be known to the sampler.",
        "a term of which no prior is known is least at another mean than 0",
    ),
    Rule(
        "kl-minimum-off-prior",
        "warning",
        _gaussian_prior,
        "it is the KL to another Gaussian than N(0, I): {mean}, standard deviation {std:.4g}",
        "Right if the prior that you sample from is this one; if it is N(0, I), compare with sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        "the KL, exact or sampled, to a Gaussian of other means, variances or correlations; the weight is that of the entropy",
    ),
    Rule(
        "kl-minimum-off-prior",
        "warning",
        _other_prior,
        "an entropy and a function of the sampled code: the sampled KL to a prior that is not N(0, I)",
        "Right for a mixture, a flow or a learned prior, if you sample from the same.",
        "one draw's KL to any other density of the sampled code; the weight is that of the entropy",
    ),
    *(
        Rule(
            f"kl-uneven-{axis}",
            "error",
            _unequal(axis, missing=True),
            f"some {axis} have no KL at all",
            f"Sum the KL over all {axis}.",
            example,
        )
        for axis, example in (("examples", "`kl[0]`, or a mask"), ("latents", "`kl[:, :k]`, or a mask"))
    ),
    *(
        Rule(
            f"kl-uneven-{axis}",
            "warning",
            _unequal(axis, missing=False),
            f"not all {axis} weigh alike",
            "No single beta describes this loss.",
            f"a weight for each of the {axis}",
        )
        for axis in ("examples", "latents")
    ),
    Rule(
        "kl-not-recognised",
        "warning",
        lambda e: if_true(isinstance(e.kl, UnrecognisedSample)),
        "a sampled term that is no KL to a Gaussian, and neither one draw's KL to another prior",
        "A mixture prior with several draws or a floor looks so, and a wrong formula too: audit it with one draw and without the floor.",
        "a mixture prior with several draws or a floor, or a wrong formula; its weight is not stated",
    ),
    Rule(
        "kl-clamped",
        "warning",
        _transform("clamp"),
        "the KL{scope} has no gradient above a ceiling{place}",
        "A ceiling does not pull the KL to it: once above, nothing holds the codes. For a capacity use abs(KL - C).",
        "a ceiling, above which the KL has no gradient",
    ),
    Rule(
        "kl-std-clamped",
        "warning",
        _std_clamped,
        "the term does not follow the standard deviation everywhere {side} 1",
        "Outside the clamp nothing holds the posterior's variance.",
        "beyond some standard deviation the term is clamped; log-variances within [-14, 14] should not be",
    ),
    Rule(
        "kl-not-linear",
        "warning",
        _slopes(bound=False),
        "the weight of the KL moves with it, from {low:.4g} at little to {high:.4g} at much",
        "No single beta describes this loss.",
        "a power, a logarithm or a soft floor of the KL",
    ),
    Rule(
        "kl-gradient-differs",
        "warning",
        gradient("kl", missing=False),
        DERIVATIVES,
        "A part is detached or clamped: training does not descend the value.",
        "a part is detached or clamped: the value that is printed is not the one that is trained",
    ),
    Rule(
        "additional-term",
        "warning",
        lambda e: if_true(isinstance(e.kl, CoupledTerm) or isinstance(_defect(e), CoupledExamples)),
        "beside the KL something acts on several examples' posteriors together",
        "A total correlation, a covariance or an MMD does so on purpose; its weight is not in beta.",
        "total correlation, MMD, covariance: report its weight beside beta",
    ),
    Rule(
        "additional-term",
        "warning",
        _term_beside,
        "beside the KL something acts on the {place}",
        "A classifier, a penalty or a discriminator does so on purpose; its weight is not in beta.",
        "a discriminator on the sampled code, a classifier or a penalty on the mean: report its weight beside beta",
    ),
    Rule(
        "kl-importance-weighted",
        "note",
        _slopes(bound=True),
        "0 at the prior for every draw and below the KL elsewhere, with a slope from {low:.4g} at little to {high:.4g} at much",
        "An importance-weighted bound of several samples is so; the weight is that at much KL.",
        "an importance-weighted bound of several samples",
    ),
    Rule(
        "kl-capacity",
        "note",
        _transform("capacity"),
        "the distance of the KL{scope} from a capacity{place}",
        "Beta is the slope on either side.",
        "the distance of the KL from a constant, in nats of an example's summed KL",
    ),
    Rule(
        "kl-free-bits",
        "note",
        _transform("free_bits"),
        "the KL{scope} is free up to a floor{place}",
        "Above it the weight is as stated.",
        "a floor below which the KL is free, in nats of an example's summed KL",
    ),
)

"""Findings about the KL: its formula, and what is done to it."""

from __future__ import annotations

from collections.abc import Iterator

from ._divergence import Divergence
from ._evidence import Evidence
from ._finding import Finding

SAME = 0.01


def of_divergence(e: Evidence) -> Iterator[Finding]:
    """Whether the term is a KL of Gaussians, least at the prior."""
    found = e.divergence
    if found.kind == "none" and e.several:
        yield first_of_several("kl-missing", "posterior")
    elif found.kind == "none":
        yield Finding(
            "kl-missing",
            "error",
            "the loss does not change with the posterior",
            "Add the KL; if a clamp hides it, raise its upper bound; if a schedule starts at 0, audit it at its end.",
        )
    elif found.kind == "not_a_kl" and found.coupled:
        yield _additional()
    elif found.undecided:
        yield Finding(
            "kl-not-recognised",
            "warning",
            "a sampled term that is no KL to a Gaussian, and neither one draw's KL to another prior",
            "A mixture prior with several draws or a floor looks so, and a wrong formula too: audit it with one draw and without the floor.",
        )
    elif found.kind == "not_a_kl":
        yield from _of_formula(found)
        if found.reading is None and found.minimum_std is not None and abs(found.minimum_std - 1.0) > SAME:
            yield Finding(
                "kl-minimum-off-prior",
                "error",
                f"the term is least at a posterior standard deviation of {found.minimum_std:.4g}, not 1",
                "A KL to N(0, I) is least at the prior.",
            )
    elif found.kind in ("exact", "monte_carlo"):
        yield from _of_departures(found)
    if found.prior is not None:
        yield _of_prior(found)
    elif found.minimum_mean and found.kind in ("exact", "monte_carlo", "not_a_kl"):
        yield Finding(
            "kl-minimum-off-prior",
            "error",
            f"the term is least at a posterior mean of {found.minimum_mean:.4g}, not 0",
            "A KL to N(0, I) is least at the prior; another prior's mean needs to be known to the sampler.",
        )


def first_of_several(code: str, what: str) -> Finding:
    """A term that is missing from the first number of a tuple may be in another."""
    return Finding(
        code,
        "warning",
        f"the first of the numbers that the loss returns does not change with the {what}",
        "Only the first was audited. If another is the total, pick it: lambda *a: loss(*a)[-1].",
    )


def _additional() -> Finding:
    return Finding(
        "additional-term",
        "warning",
        "beside the KL something acts on several examples' posteriors together",
        "A total correlation, a covariance or an MMD does so on purpose; its weight is not in beta.",
    )


def _of_prior(found: Divergence) -> Finding:
    prior = found.prior
    assert prior is not None
    if prior.is_gaussian:
        mean = "a mean of each latent's own" if prior.mean is None else f"mean {round(prior.mean, 6) + 0.0:.4g}"
        return Finding(
            "kl-minimum-off-prior",
            "warning",
            f"it is the KL to another Gaussian than N(0, I): {mean}, standard deviation {prior.std:.4g}",
            "Right if the prior that you sample from is this one; if it is N(0, I), compare with sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        )
    if prior.closed == 1.0:
        where = "posterior's mean" if prior.kind == "penalty" else "sampled code"
        return Finding(
            "additional-term",
            "warning",
            f"beside the KL something acts on the {where}",
            "A classifier, a penalty or a discriminator does so on purpose; its weight is not in beta.",
        )
    return Finding(
        "kl-minimum-off-prior",
        "warning",
        "an entropy and a function of the sampled code: the sampled KL to a prior that is not N(0, I)",
        "Right for a mixture, a flow or a learned prior, if you sample from the same.",
    )


def _of_departures(found: Divergence) -> Iterator[Finding]:
    """A KL along the axes that is none elsewhere."""
    if found.flat is not None:
        yield Finding(
            "kl-std-clamped",
            "warning",
            f"the term does not follow the standard deviation everywhere {found.flat} 1",
            "Outside the clamp nothing holds the posterior's variance.",
        )
    if found.uneven is not None:
        what, _, missing = found.uneven.partition(" ")
        if missing:
            yield Finding(
                f"kl-uneven-{what}", "error", f"some {what} have no KL at all", f"Sum the KL over all {what}."
            )
        else:
            yield Finding(
                f"kl-uneven-{what}", "warning", f"not all {what} weigh alike", "No single beta describes this loss."
            )
    elif found.departs and found.coupled:
        yield _additional()
    elif found.departs:
        yield Finding(
            "kl-not-a-kl",
            "error",
            f"the term is a KL along the mean and along the standard deviation, and {100 * found.departs:.2g} % off where both differ from latent to latent",
            "Mean and variance must not act on one another: sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        )


def _of_formula(found: Divergence) -> Iterator[Finding]:
    b, square, log = found.weight or 0.0, found.square, found.log
    settled = found.wrap is None or found.wrap.kind != "other"
    if found.reading is not None:
        yield Finding(
            "kl-logvar-confusion",
            "error",
            f"the sweep of the standard deviation fits a KL in which {found.reading}",
            "Use log_var = 2 log_std in 1/2 (mu^2 + exp(log_var) - 1 - log_var). If the loss is meant to be given something else, pass --posterior.",
        )
    elif square is None or log is None or not settled:
        how_far = f", {100 * found.misfit:.2g} % off" if 0 < found.misfit < 10 else ""
        yield Finding(
            "kl-not-a-kl",
            "error",
            f"the term follows no KL of Gaussians in the standard deviation{how_far}",
            "Compare with sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        )
    elif b < 0 and square <= 0 and log <= 0:
        yield Finding(
            "kl-wrong-sign",
            "error",
            f"mu^2/2 is weighted {b:.4g}, s^2/2 {square:.4g} and -ln s {log:.4g}",
            "Add the KL instead of subtracting it.",
        )
    elif square > 0 and log < 0:
        yield Finding(
            "kl-log-sign",
            "error",
            f"the variance is weighted {square:.4g} and the logarithm of s +{-log:.4g}: the term falls without bound as s goes to 0",
            "The KL has minus ln s: sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        )
    elif square == 0.0 and log == 0.0:
        yield Finding(
            "kl-no-variance",
            "error",
            "the term depends on the posterior's mean alone",
            "Add 1/2 (s^2 - 1) - ln s for each latent: without it the posterior's noise vanishes.",
        )
    else:
        yield from _of_coefficients(b, square, log)


def _of_coefficients(b: float, square: float, log: float) -> Iterator[Finding]:
    ratios = [x / y for x, y in ((square, b), (log, b), (square, log)) if y]
    halves = any(abs(abs(r) - h) <= SAME * h for r in ratios for h in (2.0, 0.5))
    measured = f"mu^2/2 is weighted {b:.4g}, s^2/2 {square:.4g} and -ln s {log:.4g}; in a KL the three are one"
    if halves:
        yield Finding("kl-missing-half", "error", measured, "Check that the 1/2 stands before the whole bracket.")
    else:
        yield Finding("kl-not-a-kl", "error", measured, "Compare with sum(1/2 (mu^2 + s^2 - 1) - ln s).")


def of_wrap(e: Evidence) -> Iterator[Finding]:
    wrap = e.divergence.wrap
    if wrap is None:
        return
    scope = {"example": " of each example", "batch": " of the batch's mean", "dimension": " of each latent"}.get(
        wrap.scope or "", ""
    )
    value = "" if wrap.constant is None else f" at {wrap.constant:.4g} nats of the summed KL"
    if wrap.kind == "clamp":
        yield Finding(
            "kl-clamped",
            "warning",
            f"the KL{scope} has no gradient above a ceiling{value}",
            "A ceiling does not pull the KL to it: once above, nothing holds the codes. For a capacity use abs(KL - C).",
        )
    elif wrap.kind == "capacity":
        yield Finding(
            "kl-capacity",
            "note",
            f"the distance of the KL{scope} from a capacity{value}",
            "Beta is the slope on either side.",
        )
    elif wrap.kind == "free_bits":
        yield Finding(
            "kl-free-bits", "note", f"the KL{scope} is free up to a floor{value}", "Above it the weight is as stated."
        )
    elif e.divergence.bound:
        yield Finding(
            "kl-importance-weighted",
            "note",
            f"0 at the prior for every draw and below the KL elsewhere, with a slope from {e.divergence.slopes[0]:.4g} at little to {e.divergence.slopes[-1]:.4g} at much",
            "An importance-weighted bound of several samples is so; the weight is that at much KL.",
        )
    else:
        low, high = e.divergence.slopes[0], e.divergence.slopes[-1]
        yield Finding(
            "kl-not-linear",
            "warning",
            f"the weight of the KL moves with it, from {low:.4g} at little to {high:.4g} at much",
            "No single beta describes this loss.",
        )

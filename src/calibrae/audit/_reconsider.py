"""A term that is no KL to N(0, I) may yet be an honest divergence."""

from __future__ import annotations

import math
from dataclasses import replace

from ._divergence import Divergence, is_coupled
from ._kl_probe import KLProbe
from ._prior import Prior, find_prior, is_bound_of_several
from ._probe import ProbeError

SAME = 0.01
CONFUSED = (2.0, 0.5)  # variances of a prior that a missing half looks like


def reconsidered(kl: KLProbe, found: Divergence, *, sampled: bool) -> Divergence:
    """The same, or what it is if another prior, a function of the sample or a bound of several samples explains it."""
    bent = found.wrap is not None and found.wrap.kind == "other"
    suspect = found.kind == "not_a_kl" or found.minimum_mean or found.departs or (sampled and bent)
    if not suspect:
        return found
    if sampled and found.departs and not found.coupled and is_coupled(kl):
        return replace(found, coupled=True)
    if found.coupled:
        return found
    prior = find_prior(kl)
    if prior is not None and not (prior.is_gaussian and _looks_like_a_missing_half(kl, prior)):
        return _explained(found, prior)
    rises = bool(found.slopes) and 0.0 < found.slopes[0] < found.slopes[-1]
    if sampled and bent and rises and found.reading is None and is_bound_of_several(kl, found.slopes[-1]):
        return replace(
            found, kind="monte_carlo", weight=found.slopes[-1], minimum_std=1.0, minimum_mean=0.0, bound=True
        )
    if sampled and found.wrap is not None and (found.kind == "not_a_kl" or found.minimum_mean or bent):
        return replace(
            found, kind="not_a_kl", weight=None, square=None, log=None, reading=None, minimum_std=None, minimum_mean=0.0, undecided=True
        )  # fmt: skip
    return found


def _explained(found: Divergence, prior: Prior) -> Divergence:
    weight = prior.weight
    return replace(
        found,
        kind="exact" if prior.closed == 1.0 else "monte_carlo",
        weight=weight,
        square=weight,
        log=weight,
        minimum_std=None if prior.kind == "sample" else prior.std,
        minimum_mean=prior.mean or 0.0,
        reading=None,
        wrap=None,
        departs=0.0,
        uneven=None,
        flat=None,
        prior=prior,
    )


def _looks_like_a_missing_half(kl: KLProbe, prior: Prior) -> bool:
    """Whether it is as well a KL to N(0, I) with a half left out: not if the whole loss is 0 at that prior's own minimum."""
    if (
        prior.mean is None
        or prior.std is None
        or abs(prior.mean) > SAME
        or all(abs(prior.std**2 / v - 1.0) > SAME for v in CONFUSED)
    ):
        return False
    try:
        rest = kl.probe.value(kl.x, kl.x, kl.full(0.0), kl.full(math.log(prior.std)))
    except ProbeError:
        return True
    return abs(rest) > 1e-6 * prior.weight * kl.count


def weight_of_nats(kl: KLProbe, found: Divergence) -> float:
    """The weight that was found, measured again on other sizes.

    Raises:
        ProbeError: if the loss does not accept them.
    """
    if found.prior is None:
        return kl.curvature(found.level or 1.0)[0]
    prior = find_prior(kl)
    if prior is None:
        raise ProbeError("the divergence could not be told at these sizes.")
    return prior.weight

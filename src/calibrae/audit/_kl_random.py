"""Random posteriors, which differ from example to example and from latent to latent."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import functional
from ._kl_curve import Curve
from ._kl_probe import KLProbe
from ._kl_term import CoupledExamples, Defect, JointMismatch, StandardKL, UnequalWeights
from ._tolerances import Tolerances


def random_posterior(kl: KLProbe, level: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw means of either sign well beyond a level, and log standard deviations about 0, different everywhere."""
    generator = torch.Generator().manual_seed(seed)
    shape = (kl.sizes.batch_size, kl.sizes.latent_dim)
    signs = torch.where(torch.rand(shape, generator=generator, dtype=torch.float64) < 0.5, -1.0, 1.0)
    mu = signs * kl.mean_at(max(level, 0.5 * kl.sizes.latent_dim))
    mu = mu * (0.8 + 0.4 * torch.rand(shape, generator=generator, dtype=torch.float64))
    return mu, 0.5 * (torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5)


def defect_at_random(kl: KLProbe, curve: Curve, term: StandardKL) -> Defect | None:
    """Compare with the KL at posteriors that differ from example to example and from latent to latent."""
    weight = term.weight.value
    if weight is None or term.least_mean or (curve.transform is not None and curve.transform.limits_range):
        return None
    level = 4.0 * curve.level if curve.transform is not None else 0.0
    tolerance = Tolerances.random_posterior.at(kl.probe.dtype) + Tolerances.sure_difference.value * term.weight.error
    unequal = _unequal_weights(kl, weight, level, tolerance)
    if unequal is not None:
        return unequal
    base, further = random_posterior(kl, level, seed=1), 4.0 * max(level, 0.5 * kl.sizes.latent_dim)
    mismatches = [_relative_mismatch(kl, weight, base, random_posterior(kl, further, s)) for s in (2, 3)]
    largest = max(mismatches, key=abs)
    if abs(largest) <= tolerance:
        return None
    cancels = largest <= Tolerances.averaged_kl.value
    return CoupledExamples() if not cancels and are_examples_coupled(kl, base) else JointMismatch(largest)


def _relative_mismatch(kl: KLProbe, weight: float, base: tuple[Tensor, Tensor], point: tuple[Tensor, Tensor]) -> float:
    """Change of the loss between two posteriors, less `weight` times that of the KL; relative to the latter."""
    expected = weight * float((functional.kl_standard_normal(*point) - functional.kl_standard_normal(*base)).sum())
    return (kl.at(*point) - kl.at(*base) - expected) / max(abs(expected), 1e-300)


def _unequal_weights(kl: KLProbe, weight: float, level: float, tolerance: float) -> UnequalWeights | None:
    """Compare the weights of two halves of the examples, and of the latents."""
    mu = kl.full(kl.mean_at(max(level, 0.5 * kl.sizes.latent_dim)))
    for axis, dim in (("examples", 0), ("latents", 1)):
        size = mu.shape[dim] // 2  # halves of one size: of a KL of averages the weight of a part grows with it
        if not size:
            continue
        shares = []
        for rows in (range(size), range(mu.shape[dim] - size, mu.shape[dim])):
            part = torch.zeros_like(mu).index_fill(dim, torch.tensor(rows), 1.0)
            delta = 0.1 * mu * part
            second_difference = sum(w * kl.one(mu + t * delta) for t, w in ((-1.0, 1.0), (0.0, -2.0), (1.0, 1.0)))
            shares.append(second_difference / (weight * float(delta.square().sum())))
        if abs(shares[0] - shares[1]) > Tolerances.unequal_weights.value * tolerance:
            return UnequalWeights(axis, some_missing=min(map(abs, shares)) < tolerance)
    return None


def are_examples_coupled(kl: KLProbe, base: tuple[Tensor, Tensor] | None = None) -> bool:
    """Tell whether a change of one example's posterior matters more or less when another's changes too."""
    if kl.sizes.batch_size < 2:
        return False
    mu, log_std = base or random_posterior(kl, 0.0, seed=1)
    first, second = mu.clone(), mu.clone()
    first[0] *= 1.5
    second[1] *= 1.5
    both = first.clone()
    both[1] = second[1]
    corners = [kl.at(point, log_std) for point in (mu, first, second, both)]
    jointly = corners[3] - corners[2] - corners[1] + corners[0]
    alone = max(abs(corners[1] - corners[0]), abs(corners[2] - corners[0]))
    return abs(jointly) > Tolerances.coupled.value * alone

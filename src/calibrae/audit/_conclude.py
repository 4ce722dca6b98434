"""Conclusions: evidence becomes the record."""

from __future__ import annotations

import math

from ..errors import ArgumentError
from ..functional.conventions import SQUARED, translate
from ..functional.conventions import find as find_convention
from ._evidence import Evidence
from ._kl_curve import KLTransform
from ._kl_term import CoupledTerm
from ._match import Match, find_match
from ._record import AuditRecord
from ._rules import find
from ._tolerances import Tolerances


def conclude(e: Evidence, data_range: tuple[float, float]) -> AuditRecord:
    """Make the record of what was measured."""
    reconstruction, kl = e.reconstruction, e.kl
    ratio = _ratio(e)
    rho = _rho(e, ratio)
    nll_sigma = _full_nll_sigma(e)
    match = _match(e, ratio, nll_sigma)
    return AuditRecord(
        reconstruction=reconstruction.kind,
        reconstruction_weight=reconstruction.weight,
        sse_weight=reconstruction.weight if reconstruction.kind == "gaussian" else None,
        kl_weight=kl.weight.value,
        batch_reduction=e.batch_reduction,
        data_reduction=e.data_reduction,
        latent_reduction=e.latent_reduction,
        kl_kind=kl.kind,
        kl_minimum_std=kl.least_std,
        kl_transform=_transform_to_dict(kl.weight.transform),
        rho=rho,
        implied_sigma=math.sqrt(rho / 2.0) if rho is not None and rho >= 0 else None,
        implied_beta=ratio if reconstruction.kind in ("bernoulli", "categorical", "log_mse") else None,
        implied_laplace_scale=ratio if reconstruction.kind == "laplace" else None,
        convention=match.convention.name if match else None,
        convention_value=match.value if match else None,
        nll_sigma=nll_sigma,
        equivalents=_equivalents(match, e, data_range, nll_sigma, rho) if match else {},
        findings=find(e),
        stochastic=e.seed_spread > 0 or e.drift > 0,
        weight_error=kl.weight.error,
        powers=_powers(e),
        could_not_vary=e.could_not_vary,
    )


def _powers(e: Evidence) -> dict[str, float | None]:
    """Exponents of both weights, named."""
    return {
        f"{term}_{size}": power
        for term, powers in (("reconstruction", e.reconstruction_powers), ("kl", e.kl_powers))
        for size, power in (("B", powers.batch), ("D", powers.data), ("d", powers.latent))
    }


def _transform_to_dict(transform: KLTransform | None) -> dict[str, object] | None:
    if transform is None:
        return None
    return {"kind": transform.kind, "constant": transform.constant, "scope": transform.scope}


def _full_nll_sigma(e: Evidence) -> float | None:
    """Sigma, if the loss carries the constants of a Gaussian NLL with the sigma that its weight says."""
    a, _ = e.per_example()
    if e.reconstruction.kind != "gaussian" or not a or a < 0 or e.value_at_optimum is None or e.data_reduction != "sum":
        return None
    sigma = math.sqrt(0.5 / a)
    constants = e.sizes.data_dim * (math.log(sigma) + 0.5 * math.log(2.0 * math.pi))
    return sigma if abs(e.value_at_optimum - constants) <= Tolerances.full_nll.value * e.sizes.data_dim else None


def _ratio(e: Evidence) -> float | None:
    """`b / a` where both are numbers; beside a `log_mse`, beta."""
    reconstruction, b = e.reconstruction, e.kl.weight.value
    if b is None or not reconstruction.weight or e.weight_follows_data or isinstance(e.kl, CoupledTerm):
        return None  # or the weight is that of the probe's own data
    if reconstruction.kind == "log_mse":
        return b * e.sizes.data_dim * e.sizes.batch_size / (2.0 * reconstruction.weight)
    return b / reconstruction.weight if reconstruction.weight > 0 and reconstruction.is_known else None


def _rho(e: Evidence, ratio: float | None) -> float | None:
    """Squared error that a nat is worth; for a log cosh, that of small residuals."""
    reconstruction = e.reconstruction
    if ratio is None or reconstruction.kind not in ("gaussian", "log_cosh"):
        return None
    return ratio * 2.0 / reconstruction.alpha if reconstruction.alpha else ratio


def _match(e: Evidence, ratio: float | None, nll_sigma: float | None) -> Match | None:
    a, b = e.per_example()
    sizes = {"D": float(e.positions), "d": float(e.sizes.latent_dim), "B": float(e.sizes.batch_size)}
    if ratio is None or a is None or b is None or not e.kl.is_kl:
        return None
    if nll_sigma is not None and e.latent_reduction == "sum":
        return Match(find_convention("nll"), b)
    weights = (1.0, ratio) if e.reconstruction.kind == "log_mse" else (a, b)
    powers = (e.reconstruction_powers, e.kl_powers)
    return find_match(e.reconstruction.kind, ratio, weights, powers, sizes, e.kl.weight.transform)


def _equivalents(
    match: Match, e: Evidence, data_range: tuple[float, float], nll_sigma: float | None, rho: float | None
) -> dict[str, float]:
    sizes = {"data_shape": (e.positions,), "latent_dim": e.sizes.latent_dim, "batch_size": e.sizes.batch_size}
    name, value = match.convention.name, match.value
    if rho is not None and match.convention.term in SQUARED:
        name, value = "sse", rho  # whatever its sharpness, a log cosh is there what its rho is
    try:
        translated = translate(value, name, data_range=data_range, sigma=nll_sigma, **sizes)  # type: ignore[arg-type]
    except ArgumentError:
        return {}
    return dict(translated.equivalents)

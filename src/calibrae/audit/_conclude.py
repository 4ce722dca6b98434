"""From evidence to the record."""

from __future__ import annotations

import math

from ..errors import ArgumentError
from ..functional.conventions import SQUARED, translate
from ..functional.conventions import find as find_convention
from ._evidence import Evidence
from ._findings import find
from ._match import Match, find_match
from ._record import AuditRecord
from ._wrap import Wrap


def _full_nll_sigma(e: Evidence) -> float | None:
    """Sigma, if the loss carries the constants of a Gaussian NLL with the sigma that its weight says."""
    a, _ = e.per_example()
    if e.reconstruction.kind != "gaussian" or not a or a < 0 or e.at_rest is None or e.data_reduction != "sum":
        return None
    sigma = math.sqrt(0.5 / a)
    constants = e.sizes.data_dim * (math.log(sigma) + 0.5 * math.log(2.0 * math.pi))
    return sigma if abs(e.at_rest - constants) <= 1e-3 * e.sizes.data_dim else None


def _wrap_to_dict(wrap: Wrap | None) -> dict[str, object] | None:
    return None if wrap is None else {"kind": wrap.kind, "constant": wrap.constant, "scope": wrap.scope}


def _ratio(e: Evidence) -> float | None:
    """`b / a` where both are numbers; beside a `log_mse`, beta."""
    found, b = e.reconstruction, e.divergence.weight
    if b is None or not found.weight or e.weighs_by_data or (e.divergence.coupled and e.divergence.kind == "not_a_kl"):
        return None  # or the weight is that of the probe's own data
    if found.kind == "log_mse":
        return b * e.sizes.data_dim * e.sizes.batch_size / (2.0 * found.weight)
    return b / found.weight if found.weight > 0 and found.kind not in ("unknown", "none") else None


def _rho(e: Evidence, ratio: float | None) -> float | None:
    """Squared error that a nat is worth; for a log cosh, that of small residuals."""
    found = e.reconstruction
    if ratio is None or found.kind not in ("gaussian", "log_cosh"):
        return None
    return ratio * 2.0 / found.alpha if found.alpha else ratio


def conclude(e: Evidence, data_range: tuple[float, float]) -> AuditRecord:
    """The record of what was measured."""
    found, kl = e.reconstruction, e.divergence
    a, b = found.weight, kl.weight
    ratio = _ratio(e)
    rho = _rho(e, ratio)
    nll_sigma = _full_nll_sigma(e)
    match = _match(e, ratio, nll_sigma)
    return AuditRecord(
        reconstruction=found.kind,
        reconstruction_weight=a,
        sse_weight=a if found.kind == "gaussian" else None,
        kl_weight=b,
        batch_reduction=e.batch_reduction,
        data_reduction=e.data_reduction,
        latent_reduction=e.latent_reduction,
        kl_kind=None if kl.kind == "unknown" else kl.kind,
        kl_minimum_std=kl.minimum_std,
        wrap=_wrap_to_dict(kl.wrap),
        rho=rho,
        implied_sigma=math.sqrt(rho / 2.0) if rho is not None and rho >= 0 else None,
        implied_beta=ratio if found.kind in ("bernoulli", "categorical", "log_mse") else None,
        implied_laplace_scale=ratio if found.kind == "laplace" else None,
        convention=match.convention.name if match else None,
        convention_value=match.value if match else None,
        nll_sigma=nll_sigma,
        equivalents=_equivalents(match, e, data_range, nll_sigma, rho) if match else {},
        findings=find(e),
        stochastic=e.spread > 0 or e.drift > 0,
        weight_error=kl.error,
        powers={
            "reconstruction_B": e.ours.batch,
            "reconstruction_D": e.ours.data,
            "reconstruction_d": e.ours.latent,
            "kl_B": e.theirs.batch,
            "kl_D": e.theirs.data,
            "kl_d": e.theirs.latent,
        },
        could_not_vary=e.could_not_vary,
    )


def _match(e: Evidence, ratio: float | None, nll_sigma: float | None) -> Match | None:
    ours, theirs = e.per_example()
    sizes = {"D": float(e.positions), "d": float(e.sizes.latent_dim), "B": float(e.sizes.batch_size)}
    if ratio is None or ours is None or theirs is None or e.divergence.kind not in ("exact", "monte_carlo"):
        return None
    if nll_sigma is not None and e.latent_reduction == "sum":
        return Match(find_convention("nll"), theirs)
    weights = (1.0, ratio) if e.reconstruction.kind == "log_mse" else (ours, theirs)
    return find_match(e.reconstruction.kind, ratio, weights, (e.ours, e.theirs), sizes, e.divergence.wrap)


def _equivalents(
    match: Match, e: Evidence, data_range: tuple[float, float], nll_sigma: float | None, rho: float | None
) -> dict[str, float]:
    sizes = {"data_shape": (e.positions,), "latent_dim": e.sizes.latent_dim, "batch_size": e.sizes.batch_size}
    name, value = match.convention.name, match.value
    if rho is not None and match.convention.term in SQUARED:
        name, value = "sse", rho  # whatever its sharpness, a log cosh is there what its rho is
    try:
        found = translate(value, name, data_range=data_range, sigma=nll_sigma, **sizes)  # type: ignore[arg-type]
    except ArgumentError:
        return {}
    return dict(found.equivalents)

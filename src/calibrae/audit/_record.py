"""Record of an audit."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, final

from .._types import Finding, Severity
from ._text import to_text


@final
@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Measured meaning of a loss; `None` where a number has no meaning or could not be measured.

    The scalar is read as `sum_n a R_n + transform(sum_n b K_n) + constants` with `R_n` and `K_n` the sums over an example.

    Attributes:
        reconstruction: `gaussian` (squared error), `laplace` (absolute error), `bernoulli`, `categorical`, `log_cosh`, `log_mse`,
            `unknown` or `none`.
        reconstruction_weight: coefficient `a`; that of `ln MSE` for `log_mse`.
        sse_weight: coefficient `a` of a squared error.
        kl_weight: coefficient `b`.
        batch_reduction: `mean`, `sum`, or `mixed` where the two terms differ; from how the weights move with the batch size.
        data_reduction: `sum`, `mean` or `mixed` over the data dimensions, of the reconstruction.
        latent_reduction: `sum`, `mean` or `mixed` over the latents, of the KL.
        kl_kind: `exact`, `monte_carlo`, `not_a_kl` or `none`.
        kl_minimum_std: standard deviation at which the KL-like term is least; 1 for a KL.
        kl_transform: `kind`, `constant` (nats of the summed KL) and `scope` of the function applied to the KL, if any.
        rho: ratio `b / a` of a squared error.
        implied_sigma: `sqrt(rho / 2)`, sigma of the Gaussian decoder with the same optimum at beta = 1.
        implied_beta: ratio `b / a` of a density; for a `log_mse`, beta beside its optimal sigma.
        implied_laplace_scale: ratio `b / a` of an absolute error.
        convention: name of the closest convention of the catalogue.
        convention_value: number that an author of that convention would write.
        nll_sigma: sigma of a full Gaussian NLL, if the loss carries its constants.
        equivalents: number that each other convention would write for the same balance.
        findings: mistakes and things worth knowing, the worst first.
        stochastic: whether the scalar differs from seed to seed.
        weight_error: relative standard error of the KL's weight on the variance, of a stochastic loss.
        powers: exponents of `B`, `D` and `d` in `a` and `b`, where they could be varied.
        could_not_vary: sizes that the loss accepts at one value only.
        evaluations: number of calls of the loss.
        seconds: duration of the audit.
    """

    reconstruction: str
    reconstruction_weight: float | None
    sse_weight: float | None
    kl_weight: float | None
    batch_reduction: str | None
    data_reduction: str | None
    latent_reduction: str | None
    kl_kind: str | None
    kl_minimum_std: float | None
    kl_transform: dict[str, Any] | None
    rho: float | None
    implied_sigma: float | None
    implied_beta: float | None
    implied_laplace_scale: float | None
    convention: str | None
    convention_value: float | None
    nll_sigma: float | None
    equivalents: dict[str, float]
    findings: tuple[Finding, ...]
    stochastic: bool = False
    weight_error: float = 0.0
    powers: dict[str, float | None] = field(default_factory=dict)
    could_not_vary: tuple[str, ...] = ()
    evaluations: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return to_text(self)

    def codes(self, severity: Severity | None = None) -> list[str]:
        """Codes of the findings, of all severities or of one."""
        return [f.code for f in self.findings if severity in (None, f.severity)]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types, for JSON; numbers that are not finite become `None`."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value

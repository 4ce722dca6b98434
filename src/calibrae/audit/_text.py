"""An audit to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..functional.conventions import COMMON, find

if TYPE_CHECKING:
    from ._record import AuditRecord


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def to_text(record: AuditRecord) -> str:
    """What the command prints, and `print(record)`."""
    wrap = record.wrap
    place = (
        f" at {_number(wrap['constant'])} nats ({wrap['scope'] or 'scope unknown'})"
        if wrap and wrap["constant"]
        else ""
    )
    around = f", {'not linear' if wrap['kind'] == 'other' else wrap['kind'].replace('_', ' ')}{place}" if wrap else ""
    least = f", least at s = {_number(record.kl_minimum_std)}" if record.kl_minimum_std else ""
    reductions = {"batch": record.batch_reduction, "data": record.data_reduction, "latents": record.latent_reduction}
    rows = [
        ("reconstruction", f"{record.reconstruction}, weight {_number(record.reconstruction_weight)}"),
        ("KL", f"{(record.kl_kind or '-').replace('_', ' ')}, weight {_number(record.kl_weight)}{least}{around}"),
        ("reductions", ", ".join(f"{name} {how or 'unknown'}" for name, how in reductions.items())),
    ]
    if record.rho is not None:
        rows += [("rho", f"{_number(record.rho)}: the squared error that one nat is worth")]
        rows += [("implied sigma", f"{_number(record.implied_sigma)}, of a Gaussian decoder at beta 1")]
    if record.implied_beta is not None:
        rows += [("implied beta", _number(record.implied_beta))]
    if record.implied_laplace_scale is not None:
        rows += [("Laplace scale", _number(record.implied_laplace_scale))]
    if record.convention is not None:
        rows += [
            ("known as", f"{record.convention} {_number(record.convention_value)}: {find(record.convention).formula}")
        ]
        others = [f"{n} {_number(v)}" for n, v in record.equivalents.items() if n in COMMON and n != record.convention]
        rows += [("the same as", ", ".join(others))] if others else []
    lines = [f"{name:<16}{value}" for name, value in rows]
    lines += [f"{f.severity:<8}{f.code}: {f.measured}.\n        {f.advice}" for f in record.findings]
    if not record.findings:
        lines.append("nothing to object to")
    return "\n".join([*lines, f"{record.evaluations} calls of the loss in {record.seconds:.1f} s"])

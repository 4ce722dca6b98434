"""Text of an audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..functional.conventions import COMMON, find

if TYPE_CHECKING:
    from .._types import Finding
    from ._record import AuditRecord


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def to_text(record: AuditRecord) -> str:
    """Format a record as the command and `print(record)` show it."""
    transform = record.kl_transform
    place = (
        f" at {_number(transform['constant'])} nats ({transform['scope'] or 'scope unknown'})"
        if transform and transform["constant"]
        else ""
    )
    around = f", {transform['kind'].replace('other', 'not linear').replace('_', ' ')}{place}" if transform else ""
    least = f", least at s = {_number(record.kl_minimum_std)}" if record.kl_minimum_std else ""
    reductions = {"batch": record.batch_reduction, "data": record.data_reduction, "latents": record.latent_reduction}
    rows = [
        ("reconstruction", f"{record.reconstruction}, weight {_number(record.reconstruction_weight)}"),
        ("KL", f"{(record.kl_kind or '-').replace('_', ' ')}, weight {_number(record.kl_weight)}{least}{around}"),
        ("reductions", ", ".join(f"{name} {how or 'unknown'}" for name, how in reductions.items())),
    ]
    if record.rho is not None:
        rows += [("rho", _number(record.rho)), ("implied sigma", _number(record.implied_sigma))]
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
    grave = [_finding(f) for f in record.findings if f.severity != "note"]
    notes = [_finding(f) for f in record.findings if f.severity == "note"]
    table = [f"{name:<16}{value}" for name, value in rows]
    calls = f"{record.evaluations} calls of the loss in {record.seconds:.1f} s"
    return "\n".join([*_verdict(record), *grave, "", *table, *([""] if notes else []), *notes, calls])


def _finding(finding: Finding) -> str:
    return f"{finding.severity:<8}{finding.code}: {finding.message}.\n        {finding.remedy}"


def _verdict(record: AuditRecord) -> list[str]:
    """Answer in a sentence or two, for a reader who stops there."""
    errors, warnings = len(record.codes("error")), len(record.codes("warning"))
    if errors:
        return [f"This loss is not what it claims to be: {_count(errors, 'error')}."]
    said = "Nothing to object to." if not warnings else f"No error, {_count(warnings, 'warning')}."
    if record.reconstruction == "unknown":
        said = f"{'No error was found' if not warnings else said[:-1]}, but the reconstruction is none that is known and was not judged."
    meaning = _meaning(record)
    return [f"{said} {meaning}"] if meaning else [said]


def _meaning(record: AuditRecord) -> str | None:
    if record.implied_sigma is not None and record.rho:
        return (
            f"It trains as a Gaussian decoder with sigma {_number(record.implied_sigma)} would at beta 1: "
            f"one nat is worth a squared error of {_number(record.rho)}."
        )
    if record.implied_beta is not None:
        return f"It trains an ELBO with beta {_number(record.implied_beta)}."
    if record.implied_laplace_scale is not None:
        return f"It trains as a Laplace decoder of scale {_number(record.implied_laplace_scale)} would at beta 1."
    return None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"

"""One finding, whatever it is about: imports nothing of this package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake, or one thing worth knowing.

    Attributes:
        code: fixed name, such as `kl-wrong-sign`.
        severity: `error`: a formula is not what it claims to be; `warning`: reductions do not match, or something may break;
            `note`: unusual, or worth knowing.
        message: measured facts, as part of a sentence without a full stop.
        remedy: advice, as a whole sentence.
    """

    code: str
    severity: Severity
    message: str
    remedy: str

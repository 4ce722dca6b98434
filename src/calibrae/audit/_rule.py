"""Rule: one row of the tables from which findings and their documentation are made."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from .._types import Finding, Severity
from ._evidence import Evidence

Facts: TypeAlias = Mapping[str, Any]


def if_true(condition: bool) -> Facts | None:
    """Facts of a condition that needs no numbers: none, or `None` where it does not hold."""
    return {} if condition else None


@final
@dataclass(frozen=True)
class Rule:
    """Condition under which a finding is made.

    Attributes:
        code: fixed name of the finding; several rules may share one.
        severity: `error`, `warning` or `note`.
        condition: facts that the message names, from the evidence; `None` where the rule does not apply.
        message: measured facts, with places for them in braces.
        remedy: advice, with places for facts likewise.
        documentation: line of the documentation about it.
    """

    code: str
    severity: Severity
    condition: Callable[[Evidence], Facts | None]
    message: str
    remedy: str
    documentation: str

    def finding(self, evidence: Evidence) -> Finding | None:
        """Apply the rule; `None` where its condition does not hold."""
        facts = self.condition(evidence)
        if facts is None:
            return None
        return Finding(self.code, self.severity, self.message.format_map(facts), self.remedy.format_map(facts))

    @property
    def general_remedy(self) -> str:
        """Advice with the names of the facts in place of their values."""
        return re.sub(r"\{([^}:]+)[^}]*\}", r"\1", self.remedy)

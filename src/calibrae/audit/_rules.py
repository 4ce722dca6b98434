"""All rules: the findings of an audit, and the tables of its documentation."""

from __future__ import annotations

from .._types import SEVERITIES, Finding
from ._evidence import Evidence
from ._rule import Rule
from ._rules_balance import BALANCE_RULES, PRECISION_RULE
from ._rules_kl import KL_RULES
from ._rules_reconstruction import RECONSTRUCTION_RULES

SECTIONS: dict[str, tuple[Rule, ...]] = {
    "About the KL": KL_RULES,
    "About the reconstruction": RECONSTRUCTION_RULES,
    "About how the two are put together": (*BALANCE_RULES, PRECISION_RULE),
}


def find(evidence: Evidence) -> tuple[Finding, ...]:
    """Apply all rules; the worst findings first. In half precision nothing but that is said."""
    alone = PRECISION_RULE.finding(evidence)
    if alone is not None:
        return (alone,)
    findings = [rule.finding(evidence) for rules in SECTIONS.values() for rule in rules]
    made = [finding for finding in findings if finding is not None]
    return tuple(sorted(made, key=lambda finding: SEVERITIES.index(finding.severity)))

"""All rules: the findings of an audit, and the tables of its documentation."""

from __future__ import annotations

from ._evidence import Evidence
from ._finding import SEVERITIES, Finding
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


def rules_as_markdown() -> str:
    """Tables of all rules for the documentation, a row each."""
    head = "| code | severity | what is wrong, or worth knowing | what to do |\n|---|---|---|---|"
    tables = [
        "\n".join([f"### {title}", "", head, *(_row(rule) for rule in rules)]) for title, rules in SECTIONS.items()
    ]
    return "\n\n".join(tables)


def _row(rule: Rule) -> str:
    cells = (f"`{rule.code}`", rule.severity, rule.documentation, rule.general_remedy)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

"""Words and columns of an alarm, for `calibrae score --false-alarms`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

SHOWN = 10


def require_all(limit: int | None) -> None:
    """Refuse a limit beside an alarm, which looks at every example."""
    if limit is not None:
        raise typer.BadParameter("--limit and --false-alarms do not go together: an alarm looks at every example.")


def alarm_columns(seen: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of the table of scores: p-value, alarm, and the column with the smallest p-value where parts can be told."""
    found: dict[str, list[Any]] = {
        "p_value": [f"{float(p):.6g}" for p in seen.p_values],
        "alarm": [bool(a) for a in seen.alarms],
    }
    if seen.columns is not None and len(names) == seen.columns.shape[1]:
        found["column"] = [names[int(i)] for i in seen.strangest]
        found["column_p_value"] = [f"{float(p):.6g}" for p in seen.columns.min(1).values]
    return found


def alarm_facts(seen: Any) -> dict[str, Any]:
    """Entries of the JSON object."""
    return {
        "false_alarm_rate": seen.rate, "alarms": int(seen.alarms.sum()), "threshold": seen.threshold, "calibrated_on": seen.calibrated_on,
        "p_values": [float(p) for p in seen.p_values], "drift": seen.drift,
    }  # fmt: skip


def alarm_words(seen: Any, columns: Mapping[str, Sequence[Any]]) -> str:
    """What an alarm says, for people."""
    count = int(seen.alarms.sum())
    lines = [
        f"alarms: {count:,} of {len(seen.alarms):,} ({count / len(seen.alarms):.2%}; at most {seen.rate:.2%} of ordinary examples raise one, on "
        f"average over the choice of the {seen.calibrated_on:,} held-out examples)"
    ]
    strangest = seen.p_values.argsort()[:SHOWN].tolist()
    for i in strangest if count else []:
        if seen.alarms[i]:
            because = f", in {columns['column'][i]} (p {columns['column_p_value'][i]})" if "column" in columns else ""
            lines.append(f"  {seen.scores.names[i]}: p {float(seen.p_values[i]):.4f}{because}")
    return "\n".join([*lines, seen.drift])

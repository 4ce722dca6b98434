"""Numbers on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer


def print_json(record: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(record, indent=2, allow_nan=False))


def print_findings(findings: Sequence[Any]) -> None:
    """Print faults, most important first."""
    if not findings:
        typer.echo("Nothing is wrong: no collapse, sigma is right, above probabilistic PCA, settled, not over-fitted.")
    for finding in findings:
        typer.echo(f"{finding.severity}: {finding.code}")
        typer.echo(f"    {finding.message}")
        typer.echo(f"    try: {finding.remedy}")


def say_notes(json: bool, notes: Sequence[str]) -> None:
    """Print notes on how data were read; in JSON they have a key of their own."""
    for note in () if json else notes:
        typer.echo(f"note: {note}")

"""Numbers and progress on the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

LAUNCHED = frozenset({"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"})  # what torchrun sets


def is_first() -> bool:
    """Tell whether this is the first of the processes that a launcher has started, or the only one: it alone prints and writes files."""
    if set(os.environ) >= LAUNCHED:
        return os.environ["RANK"] == "0"
    return os.environ.get("SLURM_STEP_NUM_TASKS", "1") == "1" or os.environ.get("SLURM_PROCID", "0") == "0"


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


@contextmanager
def long_work() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar while a command computes, whose process holds on to freed memory: getting it back from the system takes half the time."""
    from ..acceleration import retain_freed_memory

    with retain_freed_memory(), progress() as tick:
        yield tick


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on a terminal's standard error; nothing elsewhere."""
    if not sys.stderr.isatty() or not is_first():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    from ..data import watched

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tick(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        with watched(lambda done, total: tick("reading", done, total)):
            yield tick


def say_notes(json: bool, notes: Sequence[str]) -> None:
    """Print notes on how data were read; in JSON they have a key of their own."""
    for note in () if json else notes:
        typer.echo(f"note: {note}")

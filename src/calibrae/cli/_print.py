"""How numbers and progress are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer


def print_json(record: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(record, indent=2, allow_nan=False))


def number(value: float | None, digits: int, unit: str = "") -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def print_evaluation(record: dict[str, Any]) -> None:
    """An evaluation as a short table and a sentence."""
    error = f" +- {number(record['elbo_standard_error'], 2)}" if record["elbo_standard_error"] is not None else ""
    rows = [
        ("examples", f"{record['n']} ({record['split']}), D = {record['data_dim']} on {record['scale']}"),
        ("ELBO", f"{number(record['elbo_nats'], 2)}{error} nats"),
        ("bits/dim", number(record["bits_per_dim"], 4)),
        ("-log p(x|z)", number(record["nll_nats"], 2, " nats")),
        (
            "KL",
            f"{number(record['kl_nats'], 2)} nats, {record['active_units']} of {record['latent_dim']} latents active",
        ),
        ("RMSE", f"{record['mse'] ** 0.5:.5f}"),
        ("sigma", number(record["sigma"], 5)),
        ("PPCA floor", number(record["ppca_log_likelihood_nats"], 2, " nats")),
    ]
    if record["elbo_nats_original_units"] is not None:
        rows.insert(2, ("ELBO, original", f"{record['elbo_nats_original_units']:.2f} nats, in the units of the data"))
    if record["importance_samples"]:
        value = (
            f"{number(record['log_likelihood_nats'], 2)} +- {number(record['log_likelihood_standard_error'], 2)} nats"
        )
        rows.append(
            (
                f"log p(x), K={record['importance_samples']}",
                f"{value} (effective samples {record['effective_samples']:.1f})",
            )
        )
    for name, value in rows:
        if not value.startswith("- ") and value != "-" and (record["elbo_nats"] is not None or name != "PPCA floor"):
            typer.echo(f"{name:<17} {value}")
    typer.echo(record["verdict"])
    for note in record["notes"]:
        typer.echo(f"note: {note}")


def print_estimates(record: dict[str, Any]) -> None:
    """What a full evaluation adds, as a table and sentences."""
    typer.echo(f"\n{'estimate of log p(x)':<28}{'nats':>12}{'+-':>9}{'bits/dim':>10}{'n':>8}")
    for row in record["estimates"]:
        name = row["estimator"] + (f", K = {row['samples']}" if row["estimator"] != "elbo" else "")
        bits = number(row["bits_per_dim"], 4)
        nats, error = number(row["nats"], 2), number(row["standard_error"], 2)
        typer.echo(f"{name:<28}{nats:>12}{error:>9}{bits:>10}{row['n']:>8}  {row['remark']}")
    gap, error = record["bidirectional_gap_nats"], record["bidirectional_gap_standard_error"]
    typer.echo(
        f"annealing is at most {number(gap, 2)} +- {number(error, 2)} nats off on simulated data (bidirectional Monte Carlo)"
    )
    if record["calibration"]:
        typer.echo(record["calibration"]["sentence"])
    typer.echo(record["latents"]["sentence"])


def print_findings(findings: Sequence[Any]) -> None:
    """What is wrong, most important first."""
    if not findings:
        typer.echo("Nothing is wrong: no collapse, sigma is true, above probabilistic PCA, settled, not over-fitted.")
    for finding in findings:
        typer.echo(f"{finding.severity}: {finding.code}")
        typer.echo(f"    {finding.says}")
        typer.echo(f"    try: {finding.remedy}")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on a terminal's standard error; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tick(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield tick

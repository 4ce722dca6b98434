"""`calibrae evaluate` and `calibrae self-test`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from ._options import (
    DataOption,
    DeviceOption,
    HeaderFlag,
    JsonFlag,
    ResizeOption,
    RunPath,
    Seed,
    SizeOption,
    SkipBrokenFlag,
    SplitOption,
    check_split,
    reading,
)
from ._print import print_json


def evaluate(
    run: RunPath,
    data: DataOption = None,
    split: SplitOption = "test",
    importance_samples: Annotated[
        int, typer.Option(help="Samples K of the importance-weighted bound; 0 for none.")
    ] = 0,
    limit: Annotated[int | None, typer.Option(help="So many examples only, evenly spaced.", show_default=False)] = None,
    batch_size: Annotated[int, typer.Option(help="Examples at once; does not change the numbers.")] = 512,
    seed: Seed = 0,
    full: Annotated[
        bool,
        typer.Option("--full", help="Also K = 1 to 5000, annealing, calibration of sigma and the latents; minutes."),
    ] = False,
    annealed_examples: Annotated[
        int | None, typer.Option(help="With --full: examples to anneal; by default 16.", show_default=False)
    ] = None,
    temperatures: Annotated[
        int | None,
        typer.Option(
            help="With --full: temperatures of annealing, by default 100; more tighten it.", show_default=False
        ),
    ] = None,
    size: SizeOption = None,
    resize: ResizeOption = None,
    skip_broken: SkipBrokenFlag = False,
    header: HeaderFlag = None,
    device: DeviceOption = "auto",
    json: JsonFlag = False,
) -> None:
    """Compute the exact ELBO of a run in nats, beside bits/dim and the closed-form baseline."""
    from ..acceleration import retain_freed_memory
    from ..workflows import evaluate as evaluate_run
    from ..workflows import evaluate_full

    if full and importance_samples:
        raise typer.BadParameter(
            "--full chooses its own numbers of samples; got --importance-samples too. Drop one of them."
        )
    if not full and (annealed_examples, temperatures) != (None, None):
        raise typer.BadParameter("--annealed-examples and --temperatures are sizes of --full. Add it, or drop them.")
    assess = (
        partial(evaluate_full, annealed_examples=annealed_examples, temperatures=temperatures)
        if full
        else partial(evaluate_run, importance_samples=importance_samples)
    )
    with retain_freed_memory():
        found = assess(
            run, data, split=check_split(split), seed=seed, batch_size=batch_size, limit=limit,
            options=reading(run, size, resize, skip_broken, header), device=device,
        )  # fmt: skip
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(str(found))


def self_test(json: JsonFlag = False) -> None:
    """Check the installation: closed forms, a linear VAE against PPCA, reductions, save and load."""
    from ..acceleration import threads
    from ..workflows import self_test as run_checks

    checks = []
    with threads(1):  # small problems, which would wait for each other's threads
        for check in run_checks():
            checks.append(check)
            if not json:
                mark = "ok  " if check.passed else "FAIL"
                typer.echo(
                    f"{mark} {check.name:<56} {check.error:.1e} <= {check.tolerance:.0e} {check.unit} ({check.seconds:.1f} s)"
                )
    passed = sum(check.passed for check in checks)
    if json:
        print_json({"passed": passed, "failed": len(checks) - passed, "checks": [asdict(c) for c in checks]})
    else:
        typer.echo(f"{passed} of {len(checks)} checks passed")
    if passed < len(checks):
        raise typer.Exit(1)

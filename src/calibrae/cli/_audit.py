"""`calibrae audit`."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer

from ._options import JsonFlag, pair, shape
from ._print import print_json

Place = Annotated[
    str | None, typer.Argument(metavar="FILE.py:FUNCTION", help="A loss(x, x_hat, mu, logvar).", show_default=False)
]


def audit(
    place: Place = None,
    data_shape: Annotated[str | None, typer.Option(help="Of one example, as in 3,64,64.", show_default=False)] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Latent dimensions d.", show_default=False)] = None,
    batch_size: Annotated[int, typer.Option(help="Examples a batch.")] = 64,
    data_range: Annotated[str, typer.Option(help="LO,HI of the data.")] = "0,1",
    x_hat: Annotated[str, typer.Option(help="What the loss is given: data, probs, logits or logp.")] = "data",
    posterior: Annotated[
        str, typer.Option(help="What its fourth argument is: logvar, log_std, std or var.")
    ] = "logvar",
    run: Annotated[str | None, typer.Option(help="Audit what a run of ours descended.", show_default=False)] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if there is an error among the findings.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Judge a VAE loss from outside: what it computes, the sigma and beta that it implies, and what is wrong with it."""
    from ..workflows import audit_run, load_function

    if run is not None and place is not None:
        raise typer.BadParameter(f"an audit is of FILE.py:FUNCTION or of --run; got both, {place} and {run}.")
    if run is not None:
        record = audit_run(run)
    elif place is None or data_shape is None or latent_dim is None:
        raise typer.BadParameter(
            "an audit needs FILE.py:FUNCTION, --data-shape and --latent-dim, as in: calibrae audit vae.py:loss --data-shape "
            "3,64,64 --latent-dim 128; or --run RUN"
        )
    else:
        from ..audit import audit_loss

        chosen: Any = {"x_hat": x_hat, "posterior": posterior, "data_range": pair(data_range, "--data-range")}
        sizes: Any = {"data_shape": shape(data_shape), "latent_dim": latent_dim, "batch_size": batch_size}
        loss = load_function(place)
        with contextlib.redirect_stdout(sys.stderr):  # what the loss prints is not the audit's
            record = audit_loss(loss, **sizes, **chosen)
    if json:
        print_json(record.to_dict())
    else:
        _print_record(record)
    if strict and record.codes("error"):
        raise typer.Exit(1)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _print_record(record: Any) -> None:
    wrap = record.wrap
    place = (
        f" at {_number(wrap['constant'])} nats ({wrap['scope'] or 'scope unknown'})"
        if wrap and wrap["constant"]
        else ""
    )
    around = f", {'not linear' if wrap['kind'] == 'other' else wrap['kind'].replace('_', ' ')}{place}" if wrap else ""
    least = f", least at s = {_number(record.kl_minimum_std)}" if record.kl_minimum_std else ""
    reductions = {"batch": record.batch_reduction, "data": record.data_reduction, "latents": record.latent_reduction}
    rows = [
        ("reconstruction", f"{record.reconstruction}, weight {_number(record.reconstruction_weight)}"),
        ("KL", f"{(record.kl_kind or '-').replace('_', ' ')}, weight {_number(record.kl_weight)}{least}{around}"),
        ("reductions", ", ".join(f"{name} {how or 'unknown'}" for name, how in reductions.items())),
    ]
    if record.rho is not None:
        rows += [("rho", f"{_number(record.rho)}: the squared error that one nat is worth")]
        rows += [("implied sigma", f"{_number(record.implied_sigma)}, of a Gaussian decoder at beta 1")]
    if record.implied_beta is not None:
        rows += [("implied beta", _number(record.implied_beta))]
    if record.implied_laplace_scale is not None:
        rows += [("Laplace scale", _number(record.implied_laplace_scale))]
    for name, value in rows:
        typer.echo(f"{name:<16}{value}")
    if record.convention is not None:
        from ..functional.conventions import COMMON, find

        typer.echo(
            f"{'known as':<16}{record.convention} {_number(record.convention_value)}: {find(record.convention).formula}"
        )
        others = [f"{n} {_number(v)}" for n, v in record.equivalents.items() if n in COMMON and n != record.convention]
        if others:
            typer.echo(f"{'the same as':<16}{', '.join(others)}")
    for finding in record.findings:
        typer.echo(f"{finding.severity:<8}{finding.code}: {finding.measured}.\n        {finding.advice}")
    if not record.findings:
        typer.echo("nothing to object to")
    typer.echo(f"{record.evaluations} calls of the loss in {record.seconds:.1f} s")

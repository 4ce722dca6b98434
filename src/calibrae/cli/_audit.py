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
        typer.echo(str(record))
    if strict and record.codes("error"):
        raise typer.Exit(1)

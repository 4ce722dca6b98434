"""`calibrae sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ._options import JsonFlag
from ._print import print_json
from ._train import read_options

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


def sweep(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="As in calibrae train.", show_default=False)],
    out: Annotated[str, typer.Option(help="Folder of the sweep; each point is a run in it.", show_default=False)],
    beta: Annotated[
        str | None, typer.Option(help="Weights of the KL: 0.5,1,2, or a range to search: 0.1:10.", show_default=False)
    ] = None,
    sigma: Annotated[
        str | None, typer.Option(help="Sigmas: 0.03,0.1, or 0.01:0.3; or a word, as in train.", show_default=False)
    ] = None,
    latent_dim: Annotated[str | None, typer.Option(help="Latent sizes: 8,16,32, or 8:64.", show_default=False)] = None,
    trials: Annotated[int, typer.Option(help="Points of a search, over ranges.")] = 0,
    jobs: Annotated[int | None, typer.Option(help="Runs at once; by default one a core.", show_default=False)] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Database that machines share; by default study.db in the folder.", show_default=False),
    ] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take the points that a machine which is gone had begun.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Train a run for each beta, sigma or latent size, draw rate and distortion, and recommend one.

    All other options are those of calibrae train: --epochs 5 --horizontal-flip. Called again, a sweep goes on where it was.
    """
    from ..workflows import run_sweep

    axes, words = _split({"beta": beta, "sigma": sigma, "latent_dim": latent_dim})
    found = run_sweep(
        _request(data, out, [*words, *context.args], axes), axes, trials=trials, jobs=jobs, storage=storage, take_over=take_over,
        say=lambda text: typer.echo(text, err=True),
    )  # fmt: skip
    if json:
        print_json(found.to_dict() | {"sweep": str(found.path)})
    else:
        _print(found)
    if not found.points:
        raise typer.Exit(2)


def _split(given: dict[str, str | None]) -> tuple[dict[str, str], list[str]]:
    """Separate what is varied from a word for `train`, such as `--sigma learned`."""
    axes = {name: text for name, text in given.items() if text is not None}
    words = []
    if axes.get("sigma") in ("optimal", "learned"):
        words = ["--sigma", axes.pop("sigma")]
    return axes, words


def _request(data: str, out: str, arguments: Sequence[str], axes: dict[str, str]) -> Any:
    """Read the other options as `calibrae train` does, and refuse what it would refuse.

    Raises:
        typer.BadParameter: if an option has no meaning for a sweep.
        ArgumentError: if a value has none, or there are no such data.
    """
    from ..workflows import named_data, sweep_request
    from ._main import app

    place = named_data(data)
    command: Any = typer.main.get_command(app)
    with command.commands["train"].make_context("sweep", [place, "--out", out, *arguments]) as context:
        refused = [name for name in ("resume", "overwrite", "json") if context.params[name]]
        if refused:
            raise typer.BadParameter(f"a sweep goes on by itself; got --{refused[0]}. Drop it, or take another --out.")
        return sweep_request(read_options(context)[0], axes)


def _print(found: Any) -> None:
    """A table, what failed, and the recommendation."""
    from ..evaluation import number

    width = max((len(point.name) for point in found.points), default=0) + 2
    if found.points:
        typer.echo(f"{'point':<{width}}{'ELBO, nats':>18}{'KL':>9}{'squared error':>15}{'sigma':>9}{'active':>9}")
    for point in found.points:
        mark = " <- recommended" if found.recommendation and point.name == found.recommendation.name else ""
        elbo = f"{point.elbo_nats:.1f} +- {point.standard_error:.1f}"
        active, error = f"{point.active_units}/{point.latent_dim}", "-" if point.sse is None else f"{point.sse:.4g}"
        typer.echo(
            f"{point.name:<{width}}{elbo:>18}{point.kl_nats:>9.1f}{error:>15}{number(point.sigma, 4):>9}{active:>9}{mark}"
        )
    for name in found.held:
        typer.echo(f"still being trained: {name}. If that machine is gone: --take-over")
    if found.recommendation:
        best = found.recommendation
        typer.echo(best.reason)
        typer.echo(f"recommended: beta {best.beta:g}, C = {best.capacity:.1f} nats, latent size {best.latent_dim}")
        typer.echo(
            f"wrote {found.path / 'sweep.png'}, sweep.json; next: calibrae evaluate {found.path / 'points' / best.name}"
        )

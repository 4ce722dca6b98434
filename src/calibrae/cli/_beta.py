"""`calibrae beta`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ._options import JsonFlag, pair, shape
from ._print import print_json

Value = Annotated[
    float | None, typer.Argument(help="The number, as the paper or repository has it.", show_default=False)
]


def beta(
    value: Value = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Its convention; --list names them.", show_default=False)
    ] = None,
    data_shape: Annotated[str | None, typer.Option(help="Of one example, as in 3,64,64.", show_default=False)] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Latent dimensions d.", show_default=False)] = None,
    data_range: Annotated[
        str | None,
        typer.Option(help="LO,HI of the data that the loss sees.  [default: the convention's]", show_default=False),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="B, where the convention depends on it.", show_default=False)
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Of the decoder, beside a full Gaussian NLL.", show_default=False)
    ] = None,
    data: Annotated[str | None, typer.Option(help="What it means for these data.", show_default=False)] = None,
    size: Annotated[
        str | None, typer.Option(help="H,W to which pictures of --data are brought.", show_default=False)
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name every convention.")] = False,
    json: JsonFlag = False,
) -> None:
    """Translate a beta: what it is in every other convention, the sigma that it implies, and what it will do."""
    if list_:
        _print_list(json)
        return
    given = {"VALUE": value, "--from": source, "--latent-dim": latent_dim}
    lacking = [name for name, entry in given.items() if entry is None]
    if lacking or value is None or source is None or latent_dim is None:
        raise typer.BadParameter(
            f"a beta needs {', '.join(lacking)}, as in: calibrae beta 0.00025 --from mse --data-shape 3,64,64 --latent-dim 128"
        )
    from ..data import DataOptions, load_data
    from ..workflows import explain_beta

    report = explain_beta(
        value,
        source,
        data_shape=shape(data_shape),
        latent_dim=latent_dim,
        data_range=pair(data_range, "--data-range"),
        batch_size=batch_size,
        sigma=sigma,
        data=load_data(data, DataOptions(size=pair(size, "--size", int))) if data else None,
    )
    if json:
        print_json(report.to_dict())
    else:
        _print_report(report)


def _print_list(json: bool) -> None:
    from ..functional.conventions import catalogue

    known = catalogue().values()
    if json:
        rows = [
            {
                "name": c.name,
                "title": c.title,
                "formula": c.formula,
                "default": c.default,
                "who": c.who,
                "range": list(c.range),
            }
            for c in known
        ]
        print_json({"conventions": rows})
        return
    width = max(len(c.name) for c in known)
    for c in known:
        typer.echo(f"{c.name:<{width}}  {c.formula}\n{'':<{width}}  {c.title}; {c.who}")


def _print_report(report: Any) -> None:
    found = report.translation
    low, high = found.data_range
    typer.echo(f"{'data on':<16}[{low:g}, {high:g}]")
    rows = [
        ("rho", found.rho, "squared error that one nat is worth"),
        ("sigma", found.sigma, "of a Gaussian decoder at beta 1"),
    ]
    rows += [("sigma, grey", found.grey, "the same in 8-bit grey levels")]
    rows += [("Laplace scale", found.laplace_scale, "of the decoder at beta 1")]
    beside = "likelihood" if found.nll_sigma is None else f"Gaussian NLL with sigma {found.nll_sigma:.4g}"
    rows += [("or beta", found.beta, f"on the summed KL beside the full {beside}")]
    if report.optimal_sigma is not None:
        rows += [("optimal sigma", report.optimal_sigma, "of probabilistic PCA on these data, to compare with")]
        rows += [("total variance", report.total_variance, "of these data")]
    rows += [("KL at most", nats, f"nats, on {name}") for name, nats in report.budgets.items()]
    if found.kl_budget is not None and not report.budgets:
        rows += [("KL at most", found.kl_budget, "nats, on any data in the range")]
    for name, number, what in rows:
        if number is not None:
            typer.echo(f"{name:<16}{number:<12.5g}{what}")
    typer.echo(report.sentence)
    if len(found.equivalents) > 1:
        typer.echo("\nequal balance in other losses, on these data")
    from ..functional.conventions import catalogue

    for name, number in found.equivalents.items():
        known = catalogue()[name]
        if name != found.convention and known.same_as is None:
            beside = f"   (beside sigma {found.nll_sigma:.4g})" if known.term == "nll" and found.nll_sigma else ""
            typer.echo(f"  {name:<26}{number:<14.6g}{known.formula}{beside}")

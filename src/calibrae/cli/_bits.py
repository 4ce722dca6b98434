"""`calibrae bits`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ._options import JsonFlag, shape
from ._print import print_json


def bits(
    value: Annotated[
        float | None, typer.Argument(help="The number, as the paper or repository has it.", show_default=False)
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Scale of its data; --list names them.", show_default=False)
    ] = None,
    unit: Annotated[str, typer.Option(help="nats or bits of an example, nats-per-dim or bits-per-dim.")] = "nats",
    data_shape: Annotated[
        str | None, typer.Option(help="Shape of one example, as in 3,32,32.", show_default=False)
    ] = None,
    levels: Annotated[int, typer.Option(help="Integer values that an element can take.")] = 256,
    log_likelihood: Annotated[
        bool, typer.Option("--log-likelihood", help="VALUE is a log-likelihood or an ELBO, where more is better.")
    ] = False,
    not_dequantised: Annotated[
        bool, typer.Option("--not-dequantised", help="No noise was added to the integers.")
    ] = False,
    alpha: Annotated[float | None, typer.Option(help="Squeeze of the logit, such as 0.05.", show_default=False)] = None,
    logit_term: Annotated[
        float | None, typer.Option(help="Mean of log p (1 - p) over the data, for the logit.", show_default=False)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data from which shape, levels and the logit's term are taken.", show_default=False),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name every scale, with its source.")] = False,
    json: JsonFlag = False,
) -> None:
    """Translate a reported likelihood of integer data: nats and bits per dimension on every scale."""
    from ..functional.density_scales import CATALOGUE, convert_likelihood, formula_of

    if list_:
        _print_list(json)
        return
    sides = shape(data_shape)
    if data is not None:
        sides, levels, logit_term = _from_data(data, sides, alpha, logit_term)
    if value is None or source is None or sides is None:
        raise typer.BadParameter(
            "a likelihood needs VALUE, --from and --data-shape, as in: calibrae bits -2676.1 --from /256 --data-shape 3,32,32"
        )
    found = convert_likelihood(
        -value if log_likelihood else value, source, data_dim=math.prod(sides), unit=unit, levels=levels,
        dequantised=not not_dequantised, alpha=alpha, logit_term=logit_term,
    )  # fmt: skip
    if json:
        print_json(asdict(found))
        return
    typer.echo(found.sentence)
    typer.echo(f"\n{'on the scale':<14}{'NLL, nats':>14}{'nats/dim':>12}   of one example")
    for name, nats in found.nats.items():
        typer.echo(f"{name:<14}{nats:>14.2f}{nats / math.prod(sides):>12.4f}   {formula_of(CATALOGUE[name], levels)}")


def _print_list(json: bool) -> None:
    from ..functional.density_scales import CATALOGUE

    if json:
        rows = [{"name": s.name, "formula": s.formula, "who": s.who, "source": s.source} for s in CATALOGUE.values()]
        print_json({"scales": rows})
        return
    for scale in CATALOGUE.values():
        typer.echo(f"{scale.name:<12}{scale.formula}\n{'':<12}{scale.who}; {scale.source}")


def _from_data(data: str, sides: Any, alpha: float | None, term: float | None) -> tuple[Any, int, float | None]:
    """Shape, levels and the mean of log p (1 - p) of some data; the last from the training split, with seeded noise."""
    from ..data import load_data

    found = load_data(data)
    known = found.spec.levels
    if known is None:
        raise typer.BadParameter(f"--data must be integer data; {data} is on {found.spec.scale}.")
    if alpha is not None and term is None:
        total = count = 0.0
        for batch in found.batches("train", found.rows_at_once(4096)):
            p = alpha + (1.0 - 2.0 * alpha) * batch.x.double()
            total, count = total + float((p * (1.0 - p)).log().sum()), count + p.numel()
        term = total / count
    return sides or found.spec.data_shape, known, term

"""The page *Betas*: a number from any paper or repository, in every other convention, live."""

from __future__ import annotations

from typing import Any, final

import gradio as gr

from ..errors import ArgumentError, CalibraeError
from ..functional.conventions import catalogue
from ..workflows import BetaReport, explain_beta
from ._bench import QUIET, shape_of, shown, whole


@final
class BetasPage:
    """Widgets of the page, and what they do."""

    def __init__(self) -> None:
        known = catalogue()
        with gr.Row():
            value = gr.Textbox("0.00025", label="The number, as it is written there", elem_id="beta-value")
            choices = [(f"{c.name}: {c.title}", c.name) for c in known.values()]
            source = gr.Dropdown(choices, value="mse", label="Its convention", elem_id="beta-from", scale=2)
        with gr.Row():
            shape = gr.Textbox("3,64,64", label="Shape of an example", elem_id="beta-shape")
            latents = gr.Textbox("128", label="Latent dimensions")
            batch = gr.Textbox("", label="Batch size", info="where the convention depends on it")
            sigma = gr.Textbox("", label="Sigma", info="of the decoder, beside a full NLL")
            span = gr.Textbox("", label="Range of the data", info="LO,HI; empty: the convention's")
        self.answer = gr.Markdown(elem_id="beta-answer")
        self.table = gr.HTML(elem_id="beta-table")
        self.asked = [value, source, shape, latents, batch, sigma, span]
        changes = [widget.change for widget in self.asked]
        gr.on(changes, self.translate, self.asked, [self.answer, self.table], trigger_mode="always_last", **QUIET)

    def translate(self, value: str, source: str, shape: str, latents: str, batch: str, sigma: str, span: str) -> Any:
        """Translate the number, or say what is missing."""
        try:
            report = explain_beta(
                _number(value, "the number"),
                source,
                data_shape=shape_of(shape),
                latent_dim=whole(latents, "latent dimensions", 1, 10**6),
                batch_size=whole(batch, "the batch size", 1, 10**6) if batch.strip() else None,
                sigma=_number(sigma, "sigma") if sigma.strip() else None,
                data_range=_pair(span),
            )
        except CalibraeError as error:
            return f"**{shown(error)}**", ""
        except (ArithmeticError, ValueError):
            return "**These numbers are too large or too small to be compared.**", ""
        return _said(report, source), _table(report)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{name} must be a number; got {text[:40]!r}.") from None


def _pair(text: str) -> tuple[float, float] | None:
    if not text.strip():
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentError(f"a range must be LO,HI as in 0,1; got {text[:40]!r}.") from None
    return low, high


def _said(report: BetaReport, source: str) -> str:
    found, known = report.translation, catalogue()[source]
    lines = [f"**{shown(report.sentence)}**", "", f"The loss: <code>{shown(known.formula)}</code>, with {shown(known.symbol)} = {found.value:g}. Used by: {shown(known.who)}.", ""]  # fmt: skip
    facts = [
        ("rho, the squared error that one nat is worth", found.rho),
        ("sigma of a Gaussian decoder at beta 1", found.sigma),
        ("the same in 8-bit grey levels", found.grey),
        ("beta on the summed KL beside the full likelihood", found.beta),
        ("most nats that the KL can reach", found.kl_budget),
    ]
    lines += [f"* {name}: {value:.5g}" for name, value in facts if value is not None]
    return "\n".join(lines)


def _table(report: BetaReport) -> str:
    found, known = report.translation, catalogue()
    rows = [
        f"<tr><th scope=row>{shown(name)}</th><td class='number'>{number:.6g}</td><td><code>{shown(known[name].formula)}</code></td><td>{shown(known[name].title)}</td></tr>"
        for name, number in found.equivalents.items()
    ]
    left_out = "".join(f"<li>{shown(name)}: {shown(why)}</li>" for name, why in found.omitted.items())
    more = (
        f"<details><summary>{len(found.omitted)} losses cannot express it</summary><ul>{left_out}</ul></details>"
        if left_out
        else ""
    )
    head = "".join(f"<th scope=col>{name}</th>" for name in ("convention", "number", "loss of an example", "in words"))
    return f"<div class='wide rows' tabindex=0><table class='plain'><caption>Numbers that give this balance in other losses</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{more}"

"""Announcements before the first step."""

from __future__ import annotations

from .._registry import describe
from ..data import Data
from ..data.tables import column_table
from ..functional import beta_in_conventions
from ..models import VAE
from ..objectives import Objective
from ..training import AbstractReporter

FEW_STEPS = 500


def announce(
    model: VAE, data: Data, objective: Objective, reporter: AbstractReporter, steps: int, *, until_settled: bool
) -> None:
    """Say what is trained on what, with which objective, and what its beta is called elsewhere."""
    sizes = {split: len(data.view(split)) for split in ("train", "validation", "test")}
    parameters = sum(p.numel() for p in model.parameters())
    reporter.say(
        f"{data.source.name}: {sizes['train']:,} training, {sizes['validation']:,} validation, {sizes['test']:,} test examples "
        f"of shape {data.spec.data_shape} on {data.spec.scale}; {parameters:,} parameters"
    )
    schema = data.source.schema
    if schema.is_mixed:
        reporter.say(column_table(sorted([*schema.fields, *schema.left_out], key=lambda column: column.place)))
    if data.condition is not None:
        reporter.say(data.condition.describe())
    if model.latent_dim >= data.spec.data_dim:
        reporter.say(
            f"note: {model.latent_dim} latents for {data.spec.data_dim} data dimensions leave nothing to compress; a smaller "
            "--latent-dim says more"
        )
    if model.is_probabilistic:
        reporter.say(objective_sentence(model, objective))
        elsewhere = beta_elsewhere(model, data, objective)
        if elsewhere:
            reporter.detail(f"in other code: {elsewhere}")
        if model.likelihood.scale is not None and model.likelihood.scale.choice == "optimal" and objective.samples > 1:
            reporter.say(
                "note: the optimal scale is that of single samples, which is the ELBO's optimum; --sigma learned follows this objective"
            )
    if steps < FEW_STEPS and not until_settled:
        reporter.say(f"Only {steps} steps. Most models improve for several thousand: try more --epochs.")


def objective_sentence(model: VAE, objective: Objective) -> str:
    """Say what is minimised."""
    described = describe(objective) or {"name": type(objective).__name__}
    scale = model.likelihood.scale
    kind = _family(model) if scale is None else f"{_family(model)}, {scale.choice} scale"
    weights = objective.final_weights()
    if set(weights) != {"beta"}:
        return f"objective {described['name']} ({kind})"
    return f"beta {weights['beta']:g} on the summed KL beside the full NLL ({kind})"


def beta_elsewhere(model: VAE, data: Data, objective: Objective) -> str:
    """Names of a weighted ELBO's beta in other code; empty where there are none."""
    weights, scale = objective.final_weights(), model.likelihood.scale
    family = {"Gaussian": "gaussian", "Bernoulli": "bernoulli"}.get(_family(model))
    if set(weights) != {"beta"} or family is None:
        return ""
    fixed = round(scale.summary(), 9) if scale is not None and scale.choice == "fixed" else None
    known = beta_in_conventions(weights["beta"], data.spec.data_dim, model.latent_dim, fixed, likelihood=family)
    return ", ".join(f"{name} {value:.4g}" for name, value in known.items())


def _family(model: VAE) -> str:
    return type(model.likelihood).__name__.removesuffix("Likelihood")

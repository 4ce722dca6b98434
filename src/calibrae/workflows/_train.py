"""From a command line's values to a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..data import Data, DataOptions, load_data
from ..errors import ArgumentError, RunError
from ..models import VAE, ModelConfig, build, build_from_config
from ..networks import NetworkOptions
from ..objectives import BetaELBO
from ..runs import RunFolder
from ._fit import SETTINGS, fit, resume_options, seeded_build
from ._run import Run

DATA_NAMES = tuple(field.name for field in fields(DataOptions))
FREE_ON_RESUME = frozenset({"epochs", "patience", "lr", "clip"})
NOT_SETTINGS = frozenset({"data", "out", "resume", "overwrite", "json"})


def train_run(values: Mapping[str, Any], given: set[str]) -> Run:
    """Train from scratch, or go on with a run.

    Args:
        values: `data`, `out`, and the fields of the model, `DataOptions` and `TrainSettings`.
        given: which of them the user wrote; on resuming the others are those of the run.

    Raises:
        CalibraeError: if anything is not usable, saying what to do.
    """
    if values["resume"]:
        return _resume(values, given)
    RunFolder.require_free(values["out"], overwrite=values["overwrite"])
    options = DataOptions(**{name: values[name] for name in DATA_NAMES if name in values})
    data = load_data(values["data"], options)
    model = _build(values, data)
    objective = _objective(values, model, data)
    settings = {name: values[name] for name in SETTINGS if name in values}
    return fit(
        model,
        data,
        values["out"],
        objective=objective,
        options=options,
        overwrite=values["overwrite"],
        request={k: v for k, v in values.items() if k not in NOT_SETTINGS},
        **settings,
    )


def _build(values: Mapping[str, Any], data: Data) -> VAE:
    hidden = values["hidden"]
    network = NetworkOptions(hidden=hidden, activation=values["activation"], width=values["width"])
    return seeded_build(
        values["seed"],
        lambda: build(
            values["model"],
            data_shape=data.spec.data_shape,
            latent_dim=values["latent_dim"],
            network=values["network"],
            likelihood=values["likelihood"],
            sigma=values["sigma"],
            sigma_shared=values["sigma_shared"],
            options=network,
        ),
    )


def _objective(values: Mapping[str, Any], model: VAE, data: Data) -> BetaELBO:
    if values["beta"] is None:
        if values["beta_convention"] != "nll":
            raise ArgumentError(
                f"--beta-convention {values['beta_convention']} says how --beta is written; got no --beta."
            )
        return model.objective
    if not model.posterior.is_density:
        raise ArgumentError("--beta weighs a KL; a plain autoencoder has none. Drop it, or take --model beta-vae.")
    sigma = model.config.arguments["sigma"] if model.config else None
    return BetaELBO.from_convention(
        values["beta"],
        values["beta_convention"],
        data_dim=data.spec.data_dim,
        latent_dim=model.latent_dim,
        sigma=sigma if isinstance(sigma, float) else None,
        batch_size=values["batch_size"],
        likelihood=values["likelihood"],
    )


def _resume(values: Mapping[str, Any], given: set[str]) -> Run:
    folder = RunFolder.open(values["out"])
    stored = resume_options(folder)
    if stored.model["name"] == "own modules":
        raise RunError(
            f"{folder.path} was trained on your own modules; resume it in Python: fit(model, ..., resume=True)."
        )
    same = Path(values["data"]).exists() and str(Path(values["data"]).resolve()) == stored.source
    if not same and values["data"] != stored.source:
        raise RunError(
            f"a resumed run keeps its data, {stored.source}; got {values['data']}. Train anew with another --out."
        )
    asked = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    wrong = [
        f"--{name.replace('_', '-')} {asked[name]} (was {stored.request.get(name)})"
        for name in sorted(given - FREE_ON_RESUME - NOT_SETTINGS)
        if asked[name] != stored.request.get(name)
    ]
    if wrong:
        raise RunError(
            f"a resumed run keeps its settings; got {', '.join(wrong)}. Drop them, or train anew with another --out."
        )
    arguments = {name: value for name, value in stored.model.items() if name != "name"}
    model = build_from_config(ModelConfig(stored.model["name"], arguments))
    settings = dict(stored.training) | {name: values[name] for name in FREE_ON_RESUME & given}
    return fit(model, stored.source, folder.path, resume=True, **settings)

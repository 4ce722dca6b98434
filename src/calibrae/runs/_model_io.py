"""The trained model on disk: weights without code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import RunError
from ..models import VAE, ModelConfig, build_from_config
from ._atomic import replace_file, replace_json

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def save_model(model: VAE, folder: Path) -> None:
    """Write `model.safetensors` and `model.json`; the description goes first, so weights never lack theirs."""
    from safetensors.torch import save_file

    floor = getattr(getattr(model.likelihood, "sigma", None), "floor", None)
    description: dict[str, Any] = {"config": model.config.to_dict() if model.config else None, "sigma_floor": floor}
    replace_json(folder / DESCRIPTION, description)
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    replace_file(folder / WEIGHTS, lambda path: save_file(state, path))


def load_model(folder: Path, model: VAE | None = None, device: str | torch.device = "cpu") -> VAE:
    """The trained model, in eval mode, with its sigma fixed.

    Args:
        folder: where `save_model` wrote.
        model: one of the same make, needed if it was composed of the user's own modules.
        device: where to put it.

    Raises:
        RunError: if the files are missing or do not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / WEIGHTS).is_file():
        raise RunError(
            f"{folder} holds no trained model ({WEIGHTS}). Let the training finish: calibrae train ... --resume"
        )
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        state = load_file(folder / WEIGHTS)
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise RunError(f"the model in {folder} cannot be read: {error}. Train again, or restore the files.") from error
    if model is None:
        model = _rebuild(folder, description["config"])
    _load_state(folder, model, state)
    sigma = getattr(model.likelihood, "sigma", None)
    if sigma is not None and description.get("sigma_floor") is not None:
        sigma.floor = description["sigma_floor"]
    return model.to(device).eval()


def _rebuild(folder: Path, config: dict[str, Any] | None) -> VAE:
    if config is None:
        raise RunError(
            f"the model in {folder} was composed of your own modules, whose code is not stored. Compose it again and pass it: "
            "load(run, model=...)."
        )
    return build_from_config(ModelConfig(config["name"], config["arguments"]))


def _load_state(folder: Path, model: VAE, state: Mapping[str, torch.Tensor]) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise RunError(
            f"the weights in {folder} do not fit this model: {detail}. Pass a model of the same make."
        ) from error

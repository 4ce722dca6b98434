"""The trained model on disk: weights without code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import ArgumentError, RunError
from ..functional import PPCA
from ..models import VAE, ModelConfig, build_from_config
from ._atomic import replace_file, replace_json

WEIGHTS, DESCRIPTION, FLOOR = "model.safetensors", "model.json", "floor.safetensors"


def save_model(model: VAE, folder: Path) -> None:
    """Write `model.safetensors` and `model.json`; the description goes first, so weights never lack theirs."""
    from safetensors.torch import save_file

    sigma = getattr(model.likelihood, "sigma", None)
    description: dict[str, Any] = {
        "config": model.config.to_dict() if model.config else None,
        "data_shape": list(sigma.data_shape) if sigma is not None and sigma.data_shape else None,
        "sigma_floor": None if sigma is None else sigma.floor,
    }
    replace_json(folder / DESCRIPTION, description)
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    replace_file(folder / WEIGHTS, lambda path: save_file(state, path))


def load_model(folder: Path, model: VAE | None = None, device: str | torch.device = "cpu") -> VAE:
    """The trained model, in eval mode, with its sigma fixed.

    Args:
        folder: where `save_model` wrote.
        model: one of the same make, needed if it was composed of the user's own modules.
        device: where to put it; `auto`: on a CUDA device, if one can be used.

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
        config, data_shape, floor = (description[key] for key in ("config", "data_shape", "sigma_floor"))
    except (OSError, json.JSONDecodeError, SafetensorError, KeyError) as error:
        raise RunError(f"the model in {folder} cannot be read: {error}. Train again, or restore the files.") from error
    place = require_device(device)
    if model is None:
        model = _rebuild(folder, config)
    if data_shape is not None:
        model.likelihood.bind(tuple(data_shape), None)
    _load_state(folder, model, state)
    sigma = getattr(model.likelihood, "sigma", None)
    if sigma is not None and floor is not None:
        sigma.floor = floor
    return model.to(place).eval()


def require_device(device: str | torch.device) -> torch.device:
    """The device, if this machine has it; for `auto`, a CUDA device if one can be used, or else the CPU.

    Raises:
        ArgumentError: if it has not.
    """
    if device == "auto":
        try:
            return require_device("cuda")
        except ArgumentError:
            return torch.device("cpu")
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(
            f"`device` must be one that this machine has, such as cpu, or auto; got {device} ({reason})"
        ) from error
    return place


def save_floor(ppca: PPCA, folder: Path) -> None:
    """Write the probabilistic PCA of the training set, `floor.safetensors`: what the model has to beat."""
    from safetensors.torch import save_file

    parts = {
        "mean": ppca.mean,
        "components": ppca.components.contiguous(),
        "eigenvalues": ppca.eigenvalues.contiguous(),
        "sigma": torch.tensor(ppca.sigma, dtype=torch.float64),
    }
    replace_file(folder / FLOOR, lambda path: save_file(parts, path))


def load_floor(folder: Path) -> PPCA | None:
    """The probabilistic PCA of the training set, if one was stored."""
    from safetensors.torch import load_file

    if not (folder / FLOOR).is_file():
        return None
    parts = load_file(folder / FLOOR)
    return PPCA(parts["mean"], parts["components"], parts["eigenvalues"], float(parts["sigma"]))


def _rebuild(folder: Path, config: dict[str, Any] | None) -> VAE:
    if config is None:
        raise RunError(
            f"the model in {folder} was composed of your own modules, whose code is not stored. Compose it again and pass it "
            "in Python: load(run, model=...), evaluate(run, data=..., model=...)."
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

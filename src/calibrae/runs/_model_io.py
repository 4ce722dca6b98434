"""The trained model on disk: weights without code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..acceleration import find_device
from ..errors import ArgumentError, RunError, first_line
from ..functional import PPCA, FactorAnalysis, LinearBaseline
from ..models import VAE, ModelConfig, build_from_config
from ._atomic import replace_file, replace_json

WEIGHTS, DESCRIPTION, BASELINE = "model.safetensors", "model.json", "baseline.safetensors"


def save_model(model: VAE, folder: Path) -> None:
    """Write `model.safetensors` and `model.json`; the description goes first, so weights never lack theirs."""
    from safetensors.torch import save_file

    likelihood, state = model.likelihood, model.state_dict()
    description: dict[str, Any] = {
        "config": model.config.to_dict() if model.config else None,
        "data_shape": list(likelihood.data_shape) if likelihood.knows_data_shape else None,
        "scale_floor": None if likelihood.scale is None else likelihood.scale.floor,
        "data_range": None if model.data_range is None else list(model.data_range),
        "extra_state": _extra_state(state),
    }
    replace_json(folder / DESCRIPTION, description)
    tensors = {n: v.detach().cpu().contiguous().clone() for n, v in state.items() if isinstance(v, torch.Tensor)}
    replace_file(folder / WEIGHTS, lambda path: save_file(tensors, path))


def require_storable(model: VAE) -> None:
    """Raise `ArgumentError` if a module's extra state is something that a file without code cannot hold."""
    _extra_state(model.state_dict())


def _extra_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what modules of one's own keep beside tensors (`get_extra_state`), as plain data."""
    extra = {name: value for name, value in state.items() if not isinstance(value, torch.Tensor)}
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"`get_extra_state` of a module must return plain data (numbers, text, lists, dicts) or a tensor, so that a run can store "
            f"it without code; got {', '.join(extra)} ({error})."
        ) from error
    return extra


def load_model(folder: Path, model: VAE | None = None, device: str | torch.device = "cpu") -> VAE:
    """Load the trained model, in eval mode, with its scale fixed.

    Args:
        folder: where `save_model` wrote.
        model: an instance of the same architecture; needed for custom modules.
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
        keys = ("config", "data_shape", "scale_floor", "data_range", "extra_state")
        config, data_shape, floor, data_range, extra = (description[key] for key in keys)
    except (OSError, json.JSONDecodeError, SafetensorError, KeyError) as error:
        raise RunError(f"the model in {folder} cannot be read: {error}. Train again, or restore the files.") from error
    place = find_device(device)
    if model is None:
        model = _rebuild(folder, config)
    if data_shape is not None:
        model.likelihood.set_data_shape(tuple(data_shape))
    _load_state(folder, model, {**state, **extra})
    if model.likelihood.scale is not None and floor is not None:
        model.likelihood.scale.floor = floor
    model.data_range = None if data_range is None else (float(data_range[0]), float(data_range[1]))
    return model.to(place).eval()


def save_baseline(baseline: LinearBaseline, folder: Path) -> None:
    """Write the linear model of the training set, `baseline.safetensors`: what the model has to beat."""
    from safetensors.torch import save_file

    ppca, factor = baseline.ppca, baseline.factor
    parts = {
        "mean": ppca.mean,
        "components": ppca.components.contiguous(),
        "eigenvalues": ppca.eigenvalues.contiguous(),
        "sigma": torch.tensor(ppca.sigma, dtype=torch.float64),
    }
    if factor is not None:
        parts |= {"weight": factor.weight.contiguous(), "noise": factor.noise.contiguous()}
    facts = {"shared": baseline.shared, "is_exact": str(baseline.is_exact)}
    replace_file(folder / BASELINE, lambda path: save_file(parts, path, metadata=facts))


def load_baseline(folder: Path) -> LinearBaseline | None:
    """The linear model of the training set, if one was stored.

    Raises:
        RunError: if the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not (folder / BASELINE).is_file():
        return None
    try:
        with safe_open(folder / BASELINE, "pt") as stored:
            parts = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
            facts = stored.metadata() or {}
        ppca = PPCA(parts["mean"], parts["components"], parts["eigenvalues"], float(parts["sigma"]))
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(
            f"{folder / BASELINE} cannot be read: {first_line(error)}. Delete it; it is fitted anew."
        ) from error
    factor = FactorAnalysis(ppca.mean, parts["weight"], parts["noise"]) if "weight" in parts else None
    return LinearBaseline(ppca, factor, facts.get("shared", "all"), facts.get("is_exact") != "False")


def _rebuild(folder: Path, config: dict[str, Any] | None) -> VAE:
    if config is None:
        raise RunError(
            f"the model in {folder} was composed of your own modules, whose code is not stored. Compose it again and pass it "
            "in Python: load(run, model=...), evaluate(run, data=..., model=...)."
        )
    return build_from_config(ModelConfig(config["name"], config["parts"]))


def _load_state(folder: Path, model: VAE, state: Mapping[str, Any]) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise RunError(
            f"the weights in {folder} do not fit this model: {detail}. Pass an instance of the same architecture."
        ) from error

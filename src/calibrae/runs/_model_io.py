"""The trained model on disk: weights without code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .._plain import plain
from ..acceleration import find_device
from ..errors import ArgumentError, CalibraeError, RunError, first_line
from ..functional import PPCA, FactorAnalysis, LinearBaseline
from ..models import VAE, ModelConfig, TableBaseline, build_from_config
from ._atomic import checksum_of, json_text, text_writer
from ._folder import RunFolder
from ._manifest import FORMAT, Manifest, read_json, require_format
from ._tensors import load_tensors, save_tensors

TABLE = "table"  # fact of a baseline that is of a table of mixed columns
WEIGHTS, DESCRIPTION, BASELINE = "model.safetensors", "model.json", "baseline.safetensors"


def save_model(model: VAE, folder: RunFolder) -> None:
    """Write `model.safetensors` and `model.json`, each of which names the other."""
    likelihood, state = model.likelihood, model.state_dict()
    description: dict[str, Any] = {
        "format": FORMAT,
        "config": model.config.to_dict() if model.config else None,
        "data_shape": list(likelihood.data_shape) if likelihood.knows_data_shape else None,
        "scale_floor": None if likelihood.scale is None else likelihood.scale.floor,
        "data_range": None if model.data_range is None else list(model.data_range),
        "extra_state": _extra_state(state),
    }
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    facts = {"format": str(FORMAT), "description": checksum_of(json.loads(json_text(description)))}
    folder.commit(
        {DESCRIPTION: text_writer(json_text(description)), WEIGHTS: partial(save_tensors, tensors=tensors, facts=facts)}
    )


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
    if not (folder / WEIGHTS).is_file():
        raise RunError(
            f"{folder} holds no trained model ({WEIGHTS}). Let the training finish: calibrae train ... --resume"
        )
    manifest = Manifest(folder)
    weights, described = manifest.require_whole(WEIGHTS), manifest.require_whole(DESCRIPTION)
    description = read_json(described)
    require_format(described, description)
    state, facts = load_tensors(weights)
    try:
        keys = ("config", "data_shape", "scale_floor", "data_range", "extra_state")
        config, data_shape, floor, data_range, extra = (description[key] for key in keys)
        is_pair = facts.get("description") == checksum_of(description)
        data_shape = plain(data_shape, tuple[int, ...] | None, "data_shape")
        floor = plain(floor, float | None, "scale_floor")
        data_range = plain(data_range, tuple[float, float] | None, "data_range")
        extra = plain(extra, Mapping[str, Any], "extra_state")
    except (KeyError, ValueError) as error:
        raise RunError(f"{described} is not complete: {error}. Restore it from a copy, or train again.") from error
    if not is_pair:
        raise RunError(
            f"{weights} and {described.name} are not of one save. Let the training finish: calibrae train ... --resume"
        )
    place = find_device(device)
    if model is None:
        model = _rebuild(folder, config, {name: tuple(value.shape) for name, value in state.items()})
    if data_shape is not None:
        model.likelihood.set_data_shape(data_shape)
    _load_state(folder, model, {**state, **extra})
    if model.likelihood.scale is not None and floor is not None:
        model.likelihood.scale.floor = floor
    model.data_range = data_range
    return model.to(place).eval()


def save_baseline(baseline: LinearBaseline | TableBaseline, folder: RunFolder) -> None:
    """Write the simple model of the training set, `baseline.safetensors`: what the model has to beat."""
    if isinstance(baseline, TableBaseline):
        arrays, told = baseline.to_arrays()
        facts = {"format": str(FORMAT), TABLE: json.dumps(told)}
        folder.commit({BASELINE: partial(save_tensors, tensors=arrays, facts=facts)})
        return
    ppca, factor = baseline.ppca, baseline.factor
    parts = {
        "mean": ppca.mean,
        "components": ppca.components,
        "eigenvalues": ppca.eigenvalues,
        "sigma": torch.tensor(ppca.sigma, dtype=torch.float64),
    }
    if factor is not None:
        parts |= {"weight": factor.weight, "noise": factor.noise}
    if baseline.slope is not None:
        parts |= {"slope": baseline.slope}
    facts = {"format": str(FORMAT), "shared": baseline.shared, "is_exact": str(baseline.is_exact)}
    folder.commit({BASELINE: partial(save_tensors, tensors=parts, facts=facts)})


def load_baseline(folder: Path) -> LinearBaseline | TableBaseline | None:
    """The simple model of the training set, if one was stored.

    Raises:
        RunError: if the file is damaged.
    """
    if not (folder / BASELINE).is_file():
        return None
    parts, facts = load_tensors(Manifest(folder).require_whole(BASELINE))
    try:
        if TABLE in facts:
            return TableBaseline.from_arrays(parts, json.loads(facts[TABLE]))
        ppca = PPCA(parts["mean"], parts["components"], parts["eigenvalues"], float(parts["sigma"]))
        factor = FactorAnalysis(ppca.mean, parts["weight"], parts["noise"]) if "weight" in parts else None
    except (KeyError, ValueError, RuntimeError, TypeError, ArgumentError) as error:
        raise RunError(
            f"{folder / BASELINE} is not complete: {first_line(error)}. Delete it; it is fitted anew."
        ) from error
    exact = facts.get("is_exact") != "False"
    return LinearBaseline(ppca, factor, facts.get("shared", "all"), exact, parts.get("slope"))


def _rebuild(folder: Path, config: dict[str, Any] | None, shapes: Mapping[str, tuple[int, ...]]) -> VAE:
    """Build the model that a description says, if its weights have these shapes: no memory is taken for another."""
    if config is None:
        raise RunError(
            f"the model in {folder} was composed of your own modules, whose code is not stored. Compose it again and pass it "
            "in Python: load(run, model=...), evaluate(run, data=..., model=...)."
        )
    try:
        description = ModelConfig(config["name"], config["parts"])
        _require_shapes(folder, description, shapes)
        return build_from_config(description)
    except CalibraeError:
        raise
    except Exception as error:  # a description that somebody has changed may fail anywhere
        raise RunError(f"{folder / DESCRIPTION} describes no model that can be built: {first_line(error)}.") from error


def _require_shapes(folder: Path, description: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `RunError` unless the weights of a described model, for which no memory is taken, have these shapes."""
    try:
        with torch.device("meta"):
            state = build_from_config(description).state_dict()
    except CalibraeError:
        raise
    except Exception:  # a registered part of one's own that computes while it is made; loading its weights tells
        return
    sizes = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, torch.Tensor)}
    wrong = sorted(name for name in {*sizes, *shapes} if sizes.get(name) != shapes.get(name))
    if wrong:
        raise RunError(
            f"the weights in {folder} are not of the model that {DESCRIPTION} describes: {', '.join(wrong[:3])}."
        )


def _load_state(folder: Path, model: VAE, state: Mapping[str, Any]) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise RunError(
            f"the weights in {folder} do not fit this model: {detail}. Pass an instance of the same architecture."
        ) from error

"""Nested states with tensors in one file without code: a safetensors file whose header holds the rest as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import RunError, first_line

TREE = "tree"
Facts = dict[str, str]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Facts) -> None:
    """Write tensors by name, and facts in words; what shares memory in a model is written apart."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    seen: set[int] = set()
    try:
        save_file({name: _alone(value, seen) for name, value in tensors.items()}, path, metadata=facts)
    except SafetensorError as error:  # a disk that is full, in words with the system's number
        raise RuntimeError(first_line(error, 300)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Facts]:
    """The tensors that `save_tensors` wrote, by name, and the facts.

    Raises:
        RunError: if the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, dict(stored.metadata() or {})  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise RunError(f"{path} cannot be read: {first_line(error, 200)}. Restore it from a copy.") from error


def save_tree(path: Path, tree: Any) -> None:
    """Write nested dicts, lists and tuples of tensors, numbers, text and `None`.

    Raises:
        TypeError: if something else is among them.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _skeleton(tree, tensors)
    save_tensors(path, tensors, {TREE: json.dumps(skeleton, allow_nan=False)})


def load_tree(path: Path) -> Any:
    """What `save_tree` wrote, its tensors in main memory.

    Raises:
        RunError: if the file is damaged.
    """
    tensors, facts = load_tensors(path)
    try:
        return _restored(json.loads(facts[TREE]), tensors)
    except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise RunError(f"{path} is not whole: {first_line(error, 200)}. Restore it from a copy.") from error


def _alone(value: Tensor, seen: set[int]) -> Tensor:
    """A tensor in main memory that shares none of it with those before."""
    found = value.detach().cpu().contiguous()
    memory = found.untyped_storage()
    is_shared = memory.data_ptr() in seen or memory.nbytes() != found.nbytes
    seen.add(memory.data_ptr())
    return found.clone() if is_shared else found


def _skeleton(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What a value holds beside tensors, which are put aside under numbers."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        is_last = (
            value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()
        )
        return {"tensor": name} | ({"order": "channels_last"} if is_last else {})
    if isinstance(value, Mapping):
        return {"dict": [[_skeleton(key, tensors), _skeleton(entry, tensors)] for key, entry in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_skeleton(entry, tensors) for entry in value]}
    if isinstance(value, list):
        return [_skeleton(entry, tensors) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint holds tensors, numbers and text; got {type(value).__name__}")


def _restored(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_restored(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        found = tensors[value["tensor"]]
        return found.contiguous(memory_format=torch.channels_last) if value.get("order") == "channels_last" else found
    if "dict" in value:
        return {_restored(key, tensors): _restored(entry, tensors) for key, entry in value["dict"]}
    if "tuple" in value:
        return tuple(_restored(entry, tensors) for entry in value["tuple"])
    return float(value["float"])

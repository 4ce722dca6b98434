"""Data of a run as its folder describes them, opened again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .._plain import record_of
from .._types import AnySplit
from ..data import (
    GIVEN,
    KEPT,
    NAMES,
    Condition,
    Data,
    DataOptions,
    Preparation,
    load_data,
    names_of,
    open_source,
)
from ..errors import ArgumentError, CalibraeError, RunError
from ..runs import RunFolder

CONFIG, RESTORE = "config.toml", "Restore the file from a copy, or train again."


def run_data(run: str | Path, data: Any = None, options: DataOptions | None = None, condition: Any = None) -> Data:
    """Open the data to evaluate a run with, prepared as the model's were.

    Args:
        run: a run folder.
        data: other data than the run's own. Splits that they come with are kept; else each split is all of them.
        options: how to read other data; by default as in training.
        condition: condition of other data that come without one.

    Raises:
        RunError: if the run's own data are not where they were.
    """
    folder = RunFolder.open(run)
    known, stored = stored_data(folder), folder.read_config().get("data", {})
    preparation, coding = _preparation(known), _coding(known)
    if data is None:
        if stored.get("source") is None:
            raise RunError(
                f"{run} was trained on data from Python ({known['name']}), which are not on disk. Pass them: "
                "evaluate(run, data=...), or use the run that fit returned."
            )
        _require_there(run, stored["source"])
        own = load_data(stored["source"], options_from(stored), preparation, coding=coding)
        require_same(run, own, known)
        return own
    condition = _plainly_given(condition, coding, data)
    chosen = options or options_from(stored)
    if chosen.stream and not _is_at(data, stored.get("source")):  # new data are read whole, in their order
        chosen = replace(chosen, stream=False)
    if condition is not None or (coding is not None and coding.name == GIVEN):
        chosen = replace(chosen, condition=None)
    source = open_source(data, chosen, preparation.schema)
    is_own = source.fingerprint == known["fingerprint"]
    use = replace(options_from(stored), condition=chosen.condition) if is_own else chosen
    if coding is not None and chosen.condition is None and condition is None:
        raise ArgumentError(f"this run is conditional. Pass `condition` with the data: {coding.describe()}.")
    return load_data(source, use, preparation, coding=coding, condition=condition, split=is_own)


def _plainly_given(condition: Any, coding: Condition | None, data: Any) -> Any:
    """Conditions of other data: `None` where they are columns of those data, several columns in one array `[N, k]`."""
    if coding is None or condition is None:
        return condition
    names = names_of(condition, data)
    if names is not None and set((names,) if isinstance(names, str) else names) == set(coding.names):
        return None
    is_table = hasattr(condition, "columns") or (
        isinstance(condition, Mapping) and set(map(str, condition)) == set(coding.names)
    )
    if coding.kind == "several" and is_table:
        return np.stack([column.astype(object) for column in coding.columns(condition)], 1)
    return condition


def _is_at(data: Any, place: str | None) -> bool:
    """Tell whether data are those at a place."""
    return isinstance(data, str | Path) and place is not None and str(Path(data).expanduser().resolve()) == place


def new_data_options(run: str | Path, **given: Any) -> DataOptions | None:
    """Options to read new data for a run: those of its training, but for what is given; `None` if nothing is.

    Args:
        run: a run folder.
        given: options by name; `None` for those that are not given.
    """
    changed = {
        name: value for name, value in given.items() if value is not None and not (name == "skip_broken" and not value)
    }
    if not changed:
        return None
    return replace(options_from(RunFolder.open(run).read_config().get("data", {})), **changed)


def about_new_data(data: Data, split: AnySplit) -> tuple[str, ...]:
    """Notes on data that are not a run's own as it finds them: which examples are taken, and how they were read."""
    size, name = len(data.view(split)), data.source.name
    whole = len(data.view("all"))
    which = (
        f"{size:,} of the {whole:,} examples of {name}: the {split} split"
        if size < whole
        else f"all {size:,} examples of {name}"
    )
    return (which, *data.source.notes)


def _require_there(run: str | Path, place: str) -> None:
    """Raise `RunError` where the data of a run have moved."""
    if place in NAMES or place.startswith(KEPT) or Path(place).expanduser().exists():
        return
    raise RunError(
        f"the data of {run} are no longer at {place}. Name their new place: --data PLACE (in Python `data=`)."
    )


def stored_data(folder: RunFolder) -> dict[str, Any]:
    """Read what a run knows of its data.

    Raises:
        RunError: if `run.json` does not say.
    """
    known = folder.read_run().get("data")
    texts = {"name": str, "fingerprint": str, "preparation": dict, "splits": dict, "sizes": dict, "notes": list}
    if not isinstance(known, dict) or not all(isinstance(known.get(name), kind) for name, kind in texts.items()):
        raise RunError(f"{folder.path / 'run.json'} does not describe its data. Restore the file, or train again.")
    return known


def run_preparation(run: str | Path) -> Preparation:
    """Read how a run's data were prepared."""
    return _preparation(stored_data(RunFolder.open(run)))


def run_condition(run: str | Path) -> Condition | None:
    """Read how a run's condition was coded; `None` without one."""
    return _coding(stored_data(RunFolder.open(run)))


def _preparation(known: dict[str, Any]) -> Preparation:
    try:
        return Preparation.from_dict(known["preparation"])
    except ArgumentError as error:
        raise RunError(f"run.json does not say how the data were prepared: {error} {RESTORE}") from error


def _coding(known: dict[str, Any]) -> Condition | None:
    stored = known.get("condition")
    try:
        return None if stored is None else Condition.from_dict(stored)
    except ArgumentError as error:
        raise RunError(f"run.json does not say how the condition was coded: {error} {RESTORE}") from error


def require_same(run: str | Path, data: Data, known: dict[str, Any]) -> None:
    """Raise `RunError` unless these are the data that a run was trained on, split in the same way."""
    if data.source.fingerprint != known["fingerprint"] or dict(data.provenance) != known["splits"]:
        raise RunError(
            f"the data at {data.source.name} have changed since {run} was trained (fingerprint {known['fingerprint'][:12]}..., "
            f"now {data.source.fingerprint[:12]}...). Restore them, or name them: --data {data.source.name}"
        )


def options_from(stored: dict[str, Any]) -> DataOptions:
    """Read data options from a stored configuration."""
    try:
        return record_of(DataOptions, {name: value for name, value in stored.items() if name != "source"})
    except CalibraeError as error:
        raise RunError(f"{CONFIG} does not say how the data were read: {error} {RESTORE}") from error


def options_to_dict(options: DataOptions) -> dict[str, Any]:
    """The inverse of `options_from`."""
    return asdict(options)

"""Conditions in a user's own terms: of examples that are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..data import GIVEN, Condition
from ..errors import ArgumentError

if TYPE_CHECKING:
    from ._run import Run

DRAWN = "no condition was given: those of the rows were drawn from the training rows"


def rows_of_conditions(condition: Any, coding: Condition) -> Any:
    """Conditions with a first axis: one for all becomes one row."""
    if coding.kind == "several" and (isinstance(condition, Mapping) or hasattr(condition, "columns")):
        return condition
    values = np.asarray(condition, object if coding.kind == "several" else None)
    width = {"several": 2, "numbers": 2 if coding.dim > 1 else 1, "classes": 1}[coding.kind]
    return values[None] if values.ndim < width else values


def conditions_of_rows(
    run: Run, n: int, given: Mapping[str, Any], condition: Any, seed: int
) -> tuple[Tensor | None, dict[str, list[Any]], tuple[str, ...]]:
    """Contexts of synthetic rows, the columns of their conditions, and notes.

    Args:
        run: trained on a table.
        n: number of rows.
        given: value of each given column of conditions.
        condition: conditions in one, as `Run.sample` takes them; without one and without given columns they are drawn from the
            training rows.
        seed: seed of that draw.

    Raises:
        ArgumentError: if a condition is given twice, or some of several are not given.
    """
    coding = run.condition
    if coding is None:
        return run.contexts(condition, n), {}, ()
    if given and condition is not None:
        raise ArgumentError("the conditions are given twice, with `given` and `condition`. Leave one out.")
    if given and set(given) != set(coding.names):
        lacking = ", ".join(name for name in coding.names if name not in given)
        raise ArgumentError(f"all conditions of this run must be given; {lacking} came without a value.")
    notes: tuple[str, ...] = ()
    if given:
        condition = dict(given) if coding.kind == "several" else given[coding.name]
    elif condition is None:
        labels = run.data.labels["train"]
        condition, notes = labels[np.random.default_rng(seed).integers(0, len(labels), n)], (DRAWN,)
    contexts = run.contexts(condition, n)
    return contexts, _columns(coding, condition, n), notes


def _columns(coding: Condition, condition: Any, n: int) -> dict[str, list[Any]]:
    """Columns of conditions that were columns of the table, `n` values each."""
    rows = rows_of_conditions(condition, coding)
    if coding.name == GIVEN or (coding.kind == "numbers" and coding.dim > 1):
        return {}
    columns = coding.columns(rows) if coding.kind == "several" else [np.asarray(rows).reshape(-1)]
    parts = coding.parts or (coding,)
    found = {part.name: part.plain(column) for part, column in zip(parts, columns, strict=True)}
    return {name: values * n if len(values) == 1 else values for name, values in found.items()}

"""Synthetic rows of a table from a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..data.tables import as_frame, not_given_back, rows_of, stored_cell, written_cells
from ..errors import ArgumentError
from ..models import evaluating, sample_data, sample_latents
from ..training import progress_bar
from ._conditions import conditions_of_rows
from ._draw import sample
from ._run import Run

PROPOSALS = 20  # latents that are drawn for a row with given cells
FEWEST_PROPOSALS = 10_000
FEW_EFFECTIVE = 10.0


def require_table(run: Run) -> None:
    """Refuse a run whose data were no table of mixed columns.

    Raises:
        ArgumentError: for such a run.
    """
    if not run.preparation.spec.columns:
        raise ArgumentError(
            f"{run.path} was not trained on a table of mixed columns. Rows are for tables with words, missing cells or types; `sample` and "
            "`reconstruct` are for all data."
        )


@final
@dataclass(frozen=True)
class Synthetic:
    """Synthetic rows.

    Attributes:
        rows: data frame of pandas (an Arrow table without pandas), with the columns and types of the table that came.
        effective_samples: effective number of latents behind rows with given cells; `None` for rows that were drawn freely.
        notes: sentences on each assumption and each omission.
    """

    rows: Any
    effective_samples: float | None
    notes: tuple[str, ...]


@progress_bar()
def synthesise(
    run: Run, n: int, *, given: Mapping[str, Any] | None = None, condition: Any = None, seed: int = 0
) -> Synthetic:
    """Draw `n` rows of `p(x)`, observation noise and all; with given cells, rows of `p(x | given)`.

    Conditions of the run are given exactly; without any they are drawn from the training rows. Other given cells are conditioned on by
    importance resampling: latents from the prior are weighted with the probability of the cells.

    Args:
        run: trained on a table of mixed columns.
        n: number of rows.
        given: value of each given column, in the table's own terms.
        condition: conditions of a conditional run, in place of their columns in `given`.
        seed: seed of all noise.

    Raises:
        ArgumentError: for a column or value that there is not, or other cells given where the conditions differ from row to row.
    """
    require_table(run)
    coding, given = run.condition, given or {}
    declared = {name: value for name, value in given.items() if coding is not None and name in coding.names}
    schema = run.preparation.schema
    assert schema is not None
    notes = (
        [f"columns that a model cannot draw are left out: {', '.join(not_given_back(schema))}"]
        if not_given_back(schema)
        else []
    )
    contexts, conditions, said = conditions_of_rows(run, n, declared, condition, seed)
    notes.extend(said)
    cells = dict(stored_cell(schema, name, value) for name, value in given.items() if name not in declared)
    effective = None
    if cells:
        if contexts is not None and not bool((contexts == contexts[:1]).all()):
            raise ArgumentError(
                "with other given cells, the conditions must be the same for all rows. Give one for each condition."
            )
        x, effective = _given(run, n, cells, contexts, seed)
        beyond = _beyond(run, cells)
        if beyond:
            notes.append(f"outside what training had, where the model only guesses: {_told(run, beyond)}")
        if effective < max(FEW_EFFECTIVE, n / 10):
            notes.append(
                f"the rows come from only {effective:.0f} effective latents: the given cells are rare, so the rows resemble each other"
            )
    else:
        x = sample(run.model, n, contexts, noise=True, seed=seed)
    stored = run.in_units(x)
    for i, number in cells.items():
        stored[:, i] = number
    table = rows_of(schema, stored)
    for name, values in conditions.items():
        table = table.append_column(name, [values])
    return Synthetic(as_frame(table), effective, tuple(notes))


def _given(run: Run, n: int, cells: Mapping[int, float], contexts: Tensor | None, seed: int) -> tuple[Tensor, float]:
    """Rows with given cells, stored numbers by column, and the effective number of latents."""
    model, preparation = run.model, run.preparation
    row = torch.full((1, len(preparation.spec.columns)), torch.nan, dtype=torch.float64)
    for i, number in cells.items():
        row[0, i] = number
    x = preparation(row, torch.full_like(row, 0.5))  # the middle of a step stands for its number
    generator = torch.Generator().manual_seed(seed)
    count = max(PROPOSALS * n, FEWEST_PROPOSALS)
    context = None if contexts is None else contexts[:1].expand(count, -1).to(model.device)
    with evaluating(model):
        p = model.prior_for(context, count)
        assert p is not None
        z = sample_latents(p, 1 if p.batch_shape else count, model.device, generator)
        z = z[0] if p.batch_shape else z
        weights = torch.cat(
            [
                model.decode(part, None if context is None else context[: len(part)]).log_prob(x.to(part))
                for part in z.split(4096)
            ]
        )
        weights = weights.double().softmax(0).cpu()
        if bool(weights.isnan().any()):
            raise ArgumentError(
                f"no row of the model has {_told(run, cells)}: their probability is 0. Give values that training had."
            )
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        px = model.decode(z[chosen], None if context is None else context[:n])
        drawn = sample_data(px, model.device, generator).cpu()
    return torch.where(x.isnan(), drawn, x.to(drawn)), float(1.0 / weights.square().sum())


def _told(run: Run, cells: Mapping[int, float]) -> str:
    """Given numbers beside their range in training."""
    columns = run.preparation.spec.columns
    fields = {} if run.preparation.schema is None else {field.name: field for field in run.preparation.schema.fields}
    said = []
    for i, number in cells.items():
        field = fields[columns[i].name]
        (value,) = written_cells(field, np.array([number]))
        least, most = written_cells(field, np.array([field.least, field.most]))
        said.append(f"{field.name}={value}" + (f" ({least} to {most} in training)" if field.most > field.least else ""))
    return ", ".join(said)


def _beyond(run: Run, cells: Mapping[int, float]) -> dict[int, float]:
    """Given numbers outside the range of training."""
    schema = run.preparation.schema
    assert schema is not None
    fields = [schema.fields[i] for i in cells]
    return {
        i: number
        for (i, number), field in zip(cells.items(), fields, strict=True)
        if field.most > field.least and not field.least <= number <= field.most
    }

"""Rows of a table from a trained model: synthetic ones, and those whose missing cells are filled."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from .._noise import mixed_seed
from .._progress import counter
from .._types import AnySplit
from ..data import Data, Schema, is_frame, listed
from ..data.tables import (
    CameTable,
    as_frame,
    fill,
    fill_text,
    in_table_units,
    not_given_back,
    rows_of,
    stored_cell,
    table_as_came,
    written_cells,
)
from ..errors import ArgumentError
from ..likelihoods import MixedRow
from ..models import evaluating, sample_data, sample_latents, seeded
from ..runs import replace_file, replace_text
from ..training import progress_bar
from ._conditions import conditions_of_rows
from ._draw import sample
from ._run import Run

PROPOSALS = 20  # latents that are drawn for a row with given cells
FEWEST_PROPOSALS = 10_000
AT_ONCE = 256  # rows
FEW_EFFECTIVE = 10.0


def _require_table(run: Run) -> None:
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
    _require_table(run)
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


@final
@dataclass(frozen=True)
class Imputation:
    """A table whose missing cells are filled.

    Attributes:
        rows: data frame of the kind that came (else of pandas): numbers filled with their conditional mean, categories with the most
            probable one; or with several draws of each row, whose number is in the first column, `draw`.
        effective_samples: effective number of latents of each row, `[N]`.
        filled: number of cells that were filled.
        notes: sentences on each assumption.
        text: rows of a text file as it had them, letter by letter, with its filled cells; `None` for other tables.
        separator: character between the columns of that file.
        is_named: whether it begins with a line of names.
    """

    rows: Any
    effective_samples: np.ndarray
    filled: int
    notes: tuple[str, ...]
    text: Any = None
    separator: str = ","
    is_named: bool = True


@progress_bar()
def impute(
    run: Run, data: Any = None, *, split: AnySplit = "all", draws: int = 0, samples: int = 200, seed: int = 0
) -> Imputation:
    r"""Fill the missing cells of a table by self-normalised importance weights.

    $$E[x_j | x_{\mathrm{obs}}] \approx \sum_k w_k\, E[x_j | z_k], \qquad
      w_k \propto \frac{p(x_{\mathrm{obs}} | z_k)\, p(z_k)}{q(z_k | x_{\mathrm{obs}})}, \quad z_k \sim q(z | x_{\mathrm{obs}})$$

    Args:
        run: trained on a table of mixed columns.
        data: table; by default the run's own.
        split: rows of the run's own data.
        draws: multiple imputation: so many draws from `p(x_missing | x_observed)` of each row, in place of means and modes.
        samples: latents of each row, `K`.
        seed: seed of all noise.

    Raises:
        ArgumentError: if the run was not trained on such a table, or a number is out of range.

    References:
        Mattei & Frellsen 2019, https://arxiv.org/abs/1812.02633, section 3.3
    """
    _require_table(run)
    if draws < 0 or samples < 1:
        raise ArgumentError(f"`draws` must not be negative and `samples` at least 1; got {draws} and {samples}.")
    found = run.data if data is None else run.table(data)
    schema = run.preparation.schema
    assert schema is not None
    chosen: AnySplit = split if data is None else "all"
    view = found.view(chosen)
    stored = view.slice(0, len(view)).double()
    came = _own(schema, stored.numpy()) if data is None else table_as_came(schema, data)
    if draws and "draw" in came.table.column_names:
        raise ArgumentError(
            "the rows of several draws are numbered in a column `draw`, which the table has too. Rename or remove that one."
        )
    filled, effective = _filled(run, found, chosen, draws, samples, seed)
    estimates = [in_table_units(schema, one) for one in filled]
    rows, holes = _written(schema, came, estimates, draws, fill), came.holes
    text = None if came.text is None else _written(schema, came, estimates, draws, fill_text)
    empty = came.left_empty() if data is not None else []
    out = not_given_back(schema)
    notes = (
        list(found.source.notes)
        if data is not None
        else [f"rows of the run's own data come from the model's codes, without {listed(out)}"] * bool(out)
    )
    if empty:
        notes.append(f"columns that are not modelled keep their empty cells: {listed(empty)}")
    columns = run.preparation.spec.columns
    unseen = [columns[i].name for i in np.flatnonzero(holes.any(0)) if not columns[i].missing]
    if unseen:
        notes.append(
            f"no training row lacked {listed(unseen)}: the encoder never saw such a row, so these estimates, and more so the spread of draws, "
            "may be too narrow"
        )
    notes += _about_weights(effective, samples)
    frame = as_frame(rows, data if is_frame(data) else None)
    return Imputation(frame, effective, int(holes.sum()), tuple(notes), text, came.separator, came.is_named)


def _about_weights(effective: np.ndarray, samples: int) -> list[str]:
    """Notes on estimates that rest on few latents."""
    notes, hopeless, weak = [], int((effective == 0.0).sum()), float((effective < FEW_EFFECTIVE).mean())
    if hopeless:
        notes.append(
            f"{hopeless:,} of the rows hold a value that cannot be under the model, such as one below 0 where training had none: their "
            "estimates are the encoder's guess"
        )
    if weak:
        notes.append(
            f"{weak:.1%} of the rows rest on fewer than {FEW_EFFECTIVE:.0f} effective latents of {samples}: more --samples help"
        )
    return notes


def _own(schema: Schema, stored: np.ndarray) -> CameTable:
    """Rows of the run's own data, from their codes."""
    table = rows_of(schema, stored)
    order = tuple(table.column_names.index(name) for name in schema.columns)
    return CameTable(table, order, tuple(column.form for column in schema.fields))


def _written(
    schema: Schema,
    came: CameTable,
    estimates: Sequence[np.ndarray],
    draws: int,
    filled: Callable[[Schema, CameTable, np.ndarray], Any],
) -> Any:
    """Rows with estimates in their holes, one table of rows a draw."""
    import pyarrow as pa

    rows = pa.concat_tables([filled(schema, came, one) for one in estimates], promote_options="permissive")
    if draws:
        rows = rows.add_column(0, "draw", pa.array(np.repeat(np.arange(1, draws + 1), len(came.table))))
    return rows


def _filled(
    run: Run, data: Data, split: AnySplit, draws: int, samples: int, seed: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Estimates or draws of all cells in the units of the table, one array a draw; and effective numbers of latents."""
    preparation, model = run.preparation, run.model
    outcomes: list[list[np.ndarray]] = [[] for _ in range(max(1, draws))]
    effective = []
    with evaluating(model), seeded(torch.Generator().manual_seed(mixed_seed(seed, 11)), model.device):
        step = counter("filling", len(data.positions(split)))
        for batch in data.batches(split, AT_ONCE, seed):
            batch = batch.to(model.device)
            drawn = model.draw(batch, samples)
            log_weights = drawn.log_weights.double()
            hopeless = ~(log_weights > -torch.inf).any(0)  # p(x_obs) = 0: the encoder's guess is all there is
            weights = log_weights.masked_fill(hopeless, 0.0).softmax(0)
            effective.append((1.0 / weights.square().sum(0)).masked_fill(hopeless, 0.0).cpu().numpy())
            assert isinstance(drawn.px, MixedRow)
            for i, x in enumerate(_outcomes(drawn.px, drawn.z, weights, draws, model, batch.context)):
                outcomes[i].append((x.double().cpu() * preparation.scale + preparation.shift).numpy())
            step(len(batch))
    return [np.concatenate(parts) for parts in outcomes], np.concatenate(effective)


def _outcomes(
    px: MixedRow, z: Tensor, weights: Tensor, draws: int, model: Any, context: Tensor | None
) -> Iterator[Tensor]:
    """The estimate of all cells of a batch, or some draws."""
    if not draws:
        yield px.averaged(weights.to(z))
        return
    chosen = torch.multinomial(weights.T, draws, replacement=True).T
    rows = torch.arange(z.shape[1], device=z.device)
    for own in chosen:
        yield model.decode(z[own, rows], context).sample()


def save_imputed(found: Imputation, path: str | Path) -> Path:
    """Write filled rows as `.csv` or `.parquet`; those of a text file as it had them, but for the filled cells.

    Raises:
        ArgumentError: for another suffix.
    """
    if found.text is None or Path(path).suffix.lower() != ".csv":
        return save_rows(found.rows, path)
    return save_rows(found.text, path, separator=found.separator, names=found.is_named)


def save_rows_of(schema: Schema, stored: np.ndarray, path: Path, examples: Sequence[str] = ()) -> Path:
    """Write numbers and codes `[N, D]` as the rows of a `.csv` that they stand for, with the name of each in a first column."""
    import pyarrow as pa

    table = rows_of(schema, stored)
    return save_rows(table.add_column(0, "example", pa.array(list(examples))) if examples else table, path)


def save_rows(rows: Any, path: str | Path, *, separator: str = ",", names: bool = True) -> Path:
    """Write rows as `.csv` or `.parquet`, whole or not at all.

    Args:
        rows: data frame or Arrow table.
        path: file to write.
        separator: character between the columns of a `.csv`.
        names: whether it begins with a line of names.

    Raises:
        ArgumentError: for another suffix.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = Path(path)
    if place.suffix.lower() not in (".csv", ".parquet"):
        raise ArgumentError(f"the name of a table must end in .csv or .parquet; got {place.name}.")
    table = (
        rows
        if isinstance(rows, pa.Table)
        else rows.to_arrow()
        if hasattr(rows, "to_arrow")
        else pa.Table.from_pandas(rows, preserve_index=False)
    )
    if place.suffix.lower() == ".parquet":
        replace_file(place, lambda temporary: pq.write_table(table, temporary))
        return place
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, lineterminator="\n")
    if names:
        writer.writerow(table.column_names)
    writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))  # `None` is an empty cell
    replace_text(place, stream.getvalue())
    return place

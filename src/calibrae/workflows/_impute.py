"""Missing cells of a table, filled by a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from .._noise import ExampleNoise, mixed_seed
from .._progress import counter
from .._types import AnySplit
from ..data import Data, Schema, is_frame, listed
from ..data.tables import CameTable, as_frame, fill, fill_text, in_table_units, not_given_back, rows_of, table_as_came
from ..errors import ArgumentError
from ..likelihoods import MixedRow
from ..models import evaluating, seeded
from ..training import progress_bar
from ._run import Run
from ._save_rows import save_rows
from ._synthesise import FEW_EFFECTIVE, require_table

AT_ONCE = 256  # rows
IMPUTE_STREAM = 11


@final
@dataclass(frozen=True)
class Imputation:
    """A table whose missing cells are filled.

    Attributes:
        rows: data frame of the kind that came (else of pandas): numbers filled with their conditional mean, categories with the most
            probable one; or with several draws of each row, whose number is in the first column, `draw`.
        effective_samples: effective number of latents of each row, `[N]`; NaN for rows without a missing cell, which need none.
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

    @property
    def median_effective_samples(self) -> float | None:
        """Median effective number of latents of the filled rows; `None` if no cell was missing."""
        return float(np.nanmedian(self.effective_samples)) if self.filled else None

    def __str__(self) -> str:
        if not self.filled:
            return "no cell was missing"
        rows, of = int(np.isfinite(self.effective_samples).sum()), len(self.effective_samples)
        return f"{self.filled:,} cells filled in {rows:,} of {of:,} rows (median effective samples {self.median_effective_samples:.0f})"


@progress_bar()
def impute(
    run: Run, data: Any = None, *, split: AnySplit = "all", draws: int = 0, samples: int = 200, seed: int = 0
) -> Imputation:
    r"""Fill the missing cells of a table by self-normalised importance weights.

    $$E[x_j | x_{\mathrm{obs}}] \approx \sum_k w_k\, E[x_j | z_k], \qquad
      w_k \propto \frac{p(x_{\mathrm{obs}} | z_k)\, p(z_k)}{q(z_k | x_{\mathrm{obs}})}, \quad z_k \sim q(z | x_{\mathrm{obs}})$$

    Rows without a missing cell are passed over. Latent noise belongs to the row, so an estimate does not depend on the rows beside it.

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
    require_table(run)
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
    holes = came.holes
    hollow = np.flatnonzero(holes.any(1))
    filled, of_hollow = _filled(run, found, chosen, hollow, draws, samples, seed)
    estimates = [_beside(stored.numpy(), hollow, in_table_units(schema, one)) for one in filled]
    effective = _beside(np.full(len(holes), np.nan), hollow, of_hollow)
    rows = _written(schema, came, estimates, draws, fill)
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
    notes += _about_weights(of_hollow, samples)
    frame = as_frame(rows, data if is_frame(data) else None)
    return Imputation(frame, effective, int(holes.sum()), tuple(notes), text, came.separator, came.is_named)


def _about_weights(effective: np.ndarray, samples: int) -> list[str]:
    """Notes on filled rows whose estimates rest on few latents."""
    notes, hopeless, weak = [], int((effective == 0.0).sum()), int((effective < FEW_EFFECTIVE).sum())
    if hopeless:
        notes.append(
            f"{hopeless:,} of the filled rows hold a value that cannot be under the model, such as one below 0 where training had none: their "
            "estimates are the encoder's guess"
        )
    if weak:
        notes.append(
            f"{weak / len(effective):.1%} of the filled rows rest on fewer than {FEW_EFFECTIVE:.0f} effective latents of {samples}: more "
            "--samples help"
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


def _beside(all_rows: np.ndarray, hollow: np.ndarray, own: np.ndarray) -> np.ndarray:
    """A copy of all rows, with those of some positions replaced."""
    found = all_rows.copy()
    found[hollow] = own
    return found


def _filled(
    run: Run, data: Data, split: AnySplit, hollow: np.ndarray, draws: int, samples: int, seed: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Estimates or draws of all cells of some rows in the units of the table, one array a draw; and effective numbers of latents."""
    preparation, model = run.preparation, run.model
    outcomes = [np.empty((len(hollow), len(preparation.spec.columns))) for _ in range(max(1, draws))]
    effective = np.empty(len(hollow))
    noise = ExampleNoise("normal", (samples, model.latent_dim), mixed_seed(seed, IMPUTE_STREAM))
    with evaluating(model), seeded(torch.Generator().manual_seed(mixed_seed(seed, IMPUTE_STREAM)), model.device):
        step = counter("filling", len(hollow))
        for start in range(0, len(hollow), AT_ONCE):
            mine = slice(start, start + AT_ONCE)
            batch = data.gather(split, hollow[mine], seed).to(model.device)
            eps = noise.rows(torch.from_numpy(hollow[mine])).transpose(0, 1)
            drawn = model.draw(batch, samples, eps.to(batch.x))
            log_weights = drawn.log_weights.double()
            hopeless = ~(log_weights > -torch.inf).any(0)  # p(x_obs) = 0: the encoder's guess is all there is
            weights = log_weights.masked_fill(hopeless, 0.0).softmax(0)
            effective[mine] = (1.0 / weights.square().sum(0)).masked_fill(hopeless, 0.0).cpu().numpy()
            assert isinstance(drawn.px, MixedRow)
            for i, x in enumerate(_outcomes(drawn.px, drawn.z, weights, draws, model, batch.context)):
                outcomes[i][mine] = (x.double().cpu() * preparation.scale + preparation.shift).numpy()
            step(len(batch))
    return outcomes, effective


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

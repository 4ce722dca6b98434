"""A model of a table that was fitted in memory: reading, encoding, scores and draws, each row by itself."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..data import DataOptions, Preparation, load_data
from ..data.tables import as_frame, in_table_units, rows_of, stored_rows
from ..errors import CalibraeError
from ..likelihoods import MixedRow
from ..models import VAE, build, evaluating, mean_of, sample_data, sample_latents
from ..networks import NetworkOptions
from ..workflows import fit

AT_ONCE = 256
WEIGHT_DECAY = 0.01  # a tenth of what pictures take
FEW = 20  # rows below which none are held out for the choice of an epoch


@final
@dataclass
class Fitted:
    """A trained model in float64, so that a row's numbers do not depend on the rows beside it.

    Attributes:
        model: in eval mode.
        preparation: preparation of the table.
        history: terms per epoch.
        notes: sentences on each assumption and each omission.
        eps: standard normal noise of every row's importance weights, `[K, 1, d]`.
    """

    model: VAE
    preparation: Preparation
    history: list[dict[str, float]]
    notes: tuple[str, ...]
    eps: Tensor

    def prepared(self, rows: Any) -> Tensor:
        """Rows on the model's scale, `[N, D]`, float64; a number stands for the middle of its step."""
        schema = self.preparation.schema
        assert schema is not None
        raw = torch.from_numpy(stored_rows(schema, rows))
        return self.preparation(raw, torch.full_like(raw, 0.5)).double()

    def encode(self, rows: Any) -> np.ndarray:
        """Posterior means, `[N, d]`."""
        with evaluating(self.model):
            return torch.cat([mean_of(self.model.encode(x)) for x in self.prepared(rows).split(AT_ONCE)]).numpy()

    def log_prob(self, rows: Any) -> np.ndarray:
        """Importance-weighted bound on `log p(x)` of each row, `[N]`, nats; all rows have the same noise."""
        return torch.cat(
            [self._weights(x).logsumexp(0) - np.log(len(self.eps)) for x in self.prepared(rows).split(AT_ONCE)]
        ).numpy()

    def _weights(self, x: Tensor) -> Tensor:
        with evaluating(self.model):
            return self.model.draw(x, len(self.eps), self.eps.expand(-1, len(x), -1)).log_weights

    def filled(self, rows: Any) -> np.ndarray:
        """Stored numbers of rows whose missing cells have their estimates, `[N, D]`; rows without one are passed over."""
        schema = self.preparation.schema
        assert schema is not None
        came = stored_rows(schema, rows)
        hollow = np.isnan(came).any(1)
        if not hollow.any():
            return came
        found = []
        with evaluating(self.model):
            for x in self.prepared(rows)[torch.from_numpy(hollow)].split(AT_ONCE):
                draw = self.model.draw(x, len(self.eps), self.eps.expand(-1, len(x), -1))
                assert isinstance(draw.px, MixedRow)
                found.append(draw.px.averaged(draw.log_weights.softmax(0)))
        units = torch.cat(found) * self.preparation.scale + self.preparation.shift
        filled = came.copy()
        filled[hollow] = np.where(np.isnan(came[hollow]), in_table_units(schema, units.numpy()), came[hollow])
        return filled

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Stored numbers of the mean row of each code, `[N, D]`."""
        with evaluating(self.model):
            return self._stored(self.model.decode(torch.as_tensor(codes, dtype=torch.float64)).mean)

    def sample(self, count: int, seed: int) -> np.ndarray:
        """Stored numbers of rows drawn from `p(x)`, `[N, D]`."""
        generator = torch.Generator().manual_seed(seed)
        with evaluating(self.model):
            p = self.model.prior_for(None, count)
            assert p is not None
            z = sample_latents(p, count, torch.device("cpu"), generator)
            return self._stored(sample_data(self.model.decode(z), torch.device("cpu"), generator))

    def _stored(self, x: Tensor) -> np.ndarray:
        return self.preparation.in_units(x)

    def rows(self, stored: np.ndarray, like: Any) -> Any:
        """Stored numbers as rows like those that came: a data frame, or an array `[N, D]` of the columns that came."""
        schema = self.preparation.schema
        assert schema is not None
        table = rows_of(schema, stored)
        if not isinstance(like, np.ndarray):
            return as_frame(table, like)
        width = len(schema.fields) + len(schema.left_out)
        names = [c.name for c in sorted([*schema.fields, *schema.left_out], key=lambda column: column.place)]
        known = dict(zip(table.column_names, table.columns, strict=True))
        columns = [known[name].to_pylist() if name in known else [np.nan] * len(stored) for name in names]
        values = np.array(columns, dtype=object).T.reshape(len(stored), width)
        return values.astype(np.float64) if like.dtype.kind in "biuf" else values


def fitted(
    rows: Any,
    *,
    latent_dim: int,
    hidden: tuple[int, ...],
    max_steps: int,
    lr: float,
    batch_size: int,
    columns: Any,
    samples: int,
    objective: Any,
    seed: int,
) -> Fitted:
    """Train a model of rows in memory. A tenth of them choose the epoch, where there are enough.

    Raises:
        ValueError: if the rows cannot be modelled.
    """
    count = len(rows)
    order = np.random.default_rng(seed).permutation(count)
    held = order[: count // 10] if count >= FEW else order
    kept = order[count // 10 :] if count >= FEW else order
    try:
        parts = {"train": _taken(rows, np.sort(kept)), "validation": _taken(rows, np.sort(held))}
        data = load_data(parts | {"test": parts["validation"]}, DataOptions(columns=dict(columns or {})))
        data = replace(data, source=replace(data.source, place="rows in memory"))
        model = build(
            spec=data.spec, latent_dim=latent_dim, options=NetworkOptions(hidden=hidden), objective=objective, seed=seed
        )
        size = max(1, min(batch_size, len(kept)))
        epochs = max(1, -(-max_steps // max(1, len(kept) // size)))
        with tempfile.TemporaryDirectory(prefix="calibrae-") as folder:
            run = fit(
                model, data, Path(folder) / "run", epochs=epochs, batch_size=size, lr=lr, weight_decay=WEIGHT_DECAY, seed=seed,
                precision="fp32", compile="off", acceleration="off", threads=torch.get_num_threads(), quiet=True, pictures=False,
            )  # fmt: skip
            history, notes = run.history, data.source.notes
        trained = copy.deepcopy(run.model).double().eval()
    except CalibraeError as error:
        raise ValueError(str(error)) from error
    eps = torch.randn(samples, 1, latent_dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Fitted(trained, data.preparation, history, notes, eps)


def _taken(rows: Any, positions: np.ndarray) -> Any:
    return rows.iloc[positions] if hasattr(rows, "iloc") else rows[positions]

"""A trained run and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from .._optional import names_missing
from .._types import AnySplit, Split
from ..data import Condition, Data, Preparation, is_frame
from ..data.tables import as_frame, rows_of
from ..errors import ArgumentError, RunError
from ..evaluation import Evaluation
from ..models import VAE
from ..runs import RunFolder, load_model
from ._conditions import rows_of_conditions
from ._notebook import run_html
from ._stored import run_condition, run_data, run_preparation, stored_data
from ._units import frame_like

if TYPE_CHECKING:
    from ..audit import AuditRecord
    from ..evaluation import Finding, FullEvaluation
    from ._assess import Scores


@final
class Run:
    """A run on disk: what `fit` returns and `open_run` opens. Model and data are read when they are needed.

    The verbs take and give your own things: files, arrays, rows, in your units.

    Args:
        folder: where everything lies.
        model: trained, in eval mode, with its scale fixed; read from the folder by default.
        data: data that it was trained on; opened from where the run found them by default.
        history: terms per epoch.

    Examples:
        >>> run = fit(build("vae", data_shape=(1, 8, 8), latent_dim=2), "digits", epochs=1, quiet=True, pictures=False)
        >>> run.sample(3).shape, run.encode().shape
        ((3, 1, 8, 8), (180, 2))
    """

    def __init__(
        self,
        folder: RunFolder,
        model: VAE | None = None,
        data: Data | None = None,
        history: list[dict[str, float]] | None = None,
    ) -> None:
        self.folder = folder
        self._model = model
        self._data = data
        self._history = history

    def __repr__(self) -> str:
        try:
            name = stored_data(self.folder)["name"]
        except RunError:
            name = "unknown"
        return f"Run({str(self.path)!r}, data={name!r}, epochs={len(self.history)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the run, its validation numbers, and pictures if they were drawn."""
        return run_html(self)

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.folder.path

    @property
    def model(self) -> VAE:
        """The trained model, in eval mode."""
        if self._model is None:
            self._model = load_model(self.path)
        return self._model

    @property
    def data(self) -> Data:
        """The data that it was trained on."""
        if self._data is None:
            self._data = run_data(self.path)
        return self._data

    @property
    def history(self) -> list[dict[str, float]]:
        """Terms per epoch, as in `history.csv`."""
        if self._history is None:
            self._history = self.folder.read_history()
        return self._history

    @property
    def preparation(self) -> Preparation:
        """Preparation of the data."""
        return self._data.preparation if self._data is not None else run_preparation(self.path)

    @property
    def condition(self) -> Condition | None:
        """Coding of the condition; `None` if the model has none."""
        return self._data.condition if self._data is not None else run_condition(self.path)

    def contexts(self, condition: Any, count: int) -> Tensor | None:
        """Contexts `[count, context_dim]` of conditions in your own terms: one for all, or one for each; a dict of several columns.

        Raises:
            ArgumentError: if the model is conditional and no condition came, or the other way round.
        """
        coding = self.condition
        if coding is None:
            if condition is not None:
                raise ArgumentError("this run has no condition; got one. Leave it out, or train with a condition.")
            return None
        if condition is None:
            raise ArgumentError(f"this run is conditional. Pass `condition`: {coding.describe()}.")
        coded = coding(rows_of_conditions(condition, coding))
        if len(coded) not in (1, count):
            raise ArgumentError(f"`condition` must be one for all or one for each of {count}; got {len(coded)}.")
        return coded.expand(count, -1)

    def evaluate(
        self,
        data: Any = None,
        *,
        split: AnySplit = "test",
        importance_samples: int = 0,
        seed: int = 0,
        limit: int | None = None,
        condition: Any = None,
    ) -> Evaluation:
        """Exact numbers of this run; see `calibrae.evaluate`."""
        from ._evaluate import evaluate

        return evaluate(
            self, data, split=split, importance_samples=importance_samples, seed=seed, limit=limit, condition=condition
        )

    def evaluate_full(
        self, data: Any = None, *, split: AnySplit = "test", seed: int = 0, condition: Any = None
    ) -> FullEvaluation:
        """Every estimate of the likelihood, the calibration and the latents; see `calibrae.evaluate_full`."""
        from ._assess import evaluate_full

        return evaluate_full(self, data, split=split, seed=seed, condition=condition)

    def diagnose(
        self, data: Any = None, *, split: Split = "test", seed: int = 0, condition: Any = None
    ) -> list[Finding]:
        """Faults of this run, most important first; see `calibrae.diagnose`."""
        from ._assess import diagnose

        return diagnose(self, data, split=split, seed=seed, condition=condition)

    def score(
        self,
        data: Any = None,
        *,
        split: AnySplit | None = None,
        importance_samples: int = 50,
        seed: int = 0,
        condition: Any = None,
    ) -> Scores:
        """`-log p(x)` of each example; see `calibrae.score`."""
        from ._assess import score

        return score(self, data, split=split, importance_samples=importance_samples, seed=seed, condition=condition)

    def report(self, out: str | Path | None = None, *, split: Split = "test", seed: int = 0) -> Path:
        """Write a report, one HTML file; see `calibrae.report`."""
        from ._report import report

        return report(self, out, split=split, seed=seed)

    def audit(self) -> AuditRecord:
        """Audit the very loss that training minimised."""
        from ._audit import audit_run

        return audit_run(self)

    def sample(
        self, n: int = 16, *, condition: Any = None, observation_noise: bool = False, seed: int = 0
    ) -> np.ndarray:
        """Draw examples `[n, *data]` in the units of the data (integers for integer data).

        Args:
            n: number of examples.
            condition: one for all, or one for each, in your own terms (a class, a number), for a conditional run.
            observation_noise: draw from `p(x|z)` instead of taking its mean.
            seed: seed of all noise.
        """
        from ._draw import sample

        return self.in_units(sample(self.model, n, self.contexts(condition, n), noise=observation_noise, seed=seed))

    def sample_frame(
        self, n: int = 16, *, given: Mapping[str, Any] | None = None, condition: Any = None, seed: int = 0
    ) -> Any:
        """Draw rows of a table, with its columns, types, words, whole numbers and dates, from `p(x)`: observation noise and all.

        Args:
            n: number of rows.
            given: value of each given column: rows of `p(x | given)`, by importance resampling.
            condition: one for all, or one for each, for a conditional run.
            seed: seed of all noise.

        Returns:
            Data frame of pandas. `calibrae.synthesise` also gives notes and the effective number of latents.
        """
        from ._synthesise import synthesise

        return synthesise(self, n, given=given, condition=condition, seed=seed).rows

    def impute(self, data: Any = None, *, draws: int = 0, samples: int = 200, seed: int = 0) -> Any:
        """Rows with their missing cells filled, as a data frame; see `calibrae.impute`."""
        from ._impute import impute

        return impute(self, data, draws=draws, samples=samples, seed=seed).rows

    def table(self, data: Any) -> Data:
        """Read new rows by the schema of the run."""
        return run_data(self.path, data)

    def encode(
        self,
        data: Any = None,
        *,
        split: AnySplit = "test",
        what: Literal["mean", "sample", "log_std"] = "mean",
        seed: int = 0,
        condition: Any = None,
    ) -> np.ndarray:
        """Codes `[N, d]` of a split, or of other data: posterior means, samples, or log standard deviations."""
        from ._draw import encode

        use, chosen = self._use(data, condition), split if data is None else "all"
        return encode(self.model, use, chosen, what=what, seed=seed, device=self.model.device.type).numpy()

    def reconstruct(
        self, data: Any = None, *, split: AnySplit = "test", n: int | None = None, condition: Any = None
    ) -> Any:
        """Reconstructions `[N, *data]` of a split, or of other data, in the units of the data; of a data frame, as a data frame."""
        from ._draw import examples, reconstruct

        chosen = examples(self._use(data, condition), split if data is None else "all", n)
        found = self.in_units(reconstruct(self.model, chosen.x, chosen.context))
        schema = self.preparation.schema
        if schema is not None and schema.is_mixed:
            return as_frame(rows_of(schema, found), data if is_frame(data) else None)
        if data is not None and schema is not None and schema.layout == "table" and is_frame(data):
            return frame_like(data, found, schema)
        return found

    def _use(self, data: Any, condition: Any = None) -> Data:
        return self.data if data is None else run_data(self.path, data, condition=condition)

    def in_units(self, x: Tensor) -> np.ndarray:
        """Bring examples from the model's scale to the units of the data."""
        return self.preparation.in_units(x)


@names_missing
def open_run(path: str | Path, *, model: VAE | None = None) -> Run:
    """Open a run on disk.

    Args:
        path: folder that `fit` or `calibrae train` wrote.
        model: an instance of the same architecture; needed for custom modules.

    Raises:
        RunError: if there is no run.
    """
    folder = RunFolder.open(path)
    return Run(folder, None if model is None else load_model(folder.path, model))


@names_missing
def load(run: str | Path | Run, *, model: VAE | None = None, device: str | torch.device = "cpu") -> VAE:
    """Load the trained model of a run, in eval mode, with its scale fixed.

    Args:
        run: folder that `fit` or `calibrae train` wrote.
        model: an instance of the same architecture; needed for custom modules.
        device: where to put it; `auto`: on a CUDA device, if one can be used.

    Raises:
        RunError: if there is no trained model, or it does not fit.
    """
    folder = run.path if isinstance(run, Run) else RunFolder.open(run).path
    return load_model(folder, model, device)

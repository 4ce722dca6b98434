"""A trained run and what belongs to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, final

import torch

from .._types import Split
from ..data import Data, DataOptions, Preparation, load_data, open_source
from ..errors import RunError
from ..evaluation import Evaluation, Tick, evaluate_model
from ..models import VAE
from ..runs import RunFolder, load_floor, load_model, require_device


@final
@dataclass(frozen=True)
class Run:
    """What `fit` returns.

    Attributes:
        folder: where everything lies.
        model: trained, in eval mode, with its sigma fixed.
        data: what it was trained on.
        history: terms per epoch.
    """

    folder: RunFolder
    model: VAE
    data: Data
    history: list[dict[str, float]]

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, data={self.data.source.name!r}, epochs={len(self.history)})"

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    def evaluate(
        self, split: Split | Literal["all"] = "test", importance_samples: int = 0, seed: int = 0
    ) -> Evaluation:
        """The exact numbers of this run; see `calibrae.evaluate`."""
        return evaluate(self, split=split, importance_samples=importance_samples, seed=seed)


def load(run: str | Path | Run, *, model: VAE | None = None, device: str | torch.device = "cpu") -> VAE:
    """The trained model of a run, in eval mode, with its sigma fixed.

    Args:
        run: the folder that `fit` or `calibrae train` wrote.
        model: a model of the same make, if it was composed of your own modules.
        device: where to put it; `auto`: on a CUDA device, if one can be used.

    Raises:
        RunError: if there is no trained model, or it does not fit.
    """
    folder = run.path if isinstance(run, Run) else RunFolder.open(run).path
    return load_model(folder, model, device)


def opened(
    run: str | Path | Run, data: Any, options: DataOptions | None, model: VAE | None, device: str
) -> tuple[Path, VAE, Data]:
    """Folder, model and data of a run, which is read from disk only where it has to be."""
    own = run.model if isinstance(run, Run) else model
    place = own.device if device == "auto" and own is not None else require_device(device)
    if isinstance(run, Run) and data is None:
        return run.path, run.model.to(place), run.data
    path = run.path if isinstance(run, Run) else Path(run)
    trained = load(path, model=model, device=place)
    return path, trained, data if isinstance(data, Data) else run_data(path, data, options)


def run_data(run: str | Path, data: Any = None, options: DataOptions | None = None) -> Data:
    """The data to evaluate a run with, prepared as the model's were.

    Args:
        run: a run folder.
        data: other data than the run's own. Splits that they come with are kept; else each split is all of them.
        options: how to read other data; by default as in training.

    Raises:
        RunError: if the run's own data are not where they were.
    """
    folder = RunFolder.open(run)
    known, stored = stored_data(folder), folder.read_config().get("data", {})
    preparation = Preparation.from_dict(known["preparation"])
    if data is None:
        if stored.get("source") is None:
            raise RunError(
                f"{run} was trained on data from Python ({known['name']}), which are not on disk. Pass them: "
                "evaluate(run, data=...), or use the run that fit returned."
            )
        own = load_data(stored["source"], options_from(stored), preparation)
        require_same(run, own, known)
        return own
    source = open_source(data, options or replace(options_from(stored), levels=None))
    is_own = source.fingerprint == known["fingerprint"]
    return load_data(source, options_from(stored) if is_own else options, preparation, split=is_own)


def stored_data(folder: RunFolder) -> dict[str, Any]:
    """What a run knows of its data.

    Raises:
        RunError: if `run.json` does not say.
    """
    known = folder.read_run().get("data")
    if not isinstance(known, dict) or not {"name", "fingerprint", "preparation"} <= set(known):
        raise RunError(f"{folder.path / 'run.json'} does not describe its data. Restore the file, or train again.")
    return known


def run_preparation(run: str | Path) -> Preparation:
    """How a run's data were prepared."""
    return Preparation.from_dict(stored_data(RunFolder.open(run))["preparation"])


def require_same(run: str | Path, data: Data, known: dict[str, Any]) -> None:
    """Raise `RunError` unless these are the data that a run was trained on, split in the same way."""
    if data.source.fingerprint != known["fingerprint"] or dict(data.provenance) != known["splits"]:
        raise RunError(
            f"the data at {data.source.name} have changed since {run} was trained (fingerprint {known['fingerprint'][:12]}..., "
            f"now {data.source.fingerprint[:12]}...). Restore them, or name them: --data {data.source.name}"
        )


def options_from(stored: dict[str, Any]) -> DataOptions:
    """Data options from a stored configuration."""
    names = {field.name for field in fields(DataOptions)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k in names}
    return DataOptions(**values)


def options_to_dict(options: DataOptions) -> dict[str, Any]:
    """The inverse of `options_from`."""
    return asdict(options)


def evaluate(
    run: str | Path | Run,
    data: Any = None,
    *,
    split: Split | Literal["all"] = "test",
    importance_samples: int = 0,
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    model: VAE | None = None,
    options: DataOptions | None = None,
    device: str = "auto",
    tick: Tick | None = None,
) -> Evaluation:
    """The exact numbers of a trained run.

    Args:
        run: a run folder, or what `fit` returned.
        data: other data than the run's own: a name, a path, an array, a tensor or a Dataset.
        split: `train`, `validation`, `test` or `all`.
        importance_samples: `K` of the importance-weighted bound; 0 for none.
        seed: of the dequantisation and latent noise; the same seed gives the same numbers for every batch size.
        batch_size: examples at once.
        limit: so many examples only, evenly spaced.
        model: a model of the same make, if it was composed of your own modules.
        options: how to read other data.
        device: where to compute, to which the model is moved; `auto`: where the model of a `Run`, or `model`, is; else on a
            CUDA device, if one can be used.
        tick: called as work proceeds, for a progress bar.

    Returns:
        A record; `.to_dict()` has plain types.

    Raises:
        CalibraeError: if the run, the data or a number is not usable, saying what to do.
    """
    path, trained, use = opened(run, data, options, model, device)
    return evaluate_model(
        trained,
        use,
        split=split,
        importance_samples=importance_samples,
        seed=seed,
        batch_size=batch_size,
        limit=limit,
        floor=load_floor(path),
        tick=tick,
    )

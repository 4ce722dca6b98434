"""A trained run and what belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, final

from .._types import Split
from ..data import Data, DataOptions, Preparation, load_data
from ..errors import RunError
from ..evaluation import Evaluation, evaluate_model
from ..models import VAE
from ..runs import RunFolder, load_model

Tick = Callable[[str, int, int], None]


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

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    def evaluate(
        self, split: Split | Literal["all"] = "test", importance_samples: int = 0, seed: int = 0
    ) -> Evaluation:
        """The exact numbers of this run; see `calibrae.evaluate`."""
        return evaluate_model(self.model, self.data, split=split, importance_samples=importance_samples, seed=seed)


def load(run: str | Path | Run, *, model: VAE | None = None, device: str = "cpu") -> VAE:
    """The trained model of a run, in eval mode, with its sigma fixed.

    Args:
        run: the folder that `fit` or `calibrae train` wrote.
        model: a model of the same make, if it was composed of your own modules.
        device: where to put it.

    Raises:
        RunError: if there is no trained model, or it does not fit.
    """
    folder = run.path if isinstance(run, Run) else RunFolder.open(run).path
    return load_model(folder, model, device)


def run_data(run: str | Path, data: Any = None, options: DataOptions | None = None) -> tuple[Data, Data | None]:
    """The data to evaluate a run with, prepared as the model's were, and the data of its training if they differ.

    Args:
        run: a run folder.
        data: other data, with their own splits (or none, and then a seeded split); by default the run's own.
        options: how to read other data; by default as in training.

    Raises:
        RunError: if the run's own data are not where they were.
    """
    folder = RunFolder.open(run)
    config, known = folder.read_config(), folder.read_run()["data"]
    preparation = Preparation.from_dict(known["preparation"])
    stored_options = options_from(config.get("data", {}))
    name = known["name"]
    own: Data | None = None
    if data is None:
        if config["data"].get("source") is None:
            raise RunError(f"{run} was trained on {name}, which is not on disk. Pass the data.")
        own = load_data(config["data"]["source"], stored_options, preparation)
        _require_same(run, own, known)
        return own, None
    other = load_data(data, options or stored_options, preparation)
    if other.source.fingerprint == known["fingerprint"]:
        return other, None
    source = config["data"].get("source")
    if source is not None and (Path(source).exists() or source == "digits"):
        own = load_data(source, stored_options, preparation)
    return other, own


def _require_same(run: str | Path, data: Data, known: dict[str, Any]) -> None:
    if data.source.fingerprint != known["fingerprint"]:
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
    device: str = "cpu",
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
        device: where to compute.
        tick: called as work proceeds, for a progress bar.

    Returns:
        A record; `.to_dict()` has plain types.

    Raises:
        CalibraeError: if the run, the data or a number is not usable, saying what to do.
    """
    if isinstance(run, Run) and data is None:
        trained, use, own = run.model, run.data, None
    else:
        path = run.path if isinstance(run, Run) else Path(run)
        trained = load(path, model=model, device=device)
        if isinstance(data, Data):
            use, own = data, None
        else:
            use, own = run_data(path, data, options)
    return evaluate_model(
        trained,
        use,
        split=split,
        importance_samples=importance_samples,
        seed=seed,
        batch_size=batch_size,
        limit=limit,
        floor_data=own,
        tick=tick,
    )

"""Exact numbers of a run or a model, and what they are computed from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .._optional import names_missing
from .._types import AnySplit, World
from ..acceleration import find_device
from ..data import Data, DataOptions, Preparation, Schema, load_data, names_of, open_source
from ..errors import ArgumentError
from ..evaluation import Evaluation, digest_of, evaluate_model
from ..models import VAE
from ..runs import RunFolder, load_baseline
from ..training import join_world, local_device, meet, progress_bar
from ._run import Run, load
from ._stored import about_new_data, run_data, stored_data


class Opened:
    """Model, data and baseline of what is to be evaluated: a run, a run's folder, or a model alone."""

    def __init__(
        self,
        subject: str | Path | Run | VAE,
        data: Any,
        options: DataOptions | None,
        model: VAE | None,
        device: str,
        condition: Any = None,
    ) -> None:
        own = subject if isinstance(subject, VAE) else subject._model if isinstance(subject, Run) else model
        place = own.device if device == "auto" and own is not None else find_device(device)
        self.path: Path | None = None
        self.is_new = data is not None and not isinstance(data, Data)
        if isinstance(subject, VAE):
            self.model = subject.to(place)
            self.data = _of_model(subject, data, options, condition)
            return
        run = subject if isinstance(subject, Run) else Run(RunFolder.open(subject))
        self.path = run.path
        if isinstance(subject, Run) and (model is None or own is not None):
            self.model = run.model.to(place)
        else:
            self.model = load(run.path, model=model, device=place)
        if data is None:
            self.data = run.data
        else:
            self.data = data if isinstance(data, Data) else run_data(run.path, data, options, condition)

    def notes(self, split: AnySplit) -> tuple[str, ...]:
        """How the data were read, and which examples are taken of other data than the run's own."""
        if self.is_new:
            return about_new_data(self.data, split)
        return (
            self.data.source.notes
            if self.path is None
            else tuple(stored_data(RunFolder.open(self.path)).get("notes", ()))
        )

    @property
    def history(self) -> list[dict[str, float]]:
        """Terms per epoch of the run; none of a model alone."""
        return [] if self.path is None else RunFolder.open(self.path).read_history()

    @property
    def baseline(self) -> Any:
        """Closed-form model stored with the run; `None` if there is none; `unknown` for a model without a run."""
        if self.path is None:
            return "unknown"
        return load_baseline(self.path) or ("unknown" if self.is_new else "train")


def open_together(
    call: tuple[Any, ...],
    split: AnySplit,
    subject: str | Path | Run | VAE,
    data: Any,
    options: DataOptions | None,
    model: VAE | None,
    device: str,
    condition: Any = None,
) -> tuple[Opened, World]:
    """Open what is to be evaluated in each process that a launcher has started, and the processes that make this very call.

    Args:
        call: name of the call, and all settings of which its numbers follow.
        split: split that it is about.
        subject: run, folder or model to evaluate.
        data: other data than its own.
        options: how to read them.
        model: an instance of the same architecture.
        device: where to compute.
        condition: condition of other data.
    """
    opened = Opened(subject, data, options, model, local_device(device, join_world(device)), condition)

    def words() -> str:
        return repr((*call, split, opened.data.identity(split), digest_of(opened.model)))

    return opened, meet(device, words)


def _of_model(model: VAE, data: Any, options: DataOptions | None, condition: Any) -> Data:
    """Data for a model that somebody trained in a loop of their own; each split is all of them, and floats are as the model sees them."""
    if data is None:
        raise ArgumentError("a model without a run needs data: evaluate(model, data).")
    if isinstance(data, Data):
        return data
    chosen = options or DataOptions()
    if names_of(condition, data) is not None:
        chosen, condition = replace(chosen, condition=names_of(condition, data)), None
    source = open_source(data, chosen)
    if _is_rescaled(source.schema) and chosen.data_range is None:
        source = open_source(data, replace(chosen, data_range=_range_of(source.schema)))
    is_plain = source.levels is None or source.schema.layout == "table"
    as_given = is_plain and chosen.data_range is None and not (chosen.standardise or chosen.binarise)
    own = Preparation.unchanged(source.schema.shape) if as_given else None
    loaded = load_data(source, chosen, own, condition=condition, split=False)
    return loaded.prepared_for(model.likelihood.support, is_density=model.likelihood.is_density)


def _is_rescaled(schema: Schema) -> bool:
    """Tell whether floats were read as levels of another scale than [0, 1], on which a model of somebody's own has them."""
    low, high = _range_of(schema)
    floats = schema.levels is not None and schema.fields[0].dtype.startswith(("float", "bfloat"))
    return floats and schema.layout != "table" and not (low == 0.0 and 0.9 < high < 1.01)


def _range_of(schema: Schema) -> tuple[float, float]:
    """Smallest and largest value of the first channel."""
    first = schema.fields[0]
    return first.low, first.low + first.step * ((first.levels or 2) - 1)


@names_missing
@progress_bar()
def evaluate(
    run: str | Path | Run | VAE,
    data: Any = None,
    *,
    split: AnySplit = "test",
    importance_samples: int = 0,
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    model: VAE | None = None,
    options: DataOptions | None = None,
    condition: Any = None,
    device: str = "auto",
) -> Evaluation:
    """Compute the exact numbers of a trained run, or of a model that was trained in a loop of your own.

    Args:
        run: a run folder, what `fit` returned, or a model with a fixed scale.
        data: other data than the run's own: a name, a path, an array, a tensor or a Dataset. A model alone needs them; all of them are
            evaluated then, floats as they are unless `options` says otherwise, and there is no baseline.
        split: `train`, `validation`, `test` or `all`.
        importance_samples: `K` of the importance-weighted bound; 0 for none.
        seed: seed of the dequantisation and latent noise; the same seed gives the same numbers for every batch size.
        batch_size: examples at once.
        limit: so many examples only, evenly spaced.
        model: an instance of the same architecture; needed for the folder of a run of custom modules.
        options: how to read other data.
        condition: condition of other data.
        device: where to compute, to which the model is moved; `auto`: where the model of a `Run`, or `model`, is; else on a
            CUDA device, if one can be used.

    Returns:
        A record. `print` shows its table; `.to_dict()` has plain types.

    Raises:
        CalibraeError: if the run, the data or a number is not usable, saying what to do.
    """
    opened, world = open_together(
        ("evaluate", importance_samples, seed, limit), split, run, data, options, model, device, condition
    )
    found = evaluate_model(
        opened.model,
        opened.data,
        split=split,
        importance_samples=importance_samples,
        seed=seed,
        batch_size=batch_size,
        limit=limit,
        baseline=opened.baseline,
        history=opened.history,
        world=world,
    )
    return replace(found, notes=(*found.notes, *opened.notes(split)))

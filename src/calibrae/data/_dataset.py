"""Split and prepared data, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import tee
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from .._noise import ExampleNoise, mixed_seed
from .._optional import names_missing
from .._types import ALONE, AnySplit, Batch, DataSpec, PreparationName, Split, Support, World
from ..errors import ArgumentError, DataError
from ._cache import hash_array
from ._condition import GIVEN, Condition, hashable, labels_of_all, names_of, with_condition
from ._condition_fit import fit_conditions
from ._noise import byte_noise
from ._open import open_source
from ._prepare import Preparation, prepare
from ._source import LABEL, Array, DataOptions, Source
from ._splits import duplicates, split_views, unsplit_views
from ._trained import require_range
from ._view import Joined, View
from .tables import varying

DEQUANTISE_STREAM = 1
NUMBERS_AT_ONCE = 1 << 24


@final
@dataclass(frozen=True)
class Data:
    """Data ready for a model: splits with their provenance, and a preparation.

    Attributes:
        source: stored data.
        views: the splits.
        preparation: from stored values to the model's.
        provenance: where each split came from.
        condition: coding of the condition; `None` without one.
        labels: conditions of each split, in the order of its rows.
        options: how they were read and split, which a run stores.
    """

    source: Source
    views: Mapping[Split, View]
    preparation: Preparation
    provenance: Mapping[str, str]
    condition: Condition | None = None
    labels: Mapping[AnySplit, Array] = field(default_factory=dict)
    options: DataOptions = field(default_factory=DataOptions)

    @property
    def spec(self) -> DataSpec:
        """Shape, levels and scale of what the model sees."""
        return self.preparation.spec

    def rows_at_once(self, most: int) -> int:
        """Examples that fit into memory together without gradients: fewer than `most` where one is large."""
        return max(1, min(most, NUMBERS_AT_ONCE // self.spec.data_dim))

    def view(self, split: AnySplit) -> View:
        """The stored rows of a split."""
        if split == "all":
            parts = list(self.source.parts.values())
            return View(parts[0] if len(parts) == 1 else Joined(parts))
        if split not in self.views:
            raise DataError(f"`split` must be one of {', '.join(self.views)} or all; got {split!r}.")
        return self.views[split]

    def stored_batches(
        self,
        batches: Iterable[Array],
        generator: torch.Generator,
        source: np.random.Generator,
        *,
        flip: bool = False,
        pinned: bool = False,
        world: World = ALONE,
    ) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
        """Batches of the training set in a given order, perhaps mirrored at random, with what is left to prepare, and contexts.

        Integer data come as they are stored, with fresh random bytes, for `preparation(values, bits)` where they are used: they travel
        as bytes, and a compiled step prepares them in passing. All else comes prepared, without bits.

        Args:
            batches: positions in the training set of each batch.
            generator: generator of mirrors, and of noise that is not bytes.
            source: source of the bytes; see `byte_source`.
            flip: mirror examples left to right at random.
            pinned: in memory from which a CUDA device fetches them by itself.
            world: processes of which each gets its share of a batch; noise is drawn for the whole batch.
        """
        view = self.views["train"]
        contexts = self.contexts("train")
        asked, batches = tee(batches)
        parts = (every[world.part(len(every))] for every in asked)
        for every, raw in zip(batches, view.gathered(parts, world.size, has_card=pinned), strict=True):
            part = world.part(len(every))
            context = None if contexts is None else _placed(contexts[every[part]], pinned)
            if flip:
                mirrored = (torch.rand(len(every), generator=generator) < 0.5)[part]
                raw[mirrored] = raw[mirrored].flip(-1)
            shape = (len(every), *raw.shape[1:])
            if self.preparation.takes_bytes:
                yield _placed(raw, pinned), _placed(byte_noise(shape, source)[part], pinned), context
            else:
                noise = torch.rand(shape, generator=generator)[part] if self.preparation.needs_noise else None
                yield _placed(self.preparation(raw, noise), pinned), None, context

    def contexts(self, split: AnySplit) -> Tensor | None:
        """Contexts of a split, `[N, context_dim]`; `None` without a condition."""
        return None if self.condition is None else self.condition(self.labels[split])

    def batches(
        self, split: AnySplit, batch_size: int, seed: int = 0, limit: int | None = None, world: World = ALONE
    ) -> Iterator[Batch]:
        """Prepared batches in order; their noise belongs to each example and depends on the seed alone.

        Args:
            split: name of the split.
            batch_size: rows a batch.
            seed: seed of the dequantisation noise.
            limit: so many examples only, evenly spaced. Of a training set that is streamed, at most its sample.
            world: processes of which each gets its share of the examples, those of the first process first.
        """
        index = self.positions(split, limit)
        mine = world.part(len(index))
        index, view = index[mine], self.view(split).spaced(self._most(split, limit))
        if not len(index):
            return
        noise = ExampleNoise("uniform", self.spec.data_shape, mixed_seed(seed, len(split)), DEQUANTISE_STREAM)
        contexts = self.contexts(split)
        for raw, rows in zip(view.sliced(batch_size, mine.start, mine.stop), index.split(batch_size), strict=True):
            drawn = noise.rows(rows) if self.preparation.needs_noise else None
            yield Batch(self.preparation(raw, drawn), None if contexts is None else contexts[rows], None, rows)

    def positions(self, split: AnySplit, limit: int | None = None) -> Tensor:
        """Positions in a split of the examples of `batches`, `[n]`."""
        return torch.from_numpy(self.view(split).positions(self._most(split, limit)))

    def _most(self, split: AnySplit, limit: int | None) -> int | None:
        """Limit of the examples of a pass; of training data that no machine holds, their sample stands for all."""
        sample = self.view(split).sample if split == "train" else None
        return limit if sample is None or (limit is not None and limit < sample) else sample

    def gather(self, split: AnySplit, positions: Any, seed: int = 0) -> Batch:
        """Prepared examples at some positions of a split, with the noise that `batches` gives them.

        Raises:
            ArgumentError: if a position does not exist.
        """
        view, rows = self.view(split), np.asarray(positions, dtype=np.int64)
        wrong = rows[(rows < 0) | (rows >= len(view))]
        if len(wrong):
            raise ArgumentError(
                f"positions must lie between 0 and {len(view) - 1} in the {split} split; got {wrong[0]}."
            )
        noise = ExampleNoise("uniform", self.spec.data_shape, mixed_seed(seed, len(split)), DEQUANTISE_STREAM)
        index, contexts = torch.from_numpy(rows), self.contexts(split)
        drawn = noise.rows(index) if self.preparation.needs_noise else None
        return Batch(
            self.preparation(view.gather(rows), drawn), None if contexts is None else contexts[rows], None, index
        )

    def names(self, split: AnySplit, limit: int | None = None) -> list[str]:
        """Name each example of a split: its file, or its position in the stored part, counted from 0.

        Args:
            split: name of the split.
            limit: so many examples only, evenly spaced; the same as those of `batches`.
        """
        view, parts = self.view(split).spaced(self._most(split, limit)), self.source.parts
        owners = [part for part, array in parts.items() if array is view.array] or list(parts)  # of all parts, joined
        prefix = len(owners) > 1
        found = [
            f"{part} {name}" if prefix else name
            for part in owners
            for name in (self.source.names.get(part) or map(str, range(len(parts[part]))))
        ]
        return found if view.index is None else [found[i] for i in view.index]

    def names_at(self, split: AnySplit, positions: Tensor) -> list[str]:
        """Names of the examples at some positions of a split; of a streamed training set their positions."""
        if split == "train" and self.view(split).sample is not None:
            return [str(int(i)) for i in positions]
        every = self.names(split)
        return [every[int(i)] for i in positions]

    def prepared_for(self, support: Support, *, is_density: bool) -> Data:
        """Prepare the data for a likelihood, by what it says of itself.

        Args:
            support: values that the likelihood is for.
            is_density: whether it is a density, for which integers are dequantised, or gives probabilities of integers.

        Raises:
            ArgumentError: if it has no meaning for these data.
        """
        name, spec = self.source.name, self.spec
        if (support == "columns") != bool(spec.columns):
            raise ArgumentError(
                f"a table of mixed columns, or with missing cells (NaN), needs likelihood='mixed', and that needs such a table; got {name} and "
                f"a likelihood of {support} data. Build the model by its data: data = cb.load_data(table); cb.build(spec=data.spec, latent_dim=...); on the command line leave --likelihood out."
            )
        if support == "columns":
            return self
        if support == "binary":
            return self._as_bits()
        if spec.preparation == "binarise":
            raise ArgumentError(
                f"binarised data have no density; got {name} and a {support} likelihood. Take --likelihood bernoulli."
            )
        if support in ("count", "levels"):
            return self._as_integers(support)
        if support == "unit" and not spec.scale.startswith("[0, 1]"):
            raise ArgumentError(
                f"this likelihood is for data on [0, 1]; got {name} with {spec.scale}. Pass --data-range LO,HI, or take another."
            )
        if not is_density and self.source.levels is None:
            raise ArgumentError(f"this likelihood gives probabilities of integers; got floats, {name}. Take a density.")
        return self if is_density else self._as_integers(support)

    def _as_bits(self) -> Data:
        if self.source.levels != 2 and self.spec.preparation != "binarise":
            raise ArgumentError(
                f"a likelihood of binary data needs such data; got {self.source.name} on {self.spec.scale}. Binarise them with "
                "--binarise (in Python `binarise=True`), or take a Gaussian."
            )
        return self._discrete("binarise", "{0, 1}")

    def _as_integers(self, support: str) -> Data:
        levels = self.source.levels
        if levels is None:
            raise ArgumentError(
                f"a likelihood of {support} data needs integers from 0; got others, {self.source.name}. Convert the data to integers."
            )
        return self._discrete("integers", f"integers 0 to {levels - 1}")

    def _discrete(self, preparation: PreparationName, scale: str) -> Data:
        """The stored integers themselves, in place of a density of them."""
        spec = DataSpec(self.spec.data_shape, self.source.levels, preparation, scale)
        zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
        return replace(self, preparation=Preparation(spec, zero, one, zero, self.preparation.schema))

    def identity(self, split: AnySplit) -> str:
        """Cache key of a prepared split."""
        index = None if split == "all" else self.views[split].index
        rows = split if index is None else hash_array(index)
        condition = (
            "" if self.condition is None else f" {self.condition.to_dict()} {hash_array(hashable(self.labels[split]))}"
        )
        return f"{self.source.fingerprint} {rows} {self.preparation.to_dict()}{condition}"

    def describe(self) -> dict[str, Any]:
        """Description for a run's record."""
        return {
            "name": self.source.name,
            "fingerprint": self.source.fingerprint,
            "sizes": {split: len(view) for split, view in self.views.items()},
            "schema": self.source.schema.to_dict(),
            "splits": dict(self.provenance),
            "notes": list(self.source.notes),
            "preparation": self.preparation.to_dict(),
            "condition": None if self.condition is None else self.condition.to_dict(),
        }


@names_missing
def load_data(
    data: Any,
    options: DataOptions | None = None,
    preparation: Preparation | None = None,
    *,
    condition: Any = None,
    coding: Condition | None = None,
    split: bool = True,
) -> Data:
    """Open, split and prepare data.

    Given splits are kept. Where there is no validation set, a seeded tenth (at most 5,000) of the training examples is
    held out; where there is no test set either, a tenth of all (at most 10,000). The test split is never used for
    selection.

    Args:
        data: see `open_source`; or `Data`, returned as it is.
        options: how to read and split.
        preparation: a trained model's preparation, for new data; by default it is fitted on the training split.
        condition: condition of each example, `[N]` or `[N, k]`, or a dict of such by part; or its name, or a list of names, as
            `options.condition`.
        coding: coding of a trained model's condition, to be applied to new data.
        split: whether data that came without splits are split; if not, each split is all of them.

    Raises:
        DataError: if the data cannot be read, split or modelled.
    """
    if isinstance(data, Data):
        if condition is not None:
            raise DataError("these data are prepared already. Give the condition to `load_data` instead.")
        return data
    options = options or DataOptions()
    if names_of(condition, data) is not None:
        options, condition = replace(options, condition=names_of(condition, data)), None
    source = open_source(data, options, None if preparation is None else preparation.schema)
    if condition is not None:
        source, options = with_condition(source, condition), replace(options, condition=GIVEN)
    views, provenance = split_views(source, options) if split else unsplit_views(source)
    if preparation is None:
        if source.schema.is_mixed:
            source = varying(source, views["train"].slice(0, len(views["train"])).numpy())
            views, provenance = split_views(source, options) if split else unsplit_views(source)
        source = _with_notes(source, duplicates(views))
    else:
        source = _with_notes(source, _outside(source, preparation))
    fitted = preparation or prepare(source, views["train"], options)
    loaded = Data(source, views, fitted, provenance, options=options)
    return _conditioned(loaded, options.conditions, coding) if options.conditions else loaded


def _with_notes(source: Source, notes: Iterable[str]) -> Source:
    return replace(source, notes=tuple(dict.fromkeys((*source.notes, *notes))))


def _outside(source: Source, preparation: Preparation) -> list[str]:
    """Notes on continuous values outside the range that a model was trained on; values far outside are refused."""
    notes: list[str] = []
    if source.levels is None and preparation.spec.scale.startswith("[0, 1]"):
        low = float(preparation.shift)
        require_range(source, low, low + float(preparation.scale), notes)
    return notes


def _conditioned(data: Data, names: Sequence[str], coding: Condition | None) -> Data:
    """Data with the labels of each split and their coding."""
    labels = labels_of_all(data.source, data.views, names)
    is_table = data.source.schema.layout == "table" and not {GIVEN, LABEL} & set(names)  # labels are classes
    asked = data.options.columns
    fitted = coding or fit_conditions(names, labels["train"], labels["all"], is_table=is_table, asked=asked)
    return replace(data, condition=fitted, labels=labels)


def _placed(values: Tensor, pinned: bool) -> Tensor:
    return values.pin_memory() if pinned else values

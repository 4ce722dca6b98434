"""Split and prepared data, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from .._types import DataSpec, Split
from ..errors import DataError
from ._arrays import value_range
from ._cache import hash_array
from ._noise import ExampleNoise, byte_noise, byte_source, mixed_seed
from ._open import open_source
from ._prepare import Preparation, prepare, require_range
from ._source import Array, DataOptions, Part, Source
from ._view import Joined, View

MOST_VALIDATION, MOST_TEST = 5_000, 10_000
DEQUANTISE_STREAM = 1
NUMBERS_AT_ONCE = 1 << 24


@final
@dataclass(frozen=True)
class Data:
    """Data ready for a model: splits with their provenance, and a preparation.

    Attributes:
        source: what was stored.
        views: the splits.
        preparation: from stored values to the model's.
        provenance: where each split came from.
    """

    source: Source
    views: Mapping[Split, View]
    preparation: Preparation
    provenance: Mapping[str, str]

    @property
    def spec(self) -> DataSpec:
        """Shape, levels and scale of what the model sees."""
        return self.preparation.spec

    def rows_at_once(self, most: int) -> int:
        """Examples that fit into memory together without gradients: fewer than `most` where one is large."""
        return max(1, min(most, NUMBERS_AT_ONCE // self.spec.data_dim))

    def view(self, split: Split | Literal["all"]) -> View:
        """The stored rows of a split."""
        if split == "all":
            parts = list(self.source.parts.values())
            return View(parts[0] if len(parts) == 1 else Joined(parts))
        if split not in self.views:
            raise DataError(f"`split` must be one of {', '.join(self.views)} or all; got {split!r}.")
        return self.views[split]

    def stored_batches(
        self,
        order: Array,
        batch_size: int,
        generator: torch.Generator,
        source: np.random.Generator,
        *,
        flip: bool = False,
        pinned: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Batches of the training set in a given order, perhaps mirrored at random, with what is left to prepare.

        Integer data come as they are stored, with fresh random bytes, for `preparation(values, bits)` where they are used: they travel
        as bytes, and a compiled step prepares them in passing. All else comes prepared, without bits.

        Args:
            order: positions in the training set.
            batch_size: rows a batch.
            generator: of mirrors, and of noise that is not bytes.
            source: of the bytes; see `byte_source`.
            flip: mirror examples left to right at random.
            pinned: in memory from which a CUDA device fetches them by itself.
        """
        view = self.views["train"]
        for start in range(0, len(order), batch_size):
            raw = view.gather(order[start : start + batch_size])
            if flip:
                mirrored = torch.rand(len(raw), generator=generator) < 0.5
                raw[mirrored] = raw[mirrored].flip(-1)
            if self.preparation.takes_bytes:
                yield _placed(raw, pinned), _placed(byte_noise(raw.shape, source), pinned)
            else:
                noise = torch.rand(raw.shape, generator=generator) if self.preparation.needs_noise else None
                yield _placed(self.preparation(raw, noise), pinned), None

    def training_batches(
        self, order: Array, batch_size: int, generator: torch.Generator, *, flip: bool = False
    ) -> Iterator[Tensor]:
        """Prepared batches of the training set in a given order, with fresh noise, perhaps mirrored at random."""
        source = byte_source(int(torch.randint(1 << 62, (), generator=generator)))
        for values, bits in self.stored_batches(order, batch_size, generator, source, flip=flip):
            yield values if bits is None else self.preparation(values, bits)

    def batches(
        self, split: Split | Literal["all"], batch_size: int, seed: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Pairs of the first example's position and a prepared batch, whose noise depends on the seed alone.

        Args:
            split: which one.
            batch_size: rows a batch.
            seed: of the dequantisation noise, which is the same for every batch size.
            limit: so many examples only, evenly spaced.
        """
        view = self.view(split).spaced(limit)
        noise = ExampleNoise("uniform", self.spec.data_shape, mixed_seed(seed, len(split)), DEQUANTISE_STREAM)
        start = 0
        for raw in view.sliced(batch_size):
            drawn = noise.rows(start, start + len(raw)) if self.preparation.needs_noise else None
            yield start, self.preparation(raw, drawn)
            start += len(raw)

    def names(self, split: Split | Literal["all"], limit: int | None = None) -> list[str]:
        """What each example of a split is called: its file, or its position in the stored part, counted from 0.

        Args:
            split: which one.
            limit: so many examples only, evenly spaced; the same as those of `batches`.
        """
        view, parts = self.view(split).spaced(limit), self.source.parts
        owners = list(parts) if split == "all" else [next(p for p, array in parts.items() if array is view.array)]
        prefix = len(owners) > 1
        found = [
            f"{part} {name}" if prefix else name
            for part in owners
            for name in (self.source.names.get(part) or map(str, range(len(parts[part]))))
        ]
        return found if view.index is None else [found[i] for i in view.index]

    def binarised(self) -> Data:
        """The same with a Bernoulli draw in place of dequantisation; for data that are bits already it changes nothing."""
        spec = replace(self.spec, preparation="binarise", scale="{0, 1}")
        return replace(self, preparation=replace(self.preparation, spec=spec))

    def identity(self, split: Split | Literal["all"]) -> str:
        """What tells these examples, prepared as they are, from all others."""
        index = None if split == "all" else self.views[split].index
        rows = split if index is None else hash_array(index)
        return f"{self.source.fingerprint} {rows} {self.preparation.to_dict()}"

    def describe(self) -> dict[str, Any]:
        """What a run records of its data."""
        return {
            "name": self.source.name,
            "fingerprint": self.source.fingerprint,
            "sizes": {split: len(view) for split, view in self.views.items()},
            "columns": list(self.source.columns),
            "splits": dict(self.provenance),
            "notes": list(self.source.notes),
            "preparation": self.preparation.to_dict(),
        }


def load_data(
    data: Any, options: DataOptions | None = None, preparation: Preparation | None = None, *, split: bool = True
) -> Data:
    """Open, split and prepare data.

    Given splits are kept. Where there is no validation set, a seeded tenth (at most 5,000) of the training examples is
    held out; where there is no test set either, a tenth of all (at most 10,000). The test split is never used for
    selection.

    Args:
        data: see `open_source`; or `Data`, returned as it is.
        options: how to read and split.
        preparation: that of a trained model, to be applied to new data; by default it is fitted on the training split.
        split: whether data that came without splits are split; if not, each split is all of them.

    Raises:
        DataError: if the data cannot be read, split or modelled.
    """
    if isinstance(data, Data):
        return data
    options = options or DataOptions()
    source = open_source(data, options)
    if preparation is not None:
        source = _as_trained(source, preparation)
    views, provenance = _split(source, options) if split or "all" not in source.parts else _unsplit(source)
    return Data(source, views, preparation or prepare(source, views["train"], options), provenance)


def _as_trained(source: Source, preparation: Preparation) -> Source:
    """New data with the levels of those that a model was trained on.

    Raises:
        DataError: if they are of another shape or kind.
    """
    shape = next(iter(source.parts.values())).shape[1:]
    if tuple(shape) != preparation.spec.data_shape:
        raise DataError(
            f"{source.name} has examples of shape {tuple(shape)}; the model was trained on {preparation.spec.data_shape}. "
            "Pass data of that shape."
        )
    levels = preparation.spec.levels
    if levels is None and source.levels is None and preparation.spec.scale.startswith("[0, 1]"):
        low = float(preparation.shift)
        for part, array in source.parts.items():
            require_range(f"{source.name} ({part})", array, low, low + float(preparation.scale))
    if (source.levels is None) != (levels is None):
        came, known = ("floats" if n is None else "integers" for n in (source.levels, levels))
        raise DataError(f"{source.name} holds {came}; the model was trained on {known}. Convert the data.")
    if source.levels == levels or levels is None:
        return source
    most = max(value_range(array)[1] for array in source.parts.values())
    if most >= levels:
        raise DataError(
            f"{source.name} holds integers up to {most:g}; the model was trained on {levels} levels, 0 to {levels - 1}. "
            "Bring the data to that range."
        )
    return replace(source, levels=levels)


def _unsplit(source: Source) -> tuple[dict[Split, View], dict[str, str]]:
    names: tuple[Split, ...] = ("train", "validation", "test")
    return {name: View(source.parts["all"]) for name in names}, dict.fromkeys(names, "all examples, as given")


def _split(source: Source, options: DataOptions) -> tuple[dict[Split, View], dict[str, str]]:
    """Given parts as they are; what is missing is held out of the training examples."""
    parts: dict[Part, View] = {part: View(array) for part, array in source.parts.items()}
    provenance = {str(part): "given" for part in parts}
    if "all" in parts:
        parts["train"] = parts.pop("all")
        provenance["train"] = "all examples"
    missing: tuple[tuple[Split, float, int, int], ...] = (
        ("test", options.test_fraction, MOST_TEST, 0),
        ("validation", options.validation_fraction, MOST_VALIDATION, 1),
    )
    for name, fraction, most, stream in missing:
        if name not in parts:
            pool = parts["train"]
            count = _held_out(source.name, len(pool), fraction, most)
            parts["train"], parts[name] = _part(pool, count, mixed_seed(options.split_seed, stream))
            provenance[name] = f"{count} of the {len(pool)} training examples, split seed {options.split_seed}"
            provenance["train"] = provenance["train"].split(",")[0] + ", without what was held out"
    names: tuple[Split, ...] = ("train", "validation", "test")
    return {name: parts[name] for name in names}, {name: provenance[name] for name in names}


def _held_out(name: str, count: int, fraction: float, most: int) -> int:
    held_out = min(most, max(1, round(count * fraction)))
    if count - held_out < 2:
        raise DataError(
            f"{name}: at least 4 examples are needed to hold some out for validation and test and train on the rest; got "
            f"{count} to split. Add examples."
        )
    return held_out


def _part(pool: View, count: int, seed: int) -> tuple[View, View]:
    """All but `count` rows, and `count` rows, each in the stored order."""
    order = np.random.default_rng(seed).permutation(len(pool))
    rows = np.arange(len(pool)) if pool.index is None else pool.index
    return View(pool.array, rows[np.sort(order[count:])]), View(pool.array, rows[np.sort(order[:count])])


def _placed(values: Tensor, pinned: bool) -> Tensor:
    return values.pin_memory() if pinned else values

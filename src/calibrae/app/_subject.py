"""A run as one answer sees it: opened, in eval mode, with a split and a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..data import Data
from ..errors import ArgumentError, RunError
from ..models import VAE
from ..workflows import Run
from ._bench import Bench, whole

ROWS = 2000  # of a table, whose spread is drawn
NUMBERS = 1 << 26  # of all examples of an answer


@final
@dataclass(frozen=True)
class Subject:
    """A run, a split and a seed.

    Attributes:
        run: the run.
        split: the split.
        seed: seed of all noise.
    """

    run: Run
    split: Any
    seed: int

    @property
    def model(self) -> VAE:
        """The trained model, in eval mode, which others use too."""
        return self.run.model

    @property
    def data(self) -> Data:
        """The data that it was trained on."""
        return self.run.data

    @property
    def names(self) -> tuple[str, ...]:
        """Names of a table's columns."""
        return self.data.source.columns

    @property
    def is_table(self) -> bool:
        """Tell whether examples are rows."""
        return len(self.data.spec.data_shape) == 1

    @property
    def some_rows(self) -> np.ndarray:
        """Rows of a split in the units of the data, evenly spaced, `[N, D]`; words by their codes."""
        if self.data.source.schema.is_mixed:
            view = self.data.view(self.split).spaced(ROWS)
            stored: np.ndarray = view.slice(0, len(view)).double().numpy()
            return stored
        batches = self.data.batches(self.split, ROWS, self.seed, ROWS)
        found: np.ndarray = np.concatenate(
            [self.data.preparation.restore(batch.x).double().numpy() for batch in batches]
        )
        return found

    def require_drawable(self, n: int) -> None:
        """Raise `ArgumentError` unless so many examples can be decoded and drawn at once."""
        most = max(1, NUMBERS // self.data.spec.data_dim)
        if n > most:
            raise ArgumentError(
                f"at most {most:,} examples of this size can be shown at once; got {n:,}. Ask for fewer."
            )

    def contexts(self, n: int, condition: str) -> Tensor | None:
        """Contexts of `n` samples: of the condition that was typed, or spread as in the split.

        Raises:
            ArgumentError: if it is none of the run's conditions.
        """
        coding, typed = self.run.condition, condition.strip()
        if coding is None and not typed:
            return None
        if typed:
            return self.run.contexts(typed if coding is None else coding.typed(typed), n)
        known = self.data.contexts(self.split)
        assert known is not None
        return known[torch.linspace(0, len(known) - 1, n).long()]

    def positions(self, text: str) -> list[int]:
        """Positions of 2 or 4 examples.

        Raises:
            ArgumentError: if they are not whole numbers, or not 2 or 4.
        """
        try:
            found = [int(part) for part in text.split(",")]
        except ValueError:
            raise ArgumentError(f"positions must be whole numbers, as in 0,5 or 0,1,2,3; got {text[:60]!r}.") from None
        if len(found) not in (2, 4):
            raise ArgumentError(f"an interpolation is between 2 or 4 examples; got {len(found)}.")
        last = len(self.data.view(self.split)) - 1
        if not all(0 <= position <= last for position in found):
            raise ArgumentError(f"positions in the {self.split} split go from 0 to {last:,}; got {text[:60]!r}.")
        return found


def subject_of(bench: Bench, run: str | None, split: Any, seed: float | None) -> Subject:
    """Open a run for an answer.

    Raises:
        RunError: if none is chosen, or it cannot be opened.
    """
    if not run:
        raise RunError("choose a run. If there is none, train one on the page Train.")
    bench.require_allowed(bench.shelf.config(run)["data"].get("source"))
    return Subject(bench.shelf.open(run), split, whole(seed, "the seed", 0, 2**31 - 1))

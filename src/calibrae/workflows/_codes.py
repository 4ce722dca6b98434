"""Codes of a split on two axes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .._types import AnySplit, Batch
from ..data import Data
from ..errors import ArgumentError
from ..evaluation import summarise_split
from ..figures import save_map
from ..figures.page import map_plot
from ..models import VAE, evaluating, mean_of

MAPPED = 1500  # examples


@final
@dataclass(frozen=True)
class CodeMap:
    """Posterior means of some examples on their first two principal components.

    Attributes:
        points: `[N, 2]`.
        rows: positions of the examples in their split, `[N]`.
        names: names of the examples.
        groups: class of each, for a model that is conditional on classes; else empty.
        values: ELBO of each, nats, where there are no classes and the model has one; else empty.
        by: how they are coloured, in words.
    """

    points: Tensor
    rows: Tensor
    names: list[str]
    groups: list[str]
    values: list[float]
    by: str

    def draw(self, path: Path) -> npt.NDArray[np.float64]:
        """Draw the map; see `figures.save_map`."""
        how: dict[str, Any] = {"groups": self.groups, "values": self.values, "axes": "principal component"}
        return save_map(self.points, path, title=f"{len(self.points):,} codes, coloured {self.by}", **how)

    def plot(self) -> dict[str, Any]:
        """The map as a plot that answers to the mouse."""
        return map_plot(self.points, self.names, self.groups, self.values or [0.0] * len(self.names))


def code_map(model: VAE, data: Data, split: AnySplit, seed: int = 0) -> CodeMap:
    """Map some examples of a split, evenly spaced.

    Raises:
        ArgumentError: if there are fewer than two latents, or three examples.
    """
    codes, rows = _codes(model, data, split, seed)
    if codes.shape[1] < 2 or len(codes) < 3:
        raise ArgumentError(
            f"a map needs 2 latents and 3 examples at least; got {codes.shape[1]} and {len(codes)}. Train with more latents."
        )
    centred = codes - codes.mean(0)
    points = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T
    groups = _groups(data, split, rows)
    values = [] if groups or not model.is_probabilistic else _elbos(model, data, split, seed, len(rows))
    by = f"by {data.condition.name}" if groups and data.condition is not None else "by the ELBO" if values else "alike"
    return CodeMap(points, rows, data.names_at(split, rows), groups, values, by)


def _codes(model: VAE, data: Data, split: AnySplit, seed: int) -> tuple[Tensor, Tensor]:
    """Posterior means of some examples, and their positions."""
    codes, rows = [], []
    with evaluating(model):
        for batch in data.batches(split, data.rows_at_once(512), seed, MAPPED):
            here: Batch = batch.to(model.device)
            codes.append(mean_of(model.encode(here.x, here.context)).double().cpu())
            rows.append(batch.index)
    return torch.cat(codes), torch.cat(rows)  # type: ignore[arg-type]


def _elbos(model: VAE, data: Data, split: AnySplit, seed: int, count: int) -> list[float]:
    found = summarise_split(model, data, split, seed=seed, limit=MAPPED).elbos
    return found.tolist() if len(found) == count else []


def _groups(data: Data, split: AnySplit, rows: Tensor) -> list[str]:
    labels = data.labels.get(split)
    if data.condition is None or labels is None or data.condition.kind != "classes":
        return []
    return [str(label) for label in labels[rows.numpy()].tolist()]

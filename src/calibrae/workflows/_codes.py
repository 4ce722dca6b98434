"""Codes of a split on two axes."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .._types import AnySplit, Batch
from ..data import Data, class_labels
from ..errors import ArgumentError, MissingExtraError
from ..evaluation import summarise_split
from ..figures import MOST_GROUPS, save_map
from ..figures.page import map_plot
from ..models import VAE, evaluating, mean_of

MAPPED = 1500  # examples
NEIGHBOURS = 1000  # examples of a map by neighbours, which takes longer
FEWEST = 30  # examples of such a map
Method = Literal["pca", "t-sne", "umap"]
Colour = Literal["classes", "elbo"]
AXES = {"pca": "principal component", "t-sne": "t-SNE axis", "umap": "UMAP axis"}


@final
@dataclass(frozen=True)
class CodeMap:
    """Posterior means of some examples on two axes.

    Attributes:
        points: `[N, 2]`.
        rows: positions of the examples in their split, `[N]`.
        names: names of the examples.
        groups: class of each, where they are coloured by classes; else empty.
        values: ELBO of each, nats, where they are coloured by it; else empty.
        by: how they are coloured, in words.
        method: `pca` for the first two principal components, or a map that keeps neighbours together.
    """

    points: Tensor
    rows: Tensor
    names: list[str]
    groups: list[str]
    values: list[float]
    by: str
    method: Method = "pca"

    def draw(self, path: Path) -> npt.NDArray[np.float64]:
        """Draw the map; see `figures.save_map`."""
        how: dict[str, Any] = {"groups": self.groups, "values": self.values, "axes": AXES[self.method]}
        return save_map(self.points, path, title=f"{len(self.points):,} codes, coloured {self.by}", **how)

    def plot(self) -> dict[str, Any]:
        """The map as a plot that answers to the mouse."""
        return map_plot(self.points, self.names, self.groups, self.values, axes=AXES[self.method])


def code_map(
    model: VAE, data: Data, split: AnySplit, seed: int = 0, method: Method = "pca", colour: Colour = "classes"
) -> CodeMap:
    """Map some examples of a split, evenly spaced.

    Args:
        model: in any mode.
        data: its data.
        split: the split.
        seed: seed of all noise.
        method: `pca`, on whose map distances are those of the codes; `t-sne` or `umap`, which keep neighbours together, and on which
            distances and the sizes of groups say nothing.
        colour: `classes` of the condition, or else of the one label that came with the data (of 18 classes at most), or else the ELBO;
            or `elbo`.

    Raises:
        ArgumentError: if there are fewer than two latents, or too few examples, or nothing by which to colour them so.
        MissingExtraError: for a method whose package is not installed.
    """
    if colour not in get_args(Colour):
        raise ArgumentError(f"`colour` must be one of {', '.join(get_args(Colour))}; got {colour!r}.")
    if colour == "elbo" and not model.is_probabilistic:
        raise ArgumentError("a plain autoencoder has no ELBO to colour a map by. Take the classes.")
    codes, rows = _codes(model, data, split, seed, MAPPED if method == "pca" else NEIGHBOURS)
    if codes.shape[1] < 2:
        raise ArgumentError("a map needs 2 latents at least; this model has 1. Train with more.")
    if len(codes) < 3:
        raise ArgumentError(f"a map needs 3 examples at least; the {split} split has {len(codes)}. Take another split.")
    points = _placed(codes, method, seed)
    name, groups = _groups(data, split, rows) if colour == "classes" else ("", [])
    values = [] if groups or not model.is_probabilistic else _elbos(model, data, split, seed, len(rows))
    by = f"by {name}" if groups else "by the ELBO" if values else "alike"
    return CodeMap(points, rows, data.names_at(split, rows), groups, values, by, method)


def _placed(codes: Tensor, method: Method, seed: int) -> Tensor:
    """Codes `[N, d]` on two axes, `[N, 2]`."""
    centred = codes - codes.mean(0)
    if method == "pca":
        axes: Tensor = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
        return centred @ axes.T
    if len(codes) < FEWEST:
        raise ArgumentError(f"a map of neighbours needs {FEWEST} examples at least; got {len(codes)}. Take the PCA.")
    if method == "umap":
        return torch.from_numpy(np.asarray(_umap()(random_state=seed).fit_transform(centred.numpy()), np.float64))
    from sklearn.manifold import TSNE

    return torch.from_numpy(TSNE(init="pca", random_state=seed).fit_transform(centred.numpy()).astype(np.float64))


def has_umap() -> bool:
    """Tell whether UMAP is installed, which no extra brings."""
    return importlib.util.find_spec("umap") is not None


def _umap() -> Any:
    if not has_umap():
        raise MissingExtraError("this needs UMAP, which is not installed. Install it: pip install umap-learn")
    return importlib.import_module("umap").UMAP


def _codes(model: VAE, data: Data, split: AnySplit, seed: int, most: int) -> tuple[Tensor, Tensor]:
    """Posterior means of some examples, and their positions."""
    codes, rows = [], []
    with evaluating(model):
        for batch in data.batches(split, data.rows_at_once(512), seed, most):
            here: Batch = batch.to(model.device)
            codes.append(mean_of(model.encode(here.x, here.context)).double().cpu())
            rows.append(batch.index)
    return torch.cat(codes), torch.cat(rows)  # type: ignore[arg-type]


def _elbos(model: VAE, data: Data, split: AnySplit, seed: int, count: int) -> list[float]:
    found = summarise_split(model, data, split, seed=seed, limit=count).elbos
    return found.tolist() if len(found) == count else []


def _groups(data: Data, split: AnySplit, rows: Tensor) -> tuple[str, list[str]]:
    """Name of the classes by which examples can be told apart, and the class of each; empty without classes."""
    if data.condition is not None and data.condition.kind == "classes":
        known: tuple[str, Mapping[AnySplit, Any]] | None = data.condition.name, data.labels
    else:
        known = class_labels(data.source, data.views, MOST_GROUPS, without=data.options.conditions)
    labels = None if known is None else known[1].get(split)
    if known is None or labels is None or len(labels) != len(data.view(split)):
        return "", []
    return known[0], [_in_words(label) for label in labels[rows.numpy()].tolist()]


def _in_words(label: Any) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)

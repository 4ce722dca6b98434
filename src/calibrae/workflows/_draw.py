"""Draw from a trained model: reconstructions, samples, codes, walks; as arrays and pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .._types import Split
from ..data import Data, ExampleNoise
from ..errors import ArgumentError
from ..figures import save_curves, save_grid, save_histograms, save_pairs, save_walks
from ..models import VAE, CompiledIfItPays, evaluating, interpolation, summarise, traversal
from ..runs import RunFolder, replace_file, replace_text
from ._run import Run, stored_data

ROWS, COLUMNS = 4, 10
SAMPLED_ROWS = 1000  # of a table, whose pictures are histograms and scatter plots
TRAVERSED, STEPS = 10, 11
AT_ONCE = 512  # examples
DIAGNOSED = 2000  # examples that rank the latents


def first_examples(data: Data, split: Split | Literal["all"], n: int, seed: int = 0) -> Tensor:
    """`n` evenly spaced, prepared examples of a split."""
    if n < 1:
        raise ArgumentError(f"the number of examples must be at least 1; got {n}.")
    return torch.cat([x for _, x in data.batches(split, data.rows_at_once(512), seed, limit=n)])


def reconstruct(model: VAE, x: Tensor) -> Tensor:
    """Reconstructions at the posterior mean, in eval mode, without gradients."""
    with evaluating(model):
        return model.reconstruct(x.to(model.device)).cpu()


def sample(model: VAE, n: int, *, noise: bool = False, seed: int = 0) -> Tensor:
    """`n` seeded samples: decoder means, or with its noise."""
    if n < 1:
        raise ArgumentError(f"the number of samples must be at least 1; got {n}.")
    generator = torch.Generator().manual_seed(seed)
    decode = CompiledIfItPays(lambda z: (model.decode(z),), model.device, n // AT_ONCE, what="sampling")

    def drawn(count: int) -> Tensor:
        if noise or not model.posterior.is_density:
            return model.sample(count, noise, generator)
        return decode(model.prior.sample(count, generator))[0]

    with evaluating(model):
        return torch.cat([drawn(min(AT_ONCE, n - i)).cpu() for i in range(0, n, AT_ONCE)])


def encode(
    model: VAE,
    data: Data,
    split: Split | Literal["all"],
    *,
    what: Literal["mean", "sample", "log_std"] = "mean",
    seed: int = 0,
) -> Tensor:
    """Codes of a split, `[N, d]`: posterior means by default, or samples, or log standard deviations."""
    if what not in ("mean", "sample", "log_std"):
        raise ArgumentError(f"`what` must be mean, sample or log_std; got {what!r}.")
    if what == "log_std" and not model.posterior.is_density:
        raise ArgumentError("a plain autoencoder's code has no standard deviation. Take what='mean'.")

    def codes(x: Tensor, noise: Tensor) -> tuple[Tensor]:
        posterior = model.encode(x)
        if what == "sample":
            return (posterior.sample(noise),)
        return (posterior.mean if what == "mean" else posterior.features()[1],)

    size, drawn = data.rows_at_once(AT_ONCE), ExampleNoise("normal", (model.latent_dim,), seed)
    found = CompiledIfItPays(codes, model.device, len(data.view(split)) // size, what="encoding")
    with evaluating(model):
        batches = ((start, x.to(model.device)) for start, x in data.batches(split, size, seed))
        return torch.cat([found(x, drawn.rows(start, start + len(x)).to(x))[0].cpu() for start, x in batches])


def interpolate(model: VAE, corners: Tensor, steps: int) -> Tensor:
    """Reconstructions between 2 or 4 examples `[2 or 4, *data]`."""
    with evaluating(model):
        z = interpolation(model.encode(corners.to(model.device)).mean, steps)
        return model.decode(z).cpu()


def ranked_latents(model: VAE, data: Data, n: int) -> Tensor:
    """The `n` latents with the largest KL (or, for a plain autoencoder, spread), most informative first."""
    noise = ExampleNoise("normal", (model.latent_dim,), 0)
    summary = summarise(model, data.batches("validation", data.rows_at_once(512), limit=DIAGNOSED), noise.rows)
    rank = summary.kl_per_dim if summary.is_bound else summary.posterior_mean_var
    return rank.argsort(descending=True)[: min(n, model.latent_dim)]


def traverse(model: VAE, data: Data, *, n: int = TRAVERSED, steps: int = STEPS, reach: float = 3.0) -> Tensor:
    """Decoded walks along the most informative latents from the prior's mean, `[k * steps, *data]`."""
    dims = ranked_latents(model, data, n)
    with evaluating(model):
        return model.decode(traversal(torch.zeros(model.latent_dim, device=model.device), dims, steps, reach)).cpu()


def column_names(run: str | Path) -> tuple[str, ...]:
    """What the columns of a run's table are called; none for pictures and signals."""
    return tuple(stored_data(RunFolder.open(run)).get("columns", ()))


def save_picture(
    x: Tensor,
    path: Path,
    *,
    columns: int,
    names: Sequence[str] = (),
    reference: Tensor | None = None,
    walks: bool = False,
    title: str = "",
) -> Path:
    """Pictures and signals as a grid; table rows column by column.

    Args:
        x: `[N, *data]`, in the units of the data.
        path: of the PNG.
        columns: of the grid; the steps of a walk.
        names: of a table's columns.
        reference: the originals of reconstructions.
        walks: whether `x` is walks through the latent space, a row of the grid each.
        title: of panels.
    """
    if x.ndim > 2:
        return save_grid(x, path, columns, reference=reference, title=title)
    names = names or [f"column {i + 1}" for i in range(x.shape[1])]
    if reference is not None:
        return save_pairs(reference, x, path, names, title=f"{title} against the data")
    return save_walks(x, path, names, columns, title=title) if walks else save_histograms(x, path, names, title=title)


def save_arrays(x: Tensor, path: Path, names: Sequence[str] = (), examples: Sequence[str] = ()) -> Path:
    """Write numbers as `.npy`, or as `.csv` with one row an example.

    Args:
        x: `[N, ...]`.
        path: of the file.
        names: of the columns of a `.csv`; by default `x0, x1, ...`.
        examples: what each row of a `.csv` is called, in a first column.

    Raises:
        ArgumentError: for another suffix.
    """
    values = x.detach().cpu().numpy()
    if path.suffix == ".npy":
        replace_file(path, lambda temporary: np.save(temporary, values))
    elif path.suffix == ".csv":
        stream = io.StringIO()
        flat = values.reshape(len(values), -1)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow((["example"] if examples else []) + list(names or [f"x{i}" for i in range(flat.shape[1])]))
        for i, row in enumerate(flat):
            writer.writerow(([examples[i]] if examples else []) + [f"{value:.9g}" for value in row])
        replace_text(path, stream.getvalue())
    else:
        raise ArgumentError(f"arrays are written as .npy or .csv; got {path.name}.")
    return path


def draw_run(run: Run, floor: float | None = None) -> list[Path]:
    """Curves, reconstructions, samples and a traversal into the run's folder."""
    model, data, folder = run.model, run.data, run.path
    shown = ROWS // 2 * COLUMNS if len(data.spec.data_shape) > 1 else SAMPLED_ROWS
    x, restore = first_examples(data, "validation", shown), data.preparation.restore
    x_hat = restore(reconstruct(model, x))
    draw = partial(save_picture, names=data.source.columns)
    walks = restore(traverse(model, data))
    drawn = [
        save_curves(run.history, folder / "curves.png", floor),
        draw(x_hat, folder / "reconstructions.png", columns=COLUMNS, reference=restore(x), title="reconstructions"),
        draw(walks, folder / "traversal.png", columns=STEPS, walks=True, title="traversal"),
    ]
    if model.posterior.is_density:
        samples = restore(sample(model, ROWS * COLUMNS if x.ndim > 2 else SAMPLED_ROWS))
        drawn.append(draw(samples, folder / "samples.png", columns=COLUMNS, title="samples (means)"))
    return drawn


def parse_corners(indices: Sequence[int], data: Data, split: Split | Literal["all"], seed: int = 0) -> Tensor:
    """The prepared examples at some positions of a split.

    Raises:
        ArgumentError: if a position does not exist.
    """
    count = len(data.view(split))
    wrong = [i for i in indices if not 0 <= i < count]
    if wrong:
        raise ArgumentError(f"positions must lie between 0 and {count - 1} in the {split} split; got {wrong[0]}.")
    raw = data.view(split).gather(np.asarray(indices))
    noise = torch.rand(raw.shape, generator=torch.Generator().manual_seed(seed))
    return data.preparation(raw, noise)

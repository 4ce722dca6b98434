"""Draw from a trained model: reconstructions, samples, codes, walks; as arrays and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._noise import ExampleNoise
from .._progress import counter
from .._types import AnySplit, Batch
from ..acceleration import AutoCompiled
from ..data import Data
from ..errors import ArgumentError, first_line
from ..evaluation import digest_of
from ..figures import save_curves
from ..latents import log_std_of, reparameterise
from ..likelihoods import mean_of_data
from ..models import VAE, evaluating, interpolation, mean_of, sample_latents, summarise, traversal
from ..runs import replace_file
from ..training import meet, progress_bar
from ._over import save_rows_over_data
from ._picture import save_picture
from ._run import Run
from ._stored import run_preparation

ROWS, COLUMNS = 4, 10
ARRAYS = "pictures.npz"
SAMPLED_ROWS = 1000  # of a table, whose pictures are histograms and scatter plots
TRAVERSED, STEPS = 10, 11
AT_ONCE = 512  # examples
DIAGNOSED = 2000  # examples that rank the latents


def examples(data: Data, split: AnySplit, n: int | None = None, seed: int = 0) -> Batch:
    """Prepared examples of a split with their contexts: `n` evenly spaced, or all."""
    if n is not None and n < 1:
        raise ArgumentError(f"the number of examples must be at least 1; got {n}.")
    batches = list(data.batches(split, data.rows_at_once(AT_ONCE), seed, limit=n))
    contexts = [batch.context for batch in batches if batch.context is not None]
    return Batch(torch.cat([batch.x for batch in batches]), torch.cat(contexts) if contexts else None)


def reconstruct(model: VAE, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Reconstructions at the posterior mean, in eval mode, without gradients."""
    with evaluating(model):
        given = None if context is None else context.to(model.device)
        return model.reconstruct(x.to(model.device), given).cpu()


def sample(model: VAE, n: int, contexts: Tensor | None = None, *, noise: bool = False, seed: int = 0) -> Tensor:
    """Draw `n` seeded samples on the model's scale: means of `p(x|z)`, or with its noise.

    Args:
        model: in any mode.
        n: number of samples.
        contexts: `[n, context_dim]`, for a conditional model.
        noise: draw from `p(x|z)`.
        seed: seed of all noise.
    """
    if n < 1:
        raise ArgumentError(f"the number of samples must be at least 1; got {n}.")
    generator = torch.Generator().manual_seed(seed)
    decode = AutoCompiled(lambda z, c: mean_of_data(model.decode(z, c)), model.device, n // AT_ONCE, label="sampling")

    def drawn(start: int) -> Tensor:
        count = min(AT_ONCE, n - start)
        context = None if contexts is None else contexts[start : start + count].to(model.device)
        p = model.prior_for(context, count) if not noise and model.is_probabilistic else None
        if p is None or p.batch_shape:
            return model.sample(count, noise, context, generator)
        found: Tensor = decode(sample_latents(p, count, model.device, generator), context)
        return found

    with evaluating(model):
        return torch.cat([drawn(start).cpu() for start in range(0, n, AT_ONCE)])


@progress_bar()
def encode(
    model: VAE,
    data: Data,
    split: AnySplit,
    *,
    what: Literal["mean", "sample", "log_std"] = "mean",
    seed: int = 0,
    device: str = "cpu",
) -> Tensor:
    """Codes of a split, `[N, d]`: posterior means by default, or samples, or log standard deviations.

    Raises:
        ArgumentError: for another word, or what the posterior cannot tell.
    """
    if what not in ("mean", "sample", "log_std"):
        raise ArgumentError(f"`what` must be mean, sample or log_std; got {what!r}.")
    if what == "log_std" and not model.posterior.is_density:
        raise ArgumentError("a plain autoencoder's code has no standard deviation. Take what='mean'.")

    def codes(x: Tensor, eps: Tensor, context: Tensor | None) -> Tensor:
        q = model.encode(x, context)
        if what == "mean":
            return mean_of(q)
        found = reparameterise(q, eps) if what == "sample" else log_std_of(q)
        if found is None:
            raise ArgumentError(
                f"a {type(q).__name__} posterior cannot tell its {what} of each example. Take what='mean'."
            )
        return found

    size, drawn = data.rows_at_once(AT_ONCE), ExampleNoise("normal", (model.latent_dim,), seed)
    count = len(data.positions(split))
    if count < len(data.view(split)):
        raise ArgumentError(
            f"the training split of a stream is not encoded whole: {len(data.view(split)):,} examples. Take another split."
        )
    world = meet(device, lambda: repr(("encode", what, seed, split, data.identity(split), digest_of(model)))).over(
        count
    )
    found = AutoCompiled(codes, model.device, count // world.size // size, label="encoding")
    with evaluating(model):
        batches = (batch.to(model.device) for batch in data.batches(split, size, seed, world=world))
        own, step = list[Tensor](), counter("encoding", len(range(count)[world.part(count)]))
        for b in batches:
            own.append(found(b.x, drawn.rows(b.index).to(b.x), b.context).cpu())  # type: ignore[arg-type]
            step(len(b))
    everywhere: Tensor = world.rows(torch.cat(own))
    return everywhere


def interpolate(model: VAE, corners: Batch, steps: int) -> Tensor:
    """Decode the way between 2 or 4 examples `[2 or 4, *data]`, with the context of the first."""
    corners = corners.to(model.device)
    with evaluating(model):
        z = interpolation(mean_of(model.encode(corners.x, corners.context)), steps)
        context = None if corners.context is None else corners.context[:1].expand(len(z), -1)
        return mean_of_data(model.decode(z, context)).cpu()


class Ranking(NamedTuple):
    """Ranking of latents, most informative first.

    Attributes:
        dims: their numbers, `[n]`.
        values: number by which each is ranked, `[n]`.
        by: its name.
    """

    dims: Tensor
    values: Tensor
    by: str

    @property
    def labels(self) -> list[str]:
        """Number and value of each latent."""
        unit = " nats" if self.by == "KL" else ""
        return [f"z{int(dim)}: {float(value):.2f}{unit}" for dim, value in zip(self.dims, self.values, strict=True)]


class Walks(NamedTuple):
    """Walks along latents.

    Attributes:
        x: decoded points, `[k * steps, *data]`.
        ranking: the latents, in their order.
        nearest: step of each walk that is nearest to the code it was started from, `[k]`; -1 where that lies beyond the walk.
    """

    x: Tensor
    ranking: Ranking
    nearest: Tensor


def ranked_latents(model: VAE, data: Data, n: int) -> Ranking:
    """The `n` most informative latents.

    By the KL of each; where the KL does not split into latents, by the variance of the posterior means.

    Raises:
        ArgumentError: if the posterior can tell neither.
    """
    noise = ExampleNoise("normal", (model.latent_dim,), 0)
    summary = summarise(model, data.batches("validation", data.rows_at_once(512), limit=DIAGNOSED), noise.rows)
    by_kl = summary.kl_per_dim
    rank, by = (by_kl, "KL") if by_kl is not None else (summary.posterior_mean_var, "variance of the posterior means")
    if rank is None:
        raise ArgumentError("the latents of this posterior cannot be ranked: it has no KL per latent and no mean.")
    dims = rank.argsort(descending=True)[: min(n, model.latent_dim)]
    return Ranking(dims, rank[dims], by)


def traverse(
    model: VAE,
    data: Data,
    *,
    n: int = TRAVERSED,
    steps: int = STEPS,
    reach: float = 3.0,
    context: Tensor | None = None,
    ranking: Ranking | None = None,
    code: Tensor | None = None,
) -> Walks:
    """Decode walks along the most informative latents.

    Each goes `reach` of the prior's standard deviations to both sides of the prior's mean; without a prior, or where it cannot tell
    these, of 0 in units of 1. The other latents stay at that mean, or at the code of an example.

    Args:
        model: in any mode.
        data: whose validation split ranks the latents.
        n: number of latents.
        steps: points on each walk.
        reach: how far, in standard deviations of the prior.
        context: context `[context_dim]` of all, for a conditional model; by default that of the first validation example.
        ranking: latents to walk along; by default the `n` most informative.
        code: values `[d]` of the latents that stay; by default the prior's mean.
    """
    ranking = ranked_latents(model, data, n) if ranking is None else ranking
    if context is None and model.context_dim:
        first = data.gather("validation", [0]).context
        assert first is not None
        context = first[0]
    given = None if context is None else context.to(model.device)[None]
    with evaluating(model):
        origin, unit = prior_middle(model, given)
        start = torch.zeros_like(origin) if code is None else (code.to(origin) - origin) / unit
        dims = ranking.dims.to(origin.device)
        z = origin + unit * traversal(start, dims, steps, reach)
    begun = start[dims].cpu()
    nearest = (torch.linspace(-reach, reach, steps) - begun[:, None]).abs().argmin(1)
    nearest[begun.abs() > reach] = -1
    return Walks(decode(model, z, given), ranking, nearest)


def decode(model: VAE, z: Tensor, context: Tensor | None = None) -> Tensor:
    """Means of `p(x|z)` at codes `[N, d]`, with one context `[1, context_dim]` for all or one for each."""
    with evaluating(model):
        given = None if context is None else context.to(model.device).expand(len(z), -1)
        return mean_of_data(model.decode(z.to(model.device), given)).cpu()


def prior_middle(model: VAE, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the prior, `[d]`; 0 and 1 without a prior, or where it cannot tell them."""
    usual = torch.zeros(model.latent_dim, device=model.device), torch.ones(model.latent_dim, device=model.device)
    p = model.prior_for(context, 1)
    if p is None:
        return usual
    try:
        mean, std = p.mean.reshape(-1).to(model.device), p.stddev.reshape(-1).to(model.device)
    except NotImplementedError:
        return usual
    finite = bool(torch.isfinite(mean).all() and torch.isfinite(std).all())
    return (mean, std) if finite else usual


def column_names(run: str | Path) -> tuple[str, ...]:
    """Names of the columns of a run's table; none for pictures and signals."""
    schema = run_preparation(run).schema
    return () if schema is None else schema.columns


def draw_run(run: Run, baseline: tuple[str, float] | None = None) -> list[str]:
    """Draw curves, reconstructions, samples and a traversal into the run's folder; what they show is in `pictures.npz` too.

    Returns:
        Sentences that name each picture that could not be drawn: training is done, and none of them takes it down.
    """
    drawing = _Drawing(run, baseline)
    again = {"reconstructions": "reconstruct", "traversal": "traverse", "samples": "sample"}
    failed = []
    for name, draw in drawing.pictures():
        try:
            draw(run.path / f"{name}.png")
        except Exception as error:  # whatever a picture stumbles over, the model is trained and saved
            how = f"; again: calibrae {again[name]} {run.path}" if name in again else ""
            failed.append(f"{name}.png could not be drawn: {first_line(error)}{how}")
    if drawing.arrays:
        replace_file(run.path / ARRAYS, partial(_save_npz, arrays=drawing.arrays))
    return failed


def _save_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    named: dict[str, Any] = dict(arrays)
    with path.open("wb") as stream:  # by its name alone, NumPy would add a suffix
        np.savez_compressed(stream, **named)


class _Drawing:
    """The pictures of a run, each drawn on its own."""

    def __init__(self, run: Run, baseline: tuple[str, float] | None) -> None:
        self.run, self.baseline = run, baseline
        self.model, self.data = run.model, run.data
        self.draw = partial(save_picture, names=self.data.source.columns, fields=self.data.source.schema.fields)
        self.is_table = len(self.data.spec.data_shape) == 1
        self.arrays: dict[str, np.ndarray] = {}

    def _units(self, name: str, x: Tensor) -> Tensor:
        """Examples in the units of a picture; in those of the data they are kept under a name."""
        self.arrays[name] = self.run.in_units(x)
        return self.data.preparation.restore(x)

    def pictures(self) -> list[tuple[str, Callable[[Path], object]]]:
        """Names and drawers."""
        found: list[tuple[str, Callable[[Path], object]]] = [
            ("curves", self.curves),
            ("reconstructions", self.reconstructions),
            ("traversal", self.traversal),
        ]
        return found + ([("samples", self.samples)] if self.model.is_probabilistic else [])

    def curves(self, path: Path) -> None:
        save_curves(self.run.history, path, self.baseline)

    def reconstructions(self, path: Path) -> None:
        chosen = examples(self.data, "validation", SAMPLED_ROWS if self.is_table else ROWS // 2 * COLUMNS)
        x = self._units("originals", chosen.x)
        x_hat = self._units("reconstructions", reconstruct(self.model, chosen.x, chosen.context))
        title = f"{len(x_hat)} validation examples and their reconstructions"
        named = self.data.names("validation", len(x_hat))
        self.draw(x_hat, path, columns=COLUMNS, reference=x, title=title, captions=named)

    def traversal(self, path: Path) -> None:
        walks = traverse(self.model, self.data)
        x, by = self._units("traversal", walks.x), walks.ranking.by
        self.arrays["traversal_latents"] = walks.ranking.dims.cpu().numpy()
        title = f"traversal of the latents, -3 to 3 standard deviations, by {by}"
        self.draw(x, path, columns=STEPS, walks=True, title=title, rows=walks.ranking.labels)

    def samples(self, path: Path) -> None:
        count = SAMPLED_ROWS if self.is_table else ROWS * COLUMNS
        contexts = None if not self.model.context_dim else _spread_contexts(self.data, count)
        if self.data.spec.columns:
            self._rows(path, contexts)
            return
        drawn = self._units("samples", sample(self.model, count, contexts))
        title = f"{count} samples (means)" + ("" if contexts is None else ", conditions as in the data")
        self.draw(drawn, path, columns=COLUMNS, title=title)

    def _rows(self, path: Path, contexts: Tensor | None) -> None:
        """Rows of a table of mixed columns, drawn with all their noise, over the validation rows."""
        made = self.run.in_units(sample(self.model, SAMPLED_ROWS, contexts, noise=True))
        self.arrays["samples"] = made
        save_rows_over_data(self.data, "validation", made, path)


def _spread_contexts(data: Data, count: int) -> Tensor:
    """Contexts of evenly spaced training examples, repeated if there are too few."""
    contexts = data.contexts("train")
    assert contexts is not None
    rows = np.linspace(0, len(contexts) - 1, count).round().astype(np.int64)
    return contexts[torch.from_numpy(rows)]

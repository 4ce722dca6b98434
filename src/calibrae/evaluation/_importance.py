"""The importance-weighted bound on log p(x), streamed over samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event

import torch
from torch import Tensor

from .._noise import mixed_seed
from .._types import Batch, World
from ..acceleration import CompileChoice, in_double
from ..data import RowCache
from ..errors import ArgumentError, NoDensityError
from ..functional import error_of_mean
from ..models import VAE, evaluating
from ..objectives import NO_PRIOR
from ._blocks import in_threads, reblocked
from ._weigh import Weigher, draws_itself

# constants: the noise, and so the result, does not depend on the caller's batches, threads or memory
BLOCK_EXAMPLES = 32
BLOCK_SAMPLES = 1 << 18  # of all examples of a block together: how much work an interruption loses at most
ROWS_AT_ONCE = 1024
NUMBERS_AT_ONCE = 1 << 21
SUMMED_TOGETHER = 16  # weights of so many calls: the sums are many small operations
IMPORTANCE_STREAM = 5
DRAWN_TOGETHER = 64  # samples of an example


@dataclass(frozen=True)
class ImportanceSummary:
    """Importance-weighted bounds of a data set.

    Attributes:
        log_likelihood: the bound of each example, `[N]`, nats, float64.
        effective_samples: effective sample size of each, `[N]`, between 1 and `samples`.
        samples: `K`.
        fewer: bounds of each example from the first so many samples alone, `[N]`, by number.
        compilation: whether the weights were compiled, and why.
    """

    log_likelihood: Tensor
    effective_samples: Tensor
    samples: int
    fewer: dict[int, Tensor] = field(default_factory=dict)
    compilation: str = ""

    def over(self, world: World) -> ImportanceSummary:
        """Bounds of the examples of all processes."""
        fewer = {count: world.rows(bounds) for count, bounds in self.fewer.items()}
        bounds, effective = world.rows(self.log_likelihood), world.rows(self.effective_samples)
        return ImportanceSummary(bounds, effective, self.samples, fewer, self.compilation)

    @property
    def sample_error(self) -> Tensor:
        r"""Monte Carlo standard error of each example's bound, `[N]`: $\sqrt{1/\mathrm{ESS} - 1/K}$, to first order."""
        return (1.0 / self.effective_samples - 1.0 / self.samples).clamp_min(0.0).sqrt()

    @property
    def mean(self) -> float:
        """Mean bound, nats."""
        return float(self.log_likelihood.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, from the spread over examples."""
        return error_of_mean(self.log_likelihood)


class _Streams:
    """Running `log sum w` and `log sum w^2` of some examples, and the bounds at some numbers of samples."""

    def __init__(self, marks: Sequence[int]) -> None:
        self.marks = marks
        self.count = 0
        self.first: Tensor | None = None
        self.second: Tensor | None = None
        self.bounds: list[Tensor] = []

    def add(self, log_weights: Tensor) -> None:
        """More samples, `[K, B]`."""
        log_weights = in_double(log_weights)
        while len(log_weights):
            left = next((m - self.count for m in self.marks if m > self.count), len(log_weights))
            self._add(log_weights[:left])
            log_weights = log_weights[left:]

    def _add(self, log_weights: Tensor) -> None:
        first, second = torch.logsumexp(log_weights, 0), torch.logsumexp(2.0 * log_weights, 0)
        self.first = first if self.first is None else torch.logaddexp(self.first, first)
        self.second = second if self.second is None else torch.logaddexp(self.second, second)
        self.count += len(log_weights)
        if self.count in self.marks:
            self.bounds.append(self.first - math.log(self.count))

    def result(self) -> Tensor:
        """The bound at each mark, then the effective sample size, `[B, marks + 1]`."""
        if self.first is None or self.second is None:
            raise ArgumentError("an importance bound needs at least one sample.")
        return torch.stack([*self.bounds, (2.0 * self.first - self.second).exp()], 1)


def importance_weighted(
    model: VAE,
    batches: Iterable[Batch],
    samples: int,
    seed: int = 0,
    step: Callable[[int], None] | None = None,
    *,
    fewer: Sequence[int] = (),
    kept: RowCache | None = None,
    examples: int | None = None,
    compile: CompileChoice = "auto",  # noqa: A002 (torch's name for it)
) -> ImportanceSummary:
    r"""Compute $\log \frac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x)$ of each example.

    The encoder runs once per example; samples are drawn, decoded and weighed in small blocks that stay in the processor's
    caches, on a CPU in as many threads as it has cores, so memory is bounded whatever `K`. The weights are float32, their sums float64.

    Args:
        model: with a fixed scale; any likelihood, prior and posterior.
        batches: examples.
        samples: `K`.
        seed: seed of the latent noise.
        step: called with the number of examples done, for a progress bar.
        fewer: smaller numbers of samples whose bounds are wanted as well, from the first samples of the same stream.
        kept: finished blocks of an interrupted run, which are not computed again.
        examples: number of examples, if it is known: `compile="auto"` predicts the length of the work by it.
        compile: whether the decoder and the weights are compiled: `on`, `off`, or `auto`, where a short trial says that it repays.

    Raises:
        ArgumentError: if a number of samples is not positive.
        ScaleNotFixedError: if an optimal scale was not fixed.
        NoDensityError: for a plain autoencoder.

    References:
        Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519
    """
    marks = sorted({*(m for m in fewer if m < samples), samples})
    if marks[0] < 1:
        raise ArgumentError(f"`importance_samples` must be at least 1; got {marks[0]}.")
    size = max(1, min(BLOCK_EXAMPLES, BLOCK_SAMPLES // samples))
    first, batches = _peeked(batches)
    rows = _rows(first.x[0], size)
    weigher = Weigher(model, (rows, size), (examples or 0) * samples / (rows * size), compile)
    alone = draws_itself(model, first)

    def bounds(numbered: tuple[int, Batch], stop: Event) -> Tensor:
        block, batch = numbered
        found = None if kept is None else kept.get(block)
        if found is not None:
            return found
        index = torch.arange(block * size, block * size + len(batch)) if batch.index is None else batch.index
        noise = _Noise(index, model.latent_dim, seed)
        own = torch.Generator().manual_seed(mixed_seed(seed, IMPORTANCE_STREAM, block, 1)) if alone else None
        return _block_bounds(weigher, batch, marks, noise, stop, own)

    numbered, table_rows = enumerate(reblocked(batches, size)), []
    with evaluating(model):
        for (block, batch), found in in_threads(bounds, numbered, model.device, alone=alone):
            table_rows.append(found)
            if kept is not None:
                kept.put(block, found)
            if step is not None:
                step(len(batch))
    table = torch.cat(table_rows)
    at = {mark: table[:, i].clone() for i, mark in enumerate(marks)}
    return ImportanceSummary(at.pop(samples), table[:, -1].clone(), samples, at, weigher.status)


def _peeked(batches: Iterable[Batch]) -> tuple[Batch, Iterable[Batch]]:
    """The first batch, and all batches again."""
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise ArgumentError("an importance-weighted bound needs examples; got none.")
    return first, itertools.chain([first], iterator)


def _rows(example: Tensor, size: int) -> int:
    """Samples at once of a block of so many examples."""
    return max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // example.numel()) // size)


class _Noise:
    """Standard normal noise of some examples, sample after sample; each has a stream of its own, by its position in the split.

    The streams are drawn in pieces of a constant size, so they do not depend on how many samples are asked for, or at once.
    """

    def __init__(self, index: Tensor, latent_dim: int, seed: int) -> None:
        seeds = (mixed_seed(seed, IMPORTANCE_STREAM, i) for i in index.tolist())
        self.generators = [torch.Generator().manual_seed(own) for own in seeds]
        self.latent_dim = latent_dim
        self.left = torch.empty(0, len(index), latent_dim)

    def next(self, samples: int) -> Tensor:
        """Noise of the next samples, `[samples, B, d]`."""
        pieces = [self.left]
        while sum(map(len, pieces)) < samples:
            drawn = (torch.randn(DRAWN_TOGETHER, self.latent_dim, generator=g) for g in self.generators)
            pieces.append(torch.stack(list(drawn), 1))
        noise = torch.cat(pieces)
        self.left = noise[samples:]
        return noise[:samples]


def _block_bounds(
    weigher: Weigher, batch: Batch, marks: Sequence[int], noise: _Noise, stop: Event, own: torch.Generator | None
) -> Tensor:
    """Bounds and effective sample sizes of a few examples, `[B, marks + 1]`; `own` seeds a posterior that draws its samples itself."""
    model = weigher.model
    if not model.is_probabilistic:
        raise NoDensityError(NO_PRIOR)
    batch = batch.to(model.device)
    features = model.features(batch.x, batch.context)
    streams, samples = _Streams(marks), marks[-1]
    pending: list[Tensor] = []
    for first in range(0, samples, weigher.rows):
        if stop.is_set():
            break
        eps = noise.next(min(weigher.rows, samples - first))
        pending.append(weigher(batch, features, eps.to(batch.x), own))
        if len(pending) == SUMMED_TOGETHER:
            streams.add(torch.cat(pending))
            pending.clear()
    if pending:
        streams.add(torch.cat(pending))
    return streams.result().cpu()

"""The importance-weighted bound on log p(x), streamed over samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event

import torch
from torch import Tensor

from ..data import KeptRows, mixed_seed
from ..errors import ArgumentError
from ..functional import error_of_mean
from ..latents import require_density
from ..models import VAE, CompileChoice, evaluating
from ._blocks import in_threads, reblocked
from ._weigh import Weigher

# constants: the noise, and so the result, does not depend on the caller's batches, threads or memory
BLOCK_EXAMPLES = 32
BLOCK_SAMPLES = 1 << 18  # of all examples of a block together: how much work an interruption loses at most
ROWS_AT_ONCE = 1024
NUMBERS_AT_ONCE = 1 << 21
SUMMED_TOGETHER = 16  # weights of so many calls: the sums are many small operations
IMPORTANCE_STREAM = 5


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
        """Of the mean, from the spread over examples."""
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
        log_weights = log_weights.double()
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
    batches: Iterable[tuple[int, Tensor]],
    samples: int,
    seed: int = 0,
    step: Callable[[int], None] | None = None,
    *,
    fewer: Sequence[int] = (),
    kept: KeptRows | None = None,
    examples: int | None = None,
    compile: CompileChoice = "auto",  # noqa: A002 (torch's name for it)
) -> ImportanceSummary:
    r"""$\log \frac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x)$ of each example.

    The encoder runs once per example; samples are drawn, decoded and weighed in small blocks that stay in the processor's
    caches, on a CPU in as many threads as it has cores, so memory is bounded whatever `K`. The weights are float32, their sums float64.

    Args:
        model: with a fixed sigma.
        batches: pairs of the first example's position and the batch.
        samples: `K`.
        seed: of the latent noise.
        step: called with the number of examples done, for a progress bar.
        fewer: smaller numbers of samples whose bounds are wanted as well, from the first samples of the same stream.
        kept: finished blocks of an interrupted run, which are not computed again.
        examples: how many there are, if it is known: what `compile="auto"` predicts the length of the work by.
        compile: whether the decoder and the weights are compiled: `on`, `off`, or `auto`, where a short trial says that it repays.

    Raises:
        ArgumentError: if a number of samples is not positive.
        UnfrozenSigmaError: if an optimal sigma was not fixed.
        NoDensityError: for a plain autoencoder.

    References:
        Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519
    """
    marks = sorted({*(m for m in fewer if m < samples), samples})
    if marks[0] < 1:
        raise ArgumentError(f"`importance_samples` must be at least 1; got {marks[0]}.")
    size = max(1, min(BLOCK_EXAMPLES, BLOCK_SAMPLES // samples))
    first, batches = _peeked(batches)
    weigher = Weigher(
        model, (_rows(first, size), size), (examples or 0) * samples / (_rows(first, size) * size), compile
    )
    numbered = enumerate(reblocked(batches, size))

    def bounds(numbered: tuple[int, Tensor], stop: Event) -> Tensor:
        block, x = numbered
        found = None if kept is None else kept.get(block)
        if found is not None:
            return found
        return _block_bounds(weigher, x, marks, mixed_seed(seed, IMPORTANCE_STREAM, block), stop)

    rows = []
    with evaluating(model):
        for (block, x), found in in_threads(bounds, numbered, model.device):
            rows.append(found)
            if kept is not None:
                kept.put(block, found)
            if step is not None:
                step(len(x))
    table = torch.cat(rows)
    at = {mark: table[:, i].clone() for i, mark in enumerate(marks)}
    return ImportanceSummary(at.pop(samples), table[:, -1].clone(), samples, at, weigher.says)


def _peeked(batches: Iterable[tuple[int, Tensor]]) -> tuple[Tensor, Iterable[tuple[int, Tensor]]]:
    """The first example, and all batches again."""
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise ArgumentError("an importance-weighted bound needs examples; got none.")
    return first[1][0], itertools.chain([first], iterator)


def _rows(example: Tensor, size: int) -> int:
    """Samples at once of a block of so many examples."""
    return max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // example.numel()) // size)


def _block_bounds(weigher: Weigher, x: Tensor, marks: Sequence[int], seed: int, stop: Event) -> Tensor:
    """Bounds and effective sample sizes of a few examples, `[B, marks + 1]`."""
    model = weigher.model
    x = x.to(model.device)
    posterior = model.encode(x)
    require_density(posterior)
    streams, samples = _Streams(marks), marks[-1]
    generator = torch.Generator().manual_seed(seed)
    pending: list[Tensor] = []
    for first in range(0, samples, weigher.rows):
        if stop.is_set():
            break
        # drawn whole, so that fewer samples are the first of more
        noise = torch.randn(weigher.rows, len(x), model.latent_dim, generator=generator)
        pending.append(weigher(posterior, x, noise[: samples - first].to(x)))
        if len(pending) == SUMMED_TOGETHER:
            streams.add(torch.cat(pending))
            pending.clear()
    if pending:
        streams.add(torch.cat(pending))
    return streams.result().cpu()

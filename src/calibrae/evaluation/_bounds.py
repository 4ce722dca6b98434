"""The importance-weighted bound of a split, kept as it comes so that it can be interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch

from .._types import Split
from ..data import Data, KeptRows
from ..models import VAE
from ._importance import ImportanceSummary, importance_weighted
from ._ticks import Tick, ticker

POOR_EFFECTIVE_SAMPLES = 10.0
ESTIMATORS_REVISION = 2  # part of what kept work is known by


def split_bounds(
    model: VAE,
    data: Data,
    split: Split | Literal["all"],
    samples: int,
    *,
    fewer: Sequence[int] = (),
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    tick: Tick | None = None,
) -> ImportanceSummary:
    """The importance-weighted bound of each example of a split; finished blocks of an interrupted call are not computed again.

    Args:
        model: with a fixed sigma.
        data: split and prepared as the model's.
        split: `train`, `validation`, `test` or `all`.
        samples: `K`.
        fewer: smaller numbers of samples whose bounds are wanted as well.
        seed: of all noise.
        batch_size: examples read at once; does not change the numbers.
        limit: so many examples only, evenly spaced.
        tick: called with a stage, how much is done and how much there is, for a progress bar.
    """
    n = len(data.view(split).spaced(limit))
    batches = data.batches(split, data.rows_at_once(batch_size), seed, limit)
    identity = (
        "importance",
        ESTIMATORS_REVISION,
        _digest(model),
        data.identity(split),
        seed,
        samples,
        sorted(fewer),
        limit,
    )
    with KeptRows(identity) as kept:
        step = ticker(tick, f"log p(x), K = {samples}", n)
        return importance_weighted(model, batches, samples, seed, step, fewer=fewer, kept=kept, examples=n)


def effective_remark(weighted: ImportanceSummary) -> str:
    """The effective sample size, with a warning where it is poor."""
    median = float(weighted.effective_samples.median())
    if weighted.samples < POOR_EFFECTIVE_SAMPLES or median >= POOR_EFFECTIVE_SAMPLES:
        return f"median effective samples {median:.1f}"
    return (
        f"poor: of {weighted.samples} samples a median of {median:.1f} count, so the bound is loose and its error bar too small; "
        "take more samples, or anneal (--full)"
    )


def _digest(model: VAE) -> str:
    """Of everything that a model computes with."""
    digest = hashlib.blake2b(repr(model).encode(), digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

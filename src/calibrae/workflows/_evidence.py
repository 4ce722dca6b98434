"""Evidence for a diagnosis of a run."""

from __future__ import annotations

from contextlib import suppress

import torch

from .._noise import ExampleNoise, mixed_seed
from .._types import Split
from ..data import Data
from ..errors import ArgumentError
from ..evaluation import Evidence, Outside, calibration, diagnose_latents, evaluate_model
from ._evaluate import Opened

ASSESS_STREAM = 11
EXAMPLES = 5000  # of each split that a diagnosis looks at


def gather(opened: Opened, split: Split, seed: int = 0) -> Evidence:
    """Evaluate a split beside as many training examples, its calibration and its latents.

    Args:
        opened: model and data.
        split: split that is taken as test data.
        seed: seed of all noise.
    """
    trained, use, baseline = opened.model, opened.data, opened.baseline
    rows = use.rows_at_once(512)
    test = evaluate_model(
        trained, use, split=split, seed=seed, limit=EXAMPLES, baseline=baseline, history=opened.history
    )
    train = evaluate_model(trained, use, split="train", seed=seed, limit=EXAMPLES, baseline=baseline)
    noise = ExampleNoise("normal", (trained.latent_dim,), mixed_seed(seed, ASSESS_STREAM))
    calibrated, latents, scale = None, None, trained.likelihood.scale
    with suppress(ArgumentError):  # no density, or none with a distribution function: its calibration is not known
        calibrated = calibration(trained, use.batches(split, rows, seed, EXAMPLES), noise.rows, seed=seed)
    if trained.is_probabilistic:
        with suppress(ArgumentError):  # one example alone
            latents = diagnose_latents(trained, use.batches(split, rows, seed, EXAMPLES), seed)
    return Evidence(
        test=test,
        train=train,
        history=opened.history,
        calibration=calibrated,
        latents=latents,
        min_sigma=scale.statistic.std_per_scale * scale.floor if scale is not None and use.spec.step else None,
        outside=_outside(use, split, rows),
        scale_choice=None if scale is None else scale.choice,
    )


def _outside(data: Data, split: Split, rows: int) -> Outside | None:
    """Values of a split beyond the smallest and largest training value; `None` for levels, which cannot be."""
    if data.spec.levels is not None:
        return None
    low, high = None, None
    for batch in data.batches("train", rows):
        smallest, largest = batch.x.amin(0), batch.x.amax(0)
        low = smallest if low is None else torch.minimum(low, smallest)
        high = largest if high is None else torch.maximum(high, largest)
    assert low is not None
    assert high is not None
    values = examples = total = 0
    for batch in data.batches(split, rows):
        beyond = ((batch.x < low) | (batch.x > high)).flatten(1)
        values, examples, total = (
            values + int(beyond.sum()),
            examples + int(beyond.any(1).sum()),
            total + batch.x.numel(),
        )
    return Outside(values / total, examples, len(data.view("train")))

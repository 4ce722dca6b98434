"""Everything that is known of how good a model is, in one record."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from .. import functional
from .._types import Split
from ..data import Data, ExampleNoise, KeptRows, mixed_seed
from ..likelihoods import GaussianLikelihood
from ..models import VAE
from ._annealed import AnnealedSettings, annealed_importance, bidirectional
from ._calibration import Calibration, calibration
from ._importance import ImportanceSummary, importance_weighted
from ._latents import LatentDiagnosis, diagnose_latents
from ._mean import error_of_mean
from ._record import Evaluation

FULL_STREAM = 9
POOR_EFFECTIVE_SAMPLES = 10.0
ESTIMATORS_REVISION = 1  # part of what kept work is known by

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class FullSettings:
    """How much work a full evaluation is.

    Attributes:
        examples: how many, evenly spaced, the importance-weighted bounds are taken on.
        importance_samples: numbers of samples of those bounds.
        annealed_examples: how many are annealed, and how many are simulated for the bidirectional gap.
        annealed: how annealing goes.
    """

    examples: int = 200
    importance_samples: tuple[int, ...] = (1, 50, 500, 5000)
    annealed_examples: int = 16
    annealed: AnnealedSettings = field(default_factory=lambda: AnnealedSettings(chains=8, temperatures=100))


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimate of the mean `log p(x)`, with all that it depends on.

    Attributes:
        estimator: `elbo`, `importance-weighted`, `annealed`.
        samples: posterior samples, or chains, per example.
        nats: mean over examples.
        standard_error: of that mean, from the spread over examples.
        bits_per_dim: the same in bits, for integer data.
        n: examples.
        split: which split they are of.
        seed: of all noise.
        remark: what else to know.
    """

    estimator: str
    samples: int
    nats: float
    standard_error: float
    bits_per_dim: float | None
    n: int
    split: str
    seed: int
    remark: str = ""


@dataclass(frozen=True)
class FullEvaluation:
    """An evaluation with every estimate of the likelihood, the calibration of sigma and the diagnosis of the latents.

    Attributes:
        evaluation: as `evaluate` gives it.
        estimates: of the mean `log p(x)`, from the loosest to the tightest.
        bidirectional_gap: mean distance in nats between the annealed bounds from below and above on simulated examples.
        bidirectional_gap_error: its standard error.
        calibration: of sigma; `None` without one.
        latents: what they hold.
    """

    evaluation: Evaluation
    estimates: list[Estimate]
    bidirectional_gap: float
    bidirectional_gap_error: float
    calibration: Calibration | None
    latents: LatentDiagnosis

    def to_dict(self) -> dict[str, Any]:
        """The keys of `Evaluation`, and the rest beside them; plain types, for JSON."""
        return self.evaluation.to_dict() | {
            "estimates": [asdict(e) for e in self.estimates],
            "bidirectional_gap_nats": _finite(self.bidirectional_gap),
            "bidirectional_gap_standard_error": _finite(self.bidirectional_gap_error),
            "calibration": self.calibration.to_dict() if self.calibration else None,
            "latents": self.latents.to_dict(),
        }


def evaluate_further(
    model: VAE,
    data: Data,
    evaluation: Evaluation,
    *,
    settings: FullSettings | None = None,
    batch_size: int = 512,
    tick: Tick | None = None,
) -> FullEvaluation:
    """All that takes longer than an ELBO, on the split and with the seed of an evaluation.

    Args:
        model: a density with a fixed sigma.
        data: split and prepared as the model's.
        evaluation: of the same model and data.
        settings: how much work.
        batch_size: examples at once; does not change the numbers.
        tick: called with a stage, how much is done and how much there is, for a progress bar.

    Raises:
        NoDensityError: for a plain autoencoder.
        UnfrozenSigmaError: if an optimal sigma was not fixed on the training set.
    """
    settings = settings or FullSettings()
    split: Any = evaluation.split
    seed, rows = evaluation.seed, data.rows_at_once(batch_size)

    def steps(stage: str, total: int) -> Callable[[int], None] | None:
        return ticker(tick, stage, total)

    few = min(settings.examples, evaluation.n)
    largest = max(settings.importance_samples)
    with kept_bounds(model, data, split, seed, largest, few) as kept:
        weighted = importance_weighted(
            model, data.batches(split, rows, seed, few), largest, seed, steps(f"log p(x), K = {largest}", few),
            fewer=settings.importance_samples, kept=kept, examples=few,
        )  # fmt: skip
    fewest = min(settings.annealed_examples, evaluation.n)
    annealed = annealed_importance(
        model, data.batches(split, rows, seed, fewest), settings.annealed, seed, steps("annealing", fewest)
    )
    both = bidirectional(model, fewest, settings.annealed, seed, steps("both ways", fewest))
    noise = ExampleNoise("normal", (model.latent_dim,), mixed_seed(seed, FULL_STREAM))
    calibrated = None
    if isinstance(model.likelihood, GaussianLikelihood):
        batches = data.batches(split, rows, seed)
        calibrated = calibration(model, batches, noise.rows, steps("calibration", len(data.view(split))))
    batches = data.batches(split, rows, seed)
    latents = diagnose_latents(model, batches, seed, steps("latents", len(data.view(split))))
    estimates = [_elbo(evaluation), *_bounds(weighted, data, split, seed)]
    remark = f"{settings.annealed.temperatures} temperatures, acceptance {float(annealed.acceptance.mean()):.2f}"
    chains = settings.annealed.chains
    estimates.append(_estimate("annealed", chains, annealed.log_likelihood, data, split, seed, remark))
    return FullEvaluation(evaluation, estimates, both.gap, both.gap_standard_error, calibrated, latents)


def kept_bounds(
    model: VAE, data: Data, split: Split | Literal["all"], seed: int, samples: int, limit: int | None
) -> KeptRows:
    """Where the finished blocks of an importance-weighted bound are kept, so that it can be interrupted."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    digest.update(repr(model).encode())
    return KeptRows(("importance", ESTIMATORS_REVISION, digest.hexdigest(), data.identity(split), seed, samples, limit))


def ticker(tick: Tick | None, stage: str, total: int) -> Callable[[int], None] | None:
    """Counts what is done of a stage, for a progress bar."""
    if tick is None:
        return None
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        tick(stage, done, total)

    return step


def effective_remark(weighted: ImportanceSummary) -> str:
    """The effective sample size, with a warning where it is poor."""
    median = float(weighted.effective_samples.median())
    if weighted.samples < POOR_EFFECTIVE_SAMPLES or median >= POOR_EFFECTIVE_SAMPLES:
        return f"median effective samples {median:.1f}"
    return (
        f"poor: of {weighted.samples} samples a median of {median:.1f} count, so the bound is loose and its error bar too small; "
        "take more samples, or anneal (--full)"
    )


def _elbo(evaluation: Evaluation) -> Estimate:
    assert evaluation.elbo_nats is not None
    error = evaluation.elbo_standard_error
    return Estimate(
        "elbo", 1, evaluation.elbo_nats, math.nan if error is None else error, evaluation.bits_per_dim, evaluation.n,
        evaluation.split, evaluation.seed, "KL in closed form",
    )  # fmt: skip


def _bounds(weighted: ImportanceSummary, data: Data, split: str, seed: int) -> list[Estimate]:
    found = [
        _estimate("importance-weighted", k, bound, data, split, seed) for k, bound in sorted(weighted.fewer.items())
    ]
    last = _estimate(
        "importance-weighted", weighted.samples, weighted.log_likelihood, data, split, seed, effective_remark(weighted)
    )
    return [*found, last]


def _estimate(name: str, samples: int, values: Tensor, data: Data, split: str, seed: int, remark: str = "") -> Estimate:
    mean = float(values.mean())
    levels = data.spec.density_levels
    bits = None if levels is None else functional.bits_per_dim(-mean, data.spec.data_dim, levels)
    return Estimate(name, samples, mean, error_of_mean(values), bits, len(values), split, seed, remark)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""Everything that is known of how good a model is, in one record."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, final

from torch import Tensor

from .. import functional
from .._noise import ExampleNoise, mixed_seed
from .._progress import counter
from .._types import Batch
from ..data import Data
from ..errors import ArgumentError
from ..functional import error_of_mean
from ..models import VAE
from ._annealed import AnnealedSettings, BidirectionalSummary, annealed_importance, bidirectional
from ._bounds import effective_remark, split_bounds
from ._calibration import Calibration, calibration
from ._evaluate import summarise_split
from ._importance import ImportanceSummary
from ._latents import LatentDiagnosis, diagnose_latents
from ._record import Evaluation, number, plain

FULL_STREAM = 9
BETTER = "use the annealed number"


@dataclass(frozen=True, slots=True)
class FullSettings:
    """Settings of a full evaluation: how much work it is.

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

    def __post_init__(self) -> None:
        for name, value in (("examples", self.examples), ("annealed_examples", self.annealed_examples)):
            if value < 1:
                raise ArgumentError(f"`{name}` of a full evaluation must be at least 1; got {value}.")
        if not self.importance_samples:
            raise ArgumentError("`importance_samples` of a full evaluation must name one number at least; got none.")


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimate of the mean `log p(x)`, with all that it depends on.

    Attributes:
        estimator: `elbo`, `importance-weighted`, `annealed`.
        samples: posterior samples, or chains, per example.
        nats: mean over examples.
        standard_error: standard error of that mean, from the spread over examples.
        bits_per_dim: estimate in bits per dimension, for integer data.
        n: examples.
        split: name of the split.
        seed: seed of all noise.
        remark: further remark.
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
        estimates: estimates of the mean `log p(x)`, from the loosest to the tightest.
        simulated: annealed bounds from below and above on examples drawn from the model.
        examples: number of examples of the split; calibration and latents are about all of them.
        calibration: calibration of the density; `None` where there is none.
        latents: diagnosis of the latents.
        notes: numbers that could not be computed for this model, and why.
    """

    evaluation: Evaluation
    estimates: list[Estimate]
    simulated: BidirectionalSummary
    examples: int
    calibration: Calibration | None
    latents: LatentDiagnosis
    notes: tuple[str, ...] = ()

    @property
    def bidirectional_gap(self) -> float:
        """Mean distance in nats between the annealed bounds from below and above on simulated examples."""
        return self.simulated.gap

    @property
    def bidirectional_gap_error(self) -> float:
        """Its standard error."""
        return self.simulated.gap_standard_error

    def __str__(self) -> str:
        """Tables and sentences for people, as the command line prints them."""
        head = f"{'estimate of log p(x)':<28}{'nats':>12}{'+-':>9}{'bits/dim':>10}{'n':>8}"
        gap = f"{self.bidirectional_gap:.2f} +- {self.bidirectional_gap_error:.2f} nats"
        return "\n".join(
            [
                str(self.evaluation),
                "",
                head,
                *map(_row, self.estimates),
                f"annealing is at most {gap} off on simulated data (bidirectional Monte Carlo)",
                *([self.calibration.sentence] if self.calibration is not None else []),
                self.latents.sentence,
                *(f"note: {note}" for note in (*self.notes, *self.latents.notes)),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """The keys of `Evaluation`, and the rest beside them; plain types, for JSON."""
        e = self.evaluation
        source = {"split": e.split, "seed": e.seed, "n": self.examples}
        calibration = (
            {"estimator": "residuals", "samples": 1, **source} | self.calibration.to_dict()
            if self.calibration
            else None
        )
        found: dict[str, Any] = plain(
            e.to_dict() | {
                "estimates": [asdict(estimate) for estimate in self.estimates],
                "bidirectional_gap_nats": self.bidirectional_gap,
                "bidirectional_gap_standard_error": self.bidirectional_gap_error,
                "bidirectional": self._bidirectional(),
                "calibration": calibration,
                "notes": [*e.notes, *self.notes],
                "latents": {"estimator": "aggregate posterior", **source} | self.latents.to_dict(),
            }
        )  # fmt: skip
        return found

    def _bidirectional(self) -> dict[str, Any]:
        """Both bounds of each simulated example."""
        both = self.simulated
        return {
            "estimator": "annealed, forwards and backwards",
            **asdict(both.settings),
            "split": "simulated",
            "seed": self.evaluation.seed,
            "n": len(both.lower),
            "lower_nats": both.lower.tolist(),
            "upper_nats": both.upper.tolist(),
            "lower_standard_errors": both.lower_error.tolist(),
            "upper_standard_errors": both.upper_error.tolist(),
        }


def evaluate_further(
    model: VAE,
    data: Data,
    evaluation: Evaluation,
    *,
    settings: FullSettings | None = None,
    batch_size: int = 512,
) -> FullEvaluation:
    """All that takes longer than an ELBO, on the split and with the seed of an evaluation.

    Args:
        model: a density with a fixed scale.
        data: split and prepared as the model's.
        evaluation: evaluation of this model on these data.
        settings: how much work.
        batch_size: examples at once; does not change the numbers.

    Raises:
        NoDensityError: for a plain autoencoder.
        ScaleNotFixedError: if an optimal scale was not fixed on the training set.
    """
    job = _Job(model, data, evaluation, settings or FullSettings(), data.rows_at_once(batch_size))
    fewest, annealed = job.annealed()
    contexts = None if model.context_dim == 0 else data.gather(job.split, range(fewest)).context
    both = bidirectional(model, fewest, job.settings.annealed, job.seed, counter("both ways", fewest), contexts)
    calibrated, notes = job.calibration()
    return FullEvaluation(
        evaluation=evaluation,
        estimates=[_elbo(evaluation), *job.bounds(), *annealed],
        simulated=both,
        examples=job.n,
        calibration=calibrated,
        latents=diagnose_latents(model, job.batches(), job.seed, counter("latents", job.n)),
        notes=notes,
    )


@final
@dataclass(frozen=True)
class _Job:
    """Subject of an evaluation, with the amount of work."""

    model: VAE
    data: Data
    evaluation: Evaluation
    settings: FullSettings
    rows: int

    @property
    def split(self) -> Any:
        return self.evaluation.split

    @property
    def seed(self) -> int:
        return self.evaluation.seed

    @property
    def n(self) -> int:
        """Examples of the split."""
        return len(self.data.view(self.split))

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        return self.data.batches(self.split, self.rows, self.seed, limit)

    def bounds(self) -> list[Estimate]:
        """The ELBO and the importance-weighted bounds of the same examples."""
        few = min(self.settings.examples, self.n)
        weighted = self._weighted(few, self.settings.importance_samples)
        found = [self._estimate("importance-weighted", k, bound) for k, bound in sorted(weighted.fewer.items())]
        remark = effective_remark(weighted, BETTER)
        last = self._estimate("importance-weighted", weighted.samples, weighted.log_likelihood, remark)
        return [self._elbo_of(few), *found, last]

    def annealed(self) -> tuple[int, list[Estimate]]:
        """Count the annealed examples, and give the ELBO, the tightest importance-weighted bound and annealing on them."""
        few, how = min(self.settings.annealed_examples, self.n), self.settings.annealed
        largest = max(self.settings.importance_samples)
        weighted = self._weighted(few, (largest,))
        found = annealed_importance(self.model, self.batches(few), how, self.seed, counter("annealing", few))
        remark = f"{how.temperatures} temperatures, acceptance {float(found.acceptance.mean()):.2f}"
        return few, [
            self._elbo_of(few),
            self._estimate("importance-weighted", largest, weighted.log_likelihood, effective_remark(weighted, BETTER)),
            self._estimate("annealed", how.chains, found.log_likelihood, remark),
        ]

    def calibration(self) -> tuple[Calibration | None, tuple[str, ...]]:
        """Calibration of the density, or why there is none."""
        noise = ExampleNoise("normal", (self.model.latent_dim,), mixed_seed(self.seed, FULL_STREAM))
        try:
            steps = counter("calibration", self.n)
            return calibration(self.model, self.batches(), noise.rows, steps, seed=self.seed), ()
        except ArgumentError as error:
            return None, (str(error),)

    def _weighted(self, few: int, samples: tuple[int, ...]) -> ImportanceSummary:
        return split_bounds(
            self.model, self.data, self.split, max(samples), fewer=samples, seed=self.seed, batch_size=self.rows, limit=few
        )  # fmt: skip

    def _elbo_of(self, few: int) -> Estimate:
        summary = summarise_split(self.model, self.data, self.split, seed=self.seed, batch_size=self.rows, limit=few)
        return self._estimate("elbo", 1, summary.elbos, "of the same examples as the next")

    def _estimate(self, name: str, samples: int, values: Tensor, remark: str = "") -> Estimate:
        mean, spec = float(values.mean()), self.data.spec
        bits = None
        if spec.density_levels is not None:
            bits = functional.bits_per_dim(-mean, spec.data_dim, spec.density_levels)
        error = error_of_mean(values)
        return Estimate(name, samples, mean, error, bits, len(values), self.split, self.seed, remark)


def _row(e: Estimate) -> str:
    name = e.estimator + (f", K = {e.samples}" if e.estimator != "elbo" else "")
    return f"{name:<28}{number(e.nats, 2):>12}{number(e.standard_error, 2):>9}{number(e.bits_per_dim, 4):>10}{e.n:>8}  {e.remark}"


def _elbo(evaluation: Evaluation) -> Estimate:
    assert evaluation.elbo_nats is not None
    error = evaluation.elbo_standard_error
    return Estimate(
        "elbo", 1, evaluation.elbo_nats, math.nan if error is None else error, evaluation.bits_per_dim, evaluation.n,
        evaluation.split, evaluation.seed, "" if any("closed form" in note for note in evaluation.notes) else "KL in closed form",
    )  # fmt: skip

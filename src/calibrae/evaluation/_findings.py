"""Faults of a trained model, most important first, and remedies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .._types import SEVERITIES, Finding
from ._advice import advice, best_epoch, is_below, is_over_fitted, is_still_falling, late_share
from ._calibration import Calibration
from ._latents import LatentDiagnosis
from ._record import Evaluation

OVERFITTED = 0.01  # nats per data dimension between training and test
SURE = 4.0  # standard errors
AT_FLOOR = 1.02
FEWEST_TOLD = 30  # test examples from which the shape of residuals and codes can be told
OUTSIDE, OFTENER, FEWEST_OUTSIDE = 0.01, 10.0, 5  # share of values; times what chance gives; examples


@dataclass(frozen=True)
class Outside:
    """Values beyond the smallest and largest training value of their element.

    Of data that come from where the training data came from, each is outside with probability `2 / (n + 1)` at most, whatever the
    distribution: the new value is as likely to be the largest of all as any other.

    Attributes:
        share: share of all values.
        examples: number of examples with such a value.
        training: number of training examples, `n`.
    """

    share: float
    examples: int
    training: int

    @property
    def is_strange(self) -> bool:
        """Tell whether chance does not explain it."""
        by_chance = 2.0 / (self.training + 1)
        return self.examples >= FEWEST_OUTSIDE and self.share > max(OUTSIDE, OFTENER * by_chance)


@dataclass(frozen=True)
class Evidence:
    """Evidence that a diagnosis looks at.

    Attributes:
        test: evaluation on the test split.
        train: summary of as many training examples.
        history: rows of `history.csv`; empty for a model without a run.
        calibration: calibration of sigma on the test split; `None` without one.
        latents: latents on the test split; `None` for a plain autoencoder.
        min_sigma: the smallest sigma that data of this step allow; `None` without one.
        outside: test values outside the range of the training values; `None` where they cannot be.
        scale_choice: `fixed`, `learned` or `optimal`, as the scale was trained; `None` without one.
    """

    test: Evaluation
    train: Evaluation
    history: Sequence[Mapping[str, float]]
    calibration: Calibration | None
    latents: LatentDiagnosis | None
    min_sigma: float | None
    outside: Outside | None
    scale_choice: str | None = None


Check: TypeAlias = Callable[[Evidence], Finding | None]


def findings(evidence: Evidence) -> list[Finding]:
    """All that is wrong, most important first; empty if nothing is."""
    checks: tuple[Check, ...] = (
        _outside,
        _collapse,
        _sigma_at_floor,
        _below_baseline,
        _too_short,
        _over_fitted,
        _unused,
    )
    if evidence.test.n >= FEWEST_TOLD:
        checks += (_miscalibrated, _holes, _wrong_shape)
    found = [finding for check in checks if (finding := check(evidence)) is not None]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _outside(e: Evidence) -> Finding | None:
    if e.outside is None or not e.outside.is_strange:
        return None
    return Finding(
        "data-outside-range", "error",
        f"{100 * e.outside.share:.1f} % of the values of the {e.test.split} split lie outside the range of the training values.",
        "Check that both were scaled alike (--data-range, --standardise), and that the right data were given.",
    )  # fmt: skip


def _collapse(e: Evidence) -> Finding | None:
    if e.latents is None or e.latents.collapse != "full":
        return None
    sharper = "Take --sigma optimal rather than a large sigma or beta. " if e.scale_choice == "fixed" else ""
    return Finding(
        "posterior-collapse", "error", e.latents.sentence,
        f"{sharper}Raise beta slowly (--kl-warmup 0.3); try a smaller --lr.",
    )  # fmt: skip


def _sigma_at_floor(e: Evidence) -> Finding | None:
    if e.min_sigma is None or e.test.sigma is None or e.test.sigma > AT_FLOOR * e.min_sigma:
        return None
    return Finding(
        "sigma-at-floor", "error",
        f"Sigma is at its floor, {e.min_sigma:.2e}: the residuals are smaller than the data's own step, and the ELBO measures that step.",
        "Look for duplicates of the training examples in the test data, or constant data; take fewer latents or another likelihood.",
    )  # fmt: skip


def _below_baseline(e: Evidence) -> Finding | None:
    if not is_below(e.test):
        return None
    assert e.test.elbo_nats is not None
    assert e.test.baseline_log_likelihood_nats is not None
    short = e.test.baseline_log_likelihood_nats - e.test.elbo_nats
    return Finding(
        "below-baseline", "error",
        f"The test ELBO, {e.test.elbo_nats:.1f} nats, is {short:.1f} below {e.test.baseline}, which has a closed form.",
        advice(e.test, e.history, e.scale_choice),
    )  # fmt: skip


def _too_short(e: Evidence) -> Finding | None:
    if not e.history:
        return None
    if len(e.history) < 2:
        return Finding(
            "one-epoch", "warning", "The run has a single epoch, so nothing says whether it had settled.", "Train for more (--epochs 20)."
        )  # fmt: skip
    losses = [row["validation_loss"] for row in e.history]
    late = late_share(e.history) * (losses[0] - min(losses))
    if not is_still_falling(e.history) or late < (e.test.elbo_standard_error or 0.0):
        return None
    return Finding(
        "still-falling", "warning",
        f"The validation loss still fell by {late:.1f} nats in the last fifth of the epochs ({100 * late_share(e.history):.0f} % of its "
        "whole fall).",
        f"Train for twice as long: --epochs {2 * len(losses)}.",
    )  # fmt: skip


def _over_fitted(e: Evidence) -> Finding | None:
    if e.test.elbo_nats is None or e.train.elbo_nats is None:
        return None
    gap = e.train.elbo_nats - e.test.elbo_nats
    error = math.hypot(e.test.elbo_standard_error or 0.0, e.train.elbo_standard_error or 0.0)
    if gap <= max(SURE * error, OVERFITTED * e.test.data_dim):
        return None
    when = f" The best epoch was {best_epoch(e.history)} of {len(e.history)}." if is_over_fitted(e.history) else ""
    return Finding(
        "over-fitted", "warning",
        f"Training examples score {gap:.1f} nats above test examples ({gap / e.test.data_dim:.3f} a dimension).{when}",
        "Add data or --horizontal-flip; raise --weight-decay; take fewer --latent-dim or a smaller --width; stop earlier (--patience 5).",
    )  # fmt: skip


def _miscalibrated(e: Evidence) -> Finding | None:
    if e.calibration is None or e.calibration.overall.is_right:
        return None
    return Finding(
        "miscalibrated", "warning", e.calibration.sentence,
        "Where training and test differ: more data or a smaller network. Where sigma was set by hand: --sigma optimal.",
    )  # fmt: skip


def _holes(e: Evidence) -> Finding | None:
    if e.latents is None or e.latents.hole_share is None or not e.latents.has_holes:
        return None
    return Finding(
        "holes", "note",
        f"{100 * e.latents.hole_share:.0f} % of prior samples fall where no data are coded, so samples look worse than reconstructions.",
        "A larger sigma or beta codes fewer nats and fills the prior better; fewer latents do too.",
    )  # fmt: skip


def _unused(e: Evidence) -> Finding | None:
    if e.latents is None or e.latents.collapse != "partial":
        return None
    unused = len(e.latents.active) - e.latents.active_units
    return Finding(
        "unused-latents", "note",
        f"{unused} of {len(e.latents.active)} latents are unused (posterior means vary by less than 0.01).",
        f"Nothing is lost by it; --latent-dim {max(1, e.latents.active_units)} would give the same.",
    )  # fmt: skip


def _wrong_shape(e: Evidence) -> Finding | None:
    if e.calibration is None or e.calibration.overall.has_right_shape:
        return None
    if not e.calibration.overall.is_right:
        return None  # said already
    return Finding(
        "residuals-of-another-shape", "note", e.calibration.sentence,
        "One sigma for all elements may be too few: try --sigma-shared channel or element.",
    )  # fmt: skip

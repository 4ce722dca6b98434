"""Verdict on a model beside its linear baseline, and advice that fits what is seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ._record import Evaluation, with_error

FEWEST = 5  # differences that tell an error
SURE = 2.0  # standard errors of the difference within which nothing is said
NORMAL = 3.0902323061678132  # quantile of a standard normal at .999: beyond so many errors a model is said to be below
LONGEST = 60  # letters of a baseline's name that a sentence repeats; its own line has it whole
COLLAPSED = 0.1  # nats of KL below which the latents carry nothing
OFF_SCALE = 1.2  # ratio of a fixed sigma to the residuals, or the inverse
EARLY = 0.7  # share of the epochs before which a best epoch is early
RISE_LEFT = 0.03  # share of the whole fall of the validation loss in the last fifth of the epochs

Rows = Sequence[Mapping[str, float]]


def verdict(e: Evaluation, history: Rows = (), scale_choice: str | None = None) -> str:
    """Say whether the model beats the linear baseline, within the error of the difference, and what to try if it does not.

    Args:
        e: evaluation.
        history: rows of the run's `history.csv`.
        scale_choice: `fixed`, `learned` or `optimal`; `None` without a scale.
    """
    if e.elbo_nats is None:
        return "A plain autoencoder has no density: there is no ELBO to compare."
    if e.baseline_log_likelihood_nats is None or e.baseline is None:
        return "There is no closed-form baseline to compare with."
    margin = e.elbo_nats - e.baseline_log_likelihood_nats
    error = e.standard_errors.get("elbo_minus_baseline_nats", math.inf)
    named = e.baseline if len(e.baseline) <= LONGEST else "the baseline"
    if abs(margin) <= SURE * error:
        said = (
            "one example tells no error"
            if math.isinf(error)
            else f"{'+' * (margin > 0.0)}{with_error(margin, error)} nats"
        )
        return f"The ELBO and {named} do not differ beyond the error ({said})."
    if margin > 0.0:
        return f"The ELBO beats {named} by {with_error(margin, error)} nats."
    return (
        f"The ELBO does not beat {named}, which has a closed form: it is {with_error(-margin, error)} nats short. "
        f"{advice(e, history, scale_choice)}"
    )


def is_below(e: Evaluation) -> bool:
    """Tell whether the ELBO lies below the linear baseline, where chance alone says so once in a thousand times."""
    if e.elbo_nats is None or e.baseline_log_likelihood_nats is None:
        return False
    error: float = e.standard_errors.get("elbo_minus_baseline_nats", math.inf)
    return e.elbo_nats - e.baseline_log_likelihood_nats < -errors_that_tell(e.n) * error


def errors_that_tell(n: int) -> float:
    """Estimated standard errors of a mean of `n` differences that chance exceeds once in a thousand times: Student's t at .999.

    Cornish and Fisher's expansion about the normal quantile, to the third order in 1 / (n - 1) (Abramowitz and Stegun, 26.7.5); infinite for
    fewer than 5 differences, which tell no error to that degree.

    Examples:
        >>> from calibrae.evaluation._advice import errors_that_tell
        >>> f"{errors_that_tell(12):.2f} {errors_that_tell(200):.2f} {errors_that_tell(10**6):.2f}"
        '4.02 3.13 3.09'
    """
    if n < FEWEST:
        return math.inf
    z, degrees = NORMAL, n - 1
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def advice(e: Evaluation, history: Rows, scale_choice: str | None) -> str:
    """Advice for a model below the linear baseline, from what is seen of it."""
    if e.kl_nats is not None and e.kl_nats < COLLAPSED:
        return "The KL is near 0, so the latents carry nothing: raise beta slowly (--kl-warmup 0.3), or try a smaller --lr."
    residual = 0.0 if e.mse is None else e.mse**0.5
    if scale_choice == "fixed" and e.sigma is not None and residual > 0:
        ratio = e.sigma / residual
        if max(ratio, 1.0 / ratio) > OFF_SCALE:
            return f"Sigma is fixed at {e.sigma:.3g} where the residuals are {residual:.3g}: take --sigma optimal."
    if is_over_fitted(history):
        best = best_epoch(history)
        return (
            f"The validation loss was best at epoch {best} of {len(history)} and has risen since, so more epochs do not help: add data, "
            "take fewer --latent-dim or a smaller network, or raise --weight-decay."
        )
    if is_still_falling(history) or len(history) == 1:
        return f"The validation loss was still falling: train longer (--epochs {2 * len(history)})."
    return "Training has settled there: try more epochs, another --lr or --network, and look for a fault in the data."


def best_epoch(history: Rows) -> int:
    """Epoch with the lowest validation loss, from 1."""
    losses = [row["validation_loss"] for row in history]
    return losses.index(min(losses)) + 1


def is_over_fitted(history: Rows) -> bool:
    """Tell whether the validation loss was best early and has risen since."""
    return len(history) > 3 and best_epoch(history) <= EARLY * len(history)


def is_still_falling(history: Rows) -> bool:
    """Tell whether the last fifth of the epochs brought a share of the whole fall that counts."""
    return late_share(history) > RISE_LEFT


def late_share(history: Rows) -> float:
    """Share of the whole fall of the validation loss that the last fifth of the epochs brought; 0 where it cannot be told."""
    losses = [row["validation_loss"] for row in history]
    if len(losses) < 2 or losses[0] <= min(losses):
        return 0.0
    before = losses[max(0, math.ceil(0.8 * len(losses)) - 1)]
    return (before - losses[-1]) / (losses[0] - min(losses))

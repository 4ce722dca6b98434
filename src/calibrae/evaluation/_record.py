"""What an evaluation says."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over all examples of a split, in nats on the model's scale; `None` where a number has no meaning.

    Attributes:
        n: examples.
        data_dim: `D`.
        latent_dim: `d`.
        split: which split.
        seed: of the dequantisation and the posterior samples.
        elbo_nats: the ELBO at beta = 1, one posterior sample per example, every constant kept.
        elbo_standard_error: of it, from the spread over examples.
        nll_nats: `-log p(x|z)`.
        kl_nats: the KL, summed over the latents.
        kl_per_dim: and of each.
        mse: squared error of the reconstruction at the sampled `z`, per element.
        sigma: the decoder's standard deviation (root mean square where there are several).
        sigma_shared: over what it is shared.
        bits_per_dim: `-ELBO` in bits per dimension of the integer data.
        active_units: latents whose posterior mean varies by more than 0.01 over the data.
        ppca_log_likelihood_nats: of the same examples under probabilistic PCA with as many latents, fitted in closed form
            on the same training examples.
        ppca_sigma: its noise.
        scale: what one unit of the model's data is.
        log_scale: `sum log c`; the log-density of the original data is the model's minus this.
        elbo_nats_original_units: the ELBO as a density of the original data.
        log_likelihood_nats: importance-weighted bound with `importance_samples` samples.
        log_likelihood_standard_error: of it.
        importance_samples: `K`.
        effective_samples: mean effective sample size.
        verdict: in a sentence.
        notes: what else to know.
        standard_errors: of the means by name, from their spread over examples; `elbo_minus_ppca_nats` is that of the difference on
            the same examples.
    """

    n: int
    data_dim: int
    latent_dim: int
    split: str
    seed: int
    elbo_nats: float | None
    elbo_standard_error: float | None
    nll_nats: float
    kl_nats: float | None
    kl_per_dim: list[float] | None
    mse: float
    sigma: float | None
    sigma_shared: str | None
    bits_per_dim: float | None
    active_units: int | None
    ppca_log_likelihood_nats: float | None
    ppca_sigma: float | None
    scale: str
    log_scale: float
    elbo_nats_original_units: float | None
    log_likelihood_nats: float | None = None
    log_likelihood_standard_error: float | None = None
    importance_samples: int = 0
    effective_samples: float | None = None
    verdict: str = ""
    notes: tuple[str, ...] = ()
    standard_errors: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON; numbers that are not finite become `None`."""
        found: dict[str, Any] = plain(asdict(self))
        return found


def plain(value: Any) -> Any:
    """For JSON: lists instead of tuples, `None` for what is not finite, all the way down.

    Example:
        >>> plain({"a": (1.0, float("nan"))})
        {'a': [1.0, None]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


SURE = 4.0  # standard errors
FEW = 50  # examples below which a mean says little


def verdict(elbo: float | None, floor: float | None, latent_dim: int, n: int, error: float | None) -> str:
    """Whether the model beats probabilistic PCA on `n` examples, in a sentence; the error is that of the difference."""
    if elbo is None:
        return "A plain autoencoder has no density: there is no ELBO to compare."
    if floor is None:
        return "There is no closed-form floor to compare with."
    margin = elbo - floor
    unsure = n < FEW and abs(margin) < SURE * (error or math.inf)
    few = f" On {n} examples that says little." if unsure else ""
    if margin > 0.0:
        return f"The ELBO beats probabilistic PCA with {latent_dim} latents by {margin:.1f} nats.{few}"
    return (
        f"The ELBO does not beat probabilistic PCA with {latent_dim} latents: it is {-margin:.1f} nats short of what a linear "
        f"model reaches in closed form.{few or ' Train longer, or look for a fault in the data or the network.'}"
    )

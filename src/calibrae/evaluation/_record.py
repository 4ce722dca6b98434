"""Record of an evaluation."""

from __future__ import annotations

import html
import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over all examples of a split, in nats on the model's scale; `None` where a number has no meaning.

    Attributes:
        n: number of examples.
        data_dim: `D`.
        latent_dim: `d`.
        split: split that they are from.
        seed: seed of the dequantisation and the posterior samples.
        elbo_nats: ELBO at beta = 1, one posterior sample per example, every constant kept.
        elbo_standard_error: its standard error, from the spread over examples.
        reconstruction_nats: `-log p(x|z)`.
        kl_nats: KL, summed over the latents.
        kl_per_dim: KL of each latent; `None` unless posterior and prior factorise.
        mse: squared error of the reconstruction at the sampled `z`, per element; `None` where there are categories.
        sigma: decoder's standard deviation (root mean square where there are several).
        sigma_shared: extent of one entry of it: all elements, a channel or an element.
        bits_per_dim: `-ELBO` in bits per dimension of the integer data.
        active_units: latents whose posterior mean varies by more than 0.01 over the data.
        ppca_log_likelihood_nats: mean log-likelihood of the same examples under probabilistic PCA, fitted in closed form on the same
            training examples, with the number of latents up to the model's that is best on the validation split.
        ppca_sigma: its noise.
        baseline: name of the linear model that is compared with: probabilistic PCA, or factor analysis where the model has a sigma for
            each channel or element.
        baseline_log_likelihood_nats: mean log-likelihood of the same examples under it.
        scale: size of one unit of the model's data.
        log_scale: `sum log c`; the log-density of the original data is the model's minus this.
        elbo_nats_original_units: ELBO as a density of the original data.
        log_likelihood_nats: importance-weighted bound with `importance_samples` samples.
        log_likelihood_standard_error: its standard error.
        importance_samples: `K`.
        effective_samples: mean effective sample size.
        verdict: verdict in a sentence.
        notes: assumptions, estimates and omissions, in sentences.
        standard_errors: standard errors of the means by name, from their spread over examples; `elbo_minus_baseline_nats` is that of
            the difference on the same examples.
    """

    n: int
    data_dim: int
    latent_dim: int
    split: str
    seed: int
    elbo_nats: float | None
    elbo_standard_error: float | None
    reconstruction_nats: float
    kl_nats: float | None
    kl_per_dim: list[float] | None
    mse: float | None
    sigma: float | None
    sigma_shared: str | None
    bits_per_dim: float | None
    active_units: int | None
    ppca_log_likelihood_nats: float | None
    ppca_sigma: float | None
    baseline: str | None
    baseline_log_likelihood_nats: float | None
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

    def __str__(self) -> str:
        """Table for people, as the command line prints it."""
        return evaluation_table(self)

    def _repr_html_(self) -> str:
        """Table for a notebook."""
        return evaluation_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON; numbers that are not finite become `None`."""
        found: dict[str, Any] = plain(asdict(self))
        return found


def number(value: float | None, digits: int, unit: str = "") -> str:
    """Format a number, or a dash where there is none.

    Examples:
        >>> from calibrae.evaluation import number
        >>> number(1.23456, 2, " nats"), number(None, 2)
        ('1.23 nats', '-')
    """
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}{unit}"


def with_error(value: float, error: float) -> str:
    """Format a value with its error, to the first digit of the error that is not 0, and to one decimal at least.

    Examples:
        >>> from calibrae.evaluation import with_error
        >>> with_error(18.8123, 1.41), with_error(0.2381, 0.0412), with_error(0.5, 0.0)
        ('18.8 +- 1.4', '0.24 +- 0.04', '0.5 +- 0.0')
    """
    digits = min(6, max(1, math.ceil(-math.log10(error)))) if 0.0 < error < math.inf else 1
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def evaluation_table(e: Evaluation) -> str:
    """Format an evaluation as a short table, a sentence and notes."""
    lines = [f"{name:<17} {value}" for name, value in evaluation_rows(e)]
    return "\n".join([*lines, e.verdict, *(f"note: {note}" for note in e.notes)])


def evaluation_html(e: Evaluation) -> str:
    """Format an evaluation for a notebook: the verdict, the table, and the notes.

    Examples:
        >>> from calibrae.evaluation import evaluation_html
        >>> model = build("vae", data_shape=(1, 8, 8), latent_dim=2)
        >>> evaluation_html(evaluate(model, "digits"))[:11]
        '<div><p><b>'
    """
    body = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in evaluation_rows(e)
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in e.notes)
    return f"<div><p><b>{html.escape(e.verdict)}</b></p><table>{body}</table><ul>{notes}</ul></div>"


def evaluation_rows(e: Evaluation) -> list[tuple[str, str]]:
    """Names and values of the numbers that there are."""
    error = f" +- {number(e.elbo_standard_error, 2)}" if e.elbo_standard_error is not None else ""
    active = "" if e.active_units is None else f", {e.active_units} of {e.latent_dim} latents active"
    weighted = f"{number(e.log_likelihood_nats, 2)} +- {number(e.log_likelihood_standard_error, 2)} nats"
    rows: list[tuple[str, str | None]] = [
        ("examples", f"{e.n} ({e.split}), D = {e.data_dim} on {e.scale}"),
        ("ELBO", None if e.elbo_nats is None else f"{number(e.elbo_nats, 2)}{error} nats"),
        (
            "ELBO, original",
            None
            if e.elbo_nats_original_units is None
            else f"{e.elbo_nats_original_units:.2f} nats, in the units of the data",
        ),
        ("bits/dim", None if e.bits_per_dim is None else number(e.bits_per_dim, 4)),
        ("-log p(x|z)", number(e.reconstruction_nats, 2, " nats")),
        ("KL", None if e.kl_nats is None else f"{number(e.kl_nats, 2)} nats{active}"),
        ("RMSE", None if e.mse is None else f"{e.mse**0.5:.5f}"),
        ("sigma", None if e.sigma is None else number(e.sigma, 5)),
        (
            "baseline" if e.ppca_log_likelihood_nats is None else "linear baseline",
            None
            if e.baseline_log_likelihood_nats is None
            else f"{number(e.baseline_log_likelihood_nats, 2)} nats, {e.baseline}",
        ),
        (
            f"log p(x), K={e.importance_samples}",
            f"{weighted} (effective samples {e.effective_samples:.1f})" if e.effective_samples is not None else None,
        ),
    ]
    return [(name, value) for name, value in rows if value is not None]


def plain(value: Any) -> Any:
    """Convert for JSON: lists instead of tuples, `None` for what is not finite, all the way down.

    Examples:
        >>> from calibrae.evaluation._record import plain
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

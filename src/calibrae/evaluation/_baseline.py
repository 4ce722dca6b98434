"""The linear baseline of a model: fitted in closed form on the training split, with the model's own sharing of sigma."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .. import functional
from .._types import ALONE, AnySplit, World
from ..data import Data, cached_arrays
from ..errors import ArgumentError
from ..functional import LinearBaseline
from ..models import VAE, TableBaseline
from ._spectrum import EXACT_DIM, KEPT, data_covariance, data_spectrum
from ._table_baseline import MOST_FEATURES, table_baseline

ROWS = 4096
CHOSEN_ON = 2000  # validation examples that choose the number of latents
NO_DENSITY = "there is no closed-form baseline: probabilistic PCA is a density, and this likelihood gives probabilities"
UNKNOWN = "there is no closed-form baseline: the data that the model was trained on are not known here"


def unknown_baseline(model: VAE, data: Data) -> str:
    """Reason why a model without known training data has no baseline."""
    return UNKNOWN if model.likelihood.is_density or data.spec.columns else NO_DENSITY


def training_spectrum(data: Data, latent_dim: int, slope: Tensor | None = None) -> functional.Spectrum:
    """Spectrum of the prepared training split, kept in the cache.

    Args:
        data: data with a training split.
        latent_dim: how many eigenpairs matter.
        slope: regression on the condition whose residuals are meant, `[context_dim, D]`.
    """
    kept = max(latent_dim, KEPT)

    def compute() -> dict[str, np.ndarray]:
        found = data_spectrum(lambda: _training(data, slope), latent_dim)
        facts = np.array([found.total_variance, found.n, found.is_exact], dtype=np.float64)
        arrays = {"mean": found.mean, "eigenvalues": found.eigenvalues, "eigenvectors": found.eigenvectors}
        return {name: value.numpy() for name, value in arrays.items()} | {"facts": facts}

    of = "spectrum" if slope is None else "spectrum after regression"
    stored = cached_arrays((of, data.identity("train"), kept), compute)
    mean, values, vectors, facts = (
        torch.from_numpy(stored[k]) for k in ("mean", "eigenvalues", "eigenvectors", "facts")
    )
    return functional.Spectrum(mean, values, vectors, float(facts[0]), int(facts[1]), bool(facts[2]))


def _training(data: Data, slope: Tensor | None) -> Iterator[Tensor]:
    """Training examples, or what a regression on the condition leaves of them."""
    if slope is None:
        return (batch.x for batch in data.batches("train", data.rows_at_once(ROWS)))
    return (x.double() - context.to(slope) @ slope for context, x in _pairs(data))


def _pairs(data: Data) -> Iterator[tuple[Tensor, Tensor]]:
    """Conditions and examples `[B, D]` of the training split."""
    for batch in data.batches("train", data.rows_at_once(ROWS)):
        assert batch.context is not None
        yield batch.context, batch.x.flatten(1)


def training_baseline(model: VAE, data: Data) -> tuple[LinearBaseline | TableBaseline | None, tuple[str, ...]]:
    """Linear model of the training split, or why there is none to compare with.

    It has the number of latents, up to the model's, that is best on the validation split, and a sigma for whatever shares one in the
    model.
    """
    if data.spec.columns:
        unknown = f"the baseline does not know the condition, which has {model.context_dim} features (a regression takes {MOST_FEATURES})"
        return table_baseline(data, model.latent_dim), (unknown,) if model.context_dim > MOST_FEATURES else ()
    if not model.likelihood.is_density:
        return None, (NO_DENSITY,)
    slopes = [functional.regress(lambda: _pairs(data))] if model.context_dim else []
    try:
        found = [_fitted(model, data, slope) for slope in (*slopes, None)]
    except ArgumentError as error:
        return None, (str(error),)
    fit = max(found, key=lambda one: one.held_out)  # a regression on many classes may be worse than none
    ppca = model.likelihood.baseline(fit.spectrum, fit.latent_dim)
    if ppca is None:
        return None, ("this likelihood names no closed-form baseline",)
    linear = LinearBaseline(ppca, is_exact=fit.spectrum.is_exact, slope=fit.slope)
    return _with_factors(model, data, linear, fit.spectrum)


@dataclass(frozen=True)
class _Fit:
    """Probabilistic PCA of the training split, of what a regression leaves if there is one, and its value on the validation split."""

    spectrum: functional.Spectrum
    slope: Tensor | None
    latent_dim: int
    held_out: float


def _fitted(model: VAE, data: Data, slope: Tensor | None) -> _Fit:
    """The number of latents up to the model's that is best on the validation split.

    Raises:
        ArgumentError: if no number leaves any noise.
    """
    spectrum = training_spectrum(data, model.latent_dim, slope)
    most = min(model.latent_dim, data.spec.data_dim - 1, len(spectrum.eigenvalues))
    if most < 1:
        raise ArgumentError(
            "probabilistic PCA needs at least two dimensions: there is no linear model to compare with."
        )
    total = torch.zeros(most, dtype=torch.float64)
    for batch in data.batches("validation", data.rows_at_once(ROWS), limit=CHOSEN_ON):
        x = batch.x.flatten(1).double()
        if slope is not None and batch.context is not None:
            x = x - batch.context.to(slope) @ slope
        total += functional.ppca_log_likelihoods(spectrum, x, most).sum(0)
    finite = torch.where(total.isfinite(), total, -math.inf)
    if not bool(total.isfinite().any()):
        raise ArgumentError(
            "a few latents explain all the variance of the data, so a linear model has no noise left and no density: there is nothing "
            "to compare with."
        )
    return _Fit(spectrum, slope, int(finite.argmax()) + 1, float(finite.max()))


def _with_factors(
    model: VAE, data: Data, baseline: LinearBaseline, spectrum: functional.Spectrum
) -> tuple[LinearBaseline, tuple[str, ...]]:
    """The baseline with as many sigmas as the model has."""
    scale, size = model.likelihood.scale, data.spec.data_dim
    entries = 1 if scale is None else math.prod(scale.shape)
    if scale is None or entries == 1:
        return baseline, baseline_notes(baseline)
    if size > EXACT_DIM:
        return baseline, (
            *baseline_notes(baseline),
            f"the baseline has one sigma and the model {entries:,}: factor analysis is not fitted beyond {EXACT_DIM:,} dimensions",
        )
    covariance = data_covariance(lambda: _training(data, baseline.slope), spectrum)
    groups = torch.arange(entries).repeat_interleave(size // entries)
    factor = functional.factor_analysis(
        spectrum.mean, covariance, baseline.ppca.weight, groups=groups, min_noise=scale.floor**2
    )
    return replace(baseline, factor=factor, shared=scale.shared), baseline_notes(baseline)


def baseline_notes(baseline: LinearBaseline | TableBaseline) -> tuple[str, ...]:
    """Notes on how a baseline was fitted."""
    if isinstance(baseline, TableBaseline) or baseline.is_exact:
        return ()
    return ("the baseline is approximate: its eigenvalues are from subspace iteration",)


def log_likelihoods(
    baseline: LinearBaseline | TableBaseline,
    data: Data,
    split: AnySplit,
    seed: int = 0,
    limit: int | None = None,
    world: World = ALONE,
) -> tuple[Tensor, Tensor | None]:
    """Exact log-likelihood of each example of a split, `[N]`, nats: under the baseline, and under its probabilistic PCA if it has one."""
    found, simple = [], []
    world = world.over(len(data.positions(split, limit)))
    for batch in data.batches(split, data.rows_at_once(ROWS), seed, limit, world):
        x = batch.x.flatten(1).double()
        found.append(baseline.log_likelihood(x, batch.context))
        if isinstance(baseline, LinearBaseline):
            is_simple, rest = baseline.factor is None, baseline.residual(x, batch.context)
            simple.append(found[-1] if is_simple else functional.ppca_log_likelihood(baseline.ppca, rest))
    return world.rows(torch.cat(found)), world.rows(torch.cat(simple)) if simple else None

"""One exact evaluation for any data and model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .. import functional
from .._types import Split
from ..data import Data, ExampleNoise, cached_arrays, mixed_seed
from ..errors import ArgumentError
from ..functional import error_of_mean
from ..likelihoods import GaussianLikelihood
from ..models import VAE, ELBOSummary, Scorer, summarise
from ._bounds import effective_remark, split_bounds
from ._importance import ImportanceSummary
from ._record import Evaluation, verdict
from ._spectrum import KEPT, Spectrum, data_spectrum
from ._ticks import Tick, ticker

LATENT_STREAM = 6
FLOOR_ROWS = 4096


def evaluate_model(
    model: VAE,
    data: Data,
    *,
    split: Split | Literal["all"] = "test",
    importance_samples: int = 0,
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    floor: functional.PPCA | None = None,
    tick: Tick | None = None,
) -> Evaluation:
    """ELBO, its parts, bits per dimension, the closed-form floor and, if asked, the importance-weighted bound.

    All are means over examples (not batches), in float64, deterministic for a seed and the same for every batch size
    but for rounding.

    Args:
        model: with a fixed sigma.
        data: split and prepared as the model's.
        split: `train`, `validation`, `test` or `all`.
        importance_samples: `K`, 0 for none.
        seed: of the dequantisation and latent noise.
        batch_size: examples at once.
        limit: so many examples only, evenly spaced.
        floor: probabilistic PCA of the model's training examples; by default it is fitted on the training split of `data`.
        tick: called with a stage, how much is done and how much there is, for a progress bar.

    Raises:
        ArgumentError: if a number is out of range.
        UnfrozenSigmaError: if an optimal sigma was not fixed on the training set.
    """
    if batch_size < 1 or (limit is not None and limit < 1) or importance_samples < 0:
        raise ArgumentError(
            f"batch_size and limit must be positive and importance_samples not negative; got {batch_size}, {limit}, "
            f"{importance_samples}."
        )
    summary = summarise_split(model, data, split, seed=seed, batch_size=batch_size, limit=limit, tick=tick)
    ppca, notes = (floor, ()) if floor is not None else training_ppca(model, data)
    likelihoods = None if ppca is None else log_likelihoods(ppca, data, split, seed, limit)
    weighted = None
    if importance_samples:
        weighted = split_bounds(
            model, data, split, importance_samples, seed=seed, batch_size=batch_size, limit=limit, tick=tick
        )
        notes = (*notes, *(r for r in [effective_remark(weighted)] if r.startswith("poor")))
    return _record(model, data, split, seed, summary, weighted, likelihoods, ppca.sigma if ppca else None, notes)


def summarise_split(
    model: VAE,
    data: Data,
    split: Split | Literal["all"],
    *,
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    tick: Tick | None = None,
) -> ELBOSummary:
    """The ELBO and its terms on a split. Models of one latent size see the same noise, so their differences have small errors.

    Args:
        model: with a fixed sigma.
        data: split and prepared as the model's.
        split: `train`, `validation`, `test` or `all`.
        seed: of the dequantisation and latent noise.
        batch_size: examples at once.
        limit: so many examples only, evenly spaced.
        tick: called with a stage, how much is done and how much there is, for a progress bar.
    """
    noise = ExampleNoise("normal", (model.latent_dim,), mixed_seed(seed, LATENT_STREAM))
    size, count = data.rows_at_once(batch_size), len(data.view(split).spaced(limit))
    batches = data.batches(split, size, seed, limit)
    return summarise(model, batches, noise.rows, ticker(tick, "ELBO", count), Scorer(model, count, size))


def training_spectrum(data: Data, latent_dim: int) -> Spectrum:
    """The spectrum of the prepared training split, kept in the cache."""
    kept = max(latent_dim, KEPT)

    def batches() -> Iterator[Tensor]:
        return (x for _, x in data.batches("train", data.rows_at_once(FLOOR_ROWS)))

    def compute() -> dict[str, np.ndarray]:
        found = data_spectrum(batches, latent_dim)
        facts = np.array([found.total_variance, found.n, found.is_exact], dtype=np.float64)
        arrays = {"mean": found.mean, "eigenvalues": found.eigenvalues, "eigenvectors": found.eigenvectors}
        return {name: value.numpy() for name, value in arrays.items()} | {"facts": facts}

    stored = cached_arrays(("spectrum", data.identity("train"), kept), compute)
    mean, values, vectors, facts = (
        torch.from_numpy(stored[k]) for k in ("mean", "eigenvalues", "eigenvectors", "facts")
    )
    return Spectrum(mean, values, vectors, float(facts[0]), int(facts[1]), bool(facts[2]))


def training_ppca(model: VAE, data: Data) -> tuple[functional.PPCA | None, tuple[str, ...]]:
    """Probabilistic PCA of the training split with the model's number of latents, or why there is none to compare with."""
    if not isinstance(model.likelihood, GaussianLikelihood):
        return None, ("probabilistic PCA is a density and cannot be compared with probabilities of binary data",)
    spectrum = training_spectrum(data, model.latent_dim)
    try:
        ppca = spectrum.ppca(model.latent_dim)
    except ArgumentError as error:
        return None, (str(error),)
    notes = () if spectrum.is_exact else ("the PPCA floor is approximate: its eigenvalues are from subspace iteration",)
    return ppca, notes


def log_likelihoods(
    ppca: functional.PPCA, data: Data, split: Split | Literal["all"], seed: int = 0, limit: int | None = None
) -> Tensor:
    """Exact log-likelihood of each example of a split under a probabilistic PCA, `[N]`, nats."""
    batches = data.batches(split, data.rows_at_once(FLOOR_ROWS), seed, limit)
    return torch.cat([functional.ppca_log_likelihood(ppca, x.flatten(1).double()) for _, x in batches])


def _record(
    model: VAE,
    data: Data,
    split: str,
    seed: int,
    summary: ELBOSummary,
    weighted: ImportanceSummary | None,
    likelihoods: Tensor | None,
    floor_sigma: float | None,
    notes: tuple[str, ...],
) -> Evaluation:
    spec = data.spec
    bound = summary.is_bound
    elbo = summary.elbo if bound else None
    bits = None
    if elbo is not None and spec.density_levels is not None:
        bits = functional.bits_per_dim(-elbo, spec.data_dim, spec.density_levels)
    sigma = getattr(model.likelihood, "sigma", None)
    floor = None if likelihoods is None else float(likelihoods.mean())
    errors = dict(summary.standard_errors)
    if bits is not None and summary.n > 1:
        errors["bits_per_dim"] = summary.standard_error / (spec.data_dim * math.log(2.0))
    if likelihoods is not None and len(likelihoods) > 1:
        errors["ppca_log_likelihood_nats"] = error_of_mean(likelihoods)
        if bound:
            errors["elbo_minus_ppca_nats"] = error_of_mean(summary.elbos - likelihoods)
    return Evaluation(
        n=summary.n,
        data_dim=spec.data_dim,
        latent_dim=model.latent_dim,
        split=split,
        seed=seed,
        elbo_nats=elbo,
        elbo_standard_error=summary.standard_error if bound and summary.n > 1 else None,
        nll_nats=summary.nll,
        kl_nats=summary.kl if bound else None,
        kl_per_dim=summary.kl_per_dim.tolist() if bound else None,
        mse=summary.mse,
        sigma=None if sigma is None else sigma.root_mean_square(),
        sigma_shared=None if sigma is None else sigma.shared,
        bits_per_dim=bits,
        active_units=int(functional.active_latents(summary.posterior_mean_var).sum()) if bound else None,
        ppca_log_likelihood_nats=floor,
        ppca_sigma=floor_sigma,
        scale=spec.scale,
        log_scale=spec.log_scale,
        elbo_nats_original_units=None if elbo is None or spec.levels is not None else elbo - spec.log_scale,
        log_likelihood_nats=weighted.mean if weighted else None,
        log_likelihood_standard_error=weighted.standard_error if weighted else None,
        importance_samples=weighted.samples if weighted else 0,
        effective_samples=float(weighted.effective_samples.mean()) if weighted else None,
        verdict=verdict(elbo, floor, model.latent_dim, summary.n, errors.get("elbo_minus_ppca_nats")),
        notes=notes,
        standard_errors=errors,
    )

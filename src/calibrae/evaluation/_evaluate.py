"""One exact evaluation for any data and model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .. import functional
from .._noise import ExampleNoise, mixed_seed
from .._types import AnySplit
from ..data import Data, cached_arrays, counted, listed
from ..errors import ArgumentError, DataError
from ..functional import error_of_mean
from ..latents import exact_kl
from ..models import VAE, ELBOSummary, Scorer, evaluating, seeded, summarise
from ._bounds import effective_remark, is_reliable, split_bounds
from ._importance import ImportanceSummary
from ._record import Evaluation, verdict
from ._spectrum import KEPT, data_spectrum
from ._ticks import Tick, ticker
from ._weigh import draws_itself

LATENT_STREAM = 6
BASELINE_ROWS = 4096


def evaluate_model(
    model: VAE,
    data: Data,
    *,
    split: AnySplit = "test",
    importance_samples: int = 0,
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    baseline: functional.PPCA | Literal["train", "unknown"] = "train",
    tick: Tick | None = None,
) -> Evaluation:
    """Compute the ELBO, its parts, bits per dimension, the closed-form baseline and, if asked, the importance-weighted bound.

    All are means over examples (not batches), in float64, deterministic for a seed and the same for every batch size
    but for rounding.

    Args:
        model: with a fixed scale.
        data: split and prepared as the model's.
        split: `train`, `validation`, `test` or `all`.
        importance_samples: `K`, 0 for none.
        seed: seed of the dequantisation and latent noise.
        batch_size: examples at once.
        limit: so many examples only, evenly spaced.
        baseline: closed-form model of the model's training examples; `unknown` for none; by default it is fitted on the training split of `data`.
        tick: called with a stage, how much is done and how much there is, for a progress bar.

    Raises:
        ArgumentError: if a number is out of range.
        ScaleNotFixedError: if an optimal scale was not fixed on the training set.
    """
    if batch_size < 1 or (limit is not None and limit < 1) or importance_samples < 0:
        raise ArgumentError(
            f"batch_size and limit must be positive and importance_samples not negative; got {batch_size}, {limit}, "
            f"{importance_samples}."
        )
    summary = summarise_split(model, data, split, seed=seed, batch_size=batch_size, limit=limit, tick=tick)
    _require_finite(summary, data, split, limit)
    ppca, notes = _baseline(model, data, baseline)
    notes = (*_assumptions(model, data, split), *notes)
    likelihoods = None if ppca is None else log_likelihoods(ppca, data, split, seed, limit)
    weighted = None
    if importance_samples:
        weighted = split_bounds(
            model, data, split, importance_samples, seed=seed, batch_size=batch_size, limit=limit, tick=tick
        )
        notes = notes if is_reliable(weighted) else (*notes, effective_remark(weighted))
    return _record(model, data, split, seed, summary, weighted, likelihoods, ppca.sigma if ppca else None, notes)


def summarise_split(
    model: VAE,
    data: Data,
    split: AnySplit,
    *,
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    tick: Tick | None = None,
) -> ELBOSummary:
    """The ELBO and its terms on a split. Models of one latent size see the same noise, so their differences have small errors.

    Args:
        model: with a fixed scale.
        data: split and prepared as the model's.
        split: `train`, `validation`, `test` or `all`.
        seed: seed of the dequantisation and latent noise.
        batch_size: examples at once.
        limit: so many examples only, evenly spaced.
        tick: called with a stage, how much is done and how much there is, for a progress bar.
    """
    noise = ExampleNoise("normal", (model.latent_dim,), mixed_seed(seed, LATENT_STREAM))
    size, count = data.rows_at_once(batch_size), len(data.view(split).spaced(limit))
    batches = data.batches(split, size, seed, limit)
    own = torch.Generator().manual_seed(
        mixed_seed(seed, LATENT_STREAM, 1)
    )  # for a posterior that draws its own samples
    with seeded(own, model.device):
        return summarise(model, batches, noise.rows, ticker(tick, "ELBO", count), Scorer(model, count, size))


def _require_finite(summary: ELBOSummary, data: Data, split: AnySplit, limit: int | None) -> None:
    """Raise `DataError` where the bound of an example is not finite, naming the first ones."""
    lost = (~summary.elbos.isfinite()).nonzero().flatten().tolist()
    if lost:
        names = data.names(split, limit)
        raise DataError(
            f"every example must have a finite ELBO; that of {counted(len(lost), 'example')} of {summary.n:,} has none, as they lie too "
            f"far from the training data: {listed([names[i] for i in lost])}. Check these values, or leave them out; `score` ranks them."
        )


def _baseline(
    model: VAE, data: Data, given: functional.PPCA | Literal["train", "unknown"]
) -> tuple[functional.PPCA | None, tuple[str, ...]]:
    if given == "unknown":
        return None, ("there is no closed-form baseline: the training data of a model without a run are not known",)
    return training_baseline(model, data) if given == "train" else (given, ())


def _assumptions(model: VAE, data: Data, split: AnySplit) -> tuple[str, ...]:
    """List what had to be estimated for this model, and at what cost, in sentences."""
    if not model.is_probabilistic or not len(data.view(split)):
        return ()
    first = data.gather(split, [0]).to(model.device)
    notes = []
    if draws_itself(model, first):
        notes.append(
            "the posterior draws its own samples: the numbers follow from the seed, but also depend on the batch size"
        )
    with evaluating(model):
        p = model.prior_for(first.context, 1)
        if p is not None and exact_kl(model.encode(first.x, first.context), p) is None:
            notes.append(
                "the KL has no closed form for this posterior and prior: it was estimated from one sample of each example"
            )
    return tuple(notes)


def training_spectrum(data: Data, latent_dim: int) -> functional.Spectrum:
    """Spectrum of the prepared training split, kept in the cache."""
    kept = max(latent_dim, KEPT)

    def batches() -> Iterator[Tensor]:
        return (batch.x for batch in data.batches("train", data.rows_at_once(BASELINE_ROWS)))

    def compute() -> dict[str, np.ndarray]:
        found = data_spectrum(batches, latent_dim)
        facts = np.array([found.total_variance, found.n, found.is_exact], dtype=np.float64)
        arrays = {"mean": found.mean, "eigenvalues": found.eigenvalues, "eigenvectors": found.eigenvectors}
        return {name: value.numpy() for name, value in arrays.items()} | {"facts": facts}

    stored = cached_arrays(("spectrum", data.identity("train"), kept), compute)
    mean, values, vectors, facts = (
        torch.from_numpy(stored[k]) for k in ("mean", "eigenvalues", "eigenvectors", "facts")
    )
    return functional.Spectrum(mean, values, vectors, float(facts[0]), int(facts[1]), bool(facts[2]))


def training_baseline(model: VAE, data: Data) -> tuple[functional.PPCA | None, tuple[str, ...]]:
    """Closed-form model of the training split with the model's number of latents, or why there is none to compare with."""
    if not model.likelihood.is_density:
        return None, (
            "there is no closed-form baseline: probabilistic PCA is a density, and this likelihood gives probabilities",
        )
    if model.context_dim:
        return None, (
            "there is no closed-form baseline for a conditional model: probabilistic PCA does not know the condition",
        )
    spectrum = training_spectrum(data, model.latent_dim)
    try:
        ppca = model.likelihood.baseline(spectrum, model.latent_dim)
    except ArgumentError as error:
        return None, (str(error),)
    if ppca is None:
        return None, ("this likelihood names no closed-form baseline",)
    notes = (
        () if spectrum.is_exact else ("the PPCA baseline is approximate: its eigenvalues are from subspace iteration",)
    )
    return ppca, notes


def log_likelihoods(
    ppca: functional.PPCA, data: Data, split: AnySplit, seed: int = 0, limit: int | None = None
) -> Tensor:
    """Exact log-likelihood of each example of a split under a probabilistic PCA, `[N]`, nats."""
    batches = data.batches(split, data.rows_at_once(BASELINE_ROWS), seed, limit)
    return torch.cat([functional.ppca_log_likelihood(ppca, batch.x.flatten(1).double()) for batch in batches])


def _record(
    model: VAE,
    data: Data,
    split: str,
    seed: int,
    summary: ELBOSummary,
    weighted: ImportanceSummary | None,
    likelihoods: Tensor | None,
    baseline_sigma: float | None,
    notes: tuple[str, ...],
) -> Evaluation:
    spec = data.spec
    bound = summary.is_bound
    elbo = summary.elbo if bound else None
    bits = None
    if elbo is not None and spec.density_levels is not None:
        bits = functional.bits_per_dim(-elbo, spec.data_dim, spec.density_levels)
    scale = model.likelihood.scale
    baseline = None if likelihoods is None else float(likelihoods.mean())
    variance = summary.posterior_mean_var
    errors = {name: value for name, value in summary.standard_errors.items() if name != "elbo"}
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
        reconstruction_nats=summary.nll,
        kl_nats=summary.kl,
        kl_per_dim=None if summary.kl_per_dim is None else summary.kl_per_dim.tolist(),
        mse=summary.mse,
        sigma=None if scale is None else scale.std(),
        sigma_shared=None if scale is None else scale.shared,
        bits_per_dim=bits,
        active_units=int(functional.active_latents(variance).sum()) if bound and variance is not None else None,
        ppca_log_likelihood_nats=baseline,
        ppca_sigma=baseline_sigma,
        scale=spec.scale,
        log_scale=spec.log_scale,
        elbo_nats_original_units=None if elbo is None or spec.levels is not None else elbo - spec.log_scale,
        log_likelihood_nats=weighted.mean if weighted else None,
        log_likelihood_standard_error=weighted.standard_error if weighted else None,
        importance_samples=weighted.samples if weighted else 0,
        effective_samples=float(weighted.effective_samples.mean()) if weighted else None,
        verdict=verdict(elbo, baseline, model.latent_dim, summary.n, errors.get("elbo_minus_ppca_nats")),
        notes=notes,
        standard_errors=errors,
    )

"""One exact evaluation for any data and model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from .. import functional
from .._noise import ExampleNoise, mixed_seed
from .._progress import counter
from .._types import ALONE, AnySplit, DataSpec, World
from ..data import Data, counted, listed
from ..errors import ArgumentError, DataError
from ..functional import error_of_mean
from ..latents import exact_kl
from ..models import VAE, ELBOSummary, Scorer, TableBaseline, evaluating, seeded, summarise
from ._advice import verdict
from ._baseline import baseline_notes, log_likelihoods, training_baseline, unknown_baseline
from ._bounds import effective_remark, is_reliable, split_bounds
from ._importance import ImportanceSummary
from ._record import Evaluation
from ._weigh import draws_itself

LATENT_STREAM = 6
Baseline: TypeAlias = functional.LinearBaseline | TableBaseline
DENSITY_ABOVE_ONE = "an ELBO above 0 (a loss below 0) is right: it is the logarithm of a density, which exceeds 1 where values vary little"


def evaluate_model(
    model: VAE,
    data: Data,
    *,
    split: AnySplit = "test",
    importance_samples: int = 0,
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    baseline: Baseline | Literal["train", "unknown"] = "train",
    history: Sequence[Mapping[str, float]] = (),
    summary: ELBOSummary | None = None,
    world: World = ALONE,
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
        history: rows of the run's `history.csv`, which the advice looks at.
        summary: ELBO and terms that `summarise_split` found for this split, seed and limit, in place of another pass.
        world: processes that share the examples; each of them gets the whole record.

    Raises:
        ArgumentError: if a number is out of range.
        DataError: if the ELBO of an example is not finite.
        ScaleNotFixedError: if an optimal scale was not fixed on the training set.
    """
    if batch_size < 1 or (limit is not None and limit < 1) or importance_samples < 0:
        raise ArgumentError(
            f"batch_size and limit must be positive and importance_samples not negative; got {batch_size}, {limit}, "
            f"{importance_samples}."
        )
    summary = summary or summarise_split(model, data, split, seed=seed, batch_size=batch_size, limit=limit, world=world)
    _require_finite(summary, data, split, limit)
    linear, notes = world.from_first(partial(_baseline, model, data, baseline))
    notes = (*_assumptions(model, data, split), *notes)
    likelihoods = None if linear is None else log_likelihoods(linear, data, split, seed, limit, world)
    weighted = None
    if importance_samples:
        weighted = split_bounds(
            model,
            data,
            split,
            importance_samples,
            seed=seed,
            batch_size=batch_size,
            limit=limit,
            world=world,
        )
        notes = notes if is_reliable(weighted) else (*notes, effective_remark(weighted))
    if summary.is_bound and summary.elbo > 0:
        notes = (DENSITY_ABOVE_ONE, *notes)
    found = _record(model, data, split, seed, summary, weighted, linear, likelihoods, notes)
    return replace(
        found,
        verdict=verdict(found, history, None if model.likelihood.scale is None else model.likelihood.scale.choice),
    )


def summarise_split(
    model: VAE,
    data: Data,
    split: AnySplit,
    *,
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    world: World = ALONE,
) -> ELBOSummary:
    """The ELBO and its terms on a split. Models of one latent size see the same noise, so their differences have small errors.

    Args:
        model: with a fixed scale.
        data: split and prepared as the model's.
        split: `train`, `validation`, `test` or `all`.
        seed: seed of the dequantisation and latent noise.
        batch_size: examples at once.
        limit: so many examples only, evenly spaced.
        world: processes that share the examples.
    """
    noise = ExampleNoise("normal", (model.latent_dim,), mixed_seed(seed, LATENT_STREAM))
    size, count = data.rows_at_once(batch_size), len(data.positions(split, limit))
    world = world.over(count)
    mine = world.part(count)
    batches = data.batches(split, size, seed, limit, world)
    own = torch.Generator().manual_seed(
        mixed_seed(seed, LATENT_STREAM, 1)
    )  # for a posterior that draws its own samples
    with seeded(own, model.device):
        step = counter("ELBO", mine.stop - mine.start)
        return summarise(model, batches, noise.rows, step, Scorer(model, mine.stop - mine.start, size), world)


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
    model: VAE, data: Data, given: Baseline | Literal["train", "unknown"]
) -> tuple[Baseline | None, tuple[str, ...]]:
    if given == "unknown":
        return None, (unknown_baseline(model, data),)
    return training_baseline(model, data) if given == "train" else (given, baseline_notes(given))


def _assumptions(model: VAE, data: Data, split: AnySplit) -> tuple[str, ...]:
    """List what had to be estimated for this model, and at what cost, in sentences."""
    if not model.is_probabilistic or not len(data.view(split)):
        return ()
    scale = model.likelihood.scale
    at_floor = 0 if scale is None else scale.entries_at_floor
    first = data.gather(split, [0]).to(model.device)
    notes = []
    if scale is not None and at_floor and scale.shared != "all":
        notes.append(
            f"{at_floor:,} of {math.prod(scale.shape):,} entries of sigma are at their floor, {scale.floor:.2e}: their elements hardly "
            "vary in training, and one that does in new data costs many nats"
        )
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


def _record(
    model: VAE,
    data: Data,
    split: str,
    seed: int,
    summary: ELBOSummary,
    weighted: ImportanceSummary | None,
    linear: Baseline | None,
    likelihoods: tuple[Tensor, Tensor | None] | None,
    notes: tuple[str, ...],
) -> Evaluation:
    spec = data.spec
    bound = summary.is_bound
    elbo = summary.elbo if bound else None
    bits = None
    if elbo is not None and spec.density_levels is not None:
        bits = functional.bits_per_dim(-elbo, spec.data_dim, spec.density_levels)
    scale = model.likelihood.scale
    variance = summary.posterior_mean_var
    compared, simple = likelihoods or (None, None)
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
        ppca_log_likelihood_nats=None if simple is None else float(simple.mean()),
        ppca_sigma=linear.ppca.sigma if isinstance(linear, functional.LinearBaseline) else None,
        baseline=None if linear is None else linear.name,
        baseline_log_likelihood_nats=None if compared is None else float(compared.mean()),
        scale=spec.scale,
        log_scale=spec.log_scale,
        elbo_nats_original_units=None
        if elbo is None or spec.levels is not None or spec.columns
        else elbo - spec.log_scale,
        log_likelihood_nats=weighted.mean if weighted else None,
        log_likelihood_standard_error=weighted.standard_error if weighted else None,
        importance_samples=weighted.samples if weighted else 0,
        effective_samples=float(weighted.effective_samples.mean()) if weighted else None,
        notes=notes,
        standard_errors=_errors(summary, spec, likelihoods),
    )


def _errors(summary: ELBOSummary, spec: DataSpec, likelihoods: tuple[Tensor, Tensor | None] | None) -> dict[str, Any]:
    """Standard errors of the means by name; none of a single example."""
    errors: dict[str, Any] = {name: value for name, value in summary.standard_errors.items() if name != "elbo"}
    if summary.is_bound and spec.density_levels is not None and summary.n > 1:
        errors["bits_per_dim"] = summary.standard_error / (spec.data_dim * math.log(2.0))
    if likelihoods is not None and summary.n > 1:
        compared, simple = likelihoods
        if simple is not None:
            errors["ppca_log_likelihood_nats"] = error_of_mean(simple)
        errors["baseline_log_likelihood_nats"] = error_of_mean(compared)
        if summary.is_bound:
            errors["elbo_minus_baseline_nats"] = error_of_mean(summary.elbos - compared)
    return errors

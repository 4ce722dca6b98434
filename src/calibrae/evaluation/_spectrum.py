"""The spectrum of a data set, from which every probabilistic PCA follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .. import functional

EXACT_DIM = 4096  # up to so many dimensions (or examples) the eigendecomposition is exact
PASSES = 8  # over larger data, of subspace iteration
OVERSAMPLING = 20
KEPT = 64  # eigenpairs at least, so that runs with other latent sizes share them

Batches = Callable[[], Iterable[Tensor]]


def data_spectrum(batches: Batches, latent_dim: int) -> functional.Spectrum:
    """The spectrum of a data set that may be larger than memory.

    Exact for up to 4096 dimensions or examples, else by subspace iteration on `latent_dim` + 20 directions, whose
    eigenvalues are bounds from below.

    Args:
        batches: starts a pass over the data, in batches `[B, *data]`.
        latent_dim: how many eigenpairs matter.
    """
    n, mean, total = _moments(batches)
    keep = max(latent_dim, KEPT)
    if len(mean) <= EXACT_DIM:
        values, vectors = functional.spectrum(_covariance(batches, mean, n))
        return functional.Spectrum(mean, values[:keep], vectors[:, :keep].contiguous(), total, n, is_exact=True)
    if n <= EXACT_DIM:
        rows = torch.cat([_centred(x, mean) for x in batches()])
        values, left = functional.spectrum(rows @ rows.T / n)
        keep = min(keep, int((values > values[0] * 1e-12).sum()))
        vectors = rows.T @ left[:, :keep] / (n * values[:keep]).sqrt()
        return functional.Spectrum(mean, values[:keep], vectors, total, n, is_exact=True)
    values, vectors = _subspace(batches, mean, n, latent_dim + OVERSAMPLING)
    return functional.Spectrum(mean, values, vectors, total, n, is_exact=False)


def data_covariance(batches: Batches, known: functional.Spectrum) -> Tensor:
    """Covariance `[D, D]` (divided by `N`) of the data that a spectrum was taken from."""
    return _covariance(batches, known.mean, known.n)


def _centred(x: Tensor, mean: Tensor) -> Tensor:
    return x.flatten(1).double() - mean


def _moments(batches: Batches) -> tuple[int, Tensor, float]:
    n, total = 0, torch.zeros(())
    for x in batches():
        total = total + x.flatten(1).double().sum(0)
        n += len(x)
    mean = total / n
    variance = sum(float(_centred(x, mean).square().sum()) for x in batches())
    return n, mean, variance / n


def _covariance(batches: Batches, mean: Tensor, n: int) -> Tensor:
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for x in batches():
        centred = _centred(x, mean)
        covariance += centred.T @ centred
    return covariance / n


def _subspace(batches: Batches, mean: Tensor, n: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(len(mean), size, dtype=torch.float64, generator=generator)).Q
    for _ in range(PASSES):
        basis = torch.linalg.qr(sum((c.T @ (c @ basis) for c in (_centred(x, mean) for x in batches())), 0 * basis)).Q
    small = sum(
        ((s := _centred(x, mean) @ basis).T @ s for x in batches()), torch.zeros(size, size, dtype=torch.float64)
    )
    values, rotation = functional.spectrum(small / n)
    return values, basis @ rotation

"""Losses that make bits of their data, and reconstructions that are summed over the batch once too often."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from corpus import LATENT, B, Case, kl_sum, sse

PROBS = {"x_hat": "probs"}


def of_bits(binarise, term):
    """A batch mean of a term on bits that are made inside, and the KL."""
    return lambda x, v, mu, lv: term(binarise(x).to(v), v) / len(x) + kl_sum(mu, lv).mean()


def bce(bits, v):
    """Cross-entropy, summed over the batch."""
    return nnf.binary_cross_entropy(v, bits, reduction="sum")


def half_sse_sum(bits, v):
    """Half the squared error, summed over the batch."""
    return 0.5 * (bits - v).square().sum()


def binarised():
    """Thresholds, and draws."""
    truth = {"kl_kind": "exact", "kl_weight": 1 / B, "latent_reduction": "sum", "data_reduction": "sum"}
    bernoulli = {**truth, "reconstruction": "bernoulli", "reconstruction_weight": 1 / B, "implied_beta": 1.0}
    gaussian = {**truth, "reconstruction": "gaussian", "sse_weight": 0.5 / B, "implied_sigma": 1.0}
    for name, binarise in {
        "a threshold of 0.5": lambda x: x > 0.5,
        "a threshold of 0.1": lambda x: x > 0.1,
        "rounded": torch.round,
        "a threshold at the batch's mean": lambda x: x > x.mean(),
    }.items():
        yield Case(f"{name}, cross-entropy", of_bits(binarise, bce), bernoulli, ("data-thresholded",), sizes=PROBS)
        yield Case(f"{name}, squared error", of_bits(binarise, half_sse_sum), gaussian, ("data-thresholded",))
    yield Case(
        "drawn bits, squared error",
        of_bits(torch.bernoulli, half_sse_sum),
        gaussian,
        ("data-binarised", "random-values"),
    )


def summed_too_often():
    """Reconstructions that count B times."""
    codes = ("reconstruction-times-batch", "batch-reductions-differ", "weight-depends-on-batch-size")
    truth = {"kl_kind": "exact", "reconstruction": "gaussian", "batch_reduction": "mixed"}
    yield Case(
        "a batch sum added to each example, then summed",
        lambda x, v, mu, lv: (0.5 * sse(x, v).sum() + kl_sum(mu, lv)).sum(),
        {**truth, "sse_weight": 0.5 * B, "kl_weight": 1.0, "rho": 2.0 / B},
        codes,
    )
    yield Case(
        "a summed squared error beside a KL averaged over everything",
        lambda x, v, mu, lv: sse(x, v).sum() + kl_sum(mu, lv).mean() / LATENT,
        {**truth, "sse_weight": 1.0, "kl_weight": 1 / B / LATENT, "rho": 1 / B / LATENT},
        codes,
    )
    yield Case(
        "a summed cross-entropy beside an averaged KL",
        lambda x, v, mu, lv: bce(x, v) + kl_sum(mu, lv).mean(),
        {
            **truth,
            "reconstruction": "bernoulli",
            "reconstruction_weight": 1.0,
            "kl_weight": 1 / B,
            "implied_beta": 1 / B,
        },
        codes,
        sizes=PROBS,
    )

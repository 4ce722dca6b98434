"""Parts of the reconstruction term: which elements make an example unusual."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .._types import Batch
from ..likelihoods import is_split, mean_of_data, nll_per_element
from ..models import VAE, evaluating, mean_of


@dataclass(frozen=True)
class Attribution:
    """Parts of the reconstruction term of each example.

    Attributes:
        per_element: `-log p(x_i|z)` of each element at the posterior mean, `[N, *data]`, nats, whose sum is the reconstruction term;
            `None` where the elements are not independent given `z`.
        x: examples, `[N, *data]`.
        x_hat: their reconstructions, `[N, *data]`.
    """

    per_element: Tensor | None
    x: Tensor
    x_hat: Tensor


def attribute(model: VAE, batches: Iterable[Batch]) -> Attribution:
    """Split the reconstruction term among the elements: what a high score is made of.

    Args:
        model: with a fixed scale.
        batches: examples; all are kept in memory.

    Raises:
        ScaleNotFixedError: if an optimal scale was not fixed.

    Examples:
        >>> from calibrae.evaluation import attribute
        >>> model = build("vae", data_shape=(4,), latent_dim=2).eval()
        >>> attribute(model, [cb.Batch(torch.zeros(3, 4))]).per_element.shape
        torch.Size([3, 4])
    """
    elements: list[Tensor] = []
    pairs: list[tuple[Tensor, Tensor]] = []
    with evaluating(model):
        for batch in batches:
            batch = batch.to(model.device)
            px = model.decode(mean_of(model.encode(batch.x, batch.context)), batch.context)
            if is_split(px):
                elements.append(nll_per_element(px, batch.x).cpu())
            pairs.append((batch.x.cpu(), mean_of_data(px).to(batch.x.dtype).cpu()))
    x, x_hat = (torch.cat(part) for part in zip(*pairs, strict=True))
    return Attribution(torch.cat(elements) if elements else None, x, x_hat)

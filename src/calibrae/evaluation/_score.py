"""How unusual each example is, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import VAE, evaluating


@dataclass(frozen=True)
class Attribution:
    """Where the reconstruction term of each example comes from.

    Attributes:
        per_element: `-log p(x_i|z)` of each element at the posterior mean, `[N, *data]`, nats; its sum is the reconstruction term.
        x: the examples, `[N, *data]`.
        x_hat: their reconstructions, `[N, *data]`.
    """

    per_element: Tensor
    x: Tensor
    x_hat: Tensor


def attribute(model: VAE, batches: Iterable[tuple[int, Tensor]]) -> Attribution:
    """The reconstruction term of each element: what a high score is made of.

    Args:
        model: with a fixed sigma.
        batches: pairs of the first example's position and the batch; all are kept in memory.

    Raises:
        UnfrozenSigmaError: if an optimal sigma was not fixed.

    Example:
        >>> from calibrae.models import build
        >>> model = build("vae", data_shape=(4,), latent_dim=2).eval()
        >>> attribute(model, [(0, torch.zeros(3, 4))]).per_element.shape
        torch.Size([3, 4])
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with evaluating(model):
        for _, x in batches:
            x = x.to(model.device)
            conditional = model.likelihood(model.decoder(model.encode(x).mean))
            parts.append((conditional.nll_per_element(x).cpu(), x.cpu(), conditional.mean.to(x.dtype).cpu()))
    per_element, originals, reconstructions = (torch.cat(part) for part in zip(*parts, strict=True))
    return Attribution(per_element, originals, reconstructions)

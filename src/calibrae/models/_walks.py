"""Paths through the latent space."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ArgumentError


def interpolation(corners: Tensor, steps: int) -> Tensor:
    """Latents between 2 corners (a line) or 4 (a square), linear in the posterior mean.

    Args:
        corners: `[2, d]`, or `[4, d]` in the order top left, top right, bottom left, bottom right.
        steps: points on a side, ends included.

    Returns:
        `[steps, d]` or `[steps * steps, d]`, row by row.

    Raises:
        ArgumentError: for another number of corners or fewer than 2 steps.

    Examples:
        >>> interpolation(torch.tensor([[0.0], [1.0]]), steps=3).flatten()
        tensor([0.0000, 0.5000, 1.0000])
    """
    if len(corners) not in (2, 4) or steps < 2:
        raise ArgumentError(
            f"an interpolation needs 2 or 4 corners and at least 2 steps; got {len(corners)} and {steps}."
        )
    t = torch.linspace(0.0, 1.0, steps, dtype=corners.dtype, device=corners.device)[:, None]
    if len(corners) == 2:
        return torch.lerp(corners[0], corners[1], t)
    left, right = torch.lerp(corners[0], corners[2], t), torch.lerp(corners[1], corners[3], t)
    return torch.lerp(left[:, None], right[:, None], t[None]).flatten(0, 1)


def traversal(origin: Tensor, dims: Tensor, steps: int, reach: float = 3.0) -> Tensor:
    """Latents along some dimensions, one at a time, from `-reach` to `reach` prior standard deviations.

    Args:
        origin: the other coordinates, `[d]`.
        dims: indices of the dimensions, `[k]`.
        steps: points on each.
        reach: how far.

    Returns:
        `[k * steps, d]`, dimension by dimension.

    Examples:
        >>> traversal(torch.zeros(2), torch.tensor([1]), steps=3)[:, 1]
        tensor([-3.,  0.,  3.])
    """
    if steps < 2:
        raise ArgumentError(f"a traversal needs at least 2 steps; got {steps}.")
    z = origin.expand(len(dims), steps, -1).clone()
    values = torch.linspace(-reach, reach, steps, dtype=origin.dtype, device=origin.device)
    for row, dim in enumerate(dims.tolist()):
        z[row, :, dim] = values
    return z.flatten(0, 1)

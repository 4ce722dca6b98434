"""Gradients of several processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._types import World


def share_gradients(optimisers: Sequence[torch.optim.Optimizer], world: World) -> None:
    r"""Sum the gradients of everything that is trained over all processes, $g = \sum_r g_r$, in one message.

    Each process has its part of the batch's loss, not its own mean: so the sum is the gradient of the whole batch, whatever the sizes of
    the parts. A parameter that no loss has reached counts as zero, so that all processes sum alike.
    """
    if world.size == 1:
        return
    trained = [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    total = world.sum(torch.cat([gradient.flatten() for gradient in own]))
    for p, part in zip(trained, total.split([p.numel() for p in trained]), strict=True):
        p.grad = part.view_as(p)

"""Gradients of several processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._types import World
from ._sharded import is_cut, own_piece


def share_gradients(optimisers: Sequence[torch.optim.Optimizer], world: World) -> None:
    r"""Sum the gradients of everything that is trained over all processes, $g = \sum_r g_r$, in one message.

    Each process has its part of the batch's loss, not its own mean: so the sum is the gradient of the whole batch, whatever the sizes of
    the parts. A parameter that no loss has reached counts as zero, so that all processes sum alike.
    """
    if world.size == 1:
        return
    trained = [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
    for p in (p for p in trained if is_cut(p) and p.grad is not None):
        p.grad *= world.size  # FSDP has averaged it already
    trained = [p for p in trained if not is_cut(p)]
    if not trained:
        return
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    total = world.sum(torch.cat([gradient.flatten() for gradient in own]))
    for p, part in zip(trained, total.split([p.numel() for p in trained]), strict=True):
        p.grad = part.view_as(p)


def gradient_norm(gradients: Sequence[Tensor], world: World) -> float:
    """Norm of gradients, some of which may be cut over the processes."""
    pieces = [own_piece(gradient) for gradient in gradients if is_cut(gradient)]
    norm = torch.nn.utils.get_total_norm([g for g in gradients if not is_cut(g)], foreach=True)
    if not pieces:
        return float(norm)
    squares = torch.stack([piece.double().square().sum() for piece in pieces]).sum()
    return float((world.sum(squares) + norm.double().square()).sqrt())

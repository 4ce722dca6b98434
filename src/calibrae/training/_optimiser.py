"""Optimisers: AdamW for the networks, a curvature-scaled step for a learned scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..likelihoods import Scale
from ..models import VAE
from ._settings import TrainSettings

SCALE_RATE = 0.2
RATIO_BOUND = 10.0
BETAS = (0.9, 0.99)  # runs are short: a longer memory of squared gradients would hold the steps of the start back


@final
class ScaleDescent(torch.optim.Optimizer):
    r"""Fisher-scaled descent of `log scale`, from any start.

    The NLL of the `n` elements that share a scale $s$ has the gradient $g = n (1 - r)$ in $\log s$, with
    $r = \operatorname{mean}|x - \hat x|^p / s^p$, and at the optimum the curvature $p n$. The step is

    $$\log s \leftarrow \log s + \tfrac{\eta}{p} \min(r - 1, 10)$$

    A plain or an Adam step fails from a bad start: at $s_0 = 10^{-2}$ its gradient is thousands of times that near
    the optimum and swamps Adam's second moment; at $10^2$ it moves by the learning rate a step while the decoder,
    almost without a signal, collapses. The fixed point, $r = 1$, is that of any descent.

    Args:
        scale: a learned scale.
        elements: `n`, the elements of an example that share an entry, in the units of the loss: with a loss in nats per
            dimension, `n / D`.
        lr: the rate $\eta$.
    """

    def __init__(self, scale: Scale, elements: float, lr: float = SCALE_RATE) -> None:
        assert scale.parameter is not None
        super().__init__([scale.parameter], {"lr": lr})
        self.elements = elements
        self.log_floor = scale.log_floor
        self.power = scale.statistic.power

    def updated(self, parameter: Tensor, gradient: Tensor, rate: float | Tensor) -> Tensor:
        """Value of a parameter after a step, as a new tensor."""
        excess = (-gradient / self.elements).clamp_max(RATIO_BOUND)
        value: Tensor = (parameter + rate / self.power * excess).clamp_min(self.log_floor)
        return value

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step from the gradients."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.copy_(self.updated(param, param.grad, group["lr"]))


def trainable_parameters(model: VAE) -> list[nn.Parameter]:
    """Find the parameters that AdamW trains: all that are not frozen, but for a learned scale.

    Raises:
        ArgumentError: if there is nothing to train, or a parameter has no shape yet.
    """
    scale = model.likelihood.scale
    own = None if scale is None else scale.parameter
    parameters = [p for p in model.parameters() if p.requires_grad and p is not own]
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters):
        raise ArgumentError(
            "a lazy module of this model has no parameters yet. Run one batch through it first: model.draw(x)."
        )
    if not parameters:
        raise ArgumentError(
            "every parameter of the networks is frozen (requires_grad is False), so there is nothing to train. To fix an optimal "
            "scale alone, call cb.fix_scale(model, data)."
        )
    return parameters


def build_optimisers(model: VAE, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """Build AdamW over the networks (matrices decay, biases do not), and a learned scale's own optimiser.

    Raises:
        ArgumentError: if there is nothing to train, or a parameter has no shape yet.
    """
    parameters, scale = trainable_parameters(model), model.likelihood.scale
    own = None if scale is None else scale.parameter
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.lr, betas=BETAS, fused=True)
    ]
    if scale is not None and own is not None and own.requires_grad:
        optimisers.append(ScaleDescent(scale, elements=1.0 / own.numel()))
    return optimisers


def rate_at(step: int, total: int, warmup: float) -> float:
    """Compute the share of the peak rate at a step: linear up, then a cosine down to zero at the end.

    Examples:
        >>> rate_at(0, 100, warmup=0.1), rate_at(10, 100, warmup=0.1), round(rate_at(99, 100, warmup=0.1), 4)
        (0.1, 1.0, 0.0003)
    """
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, total - rising)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def set_rates(optimisers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Give every group its share of its peak rate."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("peak_lr", group["lr"])
            group["lr"] = group["peak_lr"] * share

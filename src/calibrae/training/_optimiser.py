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
from ._sharded import is_cut

SCALE_RATE = 0.2
ENTRY_RATE, ENTRY_STEPS = (
    0.02,
    20,
)  # of one of many entries, each with few residuals: the least rate, and steps that a short run spends
WEIGHT_DECAY = 0.1  # of matrices
BETAS = (0.9, 0.99)  # runs are short: a longer memory of squared gradients would hold the steps of the start back


@final
class ScaleDescent(torch.optim.Optimizer):
    r"""Fisher-scaled descent of a scale, from any start, to an unbiased fixed point.

    The NLL of the `n` elements that share a scale $s$ has the gradient $g = n (1 - r)$ in $\log s$, with
    $r = m / s^p$ and $m = \operatorname{mean}|x - \hat x|^p$ of the batch. The step is

    $$s^p \leftarrow s^p + \eta\,(m - s^p), \qquad \text{so}\qquad \log s \leftarrow \log s + \tfrac1p \log\big(1 + \eta (r - 1)\big)$$

    a running mean of $m$: to first order the Fisher-scaled step $\tfrac{\eta}{p}(r - 1)$, yet one that reaches the residuals within
    few steps from any start, where a plain or an Adam step is swamped or crawls. It is linear in $m$, so where residuals are rare
    (an element that is lit in one batch of a hundred) the mean of $s^p$ is still that of $m$; a bound on $r - 1$ would move it.

    Args:
        scale: a learned scale.
        elements: `n`, the elements of an example that share an entry, in the units of the loss: with a loss in nats per
            dimension, `n / D`.
        lr: the rate $\eta$, below 1.
    """

    def __init__(self, scale: Scale, elements: float, lr: float = SCALE_RATE) -> None:
        assert scale.parameter is not None
        super().__init__([scale.parameter], {"lr": lr})
        self.elements = elements
        self.log_floor = scale.log_floor
        self.power = scale.statistic.power

    def updated(self, parameter: Tensor, gradient: Tensor, rate: float | Tensor) -> Tensor:
        """Value of a parameter after a step, as a new tensor."""
        growth = torch.log1p(rate * (-gradient / self.elements).clamp_min(-1.0))
        value: Tensor = (parameter + growth / self.power).clamp_min(self.log_floor)
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


def scale_rate(entries: int, total_steps: int) -> float:
    """Rate of a learned scale: one of many entries sees few residuals a batch, so it averages over more of them.

    Examples:
        >>> scale_rate(1, 100), scale_rate(784, 10_000), scale_rate(784, 200)
        (0.2, 0.02, 0.1)
    """
    if entries == 1:
        return SCALE_RATE
    return min(SCALE_RATE, max(ENTRY_RATE, ENTRY_STEPS / max(1, total_steps)))


def weight_decay(model: VAE, settings: TrainSettings) -> float:
    """Weight decay of a model's matrices: as asked for; else none for a linear network, and 0.1 for others.

    The optimum of a linear network is that of probabilistic PCA, and decay would move it.

    Examples:
        >>> from calibrae.models import build
        >>> models = [build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network=name) for name in ("mlp", "linear")]
        >>> [weight_decay(model, TrainSettings()) for model in models], weight_decay(models[1], TrainSettings(weight_decay=0.3))
        ([0.1, 0.0], 0.3)
    """
    if settings.weight_decay is not None:
        return settings.weight_decay
    is_linear = model.config is not None and model.config.parts.get("network") == "linear"
    return 0.0 if is_linear else WEIGHT_DECAY


def build_optimisers(model: VAE, settings: TrainSettings, total_steps: int = 1000) -> list[torch.optim.Optimizer]:
    """Build AdamW over the networks (matrices decay, biases do not), and a learned scale's own optimiser.

    Args:
        model: all parameters that are not frozen are trained.
        settings: rates and decay.
        total_steps: steps of the whole run.

    Raises:
        ArgumentError: if there is nothing to train, or a parameter has no shape yet.
    """
    parameters, scale = trainable_parameters(model), model.likelihood.scale
    own = None if scale is None else scale.parameter
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay(model, settings)},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    given = [group for group in groups if group["params"]]
    # one kernel cannot update cut weights beside whole ones: one after the other then
    how: dict[str, Any] = {"foreach": False} if any(map(is_cut, parameters)) else {"fused": True}
    optimisers: list[torch.optim.Optimizer] = [torch.optim.AdamW(given, lr=settings.lr, betas=BETAS, **how)]
    if scale is not None and own is not None and own.requires_grad:
        optimisers.append(ScaleDescent(scale, 1.0 / own.numel(), scale_rate(own.numel(), total_steps)))
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

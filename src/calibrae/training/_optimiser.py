"""Optimisers: AdamW for the networks, a curvature-scaled step for a learned sigma."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

from ..likelihoods import GaussianLikelihood, LearnedSigma
from ..models import VAE
from ._settings import TrainSettings

SIGMA_RATE = 0.2
RATIO_BOUND = 10.0
BETAS = (0.9, 0.99)  # runs are short: a longer memory of squared gradients would hold the steps of the start back


def adamw_update(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    rates: Tensor,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""What `torch.optim.AdamW` makes of a parameter and its two running means, as new tensors.

    $$m' = \beta_1 m + (1 - \beta_1) g, \quad v' = \beta_2 v + (1 - \beta_2) g^2, \quad
    p' = (1 - \eta\lambda) p - \frac{\eta}{1 - \beta_1^t} \frac{m'}{\sqrt{v'} / \sqrt{1 - \beta_2^t} + \epsilon}$$

    Torch's own is a kernel that no compiler can fuse with what comes before it; its form for compilers takes the powers anew
    for every element.

    Args:
        parameter: $p$.
        gradient: $g$, the same shape.
        mean: $m$, of the gradients.
        square: $v$, of their squares.
        rates: begins with $\eta$, $1 - \beta_1^t$ and $\sqrt{1 - \beta_2^t}$, at step $t$ from 1.
        betas: $\beta_1, \beta_2$.
        eps: $\epsilon$.
        decay: $\lambda$.
    """
    mean = mean.lerp(gradient, 1.0 - betas[0])
    square = betas[1] * square + (1.0 - betas[1]) * gradient.square()
    step = mean / (square.sqrt() / rates[2] + eps)
    return (1.0 - decay * rates[0]) * parameter - rates[0] / rates[1] * step, mean, square


def sigma_update(raw: Tensor, gradient: Tensor, rate: float | Tensor, elements: float, floor: float) -> Tensor:
    """What `SigmaDescent` makes of a parameter."""
    excess = (-gradient / elements).clamp_max(RATIO_BOUND)
    return (raw + 0.5 * rate * excess).clamp_min(floor)


@final
class SigmaDescent(torch.optim.Optimizer):
    r"""Fisher-scaled descent of `log sigma`, from any start.

    The NLL of the `n` elements that share a sigma has the gradient $g = n (1 - r)$ in $\log\sigma$, with
    $r = \mathrm{MSE}/\sigma^2$, and at the optimum the curvature $2n$. The step is

    $$\log\sigma \leftarrow \log\sigma + \tfrac{\eta}{2} \min(r - 1, 10)$$

    A plain or an Adam step fails from a bad start: at $\sigma_0 = 10^{-2}$ its gradient is thousands of times that near
    the optimum and swamps Adam's second moment; at $10^2$ it moves by the learning rate a step while the decoder,
    almost without a signal, collapses. The fixed point, $r = 1$, is that of any descent.

    Args:
        params: `log sigma` parameters.
        floors: the smallest `log sigma` of each.
        elements: `n`, the elements of an example that share an entry, in the units of the loss: with a loss in nats per
            dimension, `n / D`.
        lr: the rate $\eta$.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], floors: Iterable[float], elements: float, lr: float = SIGMA_RATE
    ) -> None:
        super().__init__(list(params), {"lr": lr, "elements": elements})
        self.floors = list(floors)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients."""
        for group in self.param_groups:
            for param, floor in zip(group["params"], self.floors, strict=True):
                if param.grad is not None:
                    param.copy_(sigma_update(param, param.grad, group["lr"], group["elements"], floor))


def learned_sigma_of(model: VAE) -> LearnedSigma | None:
    """The model's sigma if it is a parameter."""
    likelihood = model.likelihood
    if isinstance(likelihood, GaussianLikelihood) and isinstance(likelihood.sigma, LearnedSigma):
        return likelihood.sigma
    return None


def network_parameters(model: VAE) -> list[nn.Parameter]:
    """All parameters but sigma's."""
    sigma = learned_sigma_of(model)
    skip = set() if sigma is None else {id(sigma.raw)}
    return [p for p in model.parameters() if p.requires_grad and id(p) not in skip]


def build_optimisers(model: VAE, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """AdamW over the networks (weights decay, biases do not), and sigma's own where it is learned."""
    parameters = network_parameters(model)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.lr, betas=BETAS, fused=True)
    ]
    sigma = learned_sigma_of(model)
    if sigma is not None:
        optimisers.append(SigmaDescent([sigma.raw], [sigma.log_floor], elements=1.0 / sigma.raw.numel()))
    return optimisers


def rate_at(step: int, total: int, warmup: float) -> float:
    """Share of the peak rate at a step: linear up, then a cosine down to zero at the end.

    Example:
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

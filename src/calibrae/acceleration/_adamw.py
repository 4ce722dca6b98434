"""AdamW's update as a function."""

from __future__ import annotations

from torch import Tensor


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
    r"""Update a parameter and its two running means as `torch.optim.AdamW` does; returns new tensors.

    $$m' = \beta_1 m + (1 - \beta_1) g, \quad v' = \beta_2 v + (1 - \beta_2) g^2, \quad
    p' = (1 - \eta\lambda) p - \frac{\eta}{1 - \beta_1^t} \frac{m'}{\sqrt{v'} / \sqrt{1 - \beta_2^t} + \epsilon}$$

    Torch's own kernel is one that no compiler can fuse with what comes before it; its form for compilers takes the powers anew
    for every element.

    Args:
        parameter: $p$.
        gradient: $g$, the same shape.
        mean: $m$, the running mean of the gradients.
        square: $v$, that of their squares.
        rates: begins with $\eta$, $1 - \beta_1^t$ and $\sqrt{1 - \beta_2^t}$, at step $t$ from 1.
        betas: $\beta_1, \beta_2$.
        eps: $\epsilon$.
        decay: $\lambda$.
    """
    mean = mean.lerp(gradient, 1.0 - betas[0])
    square = betas[1] * square + (1.0 - betas[1]) * gradient.square()
    step = mean / (square.sqrt() / rates[2] + eps)
    return (1.0 - decay * rates[0]) * parameter - rates[0] / rates[1] * step, mean, square

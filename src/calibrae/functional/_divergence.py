"""Log density ratios and Kullback-Leibler divergences of diagonal Gaussians, per latent dimension."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._types import Float
from ._checks import require_same_shape

_SERIES_BELOW = 0.25  # |u| under which exp(u) - 1 - u is summed as a series, so that nothing cancels
_LAST = {torch.float64: 14, torch.float32: 8}  # its last term: a relative truncation of 1e-17 and 1e-8


class _ExpMinusTangentCompiled(torch.autograd.Function):
    """`exp(u) - 1 - u >= 0`, to full relative precision near its minimum at zero; its derivative is `expm1`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor) -> Tensor:
        near = u.clamp(-_SERIES_BELOW, _SERIES_BELOW)
        one = torch.ones_like(near)
        series = one
        for k in range(_LAST.get(u.dtype, 14), 2, -1):
            series = torch.addcmul(one, near, series, value=1.0 / k)
        return torch.where(u.abs() < _SERIES_BELOW, 0.5 * near.square() * series, torch.expm1(u) - u)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004 (torch calls it with three)
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grads[0] * torch.expm1(u)


class _ExpMinusTangent(_ExpMinusTangentCompiled):
    """Follow forward-mode differentiation, which the compiler cannot trace."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (u,) = ctx.saved_tensors
        tangent: Tensor = tangents[0] * torch.expm1(u)
        return tangent


def _exp_minus_tangent(u: Tensor) -> Tensor:
    function = _ExpMinusTangentCompiled if torch.compiler.is_compiling() else _ExpMinusTangent
    value: Tensor = function.apply(u)  # type: ignore[no-untyped-call]
    return value


def log_density_ratio(
    z: Float[Tensor, "b d"], mean: Float[Tensor, "b d"], log_std: Float[Tensor, "b d"]
) -> Float[Tensor, "b d"]:
    r"""`log q(z|x) - log p(z)` of each latent dimension, for a diagonal Gaussian `q` and `p = N(0, I)`, in nats.

    $$-\log s_i - \tfrac12 \Big( \frac{(z_i - \mu_i)^2}{s_i^2} - z_i^2 \Big)$$

    Convention: not summed over the latent dimensions. Its mean over `z ~ q` is `kl_standard_normal`.

    Args:
        z: latents, `[B, d]`.
        mean: mean of `q`, the same shape.
        log_std: logarithm of the standard deviation of `q`, the same shape.

    Returns:
        `[B, d]`, in nats; of either sign.

    Raises:
        ShapeError: if the shapes differ.

    Examples:
        >>> log_density_ratio(torch.ones(1, 2), torch.zeros(1, 2), torch.tensor([[0.0, -1.0]]))
        tensor([[ 0.0000, -2.1945]])
    """
    require_same_shape(z=z, mean=mean, log_std=log_std)
    return 0.5 * (z.square() - ((z - mean) * torch.exp(-log_std)).square()) - log_std


def kl_standard_normal(mean: Float[Tensor, "b d"], log_std: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    r"""`KL(N(mean, std^2) || N(0, 1))` of each latent dimension, in nats.

    $$\mathrm{KL}_i = -\log s_i + \tfrac12 (\mu_i^2 + s_i^2 - 1) \ge 0$$

    zero only at $\mu_i = 0, s_i = 1$. Mind the sign of the logarithm: with a plus, `s = 1/e` would give -1.43.

    Convention: not summed. The KL of an example is the **sum** over the last dimension; a mean there divides the
    weight of the KL by `d`.

    Args:
        mean: mean of the posterior, `[B, d]`.
        log_std: logarithm of its standard deviation, the same shape.

    Returns:
        `[B, d]`, in nats.

    Raises:
        ShapeError: if the shapes differ.

    References:
        Kingma & Welling 2014, https://arxiv.org/abs/1312.6114, appendix B

    Examples:
        >>> kl_standard_normal(torch.zeros(1, 2), torch.tensor([[0.0, -1.0]]))
        tensor([[0.0000, 0.5677]])
    """
    require_same_shape(mean=mean, log_std=log_std)
    return 0.5 * (mean.square() + _exp_minus_tangent(2.0 * log_std))


def kl_diagonal_gaussian(
    mean_q: Float[Tensor, "b d"],
    log_std_q: Float[Tensor, "b d"],
    mean_p: Float[Tensor, "b d"],
    log_std_p: Float[Tensor, "b d"],
) -> Float[Tensor, "b d"]:
    r"""`KL(N(mean_q, std_q^2) || N(mean_p, std_p^2))` of each latent dimension, in nats.

    $$\mathrm{KL}_i = \log\frac{s_{p,i}}{s_{q,i}} + \frac{s_{q,i}^2 + (\mu_{q,i} - \mu_{p,i})^2}{2 s_{p,i}^2} - \tfrac12$$

    Convention: not summed over the latent dimensions.

    Args:
        mean_q: mean of the first Gaussian, `[B, d]`.
        log_std_q: logarithm of its standard deviation.
        mean_p: mean of the second.
        log_std_p: logarithm of its standard deviation.

    Returns:
        `[B, d]`, in nats, never negative.

    Raises:
        ShapeError: if the shapes differ.

    Examples:
        >>> zero = torch.zeros(1, 1)
        >>> kl_diagonal_gaussian(zero, zero, zero + 1.0, zero)
        tensor([[0.5000]])
    """
    require_same_shape(mean_q=mean_q, log_std_q=log_std_q, mean_p=mean_p, log_std_p=log_std_p)
    shift = (mean_q - mean_p) * torch.exp(-log_std_p)
    return 0.5 * (shift.square() + _exp_minus_tangent(2.0 * (log_std_q - log_std_p)))

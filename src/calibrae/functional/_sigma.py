"""The decoder's standard deviation: its optimum, and the bounds that keep it meaningful."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._types import SHARED, Float, Shared
from ..errors import ArgumentError
from ._checks import require_examples


def shared_dims(ndim: int, shared: Shared) -> tuple[int, ...]:
    """Dimensions of `[B, *data]` over which one sigma is shared.

    Examples:
        >>> shared_dims(4, "all"), shared_dims(4, "channel"), shared_dims(4, "element")
        ((0, 1, 2, 3), (0, 2, 3), (0,))
    """
    if shared not in SHARED:
        raise ArgumentError(f"`shared` must be one of {', '.join(SHARED)}; got {shared!r}.")
    return {"all": tuple(range(ndim)), "channel": (0, *range(2, ndim)), "element": (0,)}[shared]


def optimal_sigma(
    x: Float[Tensor, "b *data"], x_hat: Float[Tensor, "b *data"], shared: Shared = "all"
) -> Float[Tensor, "..."]:
    r"""The standard deviation that minimises the Gaussian NLL of the residuals: their root mean square.

    $$\sigma^{*2} = \operatorname{mean} (x - \hat x)^2$$

    over the batch and everything that shares the sigma. At `sigma*` the NLL of an example averages
    $\tfrac D2 (1 + \log 2\pi\sigma^{*2})$. **A sigma computed from the very data that are scored is not a density**:
    use it in training, then fix it to its value over the training set.

    Convention: no degrees of freedom are subtracted. Residuals are scaled before they are squared, so neither tiny
    nor huge ones overflow; at a perfect reconstruction the value and its gradient are zero, not NaN.

    Args:
        x: data, `[B, *data]`.
        x_hat: decoder means, the same shape.
        shared: `"all"`: one number; `"channel"`: one per index of the first data dimension (a table's columns);
            `"element"`: one per element.

    Returns:
        `[]`, `[C]` or `[*data]`, in units of the data.

    Raises:
        ShapeError: if the shapes differ.
        ArgumentError: if `shared` is none of the three.

    References:
        Rybkin, Daniilidis & Levine 2021, https://arxiv.org/abs/2006.13202, section 4.2

    Examples:
        >>> x_hat = torch.tensor([[[3.0], [0.0]], [[-4.0], [0.0]]])
        >>> optimal_sigma(torch.zeros(2, 2, 1), x_hat)
        tensor(2.5000)
        >>> optimal_sigma(torch.zeros(2, 2, 1), x_hat, shared="channel")
        tensor([3.5355, 0.0000])
    """
    require_examples(x=x, x_hat=x_hat)
    dims = shared_dims(x.ndim, shared)
    residual = x - x_hat
    largest = residual.detach().abs().amax()
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))
    count = math.prod(x.shape[i] for i in dims)
    norm: Tensor = torch.linalg.vector_norm(residual / scale, dim=dims)
    return norm * (scale / math.sqrt(count))


def optimal_scale(
    x: Float[Tensor, "b *data"], x_hat: Float[Tensor, "b *data"], shared: Shared = "all", power: int = 2
) -> Float[Tensor, "..."]:
    r"""The scale that minimises the mean NLL of the residuals: their mean absolute power, to the inverse power.

    $$s^* = \big(\operatorname{mean} |x - \hat x|^p\big)^{1/p}$$

    With $p = 2$ it is `optimal_sigma`, a Gaussian's standard deviation; with $p = 1$ the scale $b$ of a Laplace density,
    the mean absolute residual.

    Convention: the mean is over the batch and everything that shares the scale. A scale computed from the very data that are
    scored is not a density: fix it to its value over the training set before evaluation.

    Args:
        x: data, `[B, *data]`.
        x_hat: location of the density, the same shape.
        shared: `"all"`, `"channel"` or `"element"`.
        power: 1 or 2.

    Returns:
        `[]`, `[C]` or `[*data]`, in units of the data.

    Raises:
        ShapeError: if the shapes differ.
        ArgumentError: if `shared` or `power` has no meaning.

    Examples:
        >>> optimal_scale(torch.zeros(2, 1), torch.tensor([[3.0], [-1.0]]), power=1)
        tensor(2.)
    """
    if power not in (1, 2):
        raise ArgumentError(f"`power` must be 1 (Laplace) or 2 (Gaussian); got {power}.")
    if power == 2:
        return optimal_sigma(x, x_hat, shared)
    require_examples(x=x, x_hat=x_hat)
    return (x - x_hat).abs().mean(shared_dims(x.ndim, shared))


def quantisation_floor(step: float) -> float:
    r"""Smallest standard deviation that a decoder of dequantised data can honestly reach, $\text{step}/\sqrt{12}$.

    Uniform noise of width `step` is added to every value afresh, so nothing that predicts the stored values can be
    nearer to the noisy ones than its standard deviation.

    Args:
        step: distance between neighbouring values on the model's scale, 1/256 for 8-bit data on [0, 1].

    Returns:
        A standard deviation in the units of `step`.

    Examples:
        >>> round(quantisation_floor(1 / 256), 6)
        0.001128
    """
    return step / math.sqrt(12.0)


class _LowerBoundCompiled(torch.autograd.Function):
    """`max(x, bound)`, whose gradient still passes below the bound where it would raise `x`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, bound: Tensor) -> Tensor:
        return torch.maximum(x, bound)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004 (torch calls it with three)
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        x, bound = ctx.saved_tensors
        return grad * ((x >= bound) | (grad < 0)), None


class _LowerBound(_LowerBoundCompiled):
    """Follow forward-mode differentiation, which the compiler cannot trace."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, bound = ctx.saved_tensors
        tangent: Tensor = tangents[0] * (x >= bound)
        return tangent


def lower_bound(x: Float[Tensor, "*s"], bound: float) -> Float[Tensor, "*s"]:
    r"""`max(x, bound)` that costs nothing above the bound and from below which descent can return.

    A soft clip biases every value (one at $\log\sigma = -6$ costs 4.4 nats at $\sigma = 0.055$ on 28x28x3 data); a
    hard clip has no gradient below the bound, where a parameter would be stuck. Here the value is the hard clip's,
    and the gradient is passed where `x >= bound` or where a descent step raises `x`.

    Args:
        x: any tensor.
        bound: the smallest value returned.

    Returns:
        The shape of `x`.

    Examples:
        >>> x = torch.tensor([-3.0, 2.0], requires_grad=True)
        >>> lower_bound(x, -1.0)
        tensor([-1.,  2.], grad_fn=<_LowerBoundBackward>)
    """
    function = _LowerBoundCompiled if torch.compiler.is_compiling() else _LowerBound
    bounded: Tensor = function.apply(x, x.new_tensor(bound))  # type: ignore[no-untyped-call]
    return bounded

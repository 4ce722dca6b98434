"""An activation whose gradient is read off its result."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn


class _LeakyReLUCompiled(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, slope: float) -> Tensor:
        return F.leaky_relu(x, slope)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)
        ctx.slope = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(gradients[0], y, ctx.slope, True), None


class _LeakyReLU(_LeakyReLUCompiled):
    """Follow forward-mode differentiation, which the compiler cannot trace."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (y,) = ctx.saved_tensors
        tangent: Tensor = torch.where(y > 0, tangents[0], ctx.slope * tangents[0])
        return tangent


@final
class LeakyReLU(nn.Module):
    """`max(x, slope x)`, as `nn.LeakyReLU`, from whose result the sign of `x` is known.

    The next layer keeps that result anyway. Torch's own keeps a mask beside it, which costs a compiled CPU ten times the activation.

    Args:
        slope: slope of the negative side, positive.

    Examples:
        >>> LeakyReLU(0.5)(torch.tensor([-2.0, 3.0]))
        tensor([-1.,  3.])
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        function = _LeakyReLUCompiled if torch.compiler.is_compiling() else _LeakyReLU
        y: Tensor = function.apply(x, self.slope)  # type: ignore[no-untyped-call]
        return y

"""Gradients of strided convolutions as matrix products, in compiled bf16 on a CPU.

oneDNN's own kernel for the weights of a strided convolution runs at half the speed of a matrix product in bf16, and its sum
for the bias of a transposed one takes as long again. Where the windows of a batch fit into the cache, one product with them is faster, and
a bias that is added outside leaves its sum to the compiler, which fuses it with what comes next. docs/speed.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

Pair: TypeAlias = tuple[int, int]
Strided: TypeAlias = nn.Conv2d | nn.ConvTranspose2d
MOST_BYTES = 1 << 23  # of the windows: more do not stay in the cache, and writing them costs what the product gains


def windows(x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """What each output of a convolution sees, `[B * rows * columns, p * q * C]`: the kernel's rows and columns, then channels.

    Args:
        x: `[B, C, H, W]`; cheap where it is channels-last.
        kernel: `(p, q)`.
        stride: of both axes.
        padding: zeros on either side of both.

    Example:
        >>> windows(torch.arange(4.0).reshape(1, 1, 2, 2), (2, 2), (2, 2), (0, 0))
        tensor([[0., 1., 2., 3.]])
    """
    (p, q), (down, right), (top, left) = kernel, stride, padding
    h = F.pad(x.permute(0, 2, 3, 1), (0, 0, left, left, top, top)).contiguous()
    batch, height, width, channels = h.shape
    rows, columns = (height - p) // down + 1, (width - q) // right + 1
    line = width * channels
    seen = h.as_strided(
        (batch, rows, columns, p, q * channels), (height * line, down * line, right * channels, line, 1)
    )
    return seen.reshape(batch * rows * columns, p * q * channels)


class StridedConvolution(torch.autograd.Function):
    """A convolution, or its transpose, without bias; the gradient of the weights is a product with `windows`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, extra: Pair, transposed: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, (1, 1), transposed, extra, 1
        found: Tensor = torch.ops.aten.convolution(x, weight, None, *ctx.geometry)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, _, transposed, _, _ = ctx.geometry
        grad = gradients[0].contiguous(memory_format=torch.channels_last)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x, _, _ = torch.ops.aten.convolution_backward(grad, x, weight, None, *ctx.geometry, [True, False, False])
        # the transpose swaps the parts of input and output
        small, large = (x, grad) if transposed else (grad, x)
        outer, inner, p, q = weight.shape
        each = small.permute(0, 2, 3, 1).reshape(-1, outer)
        of_weight = each.t() @ windows(large, (p, q), stride, padding)
        return of_x, of_weight.view(outer, p, q, inner).permute(0, 3, 1, 2), None, None, None, None


def _suits(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        and max(module.stride) > 1
        and module.groups == 1
        and set(module.dilation) == {1}
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and "forward" not in vars(module)
    )


def _pays(module: Strided, x: Tensor) -> bool:
    """Whether this call is compiled, in bf16 on a CPU, with windows that are small enough."""
    if not (torch.compiler.is_compiling() and x.device.type == "cpu" and x.ndim == 4):
        return False
    if not (torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16):
        return False
    positions = x.shape[0] * x.shape[2] * x.shape[3]
    if isinstance(module, nn.Conv2d):
        positions //= module.stride[0] * module.stride[1]
    return 2 * positions * module.weight[0].numel() <= MOST_BYTES


def _forward(module: Strided, x: Tensor, *sizes: Any) -> Tensor:
    """In place of the module's own."""
    if sizes or not _pays(module, x):
        own: Tensor = type(module).forward(module, x, *sizes)  # type: ignore[arg-type]
        return own
    transposed = isinstance(module, nn.ConvTranspose2d)
    low = (x.to(torch.bfloat16), module.weight.to(torch.bfloat16))
    found: Tensor = StridedConvolution.apply(  # type: ignore[no-untyped-call]
        *low, module.stride, module.padding, module.output_padding, transposed
    )
    return found if module.bias is None else found + module.bias.to(torch.bfloat16).view(-1, 1, 1)


@contextmanager
def fast_gradients(model: nn.Module) -> Iterator[None]:
    """The model's strided convolutions with faster gradients, wherever they are compiled for bf16 on a CPU.

    Nothing else changes: other calls, and the modules afterwards, are as they were.

    Args:
        model: any module; its `nn.Conv2d` and `nn.ConvTranspose2d` with a stride are looked for.
    """
    changed = [module for module in model.modules() if _suits(module)]
    for module in changed:
        module.forward = MethodType(_forward, module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward

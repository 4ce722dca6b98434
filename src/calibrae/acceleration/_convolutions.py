"""Gradients of strided convolutions as matrix products, in compiled bf16 on a CPU.

oneDNN's own kernel for the weights of a strided convolution runs at half the speed of a matrix product in bf16, and its sum
for the bias of a transposed one takes as long again. Where the windows of a batch fit into the cache, one product with them is faster; for
the commonest kernel `_winograd` takes fewer products still. A bias that is added outside leaves its sum to the compiler, which fuses it
with what comes next. docs/speed.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from . import _winograd as winograd

Pair: TypeAlias = tuple[int, int]
Strided: TypeAlias = nn.Conv2d | nn.ConvTranspose2d
MOST_BYTES = 1 << 24  # of windows: more leave the cache before they are multiplied
WIDE = 16  # channels of the larger maps from which on a product of matrices is faster than oneDNN's kernel
NARROW = 8  # output channels up to which a transposed convolution is computed as `subpixels`


def windows(x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """Patches that each output of a convolution sees, `[B * rows * columns, p * q * C]`: the kernel's rows and columns, then channels.

    Args:
        x: `[B, C, H, W]`; cheap where it is channels-last.
        kernel: `(p, q)`.
        stride: stride of both axes.
        padding: zeros on either side of both.

    Examples:
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


def doubles(kernel: int, stride: int, padding: int, extra: int) -> bool:
    """Tell whether a transposed convolution makes `stride` pixels of each, from as many neighbours on either side.

    Examples:
        >>> doubles(4, 2, 1, 0), doubles(3, 2, 1, 1)
        (True, False)
    """
    reach = -(-padding // stride)
    cells = -(-(reach * stride - padding + kernel) // stride)
    return kernel - 2 * padding + extra == stride and cells == 2 * reach + 1


def subpixels(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """A transposed convolution that `doubles`, as a plain one that gives each pixel's successors as channels.

    With three output channels a transposed convolution leaves most of each vector register empty; twelve channels leave less, which is
    twice as fast although the kernel holds zeros.

    Args:
        x: `[B, C, H, W]`.
        weight: `[C, O, p, q]`.
        stride: stride of both axes.
        padding: padding of both axes.
    """
    (s, t), (channels, outputs, p, q) = stride, weight.shape
    up, left = -(-padding[0] // s), -(-padding[1] // t)
    rows, columns = 2 * up + 1, 2 * left + 1
    top, side = up * s - padding[0], left * t - padding[1]
    padded = F.pad(weight, (side, columns * t - side - q, top, rows * s - top - p))
    kernel = padded.view(channels, outputs, rows, s, columns, t).flip((2, 4)).permute(1, 3, 5, 0, 2, 4)
    kernel = kernel.reshape(outputs * s * t, channels, rows, columns).contiguous(memory_format=torch.channels_last)
    h = torch.ops.aten.convolution(x, kernel, None, (1, 1), (up, left), (1, 1), False, (0, 0), 1)
    batch, _, height, width = h.shape
    h = h.view(batch, outputs, s, t, height, width).permute(0, 1, 4, 2, 5, 3)
    found: Tensor = h.reshape(batch, outputs, height * s, width * t)
    return found


class StridedConvolution(torch.autograd.Function):
    """A convolution, or its transpose, without bias; its gradients are products of matrices where these are faster."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, extra: Pair, transposed: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, (1, 1), transposed, extra, 1
        if transposed and weight.shape[1] <= NARROW and _doubles(weight, stride, padding, extra):
            return subpixels(x, weight, stride, padding)
        found: Tensor = torch.ops.aten.convolution(x, weight, None, *ctx.geometry)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, _, transposed, _, _ = ctx.geometry
        grad = gradients[0].contiguous(memory_format=torch.channels_last)

        # the transpose swaps the parts of input and output
        few, many = (x, grad) if transposed else (grad, x)
        convolve = transposed and ctx.needs_input_grad[0]
        of_x, of_weight = _products(few, many, weight, stride, padding, convolve=convolve)
        missing = [ctx.needs_input_grad[0] and of_x is None, of_weight is None, False]
        if any(missing):
            found = torch.ops.aten.convolution_backward(grad, x, weight, None, *ctx.geometry, missing)
            of_x = found[0] if missing[0] else of_x
            of_weight = found[1] if missing[1] else of_weight
        return of_x, of_weight, None, None, None, None


def _products(
    few: Tensor, many: Tensor, weight: Tensor, stride: Pair, padding: Pair, *, convolve: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The convolution of `many`, if it is asked for, and the gradient of the weights, by products of matrices where these are faster."""
    outer, inner, p, q = weight.shape
    outputs = few.numel() // outer
    seen = outputs * inner * p * q * many.element_size()  # bytes of all windows
    if inner >= WIDE and seen <= 2 * MOST_BYTES and winograd.applies(few, (p, q), stride, padding):
        tiles = winograd.differences(many)
        shape = len(few), few.shape[2], few.shape[3]
        convolved = winograd.convolution(tiles, weight, shape) if convolve else None
        return convolved, winograd.weight_gradient(few, tiles)
    if inner < WIDE or seen > MOST_BYTES:
        return None, None
    product = few.permute(0, 2, 3, 1).reshape(outputs, outer).t() @ windows(many, (p, q), stride, padding)
    return None, product.view(outer, p, q, inner).permute(0, 3, 1, 2)


def _doubles(weight: Tensor, stride: Pair, padding: Pair, extra: Pair) -> bool:
    return all(doubles(*axis) for axis in zip(weight.shape[2:], stride, padding, extra, strict=True))


def _suits(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        and _computes_as_torch_does(type(module))
        and max(module.stride) > 1
        and module.groups == 1
        and set(module.dilation) == {1}
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and "forward" not in vars(module)
    )


def _computes_as_torch_does(kind: type[nn.Module]) -> bool:
    """Tell whether a class changes nothing of what torch's convolutions compute: a subclass may standardise its weights, say."""
    return any(
        all(getattr(kind, name, None) is getattr(base, name, None) for name in ("forward", "_conv_forward"))
        for base in (nn.Conv2d, nn.ConvTranspose2d)
    )


def _pays(x: Tensor) -> bool:
    """Tell whether this call is compiled, in bf16 on a CPU."""
    if not (torch.compiler.is_compiling() and x.device.type == "cpu" and x.ndim == 4):
        return False
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _forward(module: Strided, x: Tensor, *sizes: Any) -> Tensor:
    """In place of the module's own."""
    if sizes or not _pays(x):
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

r"""Gradients of 4 x 4 convolutions with a stride of two, in nine products instead of sixteen (Winograd's minimal filtering).

Two neighbouring outputs $y_k = d_k g_0 + d_{k+1} g_1$ of a filter of two taps take three products:

$$m_0 = (d_0 - d_1) g_0, \quad m_1 = d_1 (g_0 + g_1), \quad m_2 = (d_2 - d_1) g_1, \qquad y_0 = m_0 + m_1, \quad y_1 = m_1 + m_2$$

A kernel of 4 x 4 with a stride of two is one of 2 x 2 over cells of 2 x 2 pixels, whose channels are those of all four; in two dimensions
2 x 2 outputs take nine products instead of sixteen. The gradient of the taps is the transpose of the same three steps: what comes from the outputs is
spread to $(y_0, y_0 + y_1, y_1)$, multiplied with $(d_0 - d_1, d_1, d_2 - d_1)$, and summed to $(m_0 + m_1, m_1 + m_2)$.

The sums are exact; in bf16 their rounding makes a relative error of .6 % instead of .2 %, in the gradient of the weights and in that of a
transposed convolution's input. The nine combinations are also less to write than all windows, nine numbers where there were sixteen, and both
gradients share them.

Source: S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural
Networks, CVPR 2016.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

KERNEL, STRIDE, PADDING = (4, 4), (2, 2), (1, 1)


def applies(few: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> bool:
    """Tell whether it computes these weights: outputs must pair up.

    Args:
        few: `[B, O, h, w]`, of the smaller side of the convolution.
        kernel: rows and columns.
        stride: stride of both axes.
        padding: padding of both axes.
    """
    is_known = (kernel, stride, padding) == (KERNEL, STRIDE, PADDING)
    return is_known and few.shape[2] % 2 == 0 and few.shape[3] % 2 == 0


def weight_gradient(few: Tensor, tiles: Tensor) -> Tensor:
    """Gradient of a 4 x 4 kernel, stride two, padding one: `[O, C, 4, 4]`.

    Args:
        few: `[B, O, h, w]`: the gradient of a convolution's output, or the input of a transposed one; `h` and `w` even.
        tiles: nine combinations of the input, or of the gradient of the transposed one's output; see `differences`.
    """
    outputs, channels = few.shape[1], tiles.shape[2]
    spread = _spread(few)
    # in halves where that is possible: nine products leave one of two cores idle for a ninth of the time
    parts = 2 if spread.shape[1] % 2 == 0 else 1
    of_outputs = spread.view(9 * parts, -1, outputs).transpose(1, 2)
    products = torch.bmm(of_outputs, tiles.view(9 * parts, -1, channels))
    summed = products.view(3, 3, parts, outputs, 2, 2, -1).sum(2, dtype=_wide(few))
    rows = summed[:2] + summed[1:]
    taps = rows[:, :2] + rows[:, 1:]  # row of cells, column of cells, O, row, column, C
    return taps.permute(2, 0, 3, 1, 4, 5).reshape(outputs, 4, 4, -1).permute(0, 3, 1, 2).to(few.dtype)


def convolution(tiles: Tensor, weight: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Convolve with a 4 x 4 kernel, stride two, padding one: `[B, O, h, w]`.

    Args:
        tiles: nine combinations of the input; see `differences`.
        weight: `[O, C, 4, 4]`.
        shape: examples, and rows and columns of the output, which are even.
    """
    (outputs, channels, _, _), (batch, height, width) = weight.shape, shape
    taps = weight.view(outputs, channels, 2, 2, 2, 2).permute(2, 4, 3, 5, 1, 0).reshape(2, 2, 4 * channels, outputs)
    upper, lower = taps.unbind(0)
    nine = [tap for rows in (upper, upper + lower, lower) for tap in (rows[0], rows[0] + rows[1], rows[1])]
    products = torch.bmm(tiles, torch.stack(nine)).view(3, 3, batch, height // 2, width // 2, outputs).to(_wide(weight))
    rows = products[:2] + products[1:]
    each = (rows[:, :2] + rows[:, 1:]).to(weight.dtype)  # row, column, B, tiles, O
    return each.permute(2, 3, 0, 4, 1, 5).reshape(batch, height, width, outputs).permute(0, 3, 1, 2)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def differences(x: Tensor) -> Tensor:
    """Each tile of three by three cells as nine combinations, `[9, B * tiles, 4 C]`."""
    batch, channels, height, width = x.shape
    h = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    row = (width + 2) * channels
    tiles = (batch, height // 4, width // 4)

    def cell(i: int, j: int) -> Tensor:
        # two pixels of a row lie side by side
        steps = ((height + 2) * row, 4 * row, 4 * channels, row, 1)
        return h.as_strided((*tiles, 2, 2 * channels), steps, 2 * (i * row + j * channels))

    columns = [_three(*(cell(i, j) for i in range(3))) for j in range(3)]
    nine = [d for i in range(3) for d in _three(*(column[i] for column in columns))]
    return torch.stack(nine).view(9, -1, 4 * channels)


def _three(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return a - b, b, c - b


def _spread(y: Tensor) -> Tensor:
    """Each two by two outputs as nine combinations, `[9, B * tiles, O]`."""
    batch, channels, height, width = y.shape
    pairs = y.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
    upper, lower = pairs.unbind(2)
    nine = []
    for rows in (upper, upper + lower, lower):
        left, right = rows.unbind(3)
        nine += [left, left + right, right]
    return torch.stack(nine).view(9, -1, channels)

"""The error bar of a mean."""

from __future__ import annotations

import math

from torch import Tensor


def error_of_mean(values: Tensor) -> float:
    r"""Standard error of the mean of `[N]` independent values, $s / \sqrt N$ with $s^2$ over `N - 1`; NaN for one value.

    Example:
        >>> import torch
        >>> round(error_of_mean(torch.tensor([0.0, 2.0])), 6)
        1.0
    """
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan

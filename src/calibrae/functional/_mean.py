"""Error bars: of a mean, and of what is computed from means."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def error_of_mean(values: Tensor) -> float:
    r"""Standard error of the mean of `[N]` independent values, $s / \sqrt N$ with $s^2$ over `N - 1`; NaN for one value.

    Examples:
        >>> import torch
        >>> round(error_of_mean(torch.tensor([0.0, 2.0])), 6)
        1.0
    """
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def jackknife_error(without: Tensor) -> Tensor:
    r"""Standard error of a statistic from its values with one of `G` equal groups left out each, `[G, ...]`.

    $$\sqrt{\tfrac{G-1}{G} \sum_g (\theta_g - \bar\theta)^2}$$

    For a mean over groups of one example each it is `error_of_mean`.

    References:
        Efron & Tibshirani 1993, *An Introduction to the Bootstrap*, 11.2

    Examples:
        >>> values = torch.tensor([1.0, 2.0, 6.0])
        >>> bool(torch.isclose(jackknife_error((values.sum() - values) / 2), torch.tensor(error_of_mean(values))))
        True
    """
    count = len(without)
    return torch.sqrt((count - 1) / count * (without - without.mean(0)).square().sum(0))

"""Conformal p-values: an alarm whose rate of false alarms is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..errors import ArgumentError

LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9


@final
@dataclass(frozen=True)
class Typical:
    """Middle and widths of the scores of rows that are typical, fixed before any row is judged.

    Attributes:
        middle: median score.
        below: distance from it to the lower decile.
        above: distance from it to the upper decile.
    """

    middle: float
    below: float
    above: float

    @classmethod
    def of(cls, scores: Tensor) -> Typical:
        """Middle and widths of some scores, `[n]`.

        Raises:
            ArgumentError: for fewer than 4 scores.
        """
        if len(scores) < 4:
            raise ArgumentError(f"what is typical is told from at least 4 rows; got {len(scores)}.")
        low, middle, high = (float(torch.quantile(scores.double(), q)) for q in (LOW, MIDDLE, HIGH))
        least = 1e-9 * max(1.0, abs(middle))
        return cls(middle, max(middle - low, least), max(high - middle, least))

    def strangeness(self, scores: Tensor) -> Tensor:
        """Distance from the middle in widths of its side: rows that are too likely are strange too."""
        apart = scores.double() - self.middle
        return torch.where(apart >= 0, apart / self.above, -apart / self.below)


def conformal_p_values(calibration: Tensor, strangeness: Tensor) -> Tensor:
    r"""Conformal p-value of each row: how many calibration rows are at least as strange.

    $$p = \frac{1 + \#\{i : a_i \ge a\}}{n + 1}, \qquad P(p \le \alpha) \le \alpha$$

    for any model and any score, if the row and the calibration rows are exchangeable and the score was fixed before. For scores without
    ties the probability is at least $\alpha - 1/(n + 1)$.

    Args:
        calibration: strangeness of rows that neither training nor selection saw, `[n]`.
        strangeness: strangeness of the rows that are judged, `[m]`.

    Returns:
        `[m]`, float64.

    References:
        Vovk, Gammerman & Shafer 2005; Bates et al. 2023, https://arxiv.org/abs/2104.08279

    Examples:
        >>> from calibrae.evaluation import conformal_p_values
        >>> conformal_p_values(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 2.5, 9.0]))
        tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64)
    """
    ordered = calibration.double().contiguous().sort().values
    below = torch.searchsorted(ordered, strangeness.double().contiguous())
    return (1.0 + len(ordered) - below.double()) / (len(ordered) + 1.0)


def alarm_threshold(calibration: Tensor, rate: float) -> float:
    """Strangeness above which a row's p-value is at most `rate`; infinity where there are too few calibration rows for any alarm.

    Raises:
        ArgumentError: unless the rate lies between 0 and 1.

    Examples:
        >>> from calibrae.evaluation import alarm_threshold
        >>> alarm_threshold(torch.arange(1.0, 100.0), 0.05)
        95.0
    """
    if not 0.0 < rate < 1.0:
        raise ArgumentError(f"a rate of false alarms lies between 0 and 1; got {rate}.")
    ordered = calibration.double().sort(descending=True).values
    most = math.floor(rate * (len(ordered) + 1) + 1e-9) - 1  # calibration rows that may be as strange
    return math.inf if most < 0 else float(ordered[most])

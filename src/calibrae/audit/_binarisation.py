"""Losses that turn grey data into zeros and ones themselves: by a threshold, or by drawing bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ._inputs import Inputs, Sizes
from ._probe import Probe, ProbeError
from ._tolerances import Tolerances

GREYS = tuple((2 * n + 1) / 20 for n in range(10))  # shares of the range; not its middle, where a sign is neither
DRAWS = 16  # seeds at which a grey element must have become a bit, and both bits


@final
@dataclass(frozen=True)
class Binarisation:
    """Bits that a loss makes of grey data.

    Attributes:
        drawn: whether they are drawn with the data as probabilities.
        threshold: largest value that becomes 0, in units of the data; `None` if it moves with the batch, or bits are drawn.
    """

    drawn: bool
    threshold: float | None = None


def find_binarisation(probe: Probe, sizes: Sizes, inputs: Inputs) -> Binarisation | None:
    """Tell whether a loss sees only zeros and ones of data in between; `None` if it does not.

    Args:
        probe: black box that is called.
        sizes: sizes of the batch.
        inputs: maker of binary data, on which the reconstruction is known.
    """
    x = inputs.x(sizes, seed=0)
    guess = inputs.guess(x, 0, 0.5)
    zero = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)

    def at(unit: Tensor, seed: int = 0) -> float:
        low, _ = inputs.data_range
        return probe.value(low + inputs.width * unit, guess, zero, zero, seed)

    bits = inputs.to_unit(x)
    try:
        return _drawn(at, bits) or _thresholded(at, bits, inputs)
    except ProbeError:
        return None


def _drawn(at: Callable[[Tensor, int], float], bits: Tensor) -> Binarisation | None:
    """Make one element grey: at every seed the loss must be that of one of the two bits, and of each at some."""
    grey, off, on = bits.clone(), bits.clone(), bits.clone()
    for data, value in ((grey, 0.5), (off, 0.0), (on, 1.0)):
        data.view(-1)[0] = value
    seen: set[int] = set()
    for seed in range(DRAWS):
        bit = _nearest(at(grey, seed), (at(off, seed), at(on, seed)))
        if bit is None:
            return None
        seen.add(bit)
    return Binarisation(drawn=True) if seen == {0, 1} else None


def _thresholded(at: Callable[..., float], bits: Tensor, inputs: Inputs) -> Binarisation | None:
    """Make all zeros, and then all ones, grey: the loss must jump from one value to another, once."""
    none, half, whole = (at(data) for data in (torch.zeros_like(bits), bits, torch.ones_like(bits)))

    def is_on(grey: float) -> int | None:
        return _nearest(at(grey * bits), (none, half))

    def lifts_all(grey: float) -> int | None:
        return _nearest(at(bits + grey * (1.0 - bits)), (half, whole))

    ones, zeros = [is_on(grey) for grey in GREYS], [lifts_all(grey) for grey in GREYS]
    if None in ones or None in zeros or not (_rises(ones) and _rises(zeros)):
        return None
    if ones != zeros:
        return Binarisation(drawn=False)
    low, high = _jump(ones)
    while high - low > Tolerances.threshold_place.value:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if is_on(middle) else (middle, high)
    return Binarisation(drawn=False, threshold=inputs.data_range[0] + inputs.width * round(low, 3))


def _nearest(value: float, values: tuple[float, float]) -> int | None:
    """Index of the one of two values that this one is, or `None`."""
    apart = abs(values[1] - values[0])
    if not (math.isfinite(apart) and apart > 0):
        return None
    near = [abs(value - v) <= Tolerances.same_bits.value * apart for v in values]
    return near.index(True) if any(near) else None


def _rises(states: list[int | None]) -> bool:
    """Tell whether zeros come before ones."""
    return all((a or 0) <= (b or 0) for a, b in itertools.pairwise(states))


def _jump(states: list[int | None]) -> tuple[float, float]:
    """Greys between which the state changes from 0 to 1."""
    first = states.index(1) if 1 in states else len(states)
    ends = (0.0, *GREYS, 1.0)
    return ends[first], ends[first + 1]

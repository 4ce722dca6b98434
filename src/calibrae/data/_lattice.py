"""Lattices: few values at equal distances, of which a density has no bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from ._source import Array

MOST_LEVELS = 1 << 16
MOST_VALUES = 1024  # distinct values beyond which data are continuous
FINEST = 1 << 20  # levels beyond which a step is too fine to matter, or to be held in float32
DIVISORS = (1, 2, 3, 4)  # the smallest distance may be so many steps
SLACK = 1e-3  # of a step: rounding of what computed the values
CANONICAL = (  # (low, step, levels) of the scales on which pictures are passed around
    (0.0, 1.0 / 255, 256),
    (0.0, 1.0 / 256, 256),
    (-1.0, 2.0 / 255, 256),
    (-1.0, 2.0 / 256, 256),
)


@final
@dataclass(frozen=True, slots=True)
class Lattice:
    """Values `low + k step` for `k = 0, ..., levels - 1`.

    Examples:
        >>> Lattice(-1.0, 2.0, 2).position(np.array([-1.0, 1.0]))
        array([0., 1.])
    """

    low: float
    step: float
    levels: int

    def position(self, values: Array) -> Array:
        """`k` of each value, in float64; not a whole number for a value between two points."""
        found: Array = (np.asarray(values, dtype=np.float64) - self.low) / self.step
        return found

    def holds(self, values: Array, resolution: float) -> bool:
        """Tell whether all values are points of the lattice, as far as their type can tell.

        Args:
            values: numbers.
            resolution: relative spacing of the type in which they came.
        """
        return not self.astray(values, resolution).any()

    def astray(self, values: Array, resolution: float) -> Array:
        """Which values are no points of the lattice."""
        k = self.position(values)
        return self.between(values, resolution) | (k < -0.5) | (k > self.levels - 0.5)

    def between(self, values: Array, resolution: float) -> Array:
        """Which values lie between two points of the lattice, were it to go on without end."""
        if self.low and resolution * max(abs(self.low), 1.0) > self.step / 8:  # the type is too coarse to tell
            return np.ones(np.shape(values), dtype=bool)
        k = self.position(values)
        # half a spacing of the type where the value was rounded, and as much where it was computed
        allowed = SLACK + resolution * np.maximum(np.abs(values), abs(self.low)) / self.step
        found: Array = np.abs(k - np.rint(k)) > np.minimum(allowed, 0.499)
        return found


def resolution_of(array: Array, widened: float | None = None) -> float:
    """Relative spacing of the floats of an array, half of which rounding may cost."""
    if widened is not None:
        return widened
    return float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0


def find_lattice(values: Array, resolution: float) -> Lattice | None:
    """The lattice on which some distinct values lie; `None` if they lie on none of at most 65,536 levels.

    Args:
        values: distinct values, sorted, float64.
        resolution: relative spacing of the type in which they came.

    Examples:
        >>> find_lattice(np.array([0.0, 0.25, 1.0]), 1e-15)
        Lattice(low=0.0, step=0.25, levels=5)
        >>> find_lattice(np.array([0.0, 0.3, 1.7172]), 1e-15) is None
        True
    """
    if len(values) < 2:
        return None
    low, width = float(values[0]), float(values[-1] - values[0])
    apart = np.diff(values)
    apart = apart[apart > 4 * resolution * np.abs(values).max()]  # less: one value, computed in two ways
    if not len(apart):
        return None
    if float(apart.min()) < 8 * resolution * np.abs(values).max():  # the grid of the type itself
        return None
    for divisor in DIVISORS:
        count = round(width / float(apart.min()) * divisor)
        if 1 <= count < MOST_LEVELS:
            lattice = Lattice(low, width / count, count + 1)
            if lattice.holds(values, resolution):
                return lattice
    return None


def canonical_lattice(values: Array, resolution: float) -> Lattice | None:
    """The scale on which 8-bit pictures are passed around that holds some values, if any does; two values are bits.

    Examples:
        >>> canonical_lattice(np.array([0.0, 51 / 255, 1.0]), 1e-7).levels
        256
    """
    if len(values) == 2:
        return Lattice(float(values[0]), float(values[1] - values[0]), 2)
    for low, step, levels in CANONICAL:
        lattice = Lattice(low, step, levels)
        if lattice.holds(values, resolution):
            return lattice
    return None


def distinct(array: Array, most: int = MOST_VALUES) -> Array | None:
    """Distinct values, sorted, float64; `None` if there are more than `most`.

    Examples:
        >>> distinct(np.array([2, 1, 2]))
        array([1., 2.])
    """
    few = np.unique(array.reshape(-1)[: 1 << 16])
    if len(few) > most:
        return None
    found = np.unique(array)
    return found.astype(np.float64) if len(found) <= most else None


def tidy(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values of a lattice without the rounding of its step: to 12 digits of the largest.

    Examples:
        >>> import numpy as np
        >>> float(np.float64(3 * 0.1)), float(tidy(np.array([3 * 0.1]))[0])
        (0.30000000000000004, 0.3)
    """
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    found: npt.NDArray[Any] = np.round(values, 12 - math.ceil(math.log10(largest))) if largest > 0 else values
    return found

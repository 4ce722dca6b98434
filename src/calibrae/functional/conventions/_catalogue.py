"""The catalogue: ways of writing the balance between reconstruction and KL, as data."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

from ...errors import ArgumentError

SQUARED = ("sse", "log-cosh")
DENSITIES = ("bce", "ce")
SIZES = {
    "D": "the number of data dimensions",
    "d": "the number of latents",
    "B": "the batch size",
    "T": "the number of frames",
}

Sizes: TypeAlias = Mapping[str, int | float]


@dataclass(frozen=True, slots=True)
class Convention:
    """One way of writing the balance between reconstruction and KL.

    Attributes:
        name: name that a user types.
        row: in the survey of real code; 0 for a general form.
        title: in words.
        formula: the loss per example; `SSE`, `NLL`, `KL`, ... are sums over an example.
        symbol: name of the number there.
        term: the reconstruction: `nll`, `sse`, `sae`, `bce`, `ce`, `log-cosh` or `spectral`.
        default: the number as it is found.
        who: projects and papers that use it.
        worked: meaning of the number there.
        sigma: sigma of an `nll`: `given`, `learned`, `optimal`, `data` or a number.
        a: exponents of `value`, `D`, `d`, `B`, `T` in the weight of the reconstruction, and a constant `factor`.
        b: factor of the KL, likewise.
        range: range of the data that it was found with.
        typical: sizes that it was found with.
        same_as: the convention whose formula it shares.
        wrap: `capacity` or `free-bits`, if the KL is not taken as it is.
        alpha: sharpness of a `log-cosh`.
    """

    name: str
    row: int
    title: str
    formula: str
    symbol: str
    term: str
    default: float
    who: str
    worked: str
    sigma: str | float | None = None
    a: Mapping[str, float] = field(default_factory=dict)
    b: Mapping[str, float] = field(default_factory=dict)
    range: tuple[float, float] = (0.0, 1.0)
    typical: Mapping[str, float] = field(default_factory=dict)
    same_as: str | None = None
    wrap: str | None = None
    alpha: float | None = None

    def ratio(self, value: float, sizes: Sizes) -> float:
        """`b / a`: the weight of the summed KL beside the plain reconstruction term."""
        return float(value**self.power * self._scale(sizes))

    def value(self, ratio: float, sizes: Sizes) -> float:
        """The number that gives a ratio: the inverse of `ratio`."""
        return float((ratio / self._scale(sizes)) ** (1.0 / self.power))

    @property
    def power(self) -> float:
        """Exponent of the number in the ratio: 1 on the KL, -1 on the reconstruction."""
        return self.b.get("value", 0.0) - self.a.get("value", 0.0)

    def missing(self, sizes: Sizes) -> str | None:
        """A size that is needed and not known."""
        return next((name for name in SIZES if self._exponent(name) and sizes.get(name) is None), None)

    def _exponent(self, name: str) -> float:
        return self.b.get(name, 0.0) - self.a.get(name, 0.0)

    def _scale(self, sizes: Sizes) -> float:
        scale = self.b.get("factor", 1.0) / self.a.get("factor", 1.0)
        return math.prod([scale, *(float(sizes[n]) ** self._exponent(n) for n in SIZES if self._exponent(n))])


@cache
def catalogue() -> Mapping[str, Convention]:
    """Every convention by its name."""
    entries = (_entry(entry) for entry in _stored()["convention"])
    return {entry.name: entry for entry in entries}


@cache
def total_variances() -> Mapping[str, tuple[tuple[int, ...], float]]:
    """Known data sets on [0, 1]: shape of an example, and total variance about the mean image."""
    return {entry["name"]: (tuple(entry["shape"]), entry["value"]) for entry in _stored()["total_variance"]}


@cache
def _stored() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("conventions.toml").read_text(encoding="utf-8"))


def _entry(stored: Mapping[str, Any]) -> Convention:
    low, high = stored.get("range", (0.0, 1.0))
    numbers = {part: {k: float(v) for k, v in stored.get(part, {}).items()} for part in ("a", "b", "typical")}
    return Convention(**{**stored, **numbers, "range": (low, high)})


def find(name: str) -> Convention:
    """A convention by its name.

    Raises:
        ArgumentError: if there is none.
    """
    known = catalogue()
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=5, cutoff=0.5)
        raise ArgumentError(
            f"the beta convention must be one of {', '.join(near or known)}{', ...' if near else ''} (`calibrae beta --list` explains "
            f"them); got {name!r}."
        )
    return known[name]

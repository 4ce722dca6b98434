"""Exponents of the sizes in the weights: sums, means, and neither."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ._inputs import Inputs, Sizes
from ._probe import ProbeError


@dataclass(frozen=True)
class Powers:
    """Exponents of a weight, `None` where a size could not be varied.

    Attributes:
        batch: exponent of `B`.
        data: exponent of `D`.
        latent: exponent of `d`.
    """

    batch: float | None
    data: float | None
    latent: float | None


def larger_data(sizes: Sizes, kind: str) -> Iterator[Sizes]:
    """Other shapes of the data, square if the old one was, with the alphabet of one-hot data as it is."""
    shape = sizes.data_shape
    grown: list[tuple[int, ...]]
    if len(shape) == 3:
        c, h, w = shape
        grown = [
            (c, h + 1, w + 1),
            (c, h + 2, w + 2),
            (c, h + 4, w + 4),
            (c, 2 * h, 2 * w),
            (c, h, w + 1),
            (c + 1, h, w),
        ]
        grown = grown[:-1] if kind == "one-hot-first" else grown
    elif len(shape) == 2:
        a, b = shape
        grown = [(a + 1, b), (a + 4, b)] if kind == "one-hot-last" else [(a, b + 1), (a, b + 4)]
        grown += [(a + 1, b)] if not kind.startswith("one-hot") else []
    else:
        grown = [(shape[0] + 1,), (shape[0] + 2,), (shape[0] + 8,)]
    yield from (replace(sizes, data_shape=s) for s in grown)


def larger_latent(sizes: Sizes) -> Iterator[Sizes]:
    """Other numbers of latents."""
    yield from (replace(sizes, latent_dim=sizes.latent_dim + extra) for extra in (1, 2, 3, sizes.latent_dim + 1))


def larger_batch(sizes: Sizes) -> Iterator[Sizes]:
    """Other batch sizes."""
    for other in (sizes.batch_size + 1, 2 * sizes.batch_size, max(1, sizes.batch_size // 2)):
        yield replace(sizes, batch_size=other)


def _is_regrouped(one: Sizes, other: Sizes) -> bool:
    """Tell whether a reshape to one size would take the other for more examples, without raising."""
    by_data = 1 < one.data_dim != other.data_dim and other.data_dim * other.batch_size % one.data_dim == 0
    by_latent = 1 < one.latent_dim != other.latent_dim and other.latent_dim * other.batch_size % one.latent_dim == 0
    return by_data or by_latent


def exponent(
    measure: Callable[[Sizes], float],
    sizes: Sizes,
    others: Iterator[Sizes],
    size: Callable[[Sizes], int],
    whole: float,
) -> float | None:
    """Exponent with which a weight follows a size, at the first other size that the loss accepts."""
    for other in others:
        for batch in (other.batch_size, other.batch_size + 1):
            here, there = (
                (sizes, other) if batch == other.batch_size else (sizes.with_batch(batch), other.with_batch(batch))
            )
            if size(there) == size(here) or _is_regrouped(here, there):
                continue
            try:
                before, after = measure(here), measure(there)
            except ProbeError:
                continue
            if not math.isfinite(after) or after * before <= 0:
                return None
            power = math.log(after / before) / math.log(size(there) / size(here))
            return float(round(power)) if abs(power - round(power)) < whole else power
    return None


def find_powers(measure: Callable[[Sizes], float], sizes: Sizes, inputs: Inputs, whole: float) -> Powers:
    """Measure all three exponents of a weight about `sizes`; round those within `whole` of a whole number."""
    kind = inputs.kind
    return Powers(
        batch=exponent(measure, sizes, larger_batch(sizes), lambda s: s.batch_size, whole),
        data=exponent(measure, sizes, larger_data(sizes, kind), inputs.positions, whole),
        latent=exponent(measure, sizes, larger_latent(sizes), lambda s: s.latent_dim, whole),
    )

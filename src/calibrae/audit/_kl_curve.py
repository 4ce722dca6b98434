"""Slope of the loss along the KL at many levels: its plateaus, and the kinks between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from ._kl_probe import EPSILON, KLProbe
from ._probe import ProbeError
from ._tolerances import Tolerances

LEVELS = (1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1e3, 2e3, 4e3, 1e4, 1e5, 1e6)  # fmt: skip
NEAR_LOWEST = 4  # levels, of which a kink may spoil so many


@final
@dataclass(frozen=True)
class KLTransform:
    """Function that is applied to the KL before it is weighed.

    Attributes:
        kind: `capacity` (distance from a constant), `free_bits` (a floor), `clamp` (a ceiling), or `other`.
        constant: place of the kink in nats of an example's summed KL, or `None`.
        scope: `example`, `batch` or `dimension`, each of which may have a kink of its own.
    """

    kind: str
    constant: float | None = None
    scope: str | None = None

    @property
    def limits_range(self) -> bool:
        """Tell whether the loss is linear in the KL on a limited range only."""
        return self.kind in ("clamp", "other")


@final
@dataclass(frozen=True)
class Curve:
    """Slopes along the KL.

    Attributes:
        levels: nats an example.
        slopes: weight of the mean's part at each level.
        weight: slope on the plateau that is taken for the KL's weight; `None` if there is none.
        level: nats at which the loss is linear in the KL, up to `room`.
        room: nats up to which that plateau reaches.
        transform: function applied to the KL, `None` for a plain weight.
    """

    levels: tuple[float, ...]
    slopes: tuple[float, ...]
    weight: float | None
    level: float
    room: float
    transform: KLTransform | None


def find_curve(kl: KLProbe) -> Curve:
    """Measure the slopes at all levels and interpret their plateaus."""
    levels, slopes = _slopes(kl)
    if not any(slopes):
        return Curve(tuple(levels), tuple(slopes), 0.0, 0.0, levels[-1], None)
    runs = _plateaus(slopes, Tolerances.slope.at(kl.probe.dtype))

    def curve(run: tuple[int, int], transform: KLTransform | None) -> Curve:
        return _curve(levels, slopes, run, transform, inward=8 if kl.seeds > 1 else 1)

    if runs == [(0, len(slopes) - 1)]:
        whole = curve(runs[0], None)
        kind = _kink_below_the_lowest(kl, whole)
        return whole if kind is None else curve(runs[0], KLTransform(kind))
    if len(runs) == 1 and runs[0][0] <= NEAR_LOWEST and runs[0][1] == len(slopes) - 1 and slopes[-1]:
        kind = _kink_below_the_lowest(kl, curve(runs[0], KLTransform("other")))
        if kind is not None:
            return curve(runs[0], KLTransform(kind))
    if not runs or not any(slopes[first] for first, _ in runs):
        return Curve(tuple(levels), tuple(slopes), None, 1.0, 1.0, KLTransform("other"))
    kind, run = _between_plateaus(slopes, runs, Tolerances.slope.at(kl.probe.dtype))
    return curve(run, KLTransform(kind))


def _curve(
    levels: list[float], slopes: list[float], run: tuple[int, int], transform: KLTransform | None, *, inward: int
) -> Curve:
    """Curve whose weight is the slope of one plateau, `inward` levels from its start: a sampled KL scatters."""
    first, last = run
    has_kink_below = transform is not None and transform.kind != "clamp"
    inside = levels[min(first + inward, last)] if has_kink_below else levels[first]
    level = 0.0 if first == 0 and transform is None else inside
    return Curve(tuple(levels), tuple(slopes), slopes[first], level, levels[last], transform)


def _between_plateaus(
    slopes: list[float], runs: list[tuple[int, int]], tolerance: float
) -> tuple[str, tuple[int, int]]:
    """Kind of the transform, and the plateau that carries the weight."""
    low, high = slopes[runs[0][0]], slopes[runs[-1][0]]
    covered = sum(last - first + 1 for first, last in runs)
    reaches_end = runs[-1][1] == len(slopes) - 1
    settled = runs[0][0] == 0 and reaches_end and len(slopes) - covered <= 2 * (len(runs) - 1)
    same = tolerance * max(abs(low), abs(high))
    if len(runs) >= 2 and settled and high and abs(low + high) <= 2.0 * same:
        return "capacity", runs[-1]
    if len(runs) >= 2 and settled and high and low == 0.0:
        return "free_bits", runs[-1]
    if len(runs) >= 2 and runs[0][0] == 0 and high == 0.0 and reaches_end:
        return "clamp", next(run for run in runs if slopes[run[0]])
    return "other", runs[-1] if high else next(run for run in reversed(runs) if slopes[run[0]])


def _slopes(kl: KLProbe) -> tuple[list[float], list[float]]:
    """Levels that the loss accepts and where rounding leaves the slope, and the slopes.

    Raises:
        ProbeError: if it accepts fewer than two.
    """
    measured, failures = [], []
    for level in LEVELS:
        try:
            slope, rounding = kl.curvature(level)
        except ProbeError as error:
            failures.append(str(error))
            continue
        if math.isfinite(slope) and math.isfinite(rounding):
            measured.append((level, slope, rounding))
    if len(measured) < 2:
        raise ProbeError(f"the loss raises, or is not finite, at most posteriors: {(failures or ['not finite'])[0]}")
    real, resolved = Tolerances.real_slope.value, Tolerances.resolved_slope.value
    largest = max((abs(s) for _, s, r in measured if abs(s) > real * r), default=0.0)
    clear = [(v, s) for v, s, r in measured if largest and r <= resolved * largest and _is_resolved(kl, v)]
    if not clear:
        return [v for v, _, _ in measured], [0.0] * len(measured)
    tolerance = Tolerances.slope.at(kl.probe.dtype)
    return [v for v, _ in clear], [0.0 if abs(s) < tolerance * largest else s for _, s in clear]


def _is_resolved(kl: KLProbe, level: float) -> bool:
    """Tell whether `1 + log_var - mu^2 - exp(log_var)` still shows a change of a tenth of the mean in this precision."""
    return 16.0 * EPSILON[kl.probe.dtype] <= Tolerances.slope.value * (0.1 * kl.mean_at(level)) ** 2


def _plateaus(slopes: list[float], tolerance: float) -> list[tuple[int, int]]:
    """Runs of at least two equal slopes: first and last index of each."""
    largest = max(map(abs, slopes))
    runs, start = [], 0
    for i in range(1, len(slopes) + 1):
        if i == len(slopes) or abs(slopes[i] - slopes[start]) > tolerance * largest:
            if i - start >= 2:
                runs.append((start, i - 1))
            start = i
    return runs


def _kink_below_the_lowest(kl: KLProbe, curve: Curve) -> str | None:
    """Kind of a kink below the lowest level: the loss at the prior is off the line through all others."""
    slope = (curve.weight or 0.0) * kl.sizes.batch_size
    level = curve.levels[min(1, len(curve.levels) - 1)]
    start, there = kl.at(0.0), kl.at(kl.mean_at(level))
    gap = (start - (there - slope * level)) / slope
    rounding = Tolerances.kink_rounding.value * EPSILON[kl.probe.dtype] * max(abs(start), abs(there)) / abs(slope)
    if gap <= max(Tolerances.kink_gap.value * level, rounding):
        return None
    quarter = (kl.at(kl.mean_at(0.25 * gap)) - start) / slope
    return "free_bits" if abs(quarter) < 0.125 * gap else "capacity"


def transformed(kind: str, constant: float) -> Callable[[float], float]:
    """Function that a transform of this kind applies to a KL."""
    return {
        "capacity": lambda k: abs(k - constant),
        "free_bits": lambda k: max(k, constant),
        "clamp": lambda k: min(k, constant),
    }[kind]


def find_constant(kl: KLProbe, curve: Curve) -> float | None:
    """Place of the kink, in nats of an example: the crossing of the lines of both plateaus."""
    if curve.transform is None or curve.transform.kind == "other" or not curve.weight:
        return None
    slope = abs(curve.weight) * kl.sizes.batch_size  # d loss / d KL while all examples have the same
    sign = 1.0 if curve.weight > 0 else -1.0
    inside = kl.at(kl.mean_at(curve.level)) - sign * slope * curve.level
    if curve.transform.kind == "clamp":
        far = kl.at(kl.mean_at(curve.levels[-1]))
        return (far - inside) / (sign * slope)
    start = kl.at(0.0)
    return (start - inside) / (sign * slope) / (2.0 if curve.transform.kind == "capacity" else 1.0)


def find_scope(kl: KLProbe, curve: Curve, constant: float) -> str | None:
    """Scope of the kink: two batches of unequal KLs compared with the prediction of each scope."""
    assert curve.transform is not None
    if not constant > 0 or not curve.weight:
        return None
    batch, latents = kl.sizes.batch_size, kl.sizes.latent_dim
    of_example = transformed(curve.transform.kind, constant)
    of_latent = transformed(curve.transform.kind, constant / latents)
    half = batch // 2
    half_larger = kl.full(0.0)
    times = 4.0 if kl.seeds == 1 else 32.0
    half_larger[half:] = kl.mean_at(times * constant)
    one_latent = kl.full(0.0)
    one_latent[:, 0] = math.sqrt(2.0 * times * constant)
    share = (batch - half) / batch
    predictions = {
        "example": (
            share * of_example(times * constant) + (1.0 - share) * of_example(0.0),
            of_example(times * constant),
        ),
        "batch": (of_example(times * constant * share), of_example(times * constant)),
        "dimension": (
            latents * (share * of_latent(times * constant / latents) + (1.0 - share) * of_latent(0.0)),
            of_latent(times * constant) + (latents - 1) * of_latent(0.0),
        ),
    }
    start, slope = kl.at(0.0), curve.weight * batch
    seen = [of_example(0.0) + (kl.at(mu) - start) / slope for mu in (half_larger, one_latent)]
    if batch < 2:
        predictions.pop("batch")
    if latents < 2:
        predictions.pop("dimension")
    return min(predictions, key=lambda name: sum(abs(a - b) for a, b in zip(predictions[name], seen, strict=True)))

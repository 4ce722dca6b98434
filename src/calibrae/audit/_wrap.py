"""How the loss follows the KL: its slope at every level, plateaus of it, and the kinks between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ._kl_probe import EPSILON, KLProbe
from ._probe import ProbeError

LEVELS = (1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1e3, 2e3, 4e3, 1e4, 1e5, 1e6)  # fmt: skip
SAME = 2e-3
NEAR_LOWEST = 4  # levels, of which a kink may spoil so many
UNRESOLVED = 0.02  # share of the largest slope that rounding may take


@dataclass(frozen=True)
class Wrap:
    """What is done to the KL before it is weighed.

    Attributes:
        kind: `capacity` (distance from a constant), `free_bits` (a floor), `clamp` (a ceiling), or `other`.
        constant: in nats of the summed KL of an example, or `None`.
        scope: `example`, `batch` or `dimension`.
    """

    kind: str
    constant: float | None = None
    scope: str | None = None


@dataclass(frozen=True)
class Curve:
    """Slopes along the KL.

    Attributes:
        levels: nats an example.
        slopes: weight of the mean's part at each.
        weight: slope on the plateau that is taken for the KL's weight; `None` if there is none.
        level: nats at which the loss is linear in the KL, up to `room`.
        room: nats up to which that plateau reaches.
        wrap: what is done to the KL.
        settled: whether the slope is the same at all levels, or changes between plateaus only.
    """

    levels: tuple[float, ...]
    slopes: tuple[float, ...]
    weight: float | None
    level: float
    room: float
    wrap: Wrap | None
    settled: bool


def _slopes(kl: KLProbe) -> tuple[list[float], list[float]]:
    """Levels that the loss accepts and where rounding leaves the slope, and the slopes.

    Raises:
        ProbeError: if it accepts fewer than two.
    """
    found, failures = [], []
    for level in LEVELS:
        try:
            slope, rounding = kl.curvature(level)
        except ProbeError as error:
            failures.append(str(error))
            continue
        if math.isfinite(slope) and math.isfinite(rounding):
            found.append((level, slope, rounding))
    if len(found) < 2:
        raise ProbeError(f"the loss raises, or is not finite, at most posteriors: {(failures or ['not finite'])[0]}")
    largest = max((abs(s) for _, s, r in found if abs(s) > 20.0 * r), default=0.0)
    clear = [(v, s) for v, s, r in found if largest and r <= UNRESOLVED * largest and _is_resolved(kl, v)]
    if not clear:
        return [v for v, _, _ in found], [0.0] * len(found)
    tolerance = SAME if kl.probe.dtype == torch.float64 else 10.0 * SAME
    return [v for v, _ in clear], [0.0 if abs(s) < tolerance * largest else s for _, s in clear]


def _is_resolved(kl: KLProbe, level: float) -> bool:
    """Whether `1 + log_var - mu^2 - exp(log_var)` still shows a change of a tenth of the mean in this precision."""
    return 16.0 * EPSILON[kl.probe.dtype] <= SAME * (0.1 * kl.mean_at(level)) ** 2


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


def find_curve(kl: KLProbe) -> Curve:
    """Slopes at all levels, and what they mean."""
    levels, slopes = _slopes(kl)
    tolerance = SAME if kl.probe.dtype == torch.float64 else 10.0 * SAME

    def curve(run: tuple[int, int], wrap: Wrap | None, settled: bool) -> Curve:
        first, last = run
        inward = 8 if kl.seeds > 1 else 1  # a sampled KL scatters about its level
        middle = levels[min(first + inward, last)] if wrap is not None and wrap.kind != "clamp" else levels[first]
        level = 0.0 if first == 0 and wrap is None else middle
        return Curve(tuple(levels), tuple(slopes), slopes[first], level, levels[last], wrap, settled)

    if not any(slopes):
        return Curve(tuple(levels), tuple(slopes), 0.0, 0.0, levels[-1], None, True)
    runs = _plateaus(slopes, tolerance)
    if runs == [(0, len(slopes) - 1)]:
        whole = curve(runs[0], None, True)
        kind = _below_the_lowest(kl, whole)
        return whole if kind is None else curve(runs[0], Wrap(kind), True)
    if len(runs) == 1 and runs[0][0] <= NEAR_LOWEST and runs[0][1] == len(slopes) - 1 and slopes[-1]:
        kind = _below_the_lowest(kl, curve(runs[0], Wrap("other"), True))
        if kind is not None:
            return curve(runs[0], Wrap(kind), True)
    if not runs or not any(slopes[first] for first, _ in runs):
        return Curve(tuple(levels), tuple(slopes), None, 1.0, 1.0, Wrap("other"), False)
    low, high = slopes[runs[0][0]], slopes[runs[-1][0]]
    covered = sum(last - first + 1 for first, last in runs)
    settled = runs[0][0] == 0 and runs[-1][1] == len(slopes) - 1 and len(slopes) - covered <= 2 * (len(runs) - 1)
    same = tolerance * max(abs(low), abs(high))
    ends_low = runs[0][0] == 0
    if len(runs) >= 2 and settled and high and abs(low + high) <= 2.0 * same:
        return curve(runs[-1], Wrap("capacity"), True)
    if len(runs) >= 2 and settled and high and low == 0.0:
        return curve(runs[-1], Wrap("free_bits"), True)
    if len(runs) >= 2 and ends_low and high == 0.0 and runs[-1][1] == len(slopes) - 1:
        inner = next(run for run in runs if slopes[run[0]])
        return curve(inner, Wrap("clamp"), settled)
    run = runs[-1] if high else next(run for run in reversed(runs) if slopes[run[0]])
    return curve(run, Wrap("other"), False)


def _below_the_lowest(kl: KLProbe, curve: Curve) -> str | None:
    """A kink below the lowest level that rounding leaves: the loss at the prior is off the line through all others."""
    slope = (curve.weight or 0.0) * kl.sizes.batch_size
    level = curve.levels[min(1, len(curve.levels) - 1)]
    start, there = kl.at(0.0), kl.at(kl.mean_at(level))
    gap = (start - (there - slope * level)) / slope
    rounding = 100.0 * EPSILON[kl.probe.dtype] * max(abs(start), abs(there)) / abs(slope)
    if gap <= max(1e-3 * level, rounding):
        return None
    quarter = (kl.at(kl.mean_at(0.25 * gap)) - start) / slope
    return "free_bits" if abs(quarter) < 0.125 * gap else "capacity"


def wrapped(kind: str, constant: float) -> Callable[[float], float]:
    """What the wrap makes of a KL."""
    return {
        "capacity": lambda k: abs(k - constant),
        "free_bits": lambda k: max(k, constant),
        "clamp": lambda k: min(k, constant),
    }[kind]


def find_constant(kl: KLProbe, curve: Curve) -> float | None:
    """Where the kink is, in nats of an example: the crossing of the lines of both plateaus."""
    if curve.wrap is None or curve.wrap.kind == "other" or not curve.weight:
        return None
    slope = abs(curve.weight) * kl.sizes.batch_size  # d loss / d KL while all examples have the same
    sign = 1.0 if curve.weight > 0 else -1.0
    inside = kl.at(kl.mean_at(curve.level)) - sign * slope * curve.level
    if curve.wrap.kind == "clamp":
        far = kl.at(kl.mean_at(curve.levels[-1]))
        return (far - inside) / (sign * slope)
    start = kl.at(0.0)
    return (start - inside) / (sign * slope) / (2.0 if curve.wrap.kind == "capacity" else 1.0)


def find_scope(kl: KLProbe, curve: Curve, constant: float) -> str | None:
    """Of what the wrap is taken: two uneven batches against the predictions of each reading."""
    assert curve.wrap is not None
    if not constant > 0 or not curve.weight:
        return None
    batch, latents = kl.sizes.batch_size, kl.sizes.latent_dim
    of = wrapped(curve.wrap.kind, constant)
    of_latent = wrapped(curve.wrap.kind, constant / latents)
    half = batch // 2
    uneven = kl.full(0.0)
    times = 4.0 if kl.seeds == 1 else 32.0
    uneven[half:] = kl.mean_at(times * constant)
    narrow = kl.full(0.0)
    narrow[:, 0] = math.sqrt(2.0 * times * constant)
    share = (batch - half) / batch
    predictions = {
        "example": (share * of(times * constant) + (1.0 - share) * of(0.0), of(times * constant)),
        "batch": (of(times * constant * share), of(times * constant)),
        "dimension": (
            latents * (share * of_latent(times * constant / latents) + (1.0 - share) * of_latent(0.0)),
            of_latent(times * constant) + (latents - 1) * of_latent(0.0),
        ),
    }
    start, slope = kl.at(0.0), curve.weight * batch
    seen = [of(0.0) + (kl.at(mu) - start) / slope for mu in (uneven, narrow)]
    if batch < 2:
        predictions.pop("batch")
    if latents < 2:
        predictions.pop("dimension")
    return min(predictions, key=lambda name: sum(abs(a - b) for a, b in zip(predictions[name], seen, strict=True)))

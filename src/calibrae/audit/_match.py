"""Search for the closest convention of the catalogue."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..functional.conventions import Convention, catalogue
from ._kl_curve import KLTransform
from ._scaling import Powers

TERMS = {
    "gaussian": "sse",
    "laplace": "sae",
    "bernoulli": "bce",
    "categorical": "ce",
    "log_cosh": "log-cosh",
}
TRANSFORMS = {"capacity": "capacity", "free_bits": "free-bits"}
WRONG_POWER, WRONG_TRANSFORM, FAR = 10.0, 3.0, 5.0


@dataclass(frozen=True)
class Match:
    """Nearest convention.

    Attributes:
        convention: entry of the catalogue.
        value: number that an author of that convention would write for the loss.
    """

    convention: Convention
    value: float


def find_match(
    kind: str,
    ratio: float,
    weights: tuple[float, float],
    powers: tuple[Powers, Powers],
    sizes: dict[str, float],
    transform: KLTransform | None,
) -> Match | None:
    """Find the convention whose term, powers, transform and constant factors are nearest.

    Args:
        kind: kind of the reconstruction.
        ratio: weight of the KL over that of the reconstruction, in the scalar.
        weights: weights of the reconstruction and of the KL, each of an example's sum, a batch mean's 1/B taken out.
        powers: exponents of the sizes in both, in the scalar.
        sizes: `D`, `d` and `B`.
        transform: function applied to the KL.
    """
    a, b = weights
    if kind == "log_mse" and a > 0 and b > 0:
        return Match(catalogue()["nll-optimal-sigma"], ratio)
    if kind not in TERMS or not (a > 0 and b > 0):
        return None
    scored = []
    for convention in catalogue().values():
        if convention.term == TERMS[kind] and convention.same_as is None:
            distance = _distance(convention, a, b, powers, sizes, transform)
            value = convention.value(ratio, {"T": 1.0, **sizes})
            scored.append((round(distance, 6), convention.row or 99, convention.name, Match(convention, value)))
    return min(scored)[-1] if scored else None


def _distance(
    convention: Convention,
    a: float,
    b: float,
    powers: tuple[Powers, Powers],
    sizes: dict[str, float],
    transform: KLTransform | None,
) -> float:
    reconstruction, kl = powers
    distance = 0.0
    for name, here, there in (("D", reconstruction.data, kl.data), ("d", reconstruction.latent, kl.latent)):
        for measured, stated in ((here, convention.a.get(name, 0.0)), (there, convention.b.get(name, 0.0))):
            distance += WRONG_POWER * min(1.0, abs(measured - stated)) if measured is not None else 0.0
    stated = convention.b.get("B", 0.0) - convention.a.get("B", 0.0)
    if reconstruction.batch is not None and kl.batch is not None:
        distance += WRONG_POWER * min(1.0, abs(kl.batch - reconstruction.batch - stated))
    distance += WRONG_TRANSFORM * ((TRANSFORMS.get(transform.kind) if transform else None) != convention.wrap)
    fixed, weight = (convention.b, b) if "value" in convention.a else (convention.a, a)
    factor = fixed.get("factor", 1.0) * math.prod(sizes[n] ** fixed.get(n, 0.0) for n in ("D", "d"))
    distance += min(FAR, abs(math.log(weight / factor)))
    return distance

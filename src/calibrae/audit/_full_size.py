"""Weights at the batch size that was asked for, and powers that could not be measured."""

from __future__ import annotations

import math
from dataclasses import replace

from ._classify_kl import remeasured_weight
from ._inputs import Inputs, Sizes
from ._kl_term import KLTerm, StandardKL
from ._preparation import make_kl_probe
from ._probe import Probe
from ._reconstruction import Reconstruction, measure_weight
from ._scaling import Powers
from ._tolerances import Tolerances

SIZE_NAMES = {"batch": "batch size", "data": "number of data dimensions", "latent": "number of latents"}


def reconstruction_at_full_size(probe: Probe, reconstruction: Reconstruction, sizes: Sizes) -> Reconstruction:
    """Replace the weight by that of the full batch."""
    if not reconstruction.weight or not reconstruction.is_known:
        return reconstruction
    return replace(reconstruction, weight=measure_weight(probe, sizes, reconstruction))


def kl_at_full_size(probe: Probe, inputs: Inputs, term: KLTerm, sizes: Sizes) -> KLTerm:
    """Replace the weight by that of the full batch, and the constant of a capacity, which may be that of the batch."""
    if not term.weight.value:
        return term
    kl = make_kl_probe(probe, inputs, sizes)
    level = term.weight.level or 1.0
    rescaled = term.rescaled(remeasured_weight(kl, term) / term.weight.value)
    weight = rescaled.weight
    transform = weight.transform
    if transform is None or transform.constant is None or transform.kind == "clamp" or not weight.value:
        return rescaled
    slope = weight.value * sizes.batch_size
    kl.seeds = 8 if isinstance(term, StandardKL) and term.sampled else 1
    gap = level - (kl.at(kl.mean_at(level)) - kl.at(0.0)) / slope
    moved = replace(transform, constant=gap / (2.0 if transform.kind == "capacity" else 1.0))
    return replace(rescaled, weight=replace(weight, transform=moved))


def fill_powers(
    measured: tuple[Powers, Powers], reconstruction: Reconstruction, term: KLTerm, sizes: Sizes
) -> tuple[Powers, Powers, tuple[str, ...]]:
    """Fill powers that could not be measured with those that leave the plainer weights, and name their sizes."""
    missing: list[str] = []
    of_reconstruction, of_kl = measured
    a, b = reconstruction.weight, term.weight.value
    if a and reconstruction.is_known and reconstruction.kind != "log_mse":
        positions = reconstruction.inputs.positions(sizes)
        of_reconstruction = _filled(of_reconstruction, a, sizes.batch_size, "data", positions, missing)
    if b:
        of_kl = _filled(of_kl, b, sizes.batch_size, "latent", sizes.latent_dim, missing)
    return of_reconstruction, of_kl, tuple(dict.fromkeys(missing))


def _filled(powers: Powers, weight: float, batch: int, name: str, size: int, missing: list[str]) -> Powers:
    """Try the missing powers of the batch and of one more size as sums and as means."""
    known = {"batch": powers.batch, name: getattr(powers, name)}
    missing += [SIZE_NAMES[part] for part, power in known.items() if power is None]
    options = [
        (_plainness(weight * batch**-of_batch * size**-of_size), of_batch, of_size)
        for of_batch in ((0.0, -1.0) if known["batch"] is None else (known["batch"],))
        for of_size in ((0.0, -1.0) if known[name] is None else (known[name],))
    ]
    plainest = min(options)
    clear = sum(o[0] == plainest[0] for o in options) == 1
    if not clear or len(options) == 1:
        return powers
    return replace(powers, batch=plainest[1], **{name: plainest[2]})


def _plainness(weight: float) -> int:
    """0 for 1, 1 for a half or a power of ten, then the number of digits; 9 for more than three."""
    if weight == 0:
        return 9
    exponent = math.floor(math.log10(abs(weight)) + 1e-9)
    digits, near = abs(weight) / 10.0**exponent, Tolerances.plain_weight.value
    if abs(digits - 1.0) < near or abs(weight - 0.5) < near:
        return int(exponent != 0)
    whole = 0.5 - Tolerances.plain_digits.value
    return next((count for count in (2, 3) if abs(digits * 10 ** (count - 2) % 1.0 - 0.5) > whole), 9)

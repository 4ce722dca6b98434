"""Further checks: gradients that do not follow the value, extreme inputs, terms that depend on one another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._inputs import Inputs, Sizes
from ._kl_probe import EPSILON, KLProbe
from ._probe import Probe, ProbeError
from ._reconstruction import Reconstruction
from ._tolerances import Tolerances

STEP = {torch.float64: 1e-5, torch.float32: 1e-2}
PARTS = ("x_hat", "mu", "log_std")
RAISES = "it raises"
ELEMENTS = 6  # of each part of the posterior, whose gradients are looked at one by one


@dataclass(frozen=True)
class GradientCheck:
    """Derivative by autograd beside a finite difference.

    Attributes:
        part: argument differentiated: `x_hat`, `mu` or `log_std`.
        autograd: value by autograd.
        difference: value by finite differences.
        agrees: whether the two are equal within truncation error.
        is_missing: whether the loss moves and the gradient is zero or of the other sign.
    """

    part: str
    autograd: float
    difference: float
    agrees: bool
    is_missing: bool


def check_gradients(kl: KLProbe, reconstruction: Reconstruction, level: float) -> list[GradientCheck]:
    """Compare derivatives along a direction and of single latents, where the value moves at all.

    Raises:
        ProbeError: if the gradient cannot be taken.
    """
    checks: list[GradientCheck] = []
    if not kl.probe.gives_tensors:
        return checks
    generator = torch.Generator().manual_seed(5)
    shape = kl.full(0.0).shape
    mu = kl.full(kl.mean_at(max(level, 1.0))) * (
        0.8 + 0.4 * torch.rand(shape, generator=generator, dtype=torch.float64)
    )
    log_std = kl.full(0.3) * (0.5 + torch.rand(shape, generator=generator, dtype=torch.float64))
    guess = reconstruction.inputs.guess(kl.x, seed=77, pull=0.5)
    checks += _along(kl, (guess, mu, log_std), 0)
    if reconstruction.kind != "none" and not any(c.part == "x_hat" for c in checks):
        slope = kl.probe.gradients(kl.x, guess, mu, log_std)[0]
        if not bool(slope.any()):
            moved = kl.one(mu, log_std) - kl.probe.value(kl.x, guess, mu, log_std)
            checks.append(GradientCheck("x_hat", 0.0, moved, agrees=False, is_missing=True))
    for part in (1, 2):  # at the best reconstruction, beside which the KL is not lost in rounding
        along = _along(kl, (kl.x_hat, mu, log_std), part)
        single = _single(kl, (kl.x_hat, mu, log_std), part) if all(c.agrees or not c.is_missing for c in along) else []
        checks += along + single
    return checks


def _difference(kl: KLProbe, point: tuple[Tensor, ...], part: int, direction: Tensor) -> tuple[float, float]:
    """Central difference along a direction, and its rounding error."""
    step = STEP[kl.probe.dtype]
    ends = [[p + t * direction if i == part else p for i, p in enumerate(point)] for t in (step, -step)]
    high, low = (kl.probe.value(kl.x, end[0], end[1], end[2]) for end in ends)
    return (high - low) / (2.0 * step), Tolerances.difference_rounding.value * EPSILON[kl.probe.dtype] * max(
        abs(high), abs(low)
    ) / step


def _along(kl: KLProbe, point: tuple[Tensor, ...], part: int) -> list[GradientCheck]:
    """Compare along the signs of the gradient, in which no part cancels another."""
    slope = kl.probe.gradients(kl.x, point[0], point[1], point[2])[part].double()
    direction = torch.where(slope >= 0, 1.0, -1.0)
    return _compared(kl, point, part, slope, direction)


def _single(kl: KLProbe, point: tuple[Tensor, ...], part: int) -> list[GradientCheck]:
    """Find the first single latent whose gradient is missing or of the wrong sign."""
    slope = kl.probe.gradients(kl.x, point[0], point[1], point[2])[part].double()
    for flat in torch.linspace(0, slope.numel() - 1, ELEMENTS).round().long().unique():
        direction = torch.zeros_like(slope).flatten()
        direction[flat] = 1.0
        checks = [c for c in _compared(kl, point, part, slope, direction.reshape(slope.shape)) if c.is_missing]
        if checks:
            return checks
    return []


def _compared(
    kl: KLProbe, point: tuple[Tensor, ...], part: int, slope: Tensor, direction: Tensor
) -> list[GradientCheck]:
    difference, rounding = _difference(kl, point, part, direction)
    autograd = float((slope * direction).sum())
    larger = max(abs(difference), abs(autograd))
    least = Tolerances.gradient_rounding.value * rounding
    if larger <= least:
        return []
    agrees = abs(autograd - difference) <= Tolerances.gradient.at(kl.probe.dtype) * larger
    zero = Tolerances.missing_gradient.value * difference**2
    missing = not agrees and abs(difference) > least and autograd * difference <= zero
    return [GradientCheck(PARTS[part], autograd, difference, agrees, missing)]


def check_extremes(probe: Probe, inputs: Inputs, sizes: Sizes) -> tuple[list[str], list[str]]:
    """Legal inputs at which the value or a gradient is not finite, in float32 as in training; and those at which it raises."""
    single = Probe(probe.loss, probe.posterior, torch.float32, needs_gradients=probe.needs_gradients)
    x = inputs.x(sizes, seed=3)
    zero = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)
    usual = inputs.guess(x, 1, 0.5)
    if _trouble(single, x, usual, zero + 0.1, zero) is not None:
        return [], []
    cases: dict[str, tuple[Tensor, Tensor, Tensor]] = {
        "a posterior standard deviation of e^-10": (usual, zero, zero - 10.0),
        "a posterior standard deviation of e^10": (usual, zero, zero + 10.0),
        "a posterior mean of 100": (usual, zero + 100.0, zero),
    }
    none, whole = torch.zeros_like(usual), torch.ones_like(usual)
    if inputs.space == "probs":
        cases |= {"probabilities of exactly 0": (none, zero, zero), "probabilities of exactly 1": (whole, zero, zero)}
    elif inputs.space == "logits":
        cases |= {"logits of -100": (none - 100.0, zero, zero), "logits of 100": (none + 100.0, zero, zero)}
    elif inputs.space == "data":
        cases |= {"a perfect reconstruction": (x.clone(), zero, zero)}
    troubles = {name: _trouble(single, x, *case) for name, case in cases.items()}
    probe.calls += single.calls
    said = {name: trouble for name, trouble in troubles.items() if trouble is not None}
    raising = [name for name, trouble in said.items() if trouble == RAISES]
    return [f"{name} ({trouble})" for name, trouble in said.items() if trouble != RAISES], raising


def _trouble(probe: Probe, x: Tensor, x_hat: Tensor, mu: Tensor, log_std: Tensor) -> str | None:
    """Trouble at a point, in words, if there is any."""
    try:
        value = probe.value(x, x_hat, mu, log_std)
        slopes = probe.gradients(x, x_hat, mu, log_std) if probe.gives_tensors else ()
    except ProbeError:
        return RAISES
    if not math.isfinite(value):
        return f"the value is {value}"
    return None if all(bool(torch.isfinite(s).all()) for s in slopes) else "a gradient is not finite"


def check_additive(kl: KLProbe, inputs: Inputs, level: float) -> bool:
    """Tell whether the KL's part of the loss is the same at another reconstruction."""
    guess = inputs.guess(kl.x, 21, 0.3)
    other = KLProbe(kl.probe, kl.x, guess, kl.sizes)
    means = (kl.mean_at(level), kl.mean_at(max(4.0 * level, 10.0)))
    ends = [[k.one(mean) for mean in means] for k in (kl, other)]
    rises = [end[1] - end[0] for end in ends]
    rounding = Tolerances.difference_rounding.value * EPSILON[kl.probe.dtype] * max(abs(v) for end in ends for v in end)
    return abs(rises[0] - rises[1]) <= Tolerances.additive.value * max(map(abs, rises)) + rounding


def check_unused_output(kl: KLProbe, reconstruction: Reconstruction) -> float:
    """Share of the elements of the output that have no effect, while others have."""
    if reconstruction.kind == "none" or not kl.probe.gives_tensors:
        return 0.0
    try:
        slope = kl.probe.gradients(
            kl.x, reconstruction.inputs.guess(kl.x, seed=78, pull=0.3), kl.full(0.1), kl.full(0.1)
        )[0]
    except ProbeError:
        return 0.0
    share = float((slope == 0).double().mean())
    return share if Tolerances.unused_output.value < share < 1.0 else 0.0


def check_stationary(kl: KLProbe, reconstruction: Reconstruction) -> bool:
    """Tell whether an output equal to the data is a minimum of the reconstruction term; `True` where that is not expected."""
    if (
        reconstruction.inputs.space != "data"
        or reconstruction.inputs.kind != "continuous"
        or reconstruction.treats is not None
    ):
        return True
    generator = torch.Generator().manual_seed(31)
    here = kl.one(0.0)
    if not math.isfinite(here):
        return True
    for _ in range(3):
        direction = (
            1e-2 * reconstruction.inputs.width * torch.randn(kl.x.shape, generator=generator, dtype=torch.float64)
        )
        try:
            sides = [kl.probe.value(kl.x, kl.x + t * direction, kl.full(0.0), kl.full(0.0)) for t in (1.0, -1.0)]
        except ProbeError:
            return True
        if min(sides) < here - Tolerances.off_minimum.value * EPSILON[kl.probe.dtype] * max(
            abs(here), *map(abs, sides)
        ):
            return False
    return True

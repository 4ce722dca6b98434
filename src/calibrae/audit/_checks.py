"""What else can be seen: gradients that do not follow the value, extreme inputs, dropped constants, mixed terms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._divergence import KLProbe
from ._inputs import Inputs, Sizes
from ._probe import Probe, ProbeError

FALLS_SHORT = 0.02  # relative difference of a gradient and a finite difference
PARTS = ("x_hat", "mu", "log_std")


@dataclass(frozen=True)
class GradientCheck:
    """A directional derivative by autograd and by differences.

    Attributes:
        part: with respect to what.
        autograd: the one.
        difference: the other.
    """

    part: str
    autograd: float
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether the two are the same."""
        return abs(self.autograd - self.difference) <= FALLS_SHORT * max(
            abs(self.autograd), abs(self.difference), 1e-300
        )

    @property
    def is_detached(self) -> bool:
        """Whether the value moves and the gradient is zero."""
        return abs(self.autograd) <= 1e-6 * abs(self.difference)


def check_gradients(kl: KLProbe, inputs: Inputs, level: float, scale: float) -> list[GradientCheck]:
    """Directional derivatives at a generic point, where the value moves at all.

    Raises:
        ProbeError: if the gradient cannot be taken.
    """
    probe, x = kl.probe, kl.x
    generator = torch.Generator().manual_seed(5)
    mean = kl.mean_at(max(level, 1.0))
    mu = kl.full(mean) * (0.8 + 0.4 * torch.rand(kl.full(0.0).shape, generator=generator, dtype=torch.float64))
    log_std = kl.full(0.3) * (0.5 + torch.rand(kl.full(0.0).shape, generator=generator, dtype=torch.float64))
    point = (inputs.guess(x, seed=77, pull=0.5), mu, log_std)
    slopes = probe.gradients(x, *point)
    step = 1e-5 if probe.dtype == torch.float64 else 1e-2
    found = []
    for index, (part, slope) in enumerate(zip(PARTS, slopes, strict=True)):
        reference = point[index]
        signs = torch.where(torch.rand(reference.shape, generator=generator, dtype=torch.float64) < 0.5, -1.0, 1.0)
        direction = (
            torch.where(slope == 0, signs, slope.sign().to(signs)) if bool(slope.any()) else torch.ones_like(signs)
        )
        ends = [[p + t * direction if i == index else p for i, p in enumerate(point)] for t in (step, -step)]
        high, low = (probe.value(x, end[0], end[1], end[2]) for end in ends)
        difference = (high - low) / (2.0 * step)
        autograd = float((slope.double() * direction).sum())
        rounding = {torch.float64: 1e-13, torch.float32: 1e-6}[probe.dtype] * scale / step
        if max(abs(difference), abs(autograd)) > 100.0 * rounding:
            found.append(GradientCheck(part, autograd, difference))
    return found


def check_extremes(probe: Probe, inputs: Inputs, sizes: Sizes) -> list[str]:
    """Legal inputs at which the value or a gradient is not finite, in float32 as in training."""
    single = Probe(probe.loss, probe.posterior, torch.float32)
    few = sizes.with_batch(min(sizes.batch_size, 4))
    x = inputs.x(few, seed=3)
    zero = torch.zeros(few.batch_size, few.latent_dim, dtype=torch.float64)
    usual = inputs.guess(x, 1, 0.5)
    cases: dict[str, tuple[Tensor, Tensor, Tensor]] = {
        "a posterior standard deviation of e^-10": (usual, zero, zero - 10.0),
        "a posterior standard deviation of e^10": (usual, zero, zero + 10.0),
        "a posterior mean of 100": (usual, zero + 100.0, zero),
    }
    if inputs.space == "probs":
        cases |= {
            "probabilities of exactly 0": (usual * 0.0, zero, zero),
            "probabilities of exactly 1": (usual * 0.0 + 1.0, zero, zero),
        }
    elif inputs.space == "logits":
        cases |= {
            "logits of -100": (usual * 0.0 - 100.0, zero, zero),
            "logits of 100": (usual * 0.0 + 100.0, zero, zero),
        }
    elif inputs.space == "data":
        cases |= {"a perfect reconstruction": (x.clone(), zero, zero)}
    broken = []
    for name, (x_hat, mu, log_std) in cases.items():
        try:
            value = single.value(x, x_hat, mu, log_std)
            slopes = single.gradients(x, x_hat, mu, log_std)
        except ProbeError as error:
            broken.append(f"{name} ({error})")
            continue
        if not math.isfinite(value):
            broken.append(f"{name} (the value is {value})")
        elif not all(bool(torch.isfinite(s).all()) for s in slopes):
            broken.append(f"{name} (a gradient is not finite)")
    return broken


def check_additive(kl: KLProbe, inputs: Inputs, level: float) -> bool:
    """Whether the KL's part of the loss is the same at another reconstruction."""
    other = KLProbe(kl.probe, kl.x, inputs.guess(kl.x, 21, 0.3), kl.sizes)
    mean = kl.mean_at(max(4.0 * level, 10.0))
    rises = [k.at(mean, seeds=1) - k.at(kl.mean_at(level), seeds=1) for k in (kl, other)]
    return abs(rises[0] - rises[1]) <= 1e-3 * max(map(abs, rises)) + 1e-12

"""All that was measured, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from ._checks import GradientCheck
from ._divergence import Divergence
from ._inputs import Sizes
from ._reconstruction import Reconstruction
from ._scaling import Powers

DEPENDS = 0.02  # relative change of a weight with the contrast of the data, from which on it depends on them


@dataclass(frozen=True)
class Evidence:
    """All that was measured.

    Attributes:
        reconstruction: the term.
        divergence: the other.
        ours: powers of the reconstruction's weight.
        theirs: of the KL's.
        sizes: at which the weights hold.
        width: of the data's range.
        gradients: autograd beside differences.
        differentiable: whether the loss returns tensors at all.
        extremes: legal inputs at which it is not finite.
        raising: legal inputs that it refuses.
        additive: whether the terms are independent.
        stationary: whether an output equal to the data is a minimum.
        idle: share of the output's elements without effect.
        drift: relative change between identical calls.
        spread: relative standard deviation over seeds.
        at_rest: the loss at a perfect reconstruction and the prior; `None` if there is no such point.
        could_not_vary: sizes.
        several: whether the loss returns several numbers, of which only the first was looked at.
        coarse: whether it works in half precision, so that nothing was measured.
    """

    reconstruction: Reconstruction
    divergence: Divergence
    ours: Powers
    theirs: Powers
    sizes: Sizes
    width: float
    gradients: tuple[GradientCheck, ...] = ()
    differentiable: bool = True
    extremes: tuple[str, ...] = ()
    raising: tuple[str, ...] = ()
    additive: bool = True
    stationary: bool = True
    idle: float = 0.0
    drift: float = 0.0
    spread: float = 0.0
    at_rest: float | None = None
    could_not_vary: tuple[str, ...] = ()
    coarse: bool = False
    several: bool = False

    @property
    def weighs_by_data(self) -> bool:
        """Whether the reconstruction's weight changes with the data, so that it is no number."""
        return self.reconstruction.per_variance or self.reconstruction.spread > DEPENDS

    @property
    def data_reduction(self) -> str | None:
        """`sum` or `mean` of the reconstruction over the data dimensions."""
        return _reduction(self.ours.data)

    @property
    def latent_reduction(self) -> str | None:
        """`sum` or `mean` of the KL over the latents."""
        return _reduction(self.theirs.latent)

    @property
    def batch_reduction(self) -> str | None:
        """`mean`, `sum`, or `mixed`."""
        ours, theirs = _reduction(self.ours.batch), _reduction(self.theirs.batch)
        if self.divergence.kind in ("none", "unknown") or theirs is None:
            return ours
        if self.reconstruction.kind in ("unknown", "none") or ours is None:
            return theirs
        return ours if ours == theirs else "mixed"

    @property
    def positions(self) -> int:
        """Data dimensions, or positions of one-hot data."""
        return self.reconstruction.inputs.positions(self.sizes)

    def per_example(self) -> tuple[float | None, float | None]:
        """Both weights with the 1/B of a batch mean taken out."""
        batch = float(self.sizes.batch_size)
        a = self.reconstruction.weight
        ours = None if a is None else a * (batch if self.ours.batch == -1 else 1.0)
        b = self.divergence.weight
        return ours, None if b is None else b * (batch if self.theirs.batch == -1 else 1.0)


def _reduction(power: float | None) -> str | None:
    return None if power is None else {0.0: "sum", -1.0: "mean"}.get(power, "mixed")

"""All that was measured, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from ._checks import GradientCheck
from ._inputs import Sizes
from ._kl_term import KLTerm
from ._reconstruction import Reconstruction
from ._scaling import Powers
from ._tolerances import Tolerances


@final
@dataclass(frozen=True)
class Evidence:
    """All that was measured.

    Attributes:
        reconstruction: fitted reconstruction term.
        kl: fitted KL term.
        reconstruction_powers: exponents of B, D and d in the reconstruction's weight.
        kl_powers: exponents of B, D and d in the KL's weight.
        sizes: sizes at which the weights hold.
        width: width of the data's range.
        gradients: derivatives by autograd beside finite differences.
        differentiable: whether the loss returns tensors at all.
        not_finite: legal inputs at which the value or a gradient is not finite.
        refused: legal inputs at which the loss raises.
        additive: whether the KL's part is the same at another reconstruction.
        stationary: whether an output equal to the data is a minimum.
        unused_output: share of the output's elements without effect.
        drift: relative change between identical calls.
        seed_spread: relative standard deviation over seeds.
        value_at_optimum: loss of an example at a perfect reconstruction and the prior; `None` if there is no such point.
        could_not_vary: names of the sizes that the loss does not accept otherwise.
        half_precision: whether it works in half precision, so that nothing was measured.
        returns_several: whether the loss returns several numbers, of which only the first was looked at.
    """

    reconstruction: Reconstruction
    kl: KLTerm
    reconstruction_powers: Powers
    kl_powers: Powers
    sizes: Sizes
    width: float
    gradients: tuple[GradientCheck, ...] = ()
    differentiable: bool = True
    not_finite: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    additive: bool = True
    stationary: bool = True
    unused_output: float = 0.0
    drift: float = 0.0
    seed_spread: float = 0.0
    value_at_optimum: float | None = None
    could_not_vary: tuple[str, ...] = ()
    half_precision: bool = False
    returns_several: bool = False

    @property
    def weight_follows_data(self) -> bool:
        """Tell whether the reconstruction's weight changes with the data, so that it is no number."""
        return self.reconstruction.per_variance or self.reconstruction.spread > Tolerances.data_dependence.value

    @property
    def data_reduction(self) -> str | None:
        """Reduction of the reconstruction over the data dimensions: `sum` or `mean`."""
        return _reduction(self.reconstruction_powers.data)

    @property
    def latent_reduction(self) -> str | None:
        """Reduction of the KL over the latents: `sum` or `mean`."""
        return _reduction(self.kl_powers.latent)

    @property
    def batch_reduction(self) -> str | None:
        """Reduction over the batch: `mean`, `sum`, or `mixed`."""
        reconstruction, kl = _reduction(self.reconstruction_powers.batch), _reduction(self.kl_powers.batch)
        if self.kl.is_absent or kl is None:
            return reconstruction
        if reconstruction is None:
            return kl
        return reconstruction if reconstruction == kl else "mixed"

    @property
    def positions(self) -> int:
        """Data dimensions, or positions of one-hot data."""
        return self.reconstruction.inputs.positions(self.sizes)

    def per_example(self) -> tuple[float | None, float | None]:
        """Weights of the reconstruction and of the KL with the 1/B of a batch mean taken out."""
        batch = float(self.sizes.batch_size)
        weights = (
            (self.reconstruction.weight, self.reconstruction_powers.batch),
            (self.kl.weight.value, self.kl_powers.batch),
        )
        a, b = (w if w is None else w * (batch if power == -1 else 1.0) for w, power in weights)
        return a, b


def _reduction(power: float | None) -> str | None:
    return None if power is None else {0.0: "sum", -1.0: "mean"}.get(power, "mixed")

"""Sum type of the KL term: one class for each thing that it can be, with the numbers that this thing has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Literal, Self, TypeAlias, final

from ._kl_curve import KLTransform
from ._prior import Prior
from ._tolerances import Tolerances

CoefficientDefect: TypeAlias = Literal["wrong-sign", "log-sign", "no-variance", "missing-half", "unequal"]


@final
@dataclass(frozen=True)
class KLWeight:
    """Weight of the term in the scalar, and where it holds.

    Attributes:
        value: coefficient of each example's KL, from the mean's part; `None` if it changes with the KL.
        level: nats an example at which it was measured.
        transform: function applied to the KL before it is weighed.
        slopes: weight of the mean's part at the least and at the largest KL.
        error: relative standard error of the variance's weight, for a sampled term.
    """

    value: float | None
    level: float = 0.0
    transform: KLTransform | None = None
    slopes: tuple[float, float] = (0.0, 0.0)
    error: float = 0.0

    def rescaled(self, factor: float) -> KLWeight:
        """Multiply all weights."""
        value = None if self.value is None else self.value * factor
        return replace(self, value=value, slopes=(self.slopes[0] * factor, self.slopes[1] * factor))

    @property
    def is_nonlinear(self) -> bool:
        """Tell whether the loss follows the KL by no known function."""
        return self.transform is not None and self.transform.kind == "other"


@dataclass(frozen=True)
class AbstractKLTerm(ABC):
    """Term that depends on the posterior.

    Attributes:
        weight: coefficient in the scalar, and where it holds.
    """

    weight: KLWeight

    @property
    @abstractmethod
    def kind(self) -> str | None:
        """Name in the record: `exact`, `monte_carlo`, `not_a_kl`, `none`, or `None` if nothing was measured."""

    @property
    @abstractmethod
    def least_std(self) -> float | None:
        """Posterior standard deviation at which the term is least; `None` if there is none."""

    @property
    def is_kl(self) -> bool:
        """Tell whether it is a divergence, exact or sampled."""
        return self.kind in ("exact", "monte_carlo")

    @property
    def is_absent(self) -> bool:
        """Tell whether no weight can be said to belong to a KL."""
        return self.kind in (None, "none")

    def rescaled(self, factor: float) -> Self:
        """Multiply all weights."""
        return replace(self, weight=self.weight.rescaled(factor))


@final
@dataclass(frozen=True)
class NotMeasured(AbstractKLTerm):
    """Unknown term: the loss changes between identical calls, or works in half precision."""

    weight: KLWeight = field(default=KLWeight(None))

    @property
    def kind(self) -> None:
        return None

    @property
    def least_std(self) -> None:
        return None


@final
@dataclass(frozen=True)
class NoKL(AbstractKLTerm):
    """Loss that does not change with the posterior."""

    @property
    def kind(self) -> str:
        return "none"

    @property
    def least_std(self) -> None:
        return None


@final
@dataclass(frozen=True)
class StdClamped:
    """Clamp of the standard deviation on one `side` of 1: `above` or `below`."""

    side: str


@final
@dataclass(frozen=True)
class UnequalWeights:
    """Halves of the `examples` or of the `latents` that weigh differently, or of which one has no KL at all."""

    axis: str
    some_missing: bool


@final
@dataclass(frozen=True)
class JointMismatch:
    """Relative difference from the KL where mean and standard deviation both vary from latent to latent."""

    relative: float


@final
@dataclass(frozen=True)
class CoupledExamples:
    """Difference from the KL that comes from examples acting on one another."""


Defect: TypeAlias = StdClamped | UnequalWeights | JointMismatch | CoupledExamples


@final
@dataclass(frozen=True)
class StandardKL(AbstractKLTerm):
    """KL to N(0, I) along the mean and along the standard deviation.

    Attributes:
        sampled: whether it is a Monte Carlo estimate.
        least_mean: posterior mean at which it is least: 0 for a KL to N(0, I).
        defect: where it departs from a KL all the same.
    """

    sampled: bool = False
    least_mean: float = 0.0
    defect: Defect | None = None

    @property
    def kind(self) -> str:
        return "monte_carlo" if self.sampled else "exact"

    @property
    def least_std(self) -> float:
        return 1.0


@final
@dataclass(frozen=True)
class PriorKL(AbstractKLTerm):
    """KL to another prior than N(0, I), or to N(0, I) beside a further term on the mean or the sampled code.

    Attributes:
        prior: prior whose gradients it has.
    """

    prior: Prior

    @property
    def kind(self) -> str:
        return "exact" if self.prior.closed == 1.0 else "monte_carlo"

    @property
    def least_std(self) -> float | None:
        return None if self.prior.kind == "sample" else self.prior.std


@final
@dataclass(frozen=True)
class ImportanceBound(AbstractKLTerm):
    """Importance-weighted bound of several samples; its weight is that at much KL."""

    @property
    def kind(self) -> str:
        return "monte_carlo"

    @property
    def least_std(self) -> float:
        return 1.0


@final
@dataclass(frozen=True)
class Misread:
    """Known confusion of log-variance, log standard deviation and standard deviation, in words."""

    confusion: str


@final
@dataclass(frozen=True)
class NoFit:
    """Sweep of the standard deviation that nothing known fits; `misfit` is that of the nearest KL, relative."""

    misfit: float


@final
@dataclass(frozen=True)
class Coefficients:
    """Weights of `s^2 / 2` and of `-ln s`, in units of the weight of `mu^2 / 2`; 1 and 1 in a KL."""

    variance: float
    log: float


@final
@dataclass(frozen=True)
class WrongFormula(AbstractKLTerm):
    """Term that claims to be a KL of Gaussians and follows another formula.

    Attributes:
        formula: known part of that formula.
        least_std: posterior standard deviation at which it is least; `None` if there is none.
        least_mean: posterior mean at which it is least.
    """

    formula: Misread | NoFit | Coefficients
    least_std: float | None = None
    least_mean: float = 0.0

    @property
    def kind(self) -> str:
        return "not_a_kl"

    @property
    def coefficient_defect(self) -> CoefficientDefect | None:
        """Name of the mistake in the coefficients; `None` where they were not measured."""
        if not isinstance(self.formula, Coefficients) or self.weight.is_nonlinear:
            return None
        variance, log, weight = self.formula.variance, self.formula.log, self.weight.value or 0.0
        if weight < 0 and variance >= 0 and log >= 0:
            return "wrong-sign"
        if variance * weight > 0 and log * weight < 0:
            return "log-sign"
        if variance == 0.0 and log == 0.0:
            return "no-variance"
        ratios = [variance, log, *([variance / log] if log else [])]
        near = Tolerances.known_factor.value
        halves = any(abs(abs(r) - known) <= near * known for r in ratios for known in (2.0, 0.5))
        return "missing-half" if halves else "unequal"


@final
@dataclass(frozen=True)
class CoupledTerm(AbstractKLTerm):
    """Term that is no sum over examples: a total correlation, an MMD, a covariance.

    Attributes:
        least_std: posterior standard deviation at which it is least; `None` if there is none.
        least_mean: posterior mean at which it is least.
    """

    least_std: float | None = None
    least_mean: float = 0.0

    @property
    def kind(self) -> str:
        return "not_a_kl"


@final
@dataclass(frozen=True)
class UnrecognisedSample(AbstractKLTerm):
    """Sampled term that is no KL to a Gaussian, nor one draw's KL to another prior."""

    @property
    def kind(self) -> str:
        return "not_a_kl"

    @property
    def least_std(self) -> None:
        return None


KLTerm: TypeAlias = (
    NotMeasured | NoKL | StandardKL | PriorKL | ImportanceBound | WrongFormula | CoupledTerm | UnrecognisedSample
)

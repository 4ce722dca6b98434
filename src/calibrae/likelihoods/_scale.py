"""Scale of a likelihood: fixed, learned, or the analytic optimum."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from .. import functional
from .._types import ALONE, SHARED, ScaleChoice, Shape, Shared
from ..acceleration import in_double
from ..errors import ArgumentError, ShapeError

AT_FLOOR = 1.0 + 1e-3
CONTINUOUS_FLOOR = 1e-6
"""Smallest scale for data without a quantisation step, in units of the data: a density of continuous data is unbounded
there, and float32 no longer tells 1 from 1 + 1e-7."""


@dataclass(frozen=True, slots=True)
class Statistic:
    r"""Statistic of the residuals that is a scale's optimum, $(\operatorname{mean} |r|^p)^{1/p}$.

    Attributes:
        power: $p$: 2 for a Gaussian's standard deviation, 1 for a Laplace density's scale.
        std_per_scale: standard deviation of the density with scale 1.

    Examples:
        >>> from calibrae.likelihoods import MEAN_ABSOLUTE
        >>> MEAN_ABSOLUTE.power
        1
    """

    power: int
    std_per_scale: float

    def floor(self, step: float) -> float:
        """Smallest honest scale for dequantised data: the statistic of uniform noise of width `step` about its middle."""
        return functional.quantisation_floor(step) if self.power == 2 else step / 4.0


ROOT_MEAN_SQUARE = Statistic(2, 1.0)
MEAN_ABSOLUTE = Statistic(1, math.sqrt(2.0))


class Scale(nn.Module, ABC):
    """Scale of a density, shared over all elements, per channel or per element.

    It is kept as `log scale` with the shape `[]`, `[C]` or `[*data]`, and never falls below a floor that follows from the
    data: the statistic of the quantisation noise where values are dequantised, else 1e-6.

    Attributes:
        choice: `fixed`, `learned` or `optimal`.
        shared: extent of one entry: `all`, `channel` or `element`.
        statistic: statistic of the residuals that is the optimum.
        floor: smallest value, in units of the data.
        data_shape: shape of an example, or `None` before it is known.
        is_fixed: whether the scale is known without the data that are scored.
    """

    choice: ClassVar[str]
    is_fixed: bool = True

    def __init__(self, shared: Shared, floor: float | None, statistic: Statistic) -> None:
        super().__init__()
        if shared not in SHARED:
            raise ArgumentError(f"`shared` must be one of {', '.join(SHARED)}; got {shared!r}.")
        if floor is not None and not (math.isfinite(floor) and floor > 0):
            raise ArgumentError(f"`floor` must be a positive number; got {floor}.")
        self.shared: Shared = shared
        self.statistic = statistic
        self.floor = CONTINUOUS_FLOOR if floor is None else floor
        self._given_floor = floor
        self.data_shape: Shape | None = None

    def set_data_shape(self, data_shape: Shape) -> None:
        """Give the scale one entry for everything that shares it.

        Raises:
            ShapeError: if it belongs to data of another shape already.
        """
        shape = tuple(data_shape)
        if self.data_shape not in (None, shape):
            raise ShapeError(
                f"this scale belongs to data of shape {self.data_shape}; got {shape}. Build a new likelihood."
            )
        if self.data_shape is None:
            self.data_shape = shape
            self._materialise(self.shape)

    def set_step(self, step: float | None) -> None:
        """Take the floor that follows from the data's quantisation step, unless one was given; `None`: continuous data."""
        if self._given_floor is None:
            self.floor = CONTINUOUS_FLOOR if step is None else self.statistic.floor(step)

    @property
    def shape(self) -> Shape:
        """Shape of the scale: `[]`, `[C]` or `[*data]`."""
        if self.shared == "all":
            return ()
        if self.data_shape is None:
            raise ShapeError(
                f"a scale per {self.shared} has no shape before the data's is known. Call `set_data_shape`."
            )
        return self.data_shape[:1] if self.shared == "channel" else self.data_shape

    def broadcast(self, log_scale: Tensor) -> Tensor:
        """Write out every data dimension, so that the scale broadcasts over `[*S, *data]`."""
        if self.shared == "channel" and self.data_shape is not None:
            return log_scale.reshape(-1, *(1,) * (len(self.data_shape) - 1))
        return log_scale

    @property
    def log_floor(self) -> float:
        """Natural logarithm of the floor."""
        return math.log(self.floor)

    @property
    def value(self) -> Tensor:
        """Scale in units of the data, `[]`, `[C]` or `[*data]`, without gradient."""
        return self.log_scale.detach().exp()

    @property
    def entries_at_floor(self) -> int:
        """Number of entries that the floor alone keeps from falling."""
        return int((self.value <= AT_FLOOR * self.floor).sum())

    def summary(self) -> float:
        """One number for all entries: their root mean square (mean for a Laplace density), in units of the data."""
        power = self.statistic.power
        return math.pow(float(in_double(self.log_scale.detach()).mul(power).exp().mean()), 1.0 / power)

    def std(self) -> float:
        """Standard deviation of the density in one number, in units of the data."""
        return self.statistic.std_per_scale * self.summary()

    @property
    def parameter(self) -> nn.Parameter | None:
        """Parameter `log scale` of a learned scale; `None` for the others."""
        return None

    @abstractmethod
    def _materialise(self, shape: Shape) -> None:
        """Give the stored `log scale` its shape."""

    @property
    @abstractmethod
    def log_scale(self) -> Tensor:
        """Natural logarithm of the scale, `[]`, `[C]` or `[*data]`."""


def make_scale(choice: ScaleChoice, shared: Shared, floor: float | None, initial: float, statistic: Statistic) -> Scale:
    """Scale from what a user writes: a positive number, `"learned"` or `"optimal"`."""
    if choice == "optimal":
        return OptimalScale(shared, floor, statistic)
    if choice == "learned":
        return LearnedScale(initial, shared, floor, statistic)
    return FixedScale(choice, shared, statistic)


@final
class FixedScale(Scale):
    """Scale chosen by hand, one number. It is not raised to the floor: it is what was asked for."""

    choice = "fixed"
    _log_scale: Tensor

    def __init__(self, value: float | str, shared: Shared = "all", statistic: Statistic = ROOT_MEAN_SQUARE) -> None:
        super().__init__(shared, None, statistic)
        if isinstance(value, str) or not (math.isfinite(value) and value > 0):
            raise ArgumentError(f"`sigma` must be a positive number, 'learned' or 'optimal'; got {value!r}.")
        self.register_buffer("_log_scale", torch.tensor(math.log(value)))

    def _materialise(self, shape: Shape) -> None:
        self._log_scale = self._log_scale.expand(shape).clone()

    @property
    def log_scale(self) -> Tensor:
        return self._log_scale


@final
class LearnedScale(Scale):
    """Parameter `log scale`, trained like the others."""

    choice = "learned"
    raw: nn.Parameter

    def __init__(
        self, initial: float, shared: Shared, floor: float | None, statistic: Statistic = ROOT_MEAN_SQUARE
    ) -> None:
        super().__init__(shared, floor, statistic)
        if not (math.isfinite(initial) and initial > 0):
            raise ArgumentError(f"`initial_sigma` must be a positive number; got {initial}.")
        self.raw = nn.Parameter(torch.tensor(math.log(initial)))

    def _materialise(self, shape: Shape) -> None:
        if tuple(self.raw.shape) != shape:
            self.raw.data = self.raw.data.expand(shape).clone()

    @property
    def parameter(self) -> nn.Parameter:
        return self.raw

    @property
    def log_scale(self) -> Tensor:
        return functional.lower_bound(self.raw, self.log_floor)


@final
class OptimalScale(Scale):
    """Analytic optimum: in training each batch's own statistic, which is not a density; in evaluation the fixed value.

    A batch is that of all processes in `world`, each of which has its share.

    `fix` sets it to its value over the training set; only then can anything be evaluated with it. In training mode the
    batch's value is used whether or not one was fixed before.
    """

    choice = "optimal"
    _log_scale: Tensor
    _fixed: Tensor

    def __init__(self, shared: Shared, floor: float | None, statistic: Statistic = ROOT_MEAN_SQUARE) -> None:
        super().__init__(shared, floor, statistic)
        self.register_buffer("_log_scale", torch.zeros(()))
        self.register_buffer("_fixed", torch.tensor(False))
        self.is_fixed = False  # the buffer's value without a look at the device's memory in every step
        self.is_held = False
        self.world = ALONE
        self.register_load_state_dict_post_hook(_read_fixed)  # type: ignore[no-untyped-call]

    def _materialise(self, shape: Shape) -> None:
        self._log_scale = self._log_scale.expand(shape).clone()

    @property
    def log_scale(self) -> Tensor:
        return self._log_scale

    def profile(self, x: Tensor, location: Tensor) -> Tensor:
        """Compute the `log scale` of a batch `[N, *data]`, raised to the floor, without gradient (envelope theorem)."""
        with torch.no_grad():
            scale = functional.optimal_scale(x, location, self.shared, self.statistic.power)
            return self._everywhere(scale, len(x)).clamp_min(self.floor).log()

    def profile_of_sse(self, sse: Tensor, data_dim: int) -> Tensor:
        """Compute one `log scale` of a Gaussian from the squared errors of the examples, of any shape."""
        with torch.no_grad():
            return self._everywhere((sse.mean() / data_dim).sqrt(), sse.numel()).clamp_min(self.floor).log()

    def _everywhere(self, scale: Tensor, count: int) -> Tensor:
        """The scale over the batch of all processes, from that over this one's share of so many examples."""
        if self.world.size == 1:
            return scale
        power = self.statistic.power
        wide = in_double(scale).pow(power).flatten() * count
        sums = self.world.sum(torch.cat([wide, wide.new_tensor([count])]))
        return (sums[:-1] / sums[-1]).pow(1.0 / power).reshape(scale.shape).to(scale)

    def fix(self, value: Tensor) -> None:
        """Fix the scale, `[]`, `[C]` or `[*data]`, in units of the data; raised to the floor.

        Raises:
            ShapeError: if the value has another shape.
            ArgumentError: if it is not finite.
        """
        if tuple(value.shape) != self.shape:
            raise ShapeError(f"the scale must be {self.shape} here; got {tuple(value.shape)}.")
        if not bool(torch.isfinite(value).all()):
            raise ArgumentError(
                "a scale must be finite to be fixed; got a NaN or an infinity. Look at the data and the decoder."
            )
        self._log_scale.copy_(value.clamp_min(self.floor).log())
        self._fixed.fill_(True)
        self.is_fixed = True

    def release(self) -> None:
        """Forget the fixed value: evaluation is refused until it is fixed again."""
        self._fixed.fill_(False)
        self.is_fixed = False

    @contextmanager
    def held(self, value: Tensor) -> Iterator[None]:
        """Use one value in training too, for a batch that comes in pieces."""
        self.fix(value)
        self.is_held = True
        try:
            yield
        finally:
            self.is_held = False
            self.release()

    def train(self, mode: bool = True) -> OptimalScale:
        """Set the mode; going back to training forgets the fixed value, which training makes untrue."""
        if mode and not self.training and self.is_fixed:
            self.release()
        return super().train(mode)


def _read_fixed(module: nn.Module, _keys: object) -> None:
    """Read the buffer after a state is loaded."""
    if isinstance(module, OptimalScale):
        module.is_fixed = bool(module._fixed)

"""The three sigmas of a Gaussian decoder: manual, learned, optimal."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from .. import functional
from .._types import SHARED, Shape, Shared
from ..errors import ArgumentError, ShapeError

CONTINUOUS_FLOOR = 1e-6
"""Smallest sigma for data without a quantisation step, in units of the data: a density of continuous data is unbounded
there, and float32 no longer tells 1 from 1 + 1e-7."""


class AbstractSigma(nn.Module, ABC):
    """A decoder's standard deviation, shared over all elements, per channel or per element.

    It is kept as `log sigma` with the shape `[]`, `[C]` or `[*data]`, and never falls below a floor that follows
    from the data: `step / sqrt(12)` when values are a `step` apart and dequantised, else 1e-6.

    Attributes:
        shared: over what one sigma is shared.
        floor: smallest value, in units of the data.
        data_shape: shape of an example, or `None` before the first one is seen.
    """

    def __init__(self, shared: Shared, floor: float | None) -> None:
        super().__init__()
        if shared not in SHARED:
            raise ArgumentError(f"`shared` must be one of {', '.join(SHARED)}; got {shared!r}.")
        if floor is not None and not (math.isfinite(floor) and floor > 0):
            raise ArgumentError(f"`floor` must be a positive number; got {floor}.")
        self.shared: Shared = shared
        self.floor = CONTINUOUS_FLOOR if floor is None else floor
        self._floor_is_given = floor is not None
        self.data_shape: Shape | None = None

    def bind(self, data_shape: Shape, step: float | None) -> None:
        """Take the shape of the data, and the floor that follows from their step unless one was given."""
        if self.data_shape not in (None, tuple(data_shape)):
            raise ShapeError(
                f"this sigma belongs to data of shape {self.data_shape}; got {tuple(data_shape)}. Build a new likelihood."
            )
        if step is not None and not self._floor_is_given:
            self.floor = functional.quantisation_floor(step)
        if self.data_shape is None:
            self.data_shape = tuple(data_shape)
            self._materialise(self.sigma_shape)

    @property
    def sigma_shape(self) -> Shape:
        """`[]`, `[C]` or `[*data]`."""
        if self.shared == "all":
            return ()
        if self.data_shape is None:
            raise ShapeError(
                "the shape of the data is not known yet; call `bind(data_shape, step)` or score data first."
            )
        return self.data_shape[:1] if self.shared == "channel" else self.data_shape

    def spread(self, log_sigma: Tensor) -> Tensor:
        """`log sigma` with every data dimension written out, so that it broadcasts over `[B, *data]`."""
        if self.shared == "channel" and self.data_shape is not None:
            return log_sigma.reshape(-1, *(1,) * (len(self.data_shape) - 1))
        return log_sigma

    @property
    def log_floor(self) -> float:
        """Natural logarithm of the floor."""
        return math.log(self.floor)

    def root_mean_square(self) -> float:
        """One number for all the fixed sigmas, in units of the data."""
        return float(self.log_sigma.detach().double().mul(2.0).exp().mean().sqrt())

    @abstractmethod
    def _materialise(self, shape: Shape) -> None:
        """Give the stored `log sigma` its shape."""

    @property
    @abstractmethod
    def is_fixed(self) -> bool:
        """Whether `log_sigma` is known without the data that are scored."""

    @property
    @abstractmethod
    def log_sigma(self) -> Tensor:
        """`log sigma`, `[]`, `[C]` or `[*data]`; raises if it is not fixed."""


@final
class ManualSigma(AbstractSigma):
    """A sigma chosen by hand, the same everywhere. It is not raised to the floor: it is what was asked for."""

    _log_sigma: Tensor

    def __init__(self, sigma: float | str, shared: Shared = "all") -> None:
        super().__init__(shared, None)
        if isinstance(sigma, str) or not (math.isfinite(sigma) and sigma > 0):
            raise ArgumentError(f"`sigma` must be a positive number, 'learned' or 'optimal'; got {sigma!r}.")
        self.register_buffer("_log_sigma", torch.tensor(math.log(sigma)))

    def _materialise(self, shape: Shape) -> None:
        self._log_sigma = self._log_sigma.expand(shape).clone()

    @property
    def is_fixed(self) -> bool:
        return True

    @property
    def log_sigma(self) -> Tensor:
        return self._log_sigma


@final
class LearnedSigma(AbstractSigma):
    """A parameter `log sigma`, descended like the others."""

    raw: nn.Parameter

    def __init__(self, initial: float, shared: Shared, floor: float | None) -> None:
        super().__init__(shared, floor)
        if not (math.isfinite(initial) and initial > 0):
            raise ArgumentError(f"`initial_sigma` must be a positive number; got {initial}.")
        self.raw = nn.Parameter(torch.tensor(math.log(initial)))

    def _materialise(self, shape: Shape) -> None:
        if tuple(self.raw.shape) != shape:
            self.raw.data = self.raw.data.expand(shape).clone()

    @property
    def is_fixed(self) -> bool:
        return True

    @property
    def log_sigma(self) -> Tensor:
        return functional.lower_bound(self.raw, self.log_floor)


@final
class OptimalSigma(AbstractSigma):
    """A profile, not a density, until it is frozen: the root mean square of each training batch's residuals.

    `freeze` fixes it to its value over the training set; only then can anything be evaluated with it.
    """

    _log_sigma: Tensor
    _frozen: Tensor

    def __init__(self, shared: Shared, floor: float | None) -> None:
        super().__init__(shared, floor)
        self.register_buffer("_log_sigma", torch.zeros(()))
        self.register_buffer("_frozen", torch.tensor(False))
        self._is_frozen = False  # the buffer's value without a look at the device's memory in every step
        self.register_load_state_dict_post_hook(_read_frozen)  # type: ignore[no-untyped-call]

    def _materialise(self, shape: Shape) -> None:
        self._log_sigma = self._log_sigma.expand(shape).clone()

    @property
    def is_fixed(self) -> bool:
        return self._is_frozen

    @property
    def log_sigma(self) -> Tensor:
        return self._log_sigma

    def profile(self, x: Tensor, mean: Tensor) -> Tensor:
        """`log sigma` at which the batch's NLL is least, raised to the floor; without gradient (envelope theorem)."""
        with torch.no_grad():
            return functional.optimal_sigma(x, mean, self.shared).clamp_min(self.floor).log()

    def profile_of_sse(self, sse: Tensor, data_dim: int) -> Tensor:
        """The same for one sigma, from the squared errors `[B]` of the batch."""
        with torch.no_grad():
            return (sse.mean() / data_dim).sqrt().clamp_min(self.floor).log()

    def freeze(self, sigma: Tensor) -> None:
        """Fix sigma, `[]`, `[C]` or `[*data]`, in units of the data; raised to the floor."""
        if tuple(sigma.shape) != self.sigma_shape:
            raise ShapeError(f"sigma must be {self.sigma_shape} here; got {tuple(sigma.shape)}.")
        if not bool(torch.isfinite(sigma).all()):
            raise ArgumentError(
                "sigma must be finite to be fixed; got a NaN or an infinity. Look at the data and the decoder."
            )
        self._log_sigma.copy_(sigma.clamp_min(self.floor).log())
        self._frozen.fill_(True)
        self._is_frozen = True

    def unfreeze(self) -> None:
        """Return to the batch's own sigma, for more training."""
        self._frozen.fill_(False)
        self._is_frozen = False


def _read_frozen(module: nn.Module, _keys: object) -> None:
    """After a state is loaded: is this sigma frozen?"""
    if isinstance(module, OptimalSigma):
        module._is_frozen = bool(module._frozen)

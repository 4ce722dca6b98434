"""Preparation: stored values become what a model sees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from .._types import DataSpec, PreparationName
from ..errors import DataError
from ._arrays import value_range
from ._source import Array, DataOptions, Source
from ._view import View

BELOW_ONE = 1.0 - 2.0**-24  # the largest float32 under 1: data live on [0, 1)
ROWS = 4096


@final
@dataclass(frozen=True)
class Preparation:
    """Map from stored values to what the model sees; stored with the run.

    Attributes:
        spec: shape, levels and scale of the result.
        shift: subtracted from float data, `[*data]`-broadcastable.
        scale: then divided by.
    """

    spec: DataSpec
    shift: Tensor
    scale: Tensor

    @classmethod
    def unchanged(cls, shape: tuple[int, ...]) -> Preparation:
        """Preparation of floats that are on the model's scale already.

        Examples:
            >>> from calibrae.data import Preparation
            >>> Preparation.unchanged((2,))(torch.tensor([[3.0, -1.0]]))
            tensor([[ 3., -1.]])
        """
        zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
        return cls(DataSpec(tuple(map(int, shape)), None, "identity", "the model's own scale"), zero, one)

    @property
    def takes_bytes(self) -> bool:
        """Tell whether random bytes will do: noise of 1/256 of a step, on data of at most 256 levels."""
        return self.spec.preparation == "dequantise" and self.spec.levels is not None and self.spec.levels <= 256

    @property
    def needs_noise(self) -> bool:
        """Tell whether a uniform number per element is needed."""
        return self.spec.preparation in ("dequantise", "binarise")

    def __call__(self, raw: Tensor, noise: Tensor | None = None) -> Tensor:
        """`[B, *data]` on the model's scale, float32.

        Args:
            raw: stored values.
            noise: uniform on [0, 1), the shape of `raw`, or random bytes that stand for the middles of 256 steps of it;
                needed to dequantise or binarise.
        """
        if self.spec.preparation == "integers":
            return raw.to(torch.float32)
        if self.spec.preparation == "identity" or noise is None or self.spec.levels is None:
            return (
                (raw.double() - self.shift) / self.scale
            ).float()  # in float64: a large offset must not eat the digits
        values = raw.to(torch.float32)
        if noise.dtype == torch.uint8 and self.spec.preparation == "dequantise":
            values.add_(noise, alpha=1.0 / 256)
            middle = torch.full((), 1.0 / 512 / self.spec.levels, device=values.device)
            return torch.add(middle, values, alpha=1.0 / self.spec.levels, out=values)  # in one pass
        if self.spec.preparation == "binarise":
            return (noise < values / (self.spec.levels - 1)).to(torch.float32)
        return ((values + noise) / self.spec.levels).clamp_max(BELOW_ONE)

    def restore(self, x: Tensor) -> Tensor:
        """Float data from the model's scale back to their own units; integer data stay on [0, 1]."""
        return (x * self.scale + self.shift).float()

    def in_units(self, x: Tensor) -> Array:
        """Bring examples from the model's scale to the units of the data: whole levels for integer data, float64 for others.

        Examples:
            >>> from calibrae import load_data
            >>> load_data("digits").preparation.in_units(torch.full((1,), 0.5))
            array([8], dtype=uint8)
        """
        spec, values = self.spec, x.detach().cpu().double()
        if spec.levels is None:
            restored: Array = (values * self.scale + self.shift).numpy()
            return restored
        if spec.preparation == "dequantise":
            values = (values * spec.levels).floor()
        elif spec.preparation == "binarise":
            values = values * (spec.levels - 1)
        whole = values.round().clamp(0, spec.levels - 1).numpy()
        return whole.astype(np.uint8 if spec.levels <= 256 else np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        spec = self.spec
        return {
            "data_shape": list(spec.data_shape),
            "levels": spec.levels,
            "preparation": spec.preparation,
            "scale_name": spec.scale,
            "log_scale": spec.log_scale,
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Preparation:
        """The inverse of `to_dict`."""
        spec = DataSpec(
            tuple(stored["data_shape"]),
            stored["levels"],
            stored["preparation"],
            stored["scale_name"],
            stored["log_scale"],
        )
        return cls(
            spec, torch.tensor(stored["shift"], dtype=torch.float64), torch.tensor(stored["scale"], dtype=torch.float64)
        )


def prepare(source: Source, train: View, options: DataOptions) -> Preparation:
    """Choose and fit the preparation on the training examples.

    Raises:
        DataError: for constant columns, or values outside the stated range.
    """
    shape = tuple(int(side) for side in train.array.shape[1:])
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    if source.levels is not None:
        if options.data_range is not None or options.standardise:
            raise DataError(
                f"{source.name} holds integers, which are dequantised on [0, 1]; got a data range or --standardise. Drop it, "
                "or convert the data to floats."
            )
        kind: PreparationName = "binarise" if options.binarise else "dequantise"
        scale = "{0, 1}" if options.binarise else "[0, 1]"
        return Preparation(DataSpec(shape, source.levels, kind, scale), zero, one)
    if options.binarise:
        raise DataError(
            f"{source.name}: only integer data can be binarised; got floats. Convert them to integers first."
        )
    standardise = len(shape) == 1 if options.standardise is None else options.standardise
    if standardise and options.data_range is None:
        return _standardised(source, train, shape)
    low, high = options.data_range or (0.0, 1.0)
    for part, array in source.parts.items():
        require_range(f"{source.name} ({part})", array, low, high)
    width = high - low
    size = math.prod(shape)
    name = "[0, 1]" if options.data_range is None else f"[0, 1] from [{low:g}, {high:g}]"
    spec = DataSpec(shape, None, "identity", name, log_scale=size * math.log(width))
    return Preparation(spec, torch.tensor(low, dtype=torch.float64), torch.tensor(width, dtype=torch.float64))


def require_range(name: str, array: Array, low: float, high: float) -> None:
    """Raise `DataError` unless float data lie on the stated range."""
    least, most = value_range(array)
    if least < low or most > high:
        raise DataError(
            f"{name}: float data must lie on the stated range [{low:g}, {high:g}]; got values from {least:g} to {most:g}. "
            "Pass --data-range LO,HI (in Python `data_range=`), or --standardise."
        )


def _standardised(source: Source, train: View, shape: tuple[int, ...]) -> Preparation:
    mean, std = _moments(train)
    constant = np.flatnonzero(~(std > 1e-12 * np.maximum(1.0, np.abs(mean))))
    if len(constant):
        names = [source.columns[i] if source.columns else f"element {i}" for i in constant[:5]]
        raise DataError(
            f"{source.name}: every column must vary; got {len(constant)} constant ones: {', '.join(names)}"
            f"{', ...' if len(constant) > 5 else ''}. A constant has no density: drop those columns."
        )
    spec = DataSpec(shape, None, "identity", "columns standardised on the training set", float(np.log(std).sum()))
    as_tensor = [torch.from_numpy(v.reshape(shape)) for v in (mean, std)]
    return Preparation(spec, *as_tensor)


def _moments(view: View) -> tuple[Array, Array]:
    """Mean and standard deviation of each element in float64, in two passes over chunks."""

    def chunks() -> Iterator[Tensor]:
        return (view.slice(i, min(i + ROWS, len(view))).flatten(1).double() for i in range(0, len(view), ROWS))

    mean = torch.stack([chunk.sum(0) for chunk in chunks()]).sum(0) / len(view)
    variance = torch.stack([(chunk - mean).square().sum(0) for chunk in chunks()]).sum(0) / len(view)
    return mean.numpy(), variance.sqrt().numpy()

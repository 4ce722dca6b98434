"""Preparation: stored values become what a model sees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from .._plain import record_of
from .._types import DataSpec, PreparationName
from ..errors import ArgumentError, DataError, first_line
from ._lattice import tidy
from ._scan import value_range
from ._schema import Schema, levels_in_units
from ._source import Array, DataOptions, Source, listed
from ._view import View
from .tables import fit_columns, in_table_units

BELOW_ONE = 1.0 - 2.0**-24  # the largest float32 under 1: data live on [0, 1)
ROWS = 4096
MOST_FITTED = 200_000  # rows of a table on which the models of its columns are fitted
ROUNDING = 2.0**-52  # relative spacing of float64: a spread below a few of it is none


@final
@dataclass(frozen=True)
class Preparation:
    """Map from stored values to what the model sees; stored with the run.

    Attributes:
        spec: shape, levels and scale of the result.
        shift: subtracted from the values, `[*data]`-broadcastable.
        scale: then divided by.
        step: width of the uniform noise that is added before, `[*data]`-broadcastable; 0 where there is none.
        schema: meaning of the stored values; `None` for tensors that are on the model's scale already.
    """

    spec: DataSpec
    shift: Tensor
    scale: Tensor
    step: Tensor
    schema: Schema | None = None

    @classmethod
    def unchanged(cls, shape: tuple[int, ...]) -> Preparation:
        """Preparation of floats that are on the model's scale already.

        Examples:
            >>> from calibrae.data import Preparation
            >>> Preparation.unchanged((2,))(torch.tensor([[3.0, -1.0]]))
            tensor([[ 3., -1.]])
        """
        spec = DataSpec(tuple(map(int, shape)), None, "identity", "the model's own scale")
        return cls(spec, _number(0.0), _number(1.0), _number(0.0))

    @property
    def takes_bytes(self) -> bool:
        """Tell whether random bytes will do: noise of 1/256 of a step, on data of at most 256 levels."""
        return self.spec.preparation == "dequantise" and self.spec.levels is not None and self.spec.levels <= 256

    @property
    def needs_noise(self) -> bool:
        """Tell whether a uniform number per element is needed."""
        return self.spec.preparation in ("dequantise", "binarise") or (
            self.spec.preparation == "identity" and bool((self.step > 0).any())
        )

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
            values = raw.double()  # in float64: a large offset must not eat the digits
            if noise is not None:
                values = values + noise.double() * self._width(values)
            return ((values - self.shift) / self.scale).float()
        values = raw.to(torch.float32)
        if noise.dtype == torch.uint8 and self.spec.preparation == "dequantise":
            values.add_(noise, alpha=1.0 / 256)
            middle = torch.full((), 1.0 / 512 / self.spec.levels, device=values.device)
            return torch.add(middle, values, alpha=1.0 / self.spec.levels, out=values)  # in one pass
        if self.spec.preparation == "binarise":
            return (noise < values / (self.spec.levels - 1)).to(torch.float32)
        if self.spec.levels > 256:  # the sum needs more digits than float32 has
            return ((raw.double() + noise) / self.spec.levels).float().clamp_max(BELOW_ONE)
        return ((values + noise) / self.spec.levels).clamp_max(BELOW_ONE)

    def _width(self, values: Tensor) -> Tensor:
        """Width of the noise of each value: none for one that many rows share."""
        if not any(column.head == "hurdle" for column in self.spec.columns):
            return self.step
        is_hurdle = torch.tensor([column.head == "hurdle" for column in self.spec.columns])
        return torch.where(is_hurdle & (values == self.shift), 0.0, self.step)

    def restore(self, x: Tensor) -> Tensor:
        """Examples from the model's scale in the units of the data, for pictures of them: levels stay on [0, 1].

        In float64 where the units have an offset, whose digits float32 would not hold.
        """
        if self.spec.levels is not None:
            return x
        return x.double() * self.scale + self.shift - self.step / 2  # the mean of the noise that was added

    def in_units(self, x: Tensor) -> Array:
        """Bring examples from the model's scale to the units of the data, in float64; whole numbers as integers.

        Values of a lattice are rounded to it. Integer data come in the type in which they came.

        Examples:
            >>> from calibrae import load_data
            >>> load_data("digits").preparation.in_units(torch.full((1, 1, 8, 8), 0.5))[0, 0, 0, :2]
            array([8, 8], dtype=uint8)
        """
        spec, values = self.spec, x.detach().cpu().double()
        if spec.columns:
            assert self.schema is not None
            return in_table_units(self.schema, (values * self.scale + self.shift).numpy())
        if spec.levels is None:
            return self._on_steps(values * self.scale + self.shift)
        if spec.preparation == "dequantise":
            values = (values * spec.levels).floor()
        elif spec.preparation == "binarise":
            values = values * (spec.levels - 1)
        return self._of_levels(values.round().clamp(0, spec.levels - 1).numpy())

    def _on_steps(self, values: Tensor) -> Array:
        """Continuous values as they are, others rounded down to the step that the noise was added to."""
        restored: Array = values.numpy()
        if self.schema is None or self.schema.layout != "table":
            return restored
        for i, column in enumerate(self.schema.fields):
            here = (slice(None), i)
            if column.step:
                steps = np.floor((restored[here] - column.low) / column.step)
                restored[here] = tidy(steps * column.step + column.low)
            elif column.kind == "whole":
                restored[here] = np.rint(restored[here])
        return restored.astype(np.int64) if self.schema.is_whole else restored

    def _of_levels(self, levels: Array) -> Array:
        """Levels `0, 1, ...` as the values that they stand for."""
        columns = () if self.schema is None or self.schema.layout == "table" else self.schema.fields
        if not columns or all(column.kind == "whole" and column.low == 0.0 for column in columns):
            return levels.astype(np.uint8 if (self.spec.levels or 0) <= 256 else np.int64)
        assert self.schema is not None
        return levels_in_units(levels, self.schema)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        spec = self.spec
        return {
            "data_shape": list(spec.data_shape),
            "levels": spec.levels,
            "preparation": spec.preparation,
            "scale_name": spec.scale,
            "log_scale": spec.log_scale,
            "log_cells": spec.log_cells,
            "least_step": spec.least_step,
            "columns": [asdict(column) for column in spec.columns],
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
            "step": self.step.tolist(),
            "schema": None if self.schema is None else self.schema.to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Preparation:
        """The inverse of `to_dict`.

        Raises:
            ArgumentError: if an entry is missing or of another type.
        """
        names = {"scale_name": "scale"} | {
            n: n for n in ("data_shape", "levels", "preparation", "log_scale", "log_cells", "least_step")
        }
        try:
            known = {names[name]: stored[name] for name in names}
            spec = record_of(DataSpec, known | {"columns": stored.get("columns", [])})  # older runs have none
            parts = [torch.tensor(stored[name], dtype=torch.float64) for name in ("shift", "scale", "step")]
            for part in parts:
                part.expand(spec.data_shape)
            schema = None if stored["schema"] is None else Schema.from_dict(stored["schema"])
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ArgumentError(f"this is no description of prepared data: {first_line(error)}.") from error
        shift, scale, step = parts
        return cls(spec, shift, scale, step, schema)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def prepare(source: Source, train: View, options: DataOptions) -> Preparation:
    """Choose and fit the preparation on the training examples.

    Raises:
        DataError: for constant columns, or values outside the stated range.
    """
    shape, schema = tuple(int(side) for side in train.array.shape[1:]), source.schema
    if schema.is_mixed:
        return _of_columns(source, train)
    if options.binarise and schema.levels is None:
        raise DataError(
            f"{source.name}: only integer data can be binarised; got floats. Convert them to integers first."
        )
    by_column = schema.layout == "table" if options.standardise is None else options.standardise
    if schema.levels is not None and (options.binarise or schema.layout != "table" or (options.standardise is False)):
        kind: PreparationName = "binarise" if options.binarise else "dequantise"
        scale = "{0, 1}" if options.binarise else "[0, 1]"
        spec = DataSpec(shape, schema.levels, kind, scale)
        return Preparation(spec, _number(0.0), _number(1.0), _number(0.0), schema)
    if by_column and options.data_range is None:
        return _standardised(source, train.spaced(train.sample), shape)
    return _ranged(source, shape, options)


def _ranged(source: Source, shape: tuple[int, ...], options: DataOptions) -> Preparation:
    low, high = options.data_range or (0.0, 1.0)
    for part, array in source.parts.items():
        require_on_range(f"{source.name} ({part})", array, low, high)
    width = high - low
    size = math.prod(shape)
    name = "[0, 1]" if options.data_range is None else f"[0, 1] from [{low:g}, {high:g}]"
    steps = [column.step / width for column in source.schema.fields]
    least = min(steps) if all(steps) else None  # a lattice that is not dequantised bounds sigma from below
    spec = DataSpec(shape, None, "identity", name, log_scale=size * math.log(width), least_step=least)
    return Preparation(spec, _number(low), _number(width), _number(0.0), source.schema)


def require_on_range(name: str, array: Array, low: float, high: float) -> None:
    """Raise `DataError` unless float data lie on the stated range."""
    least, most = value_range(array)
    if least < low or most > high:
        raise DataError(
            f"{name}: float data must lie on the stated range [{low:g}, {high:g}]; got values from {least:g} to {most:g}. "
            "Pass --data-range LO,HI (in Python `data_range=`), or --standardise."
        )


def _of_columns(source: Source, train: View) -> Preparation:
    """Each column on the scale of its own model, with uniform noise where its numbers have a step."""
    rows = train.spaced(MOST_FITTED).slice(0, min(MOST_FITTED, len(train))).double().numpy()
    fitted = fit_columns(source.name, source.schema.fields, rows)
    shape = (len(fitted),)
    columns = tuple(one.model for one in fitted)
    spec = DataSpec(shape, None, "identity", "the table's own scale", columns=columns)
    discrete = [column.head in ("categorical", "bernoulli", "negative-binomial", "poisson") for column in columns]
    shift, step = ([getattr(one, name) for one in fitted] for name in ("shift", "step"))
    scale = [1.0 if is_code else one.model.scale for is_code, one in zip(discrete, fitted, strict=True)]
    shifts, scales, steps = (torch.tensor(values, dtype=torch.float64) for values in (shift, scale, step))
    return Preparation(spec, shifts, scales, steps, source.schema)


def _standardised(source: Source, train: View, shape: tuple[int, ...]) -> Preparation:
    """Each element to mean zero and variance one, with uniform noise as wide as its step."""
    mean, std = _moments(train)
    huge = np.flatnonzero(~np.isfinite(std))
    if len(huge):
        names = [source.columns[i] if source.columns else f"element {i}" for i in huge]
        raise DataError(
            f"{source.name}: values must be such that their squares are numbers, below 1e150; got larger ones in {listed(names)}. Change their unit."
        )
    step = np.zeros_like(mean)
    if source.schema.layout == "table":
        step = np.array([column.step for column in source.schema.fields])
    mean, std = mean + step / 2, np.sqrt(std**2 + step**2 / 12)
    constant = np.flatnonzero(~(std > 8 * ROUNDING * np.abs(mean)))
    if len(constant):
        names = [source.columns[i] if source.columns else f"element {i}" for i in constant]
        raise DataError(
            f"{source.name}: every column must vary; got {len(constant)} constant ones: {listed(names)}. A constant has no density: "
            "drop those columns."
        )
    log_cells = float(np.log(std / step).sum()) if (step > 0).all() else None
    name = "columns standardised on the training set"
    spec = DataSpec(shape, None, "identity", name, float(np.log(std).sum()), log_cells)
    shift, scale, width = (torch.from_numpy(v.reshape(shape)) for v in (mean, std, step))
    return Preparation(spec, shift, scale, width, source.schema)


def _moments(view: View) -> tuple[Array, Array]:
    """Mean and standard deviation of each element in float64, in two passes over chunks."""

    def chunks() -> Iterator[Tensor]:
        return (view.slice(i, min(i + ROWS, len(view))).flatten(1).double() for i in range(0, len(view), ROWS))

    mean = torch.stack([chunk.sum(0) for chunk in chunks()]).sum(0) / len(view)
    variance = torch.stack([(chunk - mean).square().sum(0) for chunk in chunks()]).sum(0) / len(view)
    return mean.numpy(), variance.sqrt().numpy()

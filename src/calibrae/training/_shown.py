"""A model's first look at its data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .._types import World
from ..data import Data
from ..errors import DataError
from ..models import VAE, scale_over
from ._pieces import TRAIN_STREAM
from ._validation import Validator

STATISTICS_EXAMPLES = 10_000  # of the training set, for the mean image and the scale
FIRST_SCALE_EXAMPLES = 1024  # for the start of a learned scale


def show_data(model: VAE, data: Data, validator: Validator, world: World) -> None:
    """Show the model the data: shape, step, mean, deviation; and start a learned scale at the decoder's residuals.

    A first scale that is far off would scale every gradient of the first steps, which Adam remembers for thousands.
    """
    model.initialise_from_data(data.spec, *_statistics(data, validator, world))
    scale = model.likelihood.scale
    if scale is not None and scale.parameter is not None:
        first = data.batches("train", validator.eval_batch, validator.seed, FIRST_SCALE_EXAMPLES, world)
        start = scale_over(model, scale, first, validator.noise(TRAIN_STREAM).rows, world)
        scale.parameter.data.copy_(start.clamp_min(scale.floor).log())


def _statistics(data: Data, validator: Validator, world: World) -> tuple[Tensor, Tensor]:
    """Mean of each element and their root mean square distance from it, over (some of) the training set."""

    def batches() -> Iterator[Tensor]:
        found = data.batches("train", validator.eval_batch, validator.seed, STATISTICS_EXAMPLES, world)
        return (batch.x.double() for batch in found)

    count, total = (torch.zeros(data.spec.data_shape, dtype=torch.float64) for _ in range(2))
    for x in batches():
        count += (~x.isnan()).sum(0)  # of a table cells may be missing
        total += x.nansum(0)
    n = world.sum(count)
    mean = world.sum(total) / n
    square = torch.zeros((), dtype=torch.float64)
    for x in batches():
        square += (x - mean).square().nansum()
    square = world.sum(square)
    if not float(square) > 0:
        raise DataError(f"{data.source.name}: all training examples are the same, so there is nothing to model.")
    return mean.float(), (square / n.sum()).sqrt().float()

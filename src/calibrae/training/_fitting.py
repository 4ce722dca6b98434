"""Settings as the data and the processes allow them."""

from __future__ import annotations

from dataclasses import replace

from .._types import World
from ..data import Data
from ..errors import ArgumentError
from ._progress import AbstractReporter
from ._settings import TrainSettings


def fitting(settings: TrainSettings, data: Data, world: World, reporter: AbstractReporter) -> TrainSettings:
    """The settings, with a batch no larger than the training set.

    Raises:
        ArgumentError: if a process would have no example of a batch, or of the validation split.
    """
    count, validation = len(data.view("train")), len(data.view("validation"))
    if settings.batch_size > count:
        reporter.say(f"batch size {settings.batch_size} exceeds the {count} training examples: using {count}")
        settings = replace(settings, batch_size=count, micro_batches=min(settings.micro_batches, count))
    if min(settings.batch_size // settings.micro_batches, validation) < world.size:
        raise ArgumentError(
            f"each process must have an example of each piece of a batch, and of the validation split; got {world.size} processes, a batch "
            f"size of {settings.batch_size} in {settings.micro_batches} pieces, and {validation} validation examples. Start fewer processes."
        )
    return settings

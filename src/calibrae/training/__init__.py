"""Fit, checkpoint, resume, calibrate."""

from ._fit import Trainer as Trainer
from ._hardware import find_device as find_device
from ._interrupt import interruptible as interruptible
from ._optimiser import SigmaDescent as SigmaDescent
from ._progress import AbstractReporter as AbstractReporter
from ._progress import Bar as Bar
from ._progress import Silent as Silent
from ._settings import TrainSettings as TrainSettings

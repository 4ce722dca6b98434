"""The training loop, its steps, checkpoints and devices."""

from ._budget import Budget as Budget
from ._checkpoint import Keeper as Keeper
from ._checkpoint import TrainState as TrainState
from ._interrupt import OUT_OF_TIME as OUT_OF_TIME
from ._interrupt import Interrupt as Interrupt
from ._interrupt import Stopped as Stopped
from ._interrupt import interruptible as interruptible
from ._loss import Piece as Piece
from ._loss import PieceLoss as PieceLoss
from ._optimiser import ScaleDescent as ScaleDescent
from ._optimiser import build_optimisers as build_optimisers
from ._optimiser import trainable_parameters as trainable_parameters
from ._pieces import Pieces as Pieces
from ._progress import AbstractReporter as AbstractReporter
from ._progress import Bar as Bar
from ._progress import Silent as Silent
from ._settings import FREE_ON_RESUME as FREE_ON_RESUME
from ._settings import TrainSettings as TrainSettings
from ._step import EagerStep as EagerStep
from ._step import Step as Step
from ._trainer import Trainer as Trainer
from ._world import in_turn as in_turn
from ._world import join_world as join_world
from ._world import local_device as local_device
from ._world import meet as meet
from ._world import was_restarted as was_restarted

"""What may come up between two steps, as all processes see it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import final

import torch

from .._types import World

KNOWN = (128 + signal.SIGINT, 128 + signal.SIGTERM)


@final
@dataclass(frozen=True, slots=True)
class Halt:
    """Reasons to save or to stop.

    Attributes:
        code: exit code of a signal that came; 0 if none did.
        is_late: whether the minutes of this part of the run are over.
        is_due: whether the state is to be saved within the epoch.
        is_cheap: whether saving costs little now.
    """

    code: int = 0
    is_late: bool = False
    is_due: bool = False
    is_cheap: bool = True

    @property
    def is_over(self) -> bool:
        """Tell whether this part of the run ends here."""
        return self.code != 0 or self.is_late


def agreed(own: Halt, world: World) -> Halt:
    """The same reasons for all processes: a signal to any of them counts, the clock is the first one's."""
    if world.size == 1:
        return own
    clock = [own.is_late, own.is_due, own.is_cheap] if world.is_first else [False] * 3
    signals = [own.code == code for code in KNOWN]
    values = world.sum(torch.tensor([*signals, own.code not in (0, *KNOWN), *clock], dtype=torch.float32)).tolist()
    code = next((known for known, value in zip((*KNOWN, KNOWN[0]), values, strict=False) if value), 0)
    return Halt(code, bool(values[3]), bool(values[4]), bool(values[5]))

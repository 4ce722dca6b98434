"""When the state of training is saved: often enough that little is lost, seldom enough that little time is."""

from __future__ import annotations

import re
import time
from typing import final

from ..errors import ArgumentError

SHARE = 0.02  # of the training time that saving may take
UNITS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_interval(text: str | int) -> tuple[int | None, float | None]:
    """Read an interval as a number of steps or of seconds; the other is `None`.

    Raises:
        ArgumentError: if it is neither.

    Examples:
        >>> parse_interval(500), parse_interval("5min"), parse_interval("90s")
        ((500, None), (None, 300.0), (None, 90.0))
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(text))
    number, unit = (float(found[1]), found[2]) if found else (0.0, "")
    if unit in UNITS and number > 0:
        return None, number * UNITS[unit]
    if unit in ("", "steps") and number >= 1 and number == int(number):
        return int(number), None
    raise ArgumentError(
        f"`save_every` must be a number of steps, such as 1000, or a time, such as 90s, 5min or 1h; got {text}."
    )


@final
class SaveClock:
    """Tells when to save.

    Within an epoch the state is saved after each interval; at the end of an epoch as well, unless the saves would then take more
    than 2 % of the time.

    Args:
        every: interval, in steps or in seconds.
    """

    def __init__(self, every: str | int) -> None:
        self._steps, self._seconds = parse_interval(every)
        self._step = 0
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self.total = 0.0

    def is_due(self, step: int) -> bool:
        """Tell whether the interval is over after a step."""
        if self._steps is not None:
            return step - self._step >= self._steps
        return time.monotonic() - self._saved_at >= (self._seconds or 0.0)

    def is_cheap(self) -> bool:
        """Tell whether so much time has gone by since the last save that another costs little."""
        return SHARE * (time.monotonic() - self._saved_at) >= self._cost

    def saved(self, step: int, seconds: float) -> None:
        """Note that the state after a step was saved, which took so many seconds."""
        self._step, self._cost = step, seconds
        self.total += seconds
        self._saved_at = time.monotonic()

"""Ctrl-C and the scheduler's signal to end, at a time of our choosing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)  # the last is Windows' own
OUT_OF_TIME = 75  # "try again later" of sysexits.h: what `--max-minutes` ends a command with


@final
class Stopped(KeyboardInterrupt):
    """A run that was stopped, and can go on.

    Args:
        message: where it stands, as the user was told; empty if nothing was said yet.
        code: exit code of a command that it ends: 130 after Ctrl-C, 143 after SIGTERM, 75 when its time was over.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@final
class Interrupt:
    """Tells whether a signal has asked the process to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def is_set(self) -> bool:
        """Tell whether one has come."""
        return self.signal is not None

    @property
    def code(self) -> int:
        """Exit code that tells a shell or a scheduler which; 0 if none has come."""
        return 0 if self.signal is None else 128 + self.signal


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """A record that the first Ctrl-C or SIGTERM sets, so that a step is never cut in two; the second one interrupts at once.

    An exception, in its place, would come anywhere: in a callback of the garbage collector, say, where Python drops it.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if interrupt.is_set():
            raise Stopped("", 128 + number)
        interrupt.signal = number

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

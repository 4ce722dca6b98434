"""Sight of long work: which stage it is in, and how much of that is done. Whoever works says it; whoever watches draws it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

# told a stage, how much of it is done, and how much there is, where that is known
Look: TypeAlias = Callable[[str, int, int | None], None]

READING = "reading"
_LOOK: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def watched(look: Look | None) -> Iterator[None]:
    """Have somebody look on while this context lasts.

    Args:
        look: called with a stage, how much of it is done and how much there is (`None` where nobody knows). What it raises ends the
            work, so it can hold a limit of time.

    Examples:
        >>> import calibrae as cb
        >>> found = []
        >>> with cb.watched(lambda stage, done, total: found.append((stage, done, total))):
        ...     data = cb.load_data([[1.5, 2.5], [3.25, 4.0], [0.5, 1.25], [2.0, 0.75]] * 5)
        >>> found[-1]
        ('reading', 20, 20)
    """
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)


def is_watched() -> bool:
    """Tell whether somebody looks on."""
    return _LOOK.get() is not None


def seen(stage: str, done: int, total: int | None) -> None:
    """Say how much of a stage is done."""
    look = _LOOK.get()
    if look is not None:
        look(stage, done, total)


def counter(stage: str, total: int) -> Callable[[int], None]:
    """A function that is told of each further piece of a stage."""
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        seen(stage, done, total)

    return step

"""Sight of a long reading: how many examples have been read so far, and of how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Look: TypeAlias = Callable[[int, int | None], None]  # examples read, and how many there are, where that is known

_LOOK: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def watched(look: Look | None) -> Iterator[None]:
    """Have somebody look on while data are read in this context.

    Examples:
        >>> from calibrae.data import open_source
        >>> found = []
        >>> with watched(lambda done, total: found.append((done, total))):
        ...     source = open_source([[1.5, 2.5], [3.25, 4.0]])
        >>> found
        [(2, 2)]
    """
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)


def seen(count: int, total: int | None) -> None:
    """Say how many examples have been read."""
    look = _LOOK.get()
    if look is not None:
        look(count, total)

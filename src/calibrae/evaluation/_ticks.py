"""Messages to progress bars."""

from __future__ import annotations

from collections.abc import Callable

Tick = Callable[[str, int, int], None]


def ticker(tick: Tick | None, stage: str, total: int) -> Callable[[int], None] | None:
    """Counts what is done of a stage, for a progress bar."""
    if tick is None:
        return None
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        tick(stage, done, total)

    return step

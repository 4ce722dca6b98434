"""A bar while data are read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..data import watched


@contextmanager
def reading_bar(*, show: bool) -> Iterator[None]:
    """A bar on a terminal's standard error while data are read into the cache, with the time that is left; nothing elsewhere."""
    if not show or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def look(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        with watched(look):
            yield

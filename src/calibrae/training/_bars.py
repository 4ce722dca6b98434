"""Bars that show how far work is: on a terminal, in a notebook, nowhere else."""

from __future__ import annotations

import html
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, final

from .._launched import is_first
from .._progress import is_watched, watched

if TYPE_CHECKING:
    from rich.progress import TaskID

QUICK = 1.5  # seconds of work that need no bar
REDRAWN = 0.2  # seconds between two pictures of a notebook's bar


class AbstractBar(ABC):
    """A bar that is drawn until it is closed."""

    @abstractmethod
    def show(self, stage: str, done: int, total: int | None, text: str = "") -> None:
        """Show how much of a stage is done, with a few words beside it."""

    @abstractmethod
    def write(self, text: str) -> None:
        """Write a line that stays."""

    @abstractmethod
    def close(self) -> None:
        """Take the bar away; what was written stays."""


@final
class TerminalBar(AbstractBar):
    """A bar on standard error, 80 characters wide at most, with the time that is left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        stage, text = TextColumn("{task.fields[stage]}"), TextColumn("{task.description}")
        columns = (
            stage,
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(compact=True),
            text,
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def show(self, stage: str, done: int, total: int | None, text: str = "") -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(text, total=total, completed=done, stage=stage)
        self._progress.update(self._tasks[stage], completed=done, total=total, description=text)

    def write(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        self._progress.stop()


@final
class NotebookBar(AbstractBar):
    """A bar under the cell of a notebook, drawn again in its place; needs no widgets, and stays right in a saved notebook."""

    def __init__(self) -> None:
        from IPython.display import display

        self._lines: list[str] = []
        self._stage, self._text = "", ""
        self._done, self._total = 0, 0
        self._began, self._first, self._drawn = time.monotonic(), 0, 0.0
        self._handle: Any = display(self._page(bar=False), raw=True, display_id=True)

    def show(self, stage: str, done: int, total: int | None, text: str = "") -> None:
        if stage != self._stage:
            self._stage, self._began, self._first = stage, time.monotonic(), done
        self._done, self._total, self._text = done, total or 0, text
        if time.monotonic() - self._drawn >= REDRAWN:
            self._draw(bar=True)

    def write(self, text: str) -> None:
        self._lines.append(text)
        self._draw(bar=bool(self._total))

    def close(self) -> None:
        self._draw(bar=False)

    def _draw(self, *, bar: bool) -> None:
        self._drawn = time.monotonic()
        self._handle.update(self._page(bar=bar), raw=True)

    def _left(self) -> str:
        """Time that is left, as far as the pace so far tells."""
        done, seconds = self._done - self._first, time.monotonic() - self._began
        if done <= 0 or not self._total:
            return ""
        left = round(seconds / done * max(0, self._total - self._done))
        return f"{left // 60}:{left % 60:02d} left"

    def _page(self, *, bar: bool) -> dict[str, str]:
        """The picture, as a page and as plain text."""
        said = "\n".join(self._lines)
        share = f"{self._done / self._total:.0%}" if self._total else f"{self._done:,}"
        words = "  ".join(word for word in (self._stage, share, self._left(), self._text) if word) if bar else ""
        value = f" value='{self._done}' max='{self._total}'" if self._total else ""
        drawn = f"<div><progress{value} style='width:12em'></progress> {html.escape(words)}</div>" if bar else ""
        listed = f"<pre style='max-height:24em;overflow:auto'>{html.escape(said)}</pre>" if said else ""
        return {
            "text/html": f"{drawn}{listed}" or "<div></div>",
            "text/plain": "\n".join(x for x in (words, said) if x),
        }


def is_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def open_bar() -> AbstractBar | None:
    """A bar for whoever sits before this process: none in a log file, a thread, another process than the first, or without rich."""
    if threading.current_thread() is not threading.main_thread() or not is_first():
        return None
    if is_notebook():
        return NotebookBar()
    if sys.stderr is None or not sys.stderr.isatty():  # a program with windows has no standard error
        return None
    return TerminalBar() if find_spec("rich") is not None else None


@contextmanager
def progress_bar(*, show: bool = True) -> Iterator[None]:
    """Draw a bar of what is seen while this context lasts, once that has taken a moment; where somebody watches already, leave it to them.

    Args:
        show: `False` to draw nothing.

    Examples:
        >>> from calibrae._progress import seen
        >>> from calibrae.training import progress_bar
        >>> with progress_bar():
        ...     seen("reading", 1, 10)
    """
    if not show or is_watched():
        yield
        return
    began, opened = time.monotonic(), list[AbstractBar | None]()

    def look(stage: str, done: int, total: int | None) -> None:
        if not opened and time.monotonic() - began >= QUICK:
            opened.append(open_bar())
        for bar in opened:
            if bar is not None:
                bar.show(stage, done, total)

    try:
        with watched(look):
            yield
    finally:
        for bar in opened:
            if bar is not None:
                bar.close()

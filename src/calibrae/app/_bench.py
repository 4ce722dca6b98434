"""What the pages of the workbench share: the runs, the queue, and how answers and errors reach the browser."""

from __future__ import annotations

import html
import logging
import math
import os
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, final

import gradio as gr
from PIL import Image

from .._optional import missing_extra
from ..data import NAMES
from ..errors import ArgumentError, CalibraeError, first_line
from ..workflows import UPLOADS, Queue, Shelf, keep_uploads
from ._limited import require_readable

P = ParamSpec("P")
R = TypeVar("R")
SENT = "your files"  # several that were sent together
MINUTES = 5.0  # that one answer may take
PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # for the page alone
HEAVY: dict[str, Any] = PRIVATE | {
    "concurrency_id": "heavy",
    "concurrency_limit": 1,
}  # one at a time, for all who are connected
LIGHT: dict[str, Any] = PRIVATE | {"concurrency_id": "light", "concurrency_limit": 4, "show_progress": "minimal"}
QUIET: dict[str, Any] = PRIVATE | {"concurrency_id": "quiet", "concurrency_limit": 8, "show_progress": "hidden"}
LOG = logging.getLogger("calibrae.app")


@final
@dataclass(frozen=True)
class Bench:
    """Things that all pages of a workbench share. There is no current model: each answer names its run.

    Attributes:
        shelf: the runs.
        queue: the trainings.
        may_audit: whether losses of the users' own may be run.
        is_local: whether it listens on this machine alone, so that its users may name any of their files.
    """

    shelf: Shelf
    queue: Queue
    may_audit: bool = False
    is_local: bool = True

    @classmethod
    def of(cls, folder: str | Path, queue: Queue, *, may_audit: bool = False, is_local: bool = True) -> Bench:
        """A bench for the runs of a folder."""
        return cls(Shelf(folder), queue, may_audit, is_local)

    @property
    def folder(self) -> Path:
        """Folder of the runs."""
        return self.shelf.folder

    def require_allowed(self, place: str | None) -> None:
        """Raise `ArgumentError` for a path that the users may not read."""
        if place is not None and place not in NAMES and not self.is_local and not _is_below(place, self.folder):
            raise ArgumentError(
                f"data must be a known name, sent files, or lie below {self.folder}, as others can reach this workbench; got {place}."
            )

    def data_place(
        self,
        named: str | None,
        files: list[str] | None,
        options: Mapping[str, Any] | None = None,
        run: Path | None = None,
    ) -> str:
        """Name or path of data: of files that were sent, which are tried first in a process with limits, or as it was typed.

        Args:
            named: name or path that was typed.
            files: files that were sent.
            options: options of reading, by name.
            run: run whose new data they are.

        Raises:
            ArgumentError: if there is neither, or a path that its users may not read.
        """
        if files:
            place = str(keep_uploads(files, self.folder))
            require_readable(place, options or {}, run)
            return place
        name = (named or "").strip()
        if not name or name.startswith("-"):
            raise ArgumentError("name the data, or choose files. A name is digits, mnist, ... or a folder or file.")
        self.require_allowed(name)
        return name

    def noted(self, notes: Iterable[str]) -> list[str]:
        """Notes as lines of a list."""
        return [f"* note: {shown(self.unplaced(note))}" for note in notes]

    def unplaced(self, text: str) -> str:
        """Text in which files that were sent have their names, without the folder where they are kept."""
        kept = re.escape(f"{self.folder / UPLOADS}{os.sep}") + r"\w+"
        return re.sub(kept, SENT, re.sub(kept + re.escape(os.sep), "", text))


def _is_below(name: str, folder: Path) -> bool:
    try:
        return Path(name).expanduser().resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        return False


def answered(function: Callable[P, R]) -> Callable[P, R]:
    """Let an event's errors reach the browser as one message that says what to do."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except gr.Error:
            raise
        except ModuleNotFoundError as error:
            raise _told(args, str(missing_extra(error))) from error
        except CalibraeError as error:
            raise _told(args, str(error)) from error
        except OSError as error:
            where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise _told(args, f"{where}. Check the path and its rights.") from error
        except Exception as error:
            LOG.exception("an answer failed")
            raise _told(
                args, f"this failed in a way that nobody foresaw: {first_line(error)}. The log says more."
            ) from error

    return called


def _told(args: tuple[Any, ...], message: str) -> gr.Error:
    """An error of one line for the browser, without the places where sent files are kept."""
    bench = getattr(args[0], "bench", None) if args else None
    message = message if bench is None else bench.unplaced(message)
    return gr.Error(html.escape(" ".join(message.split())), duration=20, title="Not possible", print_exception=False)


@final
class Deadline:
    """Ends work that takes too long, between two of its steps.

    Args:
        minutes: time that it may take.
        say: told how far the work is, in [0, 1], and at which stage.
    """

    def __init__(self, say: Any = None, minutes: float = MINUTES) -> None:
        self.until, self.minutes, self.say = time.monotonic() + 60.0 * minutes, minutes, say

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """One step is done.

        Raises:
            ArgumentError: if the time is over.
        """
        if time.monotonic() > self.until:
            raise ArgumentError(
                f"an answer may take {self.minutes:g} minutes; {stage} takes longer. Use the command line."
            )
        if self.say is not None:
            self.say(min(1.0, done / max(1, total or done)), desc=stage)


def picture(draw: Callable[[Path], object]) -> Any:
    """What shows a picture that a function draws into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        draw(path)
        with Image.open(path) as opened:
            return gr.update(value=opened.convert("RGB"), visible=True)


def image(what: str, name: str, **how: Any) -> gr.Image:
    """Place for a picture, whose title is drawn in it; it shows once there is one.

    Args:
        what: words for those who cannot see it.
        name: name of the element.
        how: further settings of the widget.
    """
    how |= {"show_label": False, "interactive": False, "visible": False, "buttons": ["download", "fullscreen"]}
    return gr.Image(label=what, alt_text=what, elem_id=name, **how)


def command(*arguments: object) -> str:
    """A command line of `calibrae`, as it can be copied to a terminal."""
    return shlex.join(["calibrae", *map(str, arguments)])


def shown(text: object) -> str:
    """Text as it stands, in a page's HTML or Markdown."""
    return (
        html.escape(str(text))
        .replace("|", "&#124;")
        .replace("*", "&#42;")
        .replace("_", "&#95;")
        .replace("`", "&#96;")
        .replace("[", "&#91;")
        .replace("$", "&#36;")
    )


def whole(value: float | str | None, name: str, low: int, high: int) -> int:
    """A whole number from a widget.

    Raises:
        ArgumentError: if it is none, or out of bounds.
    """
    try:
        found = float(value if value is not None else "nan")
    except ValueError:
        found = float("nan")
    if not low <= found <= high or found != int(found):
        raise ArgumentError(f"{name} must be a whole number from {low:,} to {high:,}; got {value}.")
    return int(found)


def shape_of(text: str | None) -> tuple[int, ...]:
    """Shape of an example from a widget.

    Raises:
        ArgumentError: if it is none, or out of bounds.
    """
    try:
        found = tuple(int(part) for part in (text or "").split(","))
    except ValueError:
        found = ()
    if not found or not all(1 <= size <= 10**6 for size in found) or math.prod(found) > 10**9:
        raise ArgumentError(f"the shape of an example must be whole numbers, as in 3,64,64; got {(text or '')[:60]!r}.")
    return found


@dataclass
class RunPicker:
    """A list of runs, kept up to date.

    Attributes:
        bench: the bench.
        label: its label.
        several: whether several can be chosen.
    """

    bench: Bench
    label: str = "Run"
    several: bool = False
    box: gr.Dropdown = field(init=False)

    def __post_init__(self) -> None:
        names = self.bench.shelf.names()
        value: Any = [] if self.several else (names[0] if names else None)
        self.box = gr.Dropdown(names, value=value, label=self.label, multiselect=self.several, allow_custom_value=True)

    def refreshed(self, chosen: Any) -> Any:
        """The list as it is now; what was chosen, or is being chosen, stays if it is still there."""
        names = self.bench.shelf.names()
        if self.several:
            kept = [name for name in chosen or [] if name in names]
            return gr.update(choices=names) if kept == (chosen or []) else gr.update(choices=names, value=kept)
        return gr.update(choices=names) if chosen in names else gr.update(choices=names, value=next(iter(names), None))

"""The runs of one folder by name, as a program that serves them to people needs them: nothing outside is reached."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, final

from ..errors import RunError
from ..runs import RunFolder
from ._run import Run, open_run
from ._runs import RunRow, list_runs, require_name, runs_in

OPEN = 4  # runs that are kept in memory
FRESH = 0.5  # seconds for which a list of names is good


@final
class Shelf:
    """Runs of a folder, by name.

    A run that was opened stays in memory until others take its place, or its files change; whoever asks for it shares it, so its
    model must be left as it is: in eval mode.

    Args:
        folder: folder of the runs.

    Examples:
        >>> shelf = Shelf("runs")
        >>> shelf.new("../elsewhere")
        Traceback (most recent call last):
        ...
        calibrae.errors.ArgumentError: a name must be letters, digits, '.', '_' and '-', at most 80, and begin with a letter or digit; got '../elsewhere'.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._opened: OrderedDict[Path, tuple[object, Run]] = OrderedDict()
        self._lock = threading.RLock()
        self._names: list[str] = []
        self._named_until = -1.0

    def rows(self, sort: str = "run") -> list[RunRow]:
        """The table of the runs."""
        return list_runs(self.folder, sort=sort) if self.folder.is_dir() else []

    def names(self) -> list[str]:
        """Names of the runs: their paths below the folder."""
        with self._lock:
            now = time.monotonic()
            if now > self._named_until:
                self._names = [self.name_of(path) for path in runs_in(self.folder)] if self.folder.is_dir() else []
                self._named_until = now + FRESH
            return list(self._names)

    def name_of(self, run: str | Path) -> str:
        """Name of a run in this folder."""
        return Path(run).relative_to(self.folder).as_posix()

    def place(self, name: str) -> Path:
        """Folder of a run that is there.

        Raises:
            RunError: if there is none of that name in this folder.
        """
        path = self.folder / name
        root = self.folder.resolve()
        try:
            is_plain = bool(name) and not any(
                part.startswith(".") for part in Path(name).parts
            )  # nor what is ours there
            is_inside = is_plain and path.resolve().is_relative_to(root) and (path / "config.toml").is_file()
        except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a ring of links
            is_inside = False
        if not is_inside or path.resolve() == root:
            raise RunError(f"there is no run {name[:100]!r} in {self.folder}. Choose one of the list.")
        return path

    def config(self, name: str) -> dict[str, Any]:
        """What a run was asked for.

        Raises:
            RunError: if there is none of that name, or its file is damaged.
        """
        return RunFolder(self.place(name)).read_config()

    def history(self, name: str) -> list[dict[str, float]]:
        """Terms of a run per epoch, as they are now.

        Raises:
            RunError: if there is none of that name, or its files are damaged.
        """
        return RunFolder(self.place(name)).read_history()

    def new(self, name: str) -> Path:
        """Folder of a run that is to be trained.

        Raises:
            ArgumentError: if the name could be taken for a path or an option.
        """
        return self.folder / require_name(name)

    def open(self, name: str) -> Run:
        """A trained run.

        Raises:
            RunError: if there is none of that name.
        """
        path = self.place(name)
        stamp = _stamp(path / "model.safetensors")
        with self._lock:
            known = self._opened.get(path)
            if known is not None and known[0] == stamp and stamp is not None:
                self._opened.move_to_end(path)
                return known[1]
            run = open_run(path)
            run.model.eval()
            self._opened[path] = (stamp, run)
            while len(self._opened) > OPEN:
                self._opened.popitem(last=False)
            return run


def _stamp(path: Path) -> object:
    """Changes when a file does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size

"""The layout of a run folder."""

from __future__ import annotations

import csv
import json
import platform
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, final

from ..errors import RunError
from ._atomic import replace_file, replace_json, replace_text

OLD, LOCK = ".replaced", ".lock"
ARTEFACTS = (
    "config.toml", "run.json", "history.csv", "model.safetensors", "model.json", "baseline.safetensors", "checkpoints",
    "tensorboard", "calibration.png", "latents.png", "scores.csv", "scores.png", "curves.png", "reconstructions.png", "samples.png", "traversal.png", "interpolation.png", "codes.npy",
)  # fmt: skip
PACKAGES = (
    "calibrae",
    "torch",
    "lightning-fabric",
    "safetensors",
    "datasets",
    "pyarrow",
    "pillow",
    "numpy",
    "scikit-learn",
)


@final
@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run on disk.

    | file | what |
    |---|---|
    | `config.toml` | what was asked for |
    | `run.json` | seed, versions, data fingerprint and splits, command |
    | `history.csv` | every term per epoch |
    | `model.safetensors`, `model.json` | the trained model |
    | `baseline.safetensors` | probabilistic PCA of the training set |
    | `checkpoints/` | the last and the best state of training |
    | `tensorboard/` | the same curves for TensorBoard |

    Attributes:
        path: the folder.
    """

    path: Path

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool = False) -> RunFolder:
        """A new, empty run. If asked, an old one is set aside: see `discard_old` and `restore_old`.

        Raises:
            RunError: if something else is there.
        """
        folder = cls.require_free(path, overwrite=overwrite)
        folder._recover()
        if folder.path.exists():
            folder._set_old_aside()
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def require_free(cls, path: str | Path, *, overwrite: bool = False) -> RunFolder:
        """Check, without touching anything, that a run can be written there.

        Raises:
            RunError: if something else is there, or a run that is not to be replaced.
        """
        folder = cls(Path(path))
        if folder._holds_anything():
            if not folder._is_run() and not (folder.path / OLD).is_dir():
                raise RunError(f"{path} exists and is not a run of calibrae. Choose another place with --out.")
            if not overwrite:
                raise RunError(
                    f"{path} already holds a run. Pass --resume to go on with it, --overwrite to replace it, or another --out "
                    "(in Python `resume=True`, `overwrite=True`)."
                )
        return folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training here; a folder that is made for it and stays empty is removed.

        Raises:
            RunError: if another process trains here.
        """
        from filelock import FileLock, Timeout

        is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path} cannot be made: {error.strerror}. Choose another --out.") from error
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            with lock:
                try:
                    yield
                finally:
                    with suppress(OSError):  # an open file cannot be removed everywhere
                        (self.path / LOCK).unlink(missing_ok=True)
        except Timeout:
            raise RunError(
                f"another process is training in {self.path}. Wait for it or stop it, or choose another --out."
            ) from None
        finally:
            if is_new and not self._holds_anything():
                shutil.rmtree(self.path, ignore_errors=True)

    def _holds_anything(self) -> bool:
        if not self.path.is_dir():
            return self.path.exists()
        return any(entry.name != LOCK for entry in self.path.iterdir())

    def _is_run(self) -> bool:
        try:
            return "versions" in self.read_run() and "training" in self.read_config()
        except (RunError, OSError):
            return False

    def _recover(self) -> None:
        """Undo what a killed overwrite has left: the old run comes back unless the new one had begun."""
        if (self.checkpoints / "last.pt").exists():
            self.discard_old()
        else:
            self.restore_old()

    def _set_old_aside(self) -> None:
        old = self.path / OLD
        old.mkdir()
        for name in ARTEFACTS:
            if (self.path / name).exists():
                (self.path / name).replace(old / name)

    def discard_old(self) -> None:
        """Forget the run that was set aside, now that the new one has begun. Files that are not ours are left alone."""
        shutil.rmtree(self.path / OLD, ignore_errors=True)

    def abandon(self) -> None:
        """Leave no trace of a run that did not begin, and bring back the one that was set aside."""
        if not self.path.is_dir():
            return
        for name in ARTEFACTS:
            place = self.path / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        self.restore_old()

    def restore_old(self) -> None:
        """Bring back the run that was set aside, because the new one did not begin."""
        old = self.path / OLD
        if not old.is_dir():
            return
        for name in ARTEFACTS:
            if (old / name).exists():
                place = self.path / name
                shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
                (old / name).replace(place)
        self.discard_old()

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run.

        Raises:
            RunError: if there is none.
        """
        folder = cls(Path(path))
        if not folder.config_file.is_file():
            folder._recover()
        if not folder.config_file.is_file():
            what = "is not a run folder (it has no config.toml)" if folder.path.exists() else "does not exist"
            raise RunError(f"{path} {what}. Pass the folder that `calibrae train ... --out` wrote.")
        return folder

    @property
    def config_file(self) -> Path:
        """Read what was asked for."""
        return self.path / "config.toml"

    @property
    def checkpoints(self) -> Path:
        """States of training."""
        return self.path / "checkpoints"

    @property
    def history_file(self) -> Path:
        """Terms per epoch."""
        return self.path / "history.csv"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Store what was asked for; entries that are `None` are left out."""
        import tomli_w

        replace_text(self.config_file, tomli_w.dumps(_without_none(config)))

    def read_config(self) -> dict[str, Any]:
        """Read what was asked for."""
        try:
            return tomllib.loads(self.config_file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{self.config_file} cannot be read: {error}. Restore the file, or train again.") from error

    def write_run(self, entries: Mapping[str, Any]) -> None:
        """Store what is known of the run, with versions and the command."""
        known = {"command": sys.argv, "versions": versions(), **entries}
        replace_json(self.path / "run.json", known)

    def read_run(self) -> dict[str, Any]:
        """Read what is known of the run."""
        file = self.path / "run.json"
        try:
            stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise RunError(f"{file} cannot be read: {error}. Train again, or restore the file.") from error
        return stored

    def read_history(self) -> list[dict[str, float]]:
        """The rows of `history.csv`; none if there is no such file."""
        if not self.history_file.is_file():
            return []
        with self.history_file.open(newline="", encoding="utf-8") as stream:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(stream)]

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Store the terms of all epochs so far."""
        if not rows:
            return

        def write(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)

        replace_file(self.history_file, write)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that move numbers."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_without_none(entry) for entry in value]
    return value

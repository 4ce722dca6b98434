"""The layout of a run folder."""

from __future__ import annotations

import csv
import io
import shutil
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..errors import RunError, first_line
from ._atomic import Writer, remove_partial, text_writer
from ._lock import NAME as LOCK
from ._lock import Lock
from ._manifest import FILES, FORMAT, Manifest, read_text, require_format

OLD = ".replaced"
CONFIG, HISTORY, CHECKPOINTS = "config.toml", "history.csv", "checkpoints"
ARTEFACTS = (
    CONFIG, "run.json", HISTORY, "model.safetensors", "model.json", "baseline.safetensors", "alarm.safetensors", CHECKPOINTS,
    "tensorboard", "calibration.png", "latents.png", "scores.csv", "scores.png", "curves.png", "reconstructions.png", "samples.png", "traversal.png", "interpolation.png", "codes.npy", "pictures.npz", "report.html",
)  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run on disk.

    | file | what |
    |---|---|
    | `config.toml` | what was asked for |
    | `run.json` | seed, versions, data fingerprint and splits, command, checksums of what is read again |
    | `history.csv` | every term per epoch |
    | `model.safetensors`, `model.json` | the trained model |
    | `baseline.safetensors` | simple model of the training set, which the trained one has to beat |
    | `alarm.safetensors` | calibration of the alarm, where one was asked for |
    | `checkpoints/` | the last states of training, and the weights of the best epoch |
    | `pictures.npz` | the arrays that the pictures show, in the units of the data |
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
            if not overwrite and folder._is_worth_keeping():
                raise RunError(
                    f"{path} already holds a run. Pass --resume to go on with it, --overwrite to replace it, or another --out "
                    "(in Python `resume=True`, `overwrite=True`)."
                )
        return folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing here; a folder that is made for it and stays empty is removed.

        What killed processes have left half-written is removed, and an overwrite that was cut short is undone.

        Raises:
            RunError: if another process writes here.
        """
        is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path} cannot be made: {error.strerror}. Choose another --out.") from error
        try:
            with Lock(self.path)():
                self._clean()
                yield
        finally:
            if is_new and self.path.is_dir() and not self._holds_anything():
                shutil.rmtree(self.path, ignore_errors=True)

    def _clean(self) -> None:
        """Remove what killed processes have left."""
        for place in (self.path, self.checkpoints):
            remove_partial(place)
        for left in self.path.glob(f"{LOCK}.*"):
            left.unlink(missing_ok=True)
        if (self.path / OLD).is_dir():
            self._recover()
        with suppress(RunError):  # a file that is damaged is named by whoever reads it
            listed = self.read_run()[FILES] if self.manifest.file.exists() else {}
            for left in self.checkpoints.glob("*.safetensors"):
                if f"{CHECKPOINTS}/{left.name}" not in listed:
                    left.unlink(missing_ok=True)

    def _holds_anything(self) -> bool:
        if not self.path.is_dir():
            return self.path.exists()
        return any(not entry.name.startswith(LOCK) for entry in self.path.iterdir())

    def _is_worth_keeping(self) -> bool:
        """Tell whether there is more than the words of a run that was killed before its first step."""
        return self.has_begun or (self.path / "model.safetensors").exists() or (self.path / OLD).is_dir()

    def _is_run(self) -> bool:
        try:
            return "versions" in self.read_run() and "training" in self.read_config()
        except (RunError, OSError):
            return False

    def _recover(self) -> None:
        """Undo what a killed overwrite has left: the old run comes back unless the new one had begun."""
        if self.has_begun:
            self.discard_old()
        else:
            self.restore_old()

    def _set_old_aside(self) -> None:
        old = self.path / OLD
        old.mkdir(exist_ok=True)
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
        """An existing run. An overwrite that was cut short before it began is undone first.

        Raises:
            RunError: if there is none.
        """
        folder = cls(Path(path))
        if (folder.path / OLD).is_dir() and not folder.has_begun:
            with folder.held():
                pass
        if not folder.config_file.is_file():
            what = "is not a run folder (it has no config.toml)" if folder.path.exists() else "does not exist"
            raise RunError(f"{path} {what}. Pass the folder that `calibrae train ... --out` wrote.")
        return folder

    @property
    def has_begun(self) -> bool:
        """Tell whether there is a state of training to go on from."""
        return any(self.checkpoints.glob("step-*.safetensors"))

    @property
    def manifest(self) -> Manifest:
        """The file `run.json`."""
        return Manifest(self.path)

    @property
    def config_file(self) -> Path:
        """Read what was asked for."""
        return self.path / CONFIG

    @property
    def checkpoints(self) -> Path:
        """States of training."""
        return self.path / CHECKPOINTS

    @property
    def history_file(self) -> Path:
        """Terms per epoch."""
        return self.path / HISTORY

    def commit(self, writers: Mapping[str, Writer] | None = None, drop: Collection[str] = (), **entries: Any) -> None:
        """Write files and entries of `run.json`; see `Manifest.commit`.

        Raises:
            RunError: if they cannot be written, or another process has taken the folder over.
        """
        owner = Lock(self.path).owner
        if owner is not None and not owner.is_this:
            raise RunError(f"{self.path} was taken over by {owner}, so this process writes nothing more there.")
        self.manifest.commit(writers or {}, drop, **entries)

    @staticmethod
    def config_writer(config: Mapping[str, Any]) -> Writer:
        """Writer of what was asked for; entries that are `None` are left out."""
        import tomli_w

        return text_writer(tomli_w.dumps({"format": FORMAT, **_without_none(config)}))

    def read_config(self) -> dict[str, Any]:
        """Read what was asked for."""
        try:
            stored = tomllib.loads(read_text(self.manifest.require_whole(CONFIG)))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise RunError(
                f"{self.config_file} cannot be read: {first_line(error)}. Restore the file, or train again."
            ) from error
        require_format(self.config_file, stored)
        wrong = [name for name, entry in stored.items() if name != "format" and not isinstance(entry, dict)]
        source = stored.get("data", {}).get("source") if not wrong else None
        if wrong or not isinstance(source, str | None):
            raise RunError(
                f"{self.config_file} must have a table for {', '.join(wrong) or 'data, with its source as text'}."
            )
        return {name: entry for name, entry in stored.items() if name != "format"}

    def read_run(self) -> dict[str, Any]:
        """Read what is known of the run."""
        return self.manifest.read()

    def read_history(self) -> list[dict[str, float]]:
        """The rows of `history.csv`; none before the first epoch.

        Raises:
            RunError: if the file is missing or damaged.
        """
        if HISTORY not in self.read_run()[FILES]:
            return []
        text = read_text(self.manifest.require_whole(HISTORY))
        try:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(io.StringIO(text))]
        except (ValueError, TypeError, csv.Error) as error:
            raise RunError(f"{self.history_file} cannot be read: {first_line(error)}. Go on with --resume.") from error

    @staticmethod
    def history_writer(rows: Sequence[Mapping[str, float]]) -> Writer:
        """Writer of the terms of all epochs so far."""
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text_writer(stream.getvalue())


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_without_none(entry) for entry in value]
    return value

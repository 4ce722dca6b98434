"""Runs of a folder: a table of what they are, and a bin for those that are not wanted."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from ..errors import ArgumentError, RunError
from ..evaluation import number
from ..runs import RunFolder
from ._live import state_of

BIN = ".bin"
NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
NUMBERS = ("elbo", "error", "above_baseline", "bits_per_dim", "sigma", "kl", "seconds")
DEPTH = 4  # folders below the one that is asked for


@final
@dataclass(frozen=True, slots=True)
class RunRow:
    """Row of the table of runs; `None` where a number is not known. Numbers are those of the validation split.

    Attributes:
        run: path of the folder.
        data: name or path of the data.
        model: name of the model, and what was chosen for it.
        elbo: ELBO, nats.
        error: its standard error.
        above_baseline: ELBO less the linear baseline's log-likelihood, nats.
        bits_per_dim: bits per dimension, of integer data.
        sigma: decoder's standard deviation.
        kl: KL, nats.
        seconds: time of training.
        state: `finished`, `training`, `stopped after epoch N`, or what is wrong.
    """

    run: str
    data: str = ""
    model: str = ""
    elbo: float | None = None
    error: float | None = None
    above_baseline: float | None = None
    bits_per_dim: float | None = None
    sigma: float | None = None
    kl: float | None = None
    seconds: float | None = None
    state: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON and CSV."""
        return asdict(self)


def list_runs(folder: str | Path = "runs", *, sort: str = "run") -> list[RunRow]:
    """The runs in a folder and in those below it. Nothing is written, and no model is loaded.

    Args:
        folder: where to look.
        sort: column to sort by: the best or largest number first, words in their order.

    Raises:
        ArgumentError: if there is no such folder or column.

    Examples:
        >>> from calibrae.workflows import list_runs
        >>> run = fit(build("vae", data_shape=(1, 8, 8), latent_dim=2), "digits", "runs/a", epochs=1, quiet=True, pictures=False)
        >>> [(row.run, row.data, row.state) for row in list_runs("runs", sort="elbo")]
        [('runs/a', 'digits', 'finished')]
    """
    place = Path(folder)
    if not place.is_dir():
        raise ArgumentError(f"{folder} is not a folder. Name the folder that holds your runs.")
    known = list(RunRow.__slots__)
    if sort not in known:
        raise ArgumentError(f"runs can be sorted by {', '.join(known)}; got {sort!r}.")
    rows = [_row(path) for path in runs_in(place)]
    if sort not in NUMBERS:
        return sorted(rows, key=lambda row: str(getattr(row, sort)))
    first = 1.0 if sort in ("bits_per_dim", "error", "seconds") else -1.0  # of these the least is best

    def rank(row: RunRow) -> tuple[bool, float]:
        value = getattr(row, sort)
        return value is None, 0.0 if value is None else first * value

    return sorted(rows, key=rank)


def runs_in(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Folders of runs in a folder and below, in the order of their names; nothing in them is read."""
    if (folder / "run.json").is_file() or (folder / "config.toml").is_file():
        yield folder
        return
    if depth == 0:
        return
    try:
        below = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:  # a folder of somebody else
        return
    for entry in below:
        yield from runs_in(entry, depth - 1)


def _row(path: Path) -> RunRow:
    folder = RunFolder(path)
    try:
        config, known = folder.read_config(), folder.read_run()
        history = folder.read_history()
        found = dict(known.get("validation") or {})
        elbo, baseline = _number(found.get("elbo_nats")), _number(found.get("baseline_log_likelihood_nats"))
        if not found and history:
            best = min(history, key=lambda row: row["validation_loss"])
            found = {key: best.get(name) for key, name in HISTORY_NAMES.items()}
            elbo = found["elbo_nats"]
        return RunRow(
            str(path),
            str(dict(known.get("data") or {}).get("name") or config["data"].get("source") or ""),
            _model(config),
            elbo,
            _number(found.get("elbo_standard_error")),
            None if elbo is None or baseline is None else elbo - baseline,
            _number(found.get("bits_per_dim")),
            _number(found.get("sigma")),
            _number(found.get("kl_nats")),
            history[-1].get("seconds") if history else None,
            state_of(folder, finished=bool(known.get("finished")), epochs=len(history)),
        )
    except (RunError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        return RunRow(str(path), state=f"damaged: {error}")


HISTORY_NAMES = {
    "elbo_nats": "validation_elbo",
    "bits_per_dim": "validation_bits_per_dim",
    "sigma": "sigma",
    "kl_nats": "validation_kl",
}


def _number(value: Any) -> float | None:
    """A number of a file; anything else is damage.

    Raises:
        TypeError: for text and the like.
    """
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise TypeError(f"numbers of the validation split must be numbers; got {str(value)[:40]!r}")


def _model(config: dict[str, Any]) -> str:
    model = config["model"]
    size = model.get("latent_dim")
    network = model.get("network")
    name = network.get("name") if isinstance(network, dict) else network
    return " ".join(str(part) for part in (model["name"], name, None if size is None else f"d={size}") if part)


def remove_run(path: str | Path) -> Path:
    """Move a run to the bin of the folder that it lies in, `.bin`, from where it can be moved back.

    Returns:
        Its new place.

    Raises:
        RunError: if it is no run, or a process is training in it.
    """
    folder = RunFolder.open(path)
    whole = folder.path.absolute()
    name = f"{whole.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"
    return _moved(folder, whole.parent / BIN / name)


def rename_run(path: str | Path, name: str) -> Path:
    """Give a run another name in the folder that it lies in.

    Args:
        path: the run.
        name: letters, digits, `.`, `_` and `-`.

    Returns:
        Its new place.

    Raises:
        ArgumentError: if the name has no meaning, or is taken.
        RunError: if it is no run, or a process is training in it.
    """
    folder = RunFolder.open(path)
    place = folder.path.absolute().parent / require_name(name)
    if place.exists():
        raise ArgumentError(f"{name} is taken in {place.parent}. Choose another name.")
    return _moved(folder, place)


def require_name(name: str) -> str:
    """The name of a run, if it can be one.

    Raises:
        ArgumentError: if it could be taken for a path or an option, or is too long.

    Examples:
        >>> from calibrae.workflows import require_name
        >>> require_name("digits-2")
        'digits-2'
    """
    if NAMED.fullmatch(name) is None:
        raise ArgumentError(
            f"a name must be letters, digits, '.', '_' and '-', at most 80, and begin with a letter or digit; got {name[:100]!r}."
        )
    return name


def _moved(folder: RunFolder, place: Path) -> Path:
    """Move a run that nobody is training."""
    with folder.held():
        try:
            place.parent.mkdir(exist_ok=True)
            folder.path.absolute().rename(place)
        except OSError as error:
            raise RunError(
                f"{folder.path} cannot be moved to {place}: {error.strerror}. Check the folder's rights."
            ) from error
    for left in place.glob(".lock*"):
        left.unlink(missing_ok=True)
    return place


def runs_table(rows: list[RunRow], width: int) -> str:
    """The runs as a table that fits a terminal: paths are shortened at their beginning; data and model stand where there is room.

    Args:
        rows: the runs.
        width: characters of a line.
    """
    head = ["ELBO", "+-", "above base", "bits/dim", "sigma", "KL", "time"]
    cells = [[*_numbers(row), row.state] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *(line[:7] for line in cells), strict=True)]
    room = max(12, width - sum(widths) - 2 * len(widths) - 12)
    told = [["run"], *([row.run] for row in rows)]
    for title, more in (("data", [row.data for row in rows]), ("model", [row.model for row in rows])):
        wider = [[*line, _end(str(word), WORD)] for line, word in zip(told, [title, *more], strict=True)]
        if sum(max(map(len, column)) + 2 for column in zip(*wider, strict=True)) <= room:
            told = wider
    told = [[_end(line[0], room), *line[1:]] for line in told]
    wide = [max(map(len, column)) for column in zip(*told, strict=True)]
    first, *names = ["  ".join(f"{word:<{w}}" for word, w in zip(line, wide, strict=True)) for line in told]
    across = len(first)
    lines = [f"{first}  " + "  ".join(f"{h:>{w}}" for h, w in zip(head, widths, strict=True)) + "  state"]
    for name, line in zip(names, cells, strict=True):
        numbers = "  ".join(f"{cell:>{w}}" for cell, w in zip(line[:7], widths, strict=True))
        lines.append(f"{name:<{across}}  {numbers}  {line[7]}"[: max(width, across + 20)].rstrip())
    return "\n".join(lines)


def _numbers(row: RunRow) -> list[str]:
    seconds = "-" if row.seconds is None else duration(row.seconds)
    return [
        number(row.elbo, 2),
        number(row.error, 2),
        number(row.above_baseline, 2),
        number(row.bits_per_dim, 3),
        number(row.sigma, 4),
        number(row.kl, 1),
        seconds,
    ]


def duration(seconds: float) -> str:
    """Time in the unit that suits it.

    Examples:
        >>> from calibrae.workflows import duration
        >>> duration(99.0), duration(600.0), duration(7200.0)
        ('99 s', '10 min', '2.0 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


WORD = 24  # characters of a run's data and model


def _end(text: str, most: int) -> str:
    return text if len(text) <= most else "…" + text[1 - most :]

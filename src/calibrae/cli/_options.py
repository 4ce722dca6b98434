"""Options that several commands share, and their parsing."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

RunPath = Annotated[str, typer.Argument(help="Folder of a trained run.", show_default=False)]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Seed = Annotated[int, typer.Option(help="Seed of all noise.")]
SplitOption = Annotated[str, typer.Option(help="train, validation, test or all.")]
OwnSplitOption = Annotated[
    str | None,
    typer.Option(
        help="train, validation, test or all; by default all of the data that are given, or the run's own test split.",
        show_default=False,
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        help="File to write: .png a picture, .csv or .npy the numbers; by default a PNG in the run's folder.",
        show_default=False,
    ),
]
ArraysOption = Annotated[str | None, typer.Option(help="Also write the numbers, as .npy or .csv.", show_default=False)]
DeviceOption = Annotated[str, typer.Option(help="auto (a CUDA device, if one can be used), cpu, cuda, ...")]
ConditionOption = Annotated[
    str | None,
    typer.Option(
        help="Condition: a class, a number, numbers 1.5,2, or sex=f,age=40 for several columns; of a conditional run.",
        show_default=False,
    ),
]
DataOption = Annotated[str | None, typer.Option(help="Other data than the run's own.", show_default=False)]
SizeOption = Annotated[
    str | None,
    typer.Option(help="H,W to which new pictures are brought; by default as in training.", show_default=False),
]
ResizeOption = Annotated[
    str | None, typer.Option(help="crop or fit, for new pictures; by default as in training.", show_default=False)
]
SkipBrokenFlag = Annotated[bool, typer.Option("--skip-broken", help="Leave out files that cannot be read.")]
HeaderFlag = Annotated[
    bool | None,
    typer.Option(help="Whether a CSV's first line holds names; by default as in training.", show_default=False),
]


def pair(text: str | None, name: str, kind: type = float) -> tuple[Any, Any] | None:
    """Read `'a,b'` as two numbers."""
    if text is None:
        return None
    parts = text.replace("x", ",").split(",") if kind is int else text.split(",")
    try:
        first, second = (kind(part) for part in (parts * 2 if len(parts) == 1 and kind is int else parts))
    except ValueError:
        raise typer.BadParameter(
            f"{name} must be two numbers, as in {'32,32' if kind is int else '0,1'}; got {text!r}."
        ) from None
    return first, second


def reading(run: str, size: str | None, resize: str | None, skip_broken: bool, header: bool | None) -> Any:
    """Options to read new data for a run; `None` for those of its training."""
    from ..workflows import new_data_options

    return new_data_options(run, size=pair(size, "--size", int), resize=resize, skip_broken=skip_broken, header=header)


def shape(text: str | None) -> tuple[int, ...] | None:
    """`'3,64,64'` as the shape of an example."""
    if text is None:
        return None
    sizes = tuple(integers(text.replace("x", ","), "--data-shape"))
    if min(sizes) < 1:
        raise typer.BadParameter(f"--data-shape must be positive numbers, as in 3,64,64; got {text!r}.")
    return sizes


def sigma_value(text: str | None) -> Any:
    """`optimal`, `learned` or a number."""
    if text is None or text in ("optimal", "learned"):
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"--sigma must be optimal, learned or a positive number; got {text!r}.") from None


def condition_value(text: str | None, coding: Any) -> Any:
    """`'cat'` or `'007'` as a class, `'1.5,2'` as numbers, by the coding of the run's condition."""
    return text if text is None or coding is None else coding.typed(text)


def check_split(split: str) -> Any:
    """One of the four."""
    if split not in ("train", "validation", "test", "all"):
        raise typer.BadParameter(f"--split must be train, validation, test or all; got {split!r}.")
    return split


def split_of(split: str | None, data: str | None) -> Any:
    """The split that was asked for; by default all of other data, or the test split of the run's own."""
    return check_split(split) if split is not None else "all" if data is not None else "test"


def column_types(text: str | None) -> dict[str, str] | None:
    """Types of columns by name, from a TOML file or `NAME=TYPE,NAME=TYPE`."""
    if text is None:
        return None
    if text.endswith(".toml") or "=" not in text:
        return _types_in(Path(text))
    (parts,) = csv.reader([text], skipinitialspace=True)
    pairs = [part.rpartition("=") for part in parts if part.strip()]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise typer.BadParameter(
            f"--types must be a TOML file, or NAME=TYPE,NAME=TYPE, a name with a comma in quotes; got {text!r}."
        )
    return {name.strip(): kind.strip() for name, _, kind in pairs}


def _types_in(path: Path) -> dict[str, str]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise typer.BadParameter(f"--types {path} cannot be read: {error}") from error
    entries = found.get("columns", found)
    if not isinstance(entries, dict) or not all(isinstance(kind, str) for kind in entries.values()):
        raise typer.BadParameter(f'--types {path} must hold lines NAME = "TYPE", perhaps under [columns].')
    return dict(entries)


def integers(text: str, name: str) -> list[int]:
    """`'1,2,3'` as integers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{name} must be whole numbers, as in 0,5; got {text!r}.") from None

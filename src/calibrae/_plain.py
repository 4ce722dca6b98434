"""Plain data, as files and users give them, checked against the types of a record's fields."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union

from .errors import ArgumentError

T = TypeVar("T")


def record_of(cls: type[T], stored: object) -> T:
    """Make a record of a dict that has its fields by name; those with a default may be left out.

    Raises:
        ArgumentError: if it is no dict, has other entries, or an entry is of another type.

    Examples:
        >>> from calibrae._types import DataSpec
        >>> record_of(DataSpec, {"data_shape": [3, 4], "levels": None}).data_dim
        12
    """
    if not isinstance(stored, Mapping):
        raise ArgumentError(f"{cls.__name__} must be a table of its fields; got {type(stored).__name__}.")
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    unknown = [str(name) for name in stored if name not in known]
    if unknown:
        raise ArgumentError(f"{cls.__name__} has no {', '.join(unknown)}.")
    hints = typing.get_type_hints(cls)
    values = {name: plain(value, hints[name], name) for name, value in stored.items()}
    try:
        return cls(**values)
    except TypeError as error:  # a field is missing
        raise ArgumentError(f"{cls.__name__} is not complete: {error}.") from error


def require_types(record: object) -> None:
    """Raise `ArgumentError` unless the fields of a record are of their types.

    Examples:
        >>> from calibrae._types import DataSpec
        >>> require_types(DataSpec((3,), levels="many"))
        Traceback (most recent call last):
        ...
        calibrae.errors.ArgumentError: `levels` must be a whole number or None; got 'many'.
    """
    for name, hint in typing.get_type_hints(type(record)).items():
        plain(getattr(record, name), hint, name)


def plain(value: Any, hint: Any, name: str) -> Any:
    """Check a value against a type, and convert as a text file must: lists to tuples, whole numbers to floats.

    Args:
        value: number, text, list, dict or `None`.
        hint: the type, as `typing.get_type_hints` has it.
        name: its name in messages.

    Raises:
        ArgumentError: if it is of another type.
    """
    found = _converted(value, hint)
    if found is _WRONG:
        raise ArgumentError(f"`{name}` must be {_named(hint)}; got {_short(value)}.")
    return found


WORDS = {int: "a whole number", float: "a finite number", str: "text", bool: "True or False", type(None): "None"}
LARGEST = 1.79e308  # of a finite number
_WRONG = object()


def _converted(value: Any, hint: Any) -> Any:
    """The value as a type has it, or `_WRONG`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Union or origin is types.UnionType:
        found = (_converted(value, option) for option in arguments)
        return next((one for one in found if one is not _WRONG), _WRONG)
    if origin is Literal:
        return value if value in [option for option in arguments if type(option) is type(value)] else _WRONG
    if origin is tuple:
        return _tuple(value, arguments)
    if origin is not None and isinstance(value, Mapping) and issubclass(origin, Mapping):
        entries = {key: _converted(entry, arguments[1]) for key, entry in value.items()}
        is_right = all(isinstance(key, arguments[0]) for key in entries) and _WRONG not in entries.values()
        return entries if is_right else _WRONG
    if is_dataclass(hint) and isinstance(value, Mapping):
        return record_of(hint, value) if isinstance(hint, type) else _WRONG
    return _scalar(value, hint if origin is None else origin)


def _tuple(value: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        return _WRONG
    options = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    if len(options) != len(value):
        return _WRONG
    found = tuple(_converted(entry, option) for entry, option in zip(value, options, strict=True))
    return _WRONG if any(one is _WRONG for one in found) else found


def _scalar(value: Any, hint: Any) -> Any:
    if isinstance(value, bool) and hint in (int, float):
        return _WRONG
    if hint is float:
        return float(value) if isinstance(value, Real) and abs(value) < LARGEST else _WRONG  # type: ignore[operator]
    if hint is int:
        return int(value) if isinstance(value, Integral) and abs(int(value)) < 2**63 else _WRONG
    return value if isinstance(hint, type) and isinstance(value, hint) else _WRONG


def _named(hint: Any) -> str:
    """A type in words: `auto, fp32 or bf16`, `a whole number or None`."""
    words = list(dict.fromkeys(_options(hint)))
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _options(hint: Any) -> list[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union or origin is types.UnionType:
        return [word for option in arguments for word in _options(option)]
    if origin is Literal:
        return [str(option) for option in arguments]
    if hint in WORDS:
        return [WORDS[hint]]
    return [str(getattr(hint, "__name__", hint)) if origin is None else str(hint).replace("typing.", "")]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."

"""Packages that only some uses need, and the extra that brings each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, final

from .errors import MissingExtraError

P = ParamSpec("P")
R = TypeVar("R")
EXTRAS = {
    "PIL": "data",
    "datasets": "data",
    "platformdirs": "data",
    "pyarrow": "data",
    "scipy": "data",
    "sklearn": "data",
    "lightning_fabric": "train",
    "psutil": "train",
    "rich": "train",
    "safetensors": "train",
    "tensorboard": "train",
    "tomli_w": "train",
    "matplotlib": "figures",
    "jinja2": "report",
    "plotly": "report",
    "typer": "cli",
    "cloudpickle": "sweep",
    "optuna": "sweep",
    "gradio": "app",
    "fastapi": "app",
    "uvicorn": "app",
}
DISTRIBUTIONS = {
    "PIL": "Pillow",
    "sklearn": "scikit-learn",
    "lightning_fabric": "lightning-fabric",
    "tomli_w": "tomli-w",
}


def missing_extra(error: ModuleNotFoundError) -> ImportError:
    """Error that names the extra that brings a missing package; the error itself if no extra does.

    Examples:
        >>> str(missing_extra(ModuleNotFoundError(name="PIL.Image")))
        "this needs Pillow, which is not installed. Install it: pip install 'calibrae[data]'"
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return error
    name = DISTRIBUTIONS.get(package, package)
    return MissingExtraError(
        f"this needs {name}, which is not installed. Install it: pip install 'calibrae[{EXTRAS[package]}]'"
    )


def names_missing(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function name the extra that brings a package which it misses, in a `MissingExtraError`."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error

    return called


@final
class Later:
    """A module that is imported when something of it is first used.

    Args:
        name: its full name.

    Examples:
        >>> Later("math").floor(2.5)
        2
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)

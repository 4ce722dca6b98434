"""`torch.compile` for functions that are made anew for every model."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def compile_alone(function: Callable[P, R], device: torch.device, backend: str = "inductor") -> Callable[P, R]:
    """The function, compiled for fixed shapes, with a cache that it shares with no other.

    The compiler keeps what it made by code object, and after eight it goes on uncompiled without an error. Closures of one
    `def` share theirs, so a process that trains or weighs nine models would be slow from the ninth on; a copy of the code does not.

    Args:
        function: a plain function or closure.
        device: where its tensors are.
        backend: of `torch.compile`.
    """
    assert isinstance(function, FunctionType)
    copy = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    # what calls the kernels is C++ too: it holds Python's lock for none of them, and a small network's step is a fifth shorter
    options: dict[str, Any] | None = {"cpp_wrapper": True} if device.type == "cpu" and backend == "inductor" else None
    compiled: Callable[P, R] = torch.compile(copy, dynamic=False, backend=backend, options=options)
    return compiled

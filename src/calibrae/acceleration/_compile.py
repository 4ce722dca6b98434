"""`torch.compile` for functions that are made anew for every model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from types import FunctionType
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, final

import torch
from torch import Tensor

from ..errors import first_line
from ._timing import time_interleaved

P = ParamSpec("P")
R = TypeVar("R")
CompileChoice: TypeAlias = Literal["auto", "on", "off"]

EXPECTED_GAIN = 0.3  # share of the time that a compiler saves where it does well
COMPILE_SECONDS = 13.0  # that it takes the first time; a quarter of that from then on
MIN_GAIN = 0.03  # share of the time for which to keep it
TIMED_CALLS = 3


def compile_alone(function: Callable[P, R], device: torch.device, backend: str = "inductor") -> Callable[P, R]:
    """Compile a function for fixed shapes, with a cache of its own.

    The compiler keeps what it made by code object, and after eight it goes on uncompiled without an error. Closures of one
    `def` share theirs, so a process that trains or weighs nine models would be slow from the ninth on; a copy of the code does not.

    Args:
        function: a plain function or closure.
        device: where its tensors are.
        backend: backend of `torch.compile`.
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


@final
class AutoCompiled:
    """A function without gradients, called many times: the first call decides, by a timed trial, whether it is compiled.

    Only calls with the first one's shapes are compiled; others, at the edges, run as they are. Threads may share it.

    Args:
        function: takes tensors (or `None`) of fixed shapes; returns tensors, or a tuple or dict of them.
        device: where they are.
        calls: number of calls to come, all threads together.
        choice: `on`, `off`, or `auto`: compile if the calls repay it.
        label: name used in warnings.

    Attributes:
        status: whether the function is compiled, and why, in words.

    Examples:
        >>> from calibrae.acceleration import AutoCompiled
        >>> double = AutoCompiled(lambda x: (2.0 * x,), torch.device("cpu"), calls=10)
        >>> double(torch.ones(2)), double.status
        ((tensor([2., 2.]),), 'not compiled (too short to repay it)')
    """

    def __init__(
        self,
        function: Callable[..., Any],
        device: torch.device,
        calls: float,
        choice: CompileChoice = "auto",
        label: str = "evaluation",
    ) -> None:
        self.status = f"not compiled ({'as asked' if choice == 'off' else 'too short to repay it'})"
        self._function = function
        self._device = device
        self._calls = calls
        self._choice = choice
        self._label = label
        self._lock = Lock()
        self._compiled: Callable[..., Any] | None = None
        self._shapes: tuple[torch.Size | None, ...] | None = None
        self._is_decided = choice == "off" or calls < 1

    def __call__(self, *tensors: Tensor | None) -> Any:
        """Value of the function."""
        if not self._is_decided:
            with self._lock:
                if not self._is_decided:
                    self._decide(*tensors)
                    self._is_decided = True
        if self._compiled is None or _shapes(tensors) != self._shapes:
            return self._function(*tensors)
        return self._compiled(*tensors)

    @property
    def is_compiled(self) -> bool | None:
        """Tell whether the function is compiled; `None` before the first call has decided."""
        return self._compiled is not None if self._is_decided else None

    def _decide(self, *tensors: Tensor | None) -> None:
        (before,) = self._seconds([self._function], *tensors)
        if self._choice == "auto" and EXPECTED_GAIN * before * self._calls < COMPILE_SECONDS:
            return
        compiled = compile_alone(self._function, self._device)
        try:
            compiled(*tensors)
        except Exception as error:  # a compiler, or the lack of one, may raise anything; a fault of the model is raised again, uncompiled
            self.status = f"not compiled (the compiler failed: {first_line(error)})"
            warnings.warn(f"{self._label} is {self.status}; the numbers are the same.", stacklevel=2)
            return
        before, after = self._seconds([self._function, compiled], *tensors)
        measured = f"(measured: {1e3 * after:.3g} ms instead of {1e3 * before:.3g})"
        if self._choice == "auto" and after > (1.0 - MIN_GAIN) * before:
            self.status = f"not compiled {measured}"
            return
        self.status = f"compiled {measured}"
        self._compiled, self._shapes = compiled, _shapes(tensors)

    def _seconds(self, functions: Sequence[Callable[..., Any]], *tensors: Tensor | None) -> list[float]:
        """Shortest time of a few calls of each."""
        calls = [partial(function, *tensors) for function in functions]
        return [min(seconds) for seconds in time_interleaved(calls, self._device, TIMED_CALLS)]


def _shapes(tensors: Sequence[Tensor | None]) -> tuple[torch.Size | None, ...]:
    return tuple(None if x is None else x.shape for x in tensors)

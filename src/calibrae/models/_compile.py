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
from ._timing import seconds_in_turns

P = ParamSpec("P")
R = TypeVar("R")
Tensors: TypeAlias = tuple[Tensor, ...]
CompileChoice: TypeAlias = Literal["auto", "on", "off"]

HOPED = 0.3  # share of the time that a compiler saves where it does well
COST = 13.0  # seconds that it takes the first time; a quarter of that from then on
WORTH = 0.03  # share of the time for which to keep it
TIMED = 3


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


@final
class CompiledIfItPays:
    """A function without gradients, called many times: the first call decides, by a timed trial, whether it is compiled from then on.

    Only calls of the first one's shapes are compiled; others, at the edges, run as they are. Threads may share it.

    Args:
        function: from tensors to tensors, of fixed shapes for fixed shapes.
        device: where they are.
        calls: how many are to come, all threads together.
        choice: `on`, `off`, or `auto`: compile if the calls repay it.
        what: it is called in a warning.

    Example:
        >>> double = CompiledIfItPays(lambda x: (2.0 * x,), torch.device("cpu"), calls=10)
        >>> double(torch.ones(2)), double.says
        ((tensor([2., 2.]),), 'not compiled (too short to repay it)')
    """

    def __init__(
        self,
        function: Callable[..., Tensors],
        device: torch.device,
        calls: float,
        choice: CompileChoice = "auto",
        what: str = "evaluation",
    ) -> None:
        self.says = f"not compiled ({'as asked' if choice == 'off' else 'too short to repay it'})"
        self._function = function
        self._device = device
        self._calls = calls
        self._choice = choice
        self._what = what
        self._lock = Lock()
        self._compiled: Callable[..., Tensors] | None = None
        self._shapes: tuple[torch.Size, ...] | None = None
        self._is_decided = choice == "off" or calls < 1

    def __call__(self, *tensors: Tensor) -> Tensors:
        """The function of the tensors."""
        if not self._is_decided:
            with self._lock:
                if not self._is_decided:
                    self._decide(*tensors)
                    self._is_decided = True
        if self._compiled is None or tuple(x.shape for x in tensors) != self._shapes:
            return self._function(*tensors)
        return self._compiled(*tensors)

    def _decide(self, *tensors: Tensor) -> None:
        (before,) = self._seconds([self._function], *tensors)
        if self._choice == "auto" and HOPED * before * self._calls < COST:
            return
        compiled = compile_alone(self._function, self._device)
        try:
            compiled(*tensors)
        except Exception as error:  # whatever a compiler, or the lack of one, may raise; a fault of the model is raised again, uncompiled
            self.says = f"not compiled (the compiler failed: {first_line(error)})"
            warnings.warn(f"{self._what} is {self.says}; the numbers are the same.", stacklevel=2)
            return
        before, after = self._seconds([self._function, compiled], *tensors)
        measured = f"(measured: {1e3 * after:.3g} ms instead of {1e3 * before:.3g})"
        if self._choice == "auto" and after > (1.0 - WORTH) * before:
            self.says = f"not compiled {measured}"
            return
        self.says = f"compiled {measured}"
        self._compiled, self._shapes = compiled, tuple(x.shape for x in tensors)

    def _seconds(self, functions: Sequence[Callable[..., Tensors]], *tensors: Tensor) -> list[float]:
        """The quickest of a few calls of each."""
        calls = [partial(function, *tensors) for function in functions]
        return [min(seconds) for seconds in seconds_in_turns(calls, self._device, TIMED)]

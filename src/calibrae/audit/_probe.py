"""Calling somebody else's loss: seeded, restored after each call, and never trusted to return."""

from __future__ import annotations

import copy
import numbers
import random
import types
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, final

import numpy as np
import torch
from torch import Tensor, nn

from .._noise import seed_torch
from ..errors import CalibraeError, first_line

Loss: TypeAlias = Callable[..., Any]
Posterior: TypeAlias = Literal["logvar", "log_std", "std", "var"]
LOSS_NAMES = ("loss", "total_loss", "total", "objective", "elbo_loss", "vae_loss")
POSTERIORS: tuple[Posterior, ...] = ("logvar", "log_std", "std", "var")


class ProbeError(CalibraeError, RuntimeError):
    """Loss that raised, or returned something that is not one number."""


@contextmanager
def _seeded(seed: int) -> Any:
    """Seed every generator that a loss may draw from; restore their states on exit."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the loss may use the global one)
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def as_scalar(returned: Any) -> Tensor:
    """Find the one number in a return value: itself, a tuple's first, a dict's or an object's `loss`.

    Raises:
        ProbeError: if there is none.
    """
    if isinstance(returned, Mapping):
        returned = _loss_entry(returned)
    elif not isinstance(returned, Tensor) and hasattr(returned, "loss"):
        returned = returned.loss
    elif isinstance(returned, tuple | list) and returned:
        returned = returned[0]
    if isinstance(returned, numbers.Number | np.ndarray) and np.ndim(returned) == 0:  # type: ignore[arg-type]
        return torch.tensor(float(returned), dtype=torch.float64)  # type: ignore[arg-type]
    if not isinstance(returned, Tensor):
        raise ProbeError(f"the loss must return one number; got {type(returned).__name__}.")
    if returned.numel() != 1:
        raise ProbeError(
            f"the loss must return one number; got a tensor of shape {tuple(returned.shape)}. Reduce it: lambda *a: loss(*a).mean()."
        )
    return returned.reshape(())


@final
class Probe:
    """A black box `loss(x, x_hat, mu, third)`, called with log standard deviations.

    Args:
        loss: any callable.
        posterior: meaning of its fourth argument: the posterior's log-variance, log standard deviation, ...
        dtype: precision of the tensors that it is given.
        needs_gradients: whether it takes gradients of its own, so that its inputs must carry them.

    Attributes:
        calls: number of calls so far.
        precision: precision of the last value: float32 where the loss works in less than it is given.
        returns_several: whether the last call returned a tuple of several numbers, of which the first is taken.
        gives_tensors: whether the last value can carry gradients at all.
    """

    def __init__(
        self,
        loss: Loss,
        posterior: Posterior = "logvar",
        dtype: torch.dtype = torch.float64,
        *,
        needs_gradients: bool = False,
    ) -> None:
        self.needs_gradients = needs_gradients
        self.gives_tensors = True
        self.returns_several = False
        self.loss = loss
        self.posterior = posterior
        self.dtype = dtype
        self.calls = 0
        self.precision = dtype
        self.restores = not isinstance(loss, types.FunctionType | types.BuiltinFunctionType) and _can_copy(loss)

    def value(self, x: Tensor, x_hat: Tensor, mu: Tensor, log_std: Tensor, seed: int = 0) -> float:
        """Call the loss and return a float.

        Raises:
            ProbeError: if it raised, or did not return one number.
        """
        if not self.needs_gradients:
            with torch.no_grad():
                return float(self._call(x, x_hat, mu, log_std, seed).double())
        with torch.enable_grad():
            inputs = [tensor.detach().to(self.dtype).requires_grad_() for tensor in (x_hat, mu, log_std)]
            return float(self._call(x, inputs[0], inputs[1], inputs[2], seed).detach().double())

    def gradients(
        self, x: Tensor, x_hat: Tensor, mu: Tensor, log_std: Tensor, seed: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients with respect to `x_hat`, `mu` and `log_std`; zeros where autograd finds no path."""
        inputs = [tensor.detach().to(self.dtype).requires_grad_() for tensor in (x_hat, mu, log_std)]
        with torch.enable_grad():
            loss = self._call(x, inputs[0], inputs[1], inputs[2], seed)
            if not loss.requires_grad:
                return tuple(torch.zeros_like(i) for i in inputs)  # type: ignore[return-value]
            try:
                slopes = torch.autograd.grad(loss, inputs, allow_unused=True)
            except RuntimeError as error:
                raise ProbeError(f"the gradient of the loss cannot be taken: {first_line(error, 200)}") from error
        return tuple(torch.zeros_like(i) if g is None else g for g, i in zip(slopes, inputs, strict=True))  # type: ignore[return-value]

    def _call(self, x: Tensor, x_hat: Tensor, mu: Tensor, log_std: Tensor, seed: int) -> Tensor:
        self.calls += 1
        third = _from_log_std(log_std, self.posterior)
        loss = copy.deepcopy(self.loss) if self.restores else self.loss
        # copies, so that a loss that works in place cannot spoil the next call
        tensors = [t.to(self.dtype).clone() for t in (x, x_hat, mu, third)]
        with _seeded(seed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                returned = loss(*tensors)
                value = as_scalar(returned)
            except ProbeError:
                raise
            except Exception as error:
                raise ProbeError(f"{type(error).__name__}: {first_line(error, 200)}") from error
        self.gives_tensors = not isinstance(returned, numbers.Number | np.ndarray)
        self.returns_several = isinstance(returned, tuple | list) and sum(map(_is_number, returned)) > 1
        self.precision = self.dtype if value.dtype == torch.float64 else torch.float32
        return value


def _is_number(entry: Any) -> bool:
    return isinstance(entry, numbers.Number) or (isinstance(entry, Tensor) and entry.numel() == 1)


def _loss_entry(returned: Mapping[Any, Any]) -> Any:
    """Find the entry that is called the loss or the total, or the only one."""
    name = next((known for known in LOSS_NAMES if known in returned), None)
    if name is None and len(returned) != 1:
        raise ProbeError(
            f"the loss must return one number; got a dict of {', '.join(map(str, returned))}. Pick one with a lambda."
        )
    return returned[name] if name is not None else next(iter(returned.values()))


def _from_log_std(log_std: Tensor, posterior: Posterior) -> Tensor:
    if posterior == "log_std":
        return log_std
    if posterior == "std":
        return torch.exp(log_std)
    return 2.0 * log_std if posterior == "logvar" else torch.exp(2.0 * log_std)


def _can_copy(loss: Loss) -> bool:
    if isinstance(loss, nn.Module) and sum(p.numel() for p in loss.parameters()) > 1_000_000:
        return False
    try:
        copy.deepcopy(loss)
    except Exception:  # whatever a stranger's object raises: it is then called as it is
        return False
    return True

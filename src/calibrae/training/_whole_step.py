"""A whole optimiser step as one compiled function: loss, gradients, clipping, update.

A step in pieces pays between them: for the autograd engine, for the optimiser's Python, for the checks before each compiled piece, and for
gradients that are written in one type, copied to another and read again. In a small network that is a third of its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import cast, final

import torch
from torch import Tensor, nn

from ..models import compile_alone
from ._optimiser import SigmaDescent, adamw_update, sigma_update
from ._step import Autocast
from ._terms import MicroBatch, StepTerms


def can_trace_gradients() -> bool:
    """Whether this torch compiles functions that take gradients themselves."""
    from torch._dynamo import config  # a second to import, for those who compile

    return hasattr(config, "trace_autograd_ops")


@final
class WholeStep:
    """The step that `torch.optim.AdamW`, and the descent of a learned sigma, would take, in one compiled function.

    The optimisers stay the owners of their state, which is read and changed in place, so that a checkpoint does not tell how a
    run was computed. If a sum, or with a limit the norm of the gradient, is not finite, no weight and no state is changed.

    Args:
        terms: of the model.
        optimisers: AdamW over the networks; then, if sigma is learned, its own.
        limit: largest norm of the gradient over AdamW's parameters; 0 for none.
        autocast: of the networks.
    """

    def __init__(
        self, terms: StepTerms, optimisers: Sequence[torch.optim.Optimizer], limit: float, autocast: Autocast
    ) -> None:
        self._terms = terms
        self._adamw = optimisers[0]
        self._sigma = cast(SigmaDescent, optimisers[1]) if len(optimisers) > 1 else None
        self._limit = limit
        self._autocast = autocast
        self._betas: tuple[float, float] = self._adamw.param_groups[0]["betas"]
        self._parameters: list[nn.Parameter] = [p for group in self._adamw.param_groups for p in group["params"]]
        self._means: list[Tensor] = []
        self._squares: list[Tensor] = []
        self._counts = torch.zeros(0)
        self._taken = 0
        self._compiled = compile_alone(self._function(), device=terms.model.device)
        from torch._dynamo import config

        self._gradients_traced = config.patch(trace_autograd_ops=True)

    def __call__(self, batch: MicroBatch, weights: Tensor) -> list[float]:
        """Take the step; returns the sums over the examples of NLL, KL and squared error, and the gradient's norm (0 without a limit).

        Args:
            batch: on the model's device.
            weights: of the summed NLL and of the summed KL, `[2]`.
        """
        self._read_state()
        rates = weights.new_tensor(self._rates())
        with self._gradients_traced:  # at every call, since anything may make the compiler run again
            found: list[float] = self._compiled(*batch, weights, rates).tolist()
        if all(map(math.isfinite, found)):
            self._taken += 1
            self._counts += 1.0
        return found

    def _rates(self) -> list[float]:
        """AdamW's rate, its two corrections for the start, and the rate of sigma."""
        group = self._adamw.param_groups[0]
        (first, second), step = self._betas, self._taken + 1
        sigma = 0.0 if self._sigma is None else self._sigma.param_groups[0]["lr"]
        return [group["lr"], 1.0 - first**step, math.sqrt(1.0 - second**step), sigma]

    def _read_state(self) -> None:
        """AdamW's state, if it is not the one in use: at first, and when another was loaded."""
        state = self._adamw.state
        if self._means and state.get(self._parameters[0], {}).get("exp_avg") is self._means[0]:
            return
        for p in self._parameters:
            if not state[p]:
                state[p]["step"] = torch.zeros((), device=p.device)
                for name in ("exp_avg", "exp_avg_sq"):
                    state[p][name] = torch.zeros_like(p, memory_format=torch.preserve_format)
        # the lists stay, since the compiled function holds them
        self._means[:] = [state[p]["exp_avg"] for p in self._parameters]
        self._squares[:] = [state[p]["exp_avg_sq"] for p in self._parameters]
        self._counts = torch.stack([state[p]["step"] for p in self._parameters])
        for p, count in zip(self._parameters, self._counts.unbind(), strict=True):
            state[p]["step"] = count  # a view: one addition counts for all
        self._taken = round(float(self._counts.max()))  # a parameter that no loss has reached counts none

    def _function(self) -> Callable[..., Tensor]:
        """From stored bytes to the sums and the norm; on the way parameters and state are changed."""
        terms, limit, sigma = self._terms, self._limit, self._sigma
        parameters, means, squares = self._parameters, self._means, self._squares
        decays = [group["weight_decay"] for group in self._adamw.param_groups for _ in group["params"]]
        betas, eps = self._betas, self._adamw.param_groups[0]["eps"]
        autocast = _as_torch_has_it(self._autocast, terms.model.device.type)
        raw: list[nn.Parameter] = [] if sigma is None else sigma.param_groups[0]["params"]
        elements = 0.0 if sigma is None else sigma.param_groups[0]["elements"]
        floors = [] if sigma is None else sigma.floors

        def whole_step(values: Tensor, bits: Tensor | None, noise: Tensor, weights: Tensor, rates: Tensor) -> Tensor:
            with autocast():
                loss, sums = terms(MicroBatch(values, bits, noise), weights)
            gradients = torch.autograd.grad(loss, [*parameters, *raw], allow_unused=True)
            with torch.no_grad():
                norm, scale = _norm_and_scale(gradients[: len(parameters)], limit, sums.new_zeros(()))
                found = torch.cat([sums, norm.to(sums.dtype).reshape(1)])
                good = torch.isfinite(found).all()
                for p, g, mean, square, decay in zip(parameters, gradients, means, squares, decays, strict=False):
                    if g is not None:
                        changed = adamw_update(p, scale * g, mean, square, rates, betas, eps, decay)
                        for old, new in zip((p, mean, square), changed, strict=True):
                            old.copy_(torch.where(good, new, old))
                for p, g, floor in zip(raw, gradients[len(parameters) :], floors, strict=True):
                    if g is not None:
                        p.copy_(torch.where(good, sigma_update(p, g, rates[3], elements, floor), p))
            return found

        return whole_step


def _norm_and_scale(gradients: Sequence[Tensor | None], limit: float, zero: Tensor) -> tuple[Tensor, Tensor | float]:
    """Norm over all gradients, and what brings it down to the limit: zero and 1 where there is none."""
    known = [g for g in gradients if g is not None]
    if limit == 0 or not known:
        return zero, 1.0
    norm = torch.stack([g.square().sum() for g in known]).sum().sqrt()
    return norm, torch.where(norm > limit, limit / (norm + 1e-6), 1.0)


def _as_torch_has_it(autocast: Autocast, device: str) -> Callable[[], AbstractContextManager[object]]:
    """The same, in a form that the compiler knows."""
    with autocast():
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return partial(torch.autocast, device, dtype=dtype, enabled=enabled)

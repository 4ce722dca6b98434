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

from ._adamw import adamw_update
from ._compile import compile_alone
from ._protocol import Autocast, LossOfPiece, PureUpdate, Sums

NORM = "gradient_norm"


def can_trace_gradients() -> bool:
    """Tell whether this torch compiles functions that take gradients themselves."""
    from torch._dynamo import config  # a second to import, for those who compile

    return hasattr(config, "trace_autograd_ops")


@final
class FusedStep:
    """The step that `torch.optim.AdamW`, and further pure updates, would take, in one compiled function.

    The optimisers stay the owners of their state, which is read and changed in place, so that a checkpoint does not tell how a
    run was computed. If a sum, or with a limit the norm of the gradient, is not finite, no weight and no state is changed.

    Args:
        loss: loss of a piece and its sums; not compiled yet.
        optimisers: AdamW over the networks; then those with a pure update, such as a learned scale's.
        max_norm: largest norm of the gradient over AdamW's parameters; 0 for none.
        autocast: context of the networks' precision.
        device: where all of it is.
        backend: backend of `torch.compile`.
    """

    def __init__(
        self,
        loss: LossOfPiece,
        optimisers: Sequence[torch.optim.Optimizer],
        max_norm: float,
        autocast: Autocast,
        device: torch.device,
        backend: str = "inductor",
    ) -> None:
        self._loss = loss
        self._adamw = optimisers[0]
        self._others = [cast(PureUpdate, optimiser) for optimiser in optimisers[1:]]
        self._max_norm = max_norm
        self._autocast = autocast
        self._device = device
        self._betas: tuple[float, float] = self._adamw.param_groups[0]["betas"]
        self._parameters: list[nn.Parameter] = [p for group in self._adamw.param_groups for p in group["params"]]
        self._means: list[Tensor] = []
        self._squares: list[Tensor] = []
        self._counts = torch.zeros(0)
        self._taken = 0
        self._compiled = compile_alone(self._function(), device=device, backend=backend)
        from torch._dynamo import config

        self._gradients_traced = config.patch(trace_autograd_ops=True)

    def __call__(self, weights: Tensor, *piece: Tensor | None) -> dict[str, float]:
        """Take the step; returns the sums over the examples by name, and the gradient's norm (0 without a limit).

        Args:
            weights: weights of the loss, on the model's device.
            piece: the batch, on the model's device.
        """
        self._read_state()
        rates = weights.new_tensor(self._rates())
        with self._gradients_traced:  # at every call, since anything may make the compiler run again
            sums: Sums = self._compiled(weights, rates, *piece)
        values = torch.stack(list(sums.values())).tolist()
        if all(map(math.isfinite, values)):
            self._taken += 1
            self._counts += 1.0
        return dict(zip(sums, values, strict=True))

    def _rates(self) -> list[float]:
        """AdamW's rate, its two corrections for the start, and the rates of the others."""
        group = self._adamw.param_groups[0]
        (first, second), step = self._betas, self._taken + 1
        others = [other.param_groups[0]["lr"] for other in self._others]
        return [group["lr"], 1.0 - first**step, math.sqrt(1.0 - second**step), *others]

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

    def _function(self) -> Callable[..., Sums]:
        """Turn a piece into its sums and the gradient's norm; on the way parameters and state are changed."""
        loss_of, max_norm, others = self._loss, self._max_norm, self._others
        parameters, means, squares = self._parameters, self._means, self._squares
        decays = [group["weight_decay"] for group in self._adamw.param_groups for _ in group["params"]]
        betas, eps = self._betas, self._adamw.param_groups[0]["eps"]
        autocast = _as_torch_has_it(self._autocast, self._device.type)
        rest = [(p, number) for number, other in enumerate(others) for p in other.param_groups[0]["params"]]
        raw: list[Tensor] = [p for p, _ in rest]

        def fused_step(weights: Tensor, rates: Tensor, *piece: Tensor | None) -> Sums:
            with autocast():
                loss, sums = loss_of(weights, *piece)
            gradients = torch.autograd.grad(loss, [*parameters, *raw], allow_unused=True)
            with torch.no_grad():
                first = next(iter(sums.values()))
                norm, scale = _norm_and_scale(gradients[: len(parameters)], max_norm, first.new_zeros(()))
                found = {**sums, NORM: norm.to(first.dtype)}
                good = torch.isfinite(torch.stack(list(found.values()))).all()
                for p, g, mean, square, decay in zip(parameters, gradients, means, squares, decays, strict=False):
                    if g is not None:
                        changed = adamw_update(p, scale * g, mean, square, rates, betas, eps, decay)
                        for old, new in zip((p, mean, square), changed, strict=True):
                            old.copy_(torch.where(good, new, old))
                for (p, number), g in zip(rest, gradients[len(parameters) :], strict=True):
                    if g is not None:
                        p.copy_(torch.where(good, others[number].updated(p, g, rates[3 + number]), p))
            return found

        return fused_step


def _norm_and_scale(gradients: Sequence[Tensor | None], limit: float, zero: Tensor) -> tuple[Tensor, Tensor | float]:
    """Norm over all gradients, and the factor that brings it down to the limit: zero and 1 where there is none."""
    known = [g for g in gradients if g is not None]
    if limit == 0 or not known:
        return zero, 1.0
    norm = torch.stack([g.square().sum() for g in known]).sum().sqrt()
    return norm, torch.where(norm > limit, limit / (norm + 1e-6), 1.0)


def _as_torch_has_it(autocast: Autocast, device: str) -> Callable[[], AbstractContextManager[object]]:
    """Write an autocast context in a form that the compiler knows."""
    with autocast():
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return partial(torch.autocast, device, dtype=dtype, enabled=enabled)

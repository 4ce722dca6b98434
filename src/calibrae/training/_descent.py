"""Steps of the optimisers, in pieces or compiled as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import final

import torch
from torch import Tensor

from ..errors import NonFiniteError, first_line
from ..objectives import BetaELBO
from ._step import Autocast, backward_batch, clip, loss_weights, not_finite
from ._terms import MicroBatch, StepTerms
from ._whole_step import WholeStep, can_trace_gradients


@final
class Descent:
    """Takes a step on a batch: gradients, clipping, update.

    In pieces, each of which may be compiled or not; or, for a batch that is not cut up, in one compiled function.

    Args:
        terms: of the model.
        optimisers: AdamW over the networks; then, if sigma is learned, its own.
        limit: largest norm of the gradient over AdamW's parameters; 0 for none.
        backward: of a scalar, under the run's precision.
        autocast: of the networks.

    Attributes:
        part: of a step that is compiled, in words, where it is not the whole.
    """

    def __init__(
        self,
        terms: StepTerms,
        optimisers: Sequence[torch.optim.Optimizer],
        limit: float,
        backward: Callable[[Tensor], None] = Tensor.backward,
        autocast: Autocast = nullcontext,
    ) -> None:
        self.terms = terms
        # out of Fabric's wrappers, which on one device, in float32 or bf16, only pass the step on
        self.optimisers = [getattr(optimiser, "optimizer", optimiser) for optimiser in optimisers]
        self._clipped = [p for group in optimisers[0].param_groups for p in group["params"]]
        self._trained = list(terms.model.parameters())
        self._limit = limit
        self._backward = backward
        self._autocast = autocast
        self._whole: WholeStep | None = None
        self.part = ""

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code runs, of the whole step or of its terms."""
        return self._whole is not None or self.terms.is_compiled

    def __call__(self, micro: Sequence[MicroBatch], objective: BetaELBO, step: int) -> dict[str, float]:
        """Take a step; returns the batch's number of examples and its sums of NLL, KL and squared error per dimension.

        Args:
            micro: the batch in pieces.
            objective: what is descended, in nats per data dimension.
            step: counted from 0.

        Raises:
            NonFiniteError: if a term is not finite, or with a limit the gradient's norm; no weight has changed then.
        """
        if self._whole is not None and len(micro) == 1:
            return self._step_whole(self._whole, micro[0], objective, step)
        for parameter in self._trained:
            parameter.grad = None
        sums = backward_batch(self.terms, self._backward, objective, micro, step, self._autocast)
        clip(self._clipped, self._limit)
        for optimiser in self.optimisers:
            optimiser.step()
        return sums

    def _step_whole(self, whole: WholeStep, batch: MicroBatch, objective: BetaELBO, step: int) -> dict[str, float]:
        count, data_dim = len(batch.values), batch.values[0].numel()
        nll, kl, sse, norm = whole(batch, batch.noise.new_tensor(loss_weights(objective, step, count, data_dim)))
        if not all(map(math.isfinite, (nll, kl, sse))):
            raise not_finite(self.terms, batch, (nll, kl, sse))
        if not math.isfinite(norm):
            raise NonFiniteError("the gradient is not finite, though the loss is")
        return {"n": float(count), "nll": nll, "kl": kl, "mse": sse / data_dim}

    def compile(self, micro: Sequence[MicroBatch]) -> str | None:
        """Compile the whole step, or if that cannot be its loss alone, by taking steps; what failed, if nothing is compiled.

        Args:
            micro: pieces as a step takes them.

        Raises:
            NonFiniteError: if such a step is not finite.
        """
        self.part = self._compile_whole(micro)
        if self._whole is None:
            self.terms.compile_terms()
        self(micro, BetaELBO(), 0)
        return self.terms.failure

    def _compile_whole(self, micro: Sequence[MicroBatch]) -> str:
        """Try it; what is to be compiled after that, in words."""
        if len(micro) > 1:
            return "its loss alone, as batches are cut up"
        if not can_trace_gradients():
            return "its loss alone, as this version of torch cannot trace gradients"
        if any(getattr(p, "_post_accumulate_grad_hooks", None) for p in self._trained):
            return "its loss alone, as a parameter has hooks on its gradient"
        whole = WholeStep(self.terms, self.optimisers, self._limit, self._autocast)
        try:
            whole(micro[0], micro[0].noise.new_ones(2))
        except Exception as error:  # a compiler may fail in any way
            return f"its loss alone, as the whole failed: {first_line(error)}"
        self._whole = whole
        return ""

    def leave_uncompiled(self) -> None:
        """Return to eager execution."""
        self._whole = None
        self.terms.leave_uncompiled()

    @contextmanager
    def eagerly(self) -> Iterator[None]:
        """Without compiled code for a while; within `undisturbed`, since a whole step keeps count of its own."""
        whole, self._whole = self._whole, None
        try:
            with self.terms.eagerly():
                yield
        finally:
            self._whole = whole

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Steps that change nothing: weights, buffers, gradients, generators and the optimisers' state are what they were before.

        The rates are zero meanwhile. For optimisers that have taken no step yet.
        """
        held = [*self.terms.parameters(), *self.terms.buffers()]
        before = [x.detach().clone() for x in held]
        device = self.terms.model.device
        devices = [device] if device.type == "cuda" else []
        groups = [group for optimiser in self.optimisers for group in optimiser.param_groups]
        rates = [group["lr"] for group in groups]
        try:
            for group in groups:
                group["lr"] = 0.0
            with torch.random.fork_rng(devices=devices):
                yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
            for optimiser in self.optimisers:
                optimiser.state.clear()
            with torch.no_grad():
                for x, value in zip(held, before, strict=True):
                    x.copy_(value)  # in place: the order in memory may have been chosen meanwhile
            self.terms.zero_grad(set_to_none=True)

"""One optimiser step: forward, loss, backward, clip, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, final

import torch
from torch import Tensor

from .._types import Batch, World
from ..errors import NonFiniteError
from ..models import optimal_scale_of
from ._gradients import gradient_norm, share_gradients
from ._loss import Piece, PieceLoss, unchanged
from ._not_finite import not_finite
from ._sharded import own_piece

Autocast = Callable[[], AbstractContextManager[object]]
LossOfPiece = Callable[..., tuple[Tensor, dict[str, Tensor]]]


class Step(Protocol):
    """Takes an optimiser step on a batch in pieces; returns the number of examples and the sums over them by name."""

    def __call__(self, pieces: Sequence[Piece], step: int) -> dict[str, float]: ...


@final
class EagerStep:
    """The plain step, which every faster one must agree with.

    Args:
        loss: loss of a piece.
        optimisers: AdamW over the networks first.
        total_steps: steps of the whole run, for the objective's schedule.
        max_norm: largest norm of the gradient over the first optimiser's parameters; 0 for none.
        autocast: context of the networks' precision.
        backward: backward pass of a scalar under that precision.
        world: processes that share the batch: each takes the step on its part, and the gradients are summed over all.
        batch_size: examples of a batch over all processes; by default as many from each as from this one.
    """

    def __init__(
        self,
        loss: PieceLoss,
        optimisers: Sequence[torch.optim.Optimizer],
        total_steps: int,
        max_norm: float = 0.0,
        autocast: Autocast = nullcontext,
        backward: Callable[[Tensor], None] = Tensor.backward,
        world: World | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.module = loss
        self.loss: LossOfPiece = loss
        self.optimisers = list(optimisers)
        self.total_steps = total_steps
        self.max_norm = max_norm
        self.autocast = autocast
        self.world = world or World()
        self._backward = backward
        self._clipped = [p for group in optimisers[0].param_groups for p in group["params"]]

    def __call__(self, pieces: Sequence[Piece], step: int) -> dict[str, float]:
        """Take a step; see `Step`.

        Raises:
            NonFiniteError: if a sum is not finite, or with a limit the gradient's norm; no weight has changed then.
        """
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        weights, totals = self.weights(pieces, step), dict[str, float]()
        with self._scale_of_batch(pieces):
            for piece in pieces:
                with self.autocast():
                    loss, sums = self.loss(weights, *piece)
                stacked = torch.stack(list(sums.values()))
                if self.world.size > 1:
                    stacked = self.world.sum(stacked)
                values = dict(zip(sums, stacked.tolist(), strict=True))
                if not all(map(math.isfinite, values.values())):
                    raise self.not_finite(piece, values)
                self._backward(loss)
                totals = {name: totals.get(name, 0.0) + value for name, value in values.items()}
        share_gradients(self.optimisers, self.world)
        self._clip()
        for optimiser in self.optimisers:
            optimiser.step()
        return self.totals(pieces, totals)

    def weights(self, pieces: Sequence[Piece], step: int) -> Tensor:
        """Factor of the summed loss, so that it is the batch's mean in nats per data dimension; then the objective's weights."""
        share = 1.0 / (self._examples(pieces) * pieces[0].values[0].numel())
        schedule = self.module.objective.schedule(step, self.total_steps)
        return pieces[0].eps.new_tensor([share, *(schedule[name] for name in self.module.weight_names)])

    def totals(self, pieces: Sequence[Piece], sums: dict[str, float]) -> dict[str, float]:
        """Sums with the number of examples, and the squared error per dimension in place of the sum over dimensions."""
        count, data_dim = self._examples(pieces), pieces[0].values[0].numel()
        rest = {name: value for name, value in sums.items() if name != "sse"}
        error = {"mse": sums["sse"] / data_dim} if "sse" in sums else {}
        return {"n": float(count), **rest, **error}

    def _examples(self, pieces: Sequence[Piece]) -> int:
        """Examples of a batch, over all processes."""
        return self.batch_size or sum(len(piece.values) for piece in pieces) * self.world.size

    @contextmanager
    def _scale_of_batch(self, pieces: Sequence[Piece]) -> Iterator[None]:
        """Hold an optimal scale at its value over the whole batch: by the envelope theorem its gradient is the whole batch's."""
        scale = optimal_scale_of(self.module.model)
        if scale is None or len(pieces) == 1:
            yield
            return
        power, total, count = scale.statistic.power, torch.zeros(()), 0.0
        with torch.no_grad(), self.autocast(), unchanged(self.module):
            for piece in pieces:
                x = self.module.prepared(piece.values, piece.dequantisation_bytes)
                px = self.module.model.draw(Batch(x, piece.context, piece.mask), len(piece.eps), piece.eps).px
                location = px.mean.flatten(0, 1).to(x.dtype)
                log_scale = scale.profile(x.expand(len(piece.eps), *x.shape).flatten(0, 1), location)
                everywhere = float(self.world.sum(torch.tensor(float(len(x)))))
                total = total + everywhere * (power * log_scale).exp().cpu()
                count += everywhere
        if not bool(torch.isfinite(total).all()):
            raise NonFiniteError("the reconstruction term is not finite (in the pass that computes the batch's scale)")
        with scale.held((total / count).pow(1.0 / power).to(self.module.model.device)):
            yield

    def _clip(self) -> None:
        """Scale the gradients down to the largest norm; 0 leaves them: what is not finite shows in the next loss then."""
        if self.max_norm == 0:
            return
        gradients = [p.grad for p in self._clipped if p.grad is not None]
        norm = gradient_norm(gradients, self.world)
        if not math.isfinite(norm):
            raise NonFiniteError("the gradient is not finite, though the loss is")
        if norm > self.max_norm:
            torch._foreach_mul_([own_piece(gradient) for gradient in gradients], self.max_norm / (norm + 1e-6))

    def not_finite(self, piece: Piece, sums: dict[str, float]) -> NonFiniteError:
        """Build the error for sums that are not finite; see `not_finite`."""
        return not_finite(self.module, piece, sums)

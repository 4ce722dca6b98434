"""Loss of a piece of a batch, in one function that a compiler can fuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from .._types import Batch, moved
from ..models import VAE
from ..objectives import Objective, require_terms

Prepare = Callable[[Tensor, Tensor], Tensor]


class Piece(NamedTuple):
    """Examples of one pass forward and back.

    Attributes:
        values: `[b, *data]`, prepared; or as they are stored, if there are bytes.
        dequantisation_bytes: random bytes that dequantise them, the same shape, or `None`.
        context: `[b, context_dim]`, or `None`.
        mask: `[b, *data]`, or `None`.
        eps: standard normal noise, `[K, b, d]`.
    """

    values: Tensor
    dequantisation_bytes: Tensor | None
    context: Tensor | None
    mask: Tensor | None
    eps: Tensor

    def to(self, device: torch.device) -> Piece:
        """Move to a device; a CUDA device fetches from pinned memory while Python goes on."""
        return Piece(*(moved(part, device) for part in self))  # type: ignore[arg-type]


@final
class PieceLoss(nn.Module):
    """Weighted loss of a piece, and sums over its examples: what the objective says, and nothing else.

    Args:
        model: trained in place.
        objective: loss to minimise.
        prepare: from stored values and bytes to what the model sees.
    """

    def __init__(self, model: VAE, objective: Objective, prepare: Prepare | None = None) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.weight_names = tuple(objective.schedule(0, 1))
        self.memory_format = torch.preserve_format
        self._prepare = prepare

    def forward(
        self,
        weights: Tensor,
        values: Tensor,
        dequantisation_bytes: Tensor | None,
        context: Tensor | None,
        mask: Tensor | None,
        eps: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and the sums over the examples of the loss, its parts and the squared error, without gradients.

        Args:
            weights: factor of the summed loss, then the objective's weights in the order of `weight_names`.
            values: see `Piece`.
            dequantisation_bytes: see `Piece`.
            context: see `Piece`.
            mask: see `Piece`.
            eps: see `Piece`.
        """
        x = self.prepared(values, dequantisation_bytes)
        draw = self.model.draw(Batch(x, context, mask), self.objective.samples, eps)
        named = dict(zip(self.weight_names, weights[1:].unbind(), strict=True))
        terms = self.objective(draw, named)
        require_terms(terms, len(x), self.objective)
        loss = terms.loss.sum()
        sums = {"loss": loss, **{name: part.sum() for name, part in terms.parts.items()}}
        if self.model.likelihood.has_mean:
            sums["sse"] = draw.sse.mean(0).sum()
        return weights[0] * loss, {name: value.detach() for name, value in sums.items()}

    def prepared(self, values: Tensor, dequantisation_bytes: Tensor | None) -> Tensor:
        """Examples as the model sees them, `[b, *data]`."""
        has_bytes = dequantisation_bytes is not None and self._prepare is not None
        x = self._prepare(values, dequantisation_bytes) if has_bytes else values  # type: ignore[misc, arg-type]
        if self.memory_format is torch.preserve_format or x.ndim != 4:
            return x
        return x.contiguous(memory_format=self.memory_format)


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Restore buffers and generators on exit, so that a second pass sees the statistics and masks of the first."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    for buffer, value in before:
        buffer.copy_(value)

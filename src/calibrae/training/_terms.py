"""What a step needs of a model, in one function that a compiler can fuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from ..errors import first_line
from ..models import VAE, compile_alone
from ..objectives import elbo_terms

Prepare = Callable[[Tensor, Tensor], Tensor]


class MicroBatch(NamedTuple):
    """Examples of one pass forward and back.

    Attributes:
        values: `[b, *data]`, prepared; or as they are stored, if there are bits.
        bits: random bytes that dequantise them, the same shape, or none.
        noise: standard normal, `[b, d]`.
    """

    values: Tensor
    bits: Tensor | None
    noise: Tensor

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device; a CUDA device fetches it from pinned memory while Python goes on."""

        def moved(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=device.type == "cuda")

        return MicroBatch(moved(self.values), None if self.bits is None else moved(self.bits), moved(self.noise))


@final
class StepTerms(nn.Module):
    """Loss and sums of a micro-batch, compiled or not.

    Compiling preparation, networks and loss together fuses their passes over the data, which in a small network cost as much as the
    products of matrices. The model itself is left as it is, so that evaluation, with its other batch sizes, never waits
    for a compiler.

    Args:
        model: trained in place.
        prepare: from stored values and bits to what the model sees.
    """

    def __init__(self, model: VAE, prepare: Prepare | None = None) -> None:
        super().__init__()
        self.model = model
        self.channels_last = False
        self._prepare = prepare
        self._compiled: Callable[..., Any] | None = None
        self._is_proved = False
        self.failure: str | None = None

    def compile_terms(self) -> None:
        """Compile from the next call on; if the compiler fails there, go on without and say why in `failure`."""

        def loss_and_sums(values: Tensor, bits: Tensor | None, noise: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
            return self._loss_and_sums(values, bits, noise, weights)

        self._compiled = compile_alone(loss_and_sums, device=self.model.device)
        self._is_proved, self.failure = False, None

    def leave_uncompiled(self) -> None:
        """Return to eager execution."""
        self._compiled = None

    @contextmanager
    def eagerly(self) -> Iterator[None]:
        """Without the compiled code for a while."""
        compiled, self._compiled = self._compiled, None
        try:
            yield
        finally:
            self._compiled = compiled

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code runs."""
        return self._compiled is not None

    def forward(self, batch: MicroBatch, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, a scalar, and the sums over the examples of NLL, KL and squared error, `[3]`, without gradients.

        Args:
            batch: of any size; compiled anew for each.
            weights: of the summed NLL and of the summed KL, `[2]`.
        """
        if self._compiled is None:
            return self._loss_and_sums(*batch, weights)
        if self._is_proved:
            found: tuple[Tensor, Tensor] = self._compiled(*batch, weights)
            return found
        return self._first(batch, weights)

    def _first(self, batch: MicroBatch, weights: Tensor) -> tuple[Tensor, Tensor]:
        assert self._compiled is not None
        try:
            found: tuple[Tensor, Tensor] = self._compiled(*batch, weights)
        except (
            Exception
        ) as error:  # a compiler may fail in any way; what the model itself raises, it raises again below
            self.leave_uncompiled()
            found = self._loss_and_sums(*batch, weights)
            self.failure = first_line(error)
        self._is_proved = True
        return found

    def prepared(self, batch: MicroBatch) -> Tensor:
        """What the model sees, `[b, *data]`."""
        return self._prepared(batch.values, batch.bits)

    def _prepared(self, values: Tensor, bits: Tensor | None) -> Tensor:
        x = values if bits is None or self._prepare is None else self._prepare(values, bits)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    def _loss_and_sums(
        self, values: Tensor, bits: Tensor | None, noise: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        x = self._prepared(values, bits)
        output = self.model(x, noise)
        terms = elbo_terms(output, x)
        nll, kl = terms.nll.sum(), terms.kl.sum()
        sums = torch.stack([nll, kl, output.likelihood.sse(x).sum()]).detach()
        return weights[0] * nll + weights[1] * kl, sums

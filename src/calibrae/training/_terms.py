"""What a step needs of a model, in one function that a compiler can fuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn

from ..models import VAE, compile_alone
from ..objectives import elbo_terms

Terms = tuple[Tensor, Tensor, Tensor]


@final
class StepTerms(nn.Module):
    """`nll` `[B]`, `kl` `[B, d]` and squared error `[B]` of a batch, compiled or not.

    Compiling the loss with the networks fuses its passes over the data, which in a small network cost as much as the
    products of matrices. The model itself is left as it is, so that evaluation, with its other batch sizes, never waits
    for a compiler.

    Args:
        model: trained in place.
    """

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model
        self._compiled: Callable[..., Any] | None = None
        self._is_proved = False
        self.failure: str | None = None

    def compile_terms(self) -> None:
        """Compile from the next call on; if the compiler fails there, go on without and say why in `failure`."""

        def terms(x: Tensor, noise: Tensor) -> Terms:
            return self._terms(x, noise)

        self._compiled, self._is_proved, self.failure = compile_alone(terms), False, None

    def leave_uncompiled(self) -> None:
        """Return to eager execution."""
        self._compiled = None

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code runs."""
        return self._compiled is not None

    def forward(self, x: Tensor, noise: Tensor) -> Terms:
        if self._compiled is None:
            return self._terms(x, noise)
        if self._is_proved:
            found: Terms = self._compiled(x, noise)
            return found
        return self._first(x, noise)

    def _first(self, x: Tensor, noise: Tensor) -> Terms:
        assert self._compiled is not None
        try:
            found: Terms = self._compiled(x, noise)
        except (
            Exception
        ) as error:  # a compiler may fail in any way; what the model itself raises, it raises again below
            self.leave_uncompiled()
            found = self._terms(x, noise)
            self.failure = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        self._is_proved = True
        return found

    def _terms(self, x: Tensor, noise: Tensor) -> Terms:
        output = self.model(x, noise)
        terms = elbo_terms(output, x)
        return terms.nll, terms.kl, output.likelihood.sse(x)

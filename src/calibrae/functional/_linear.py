"""The linear model that a trained one has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import ArgumentError
from ._factor import FactorAnalysis, factor_log_likelihood
from ._ppca import PPCA, ppca_log_likelihood


@dataclass(frozen=True, slots=True)
class LinearBaseline:
    r"""Linear model of the training examples, with as many sigmas as the model that it is compared with.

    Of a conditional model it is one of what a regression on the condition `c` leaves: $x = B^T c + \mu + W z + \epsilon$.

    Attributes:
        ppca: probabilistic PCA, with one sigma.
        factor: factor analysis, with a sigma for each element or channel; `None` where one sigma is compared.
        shared: extent of one sigma in it: `all`, `channel` or `element`.
        is_exact: whether its eigenvalues are.
        slope: `B`, `[context_dim, D]`; `None` without a condition.
    """

    ppca: PPCA
    factor: FactorAnalysis | None = None
    shared: str = "all"
    is_exact: bool = True
    slope: Tensor | None = None

    @property
    def latent_dim(self) -> int:
        """Number of latents."""
        return int((self.ppca.components if self.factor is None else self.factor.weight).shape[1])

    @property
    def sigma(self) -> float:
        """Root mean square of the noise."""
        return self.ppca.sigma if self.factor is None else self.factor.sigma

    @property
    def name(self) -> str:
        """Name for a sentence.

        Examples:
            >>> LinearBaseline(PPCA(torch.zeros(2), torch.eye(2)[:, :1], torch.ones(1), 1.0)).name
            'probabilistic PCA with 1 latent'
        """
        after = "" if self.slope is None else " after regression on the condition"
        latents = f"{self.latent_dim} latent{'' if self.latent_dim == 1 else 's'}"
        if self.factor is None:
            return f"probabilistic PCA with {latents}{after}"
        return f"factor analysis with {latents} and one sigma per {self.shared}{after}"

    def residual(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """What the regression on the condition leaves of examples `[B, D]`; the examples without one."""
        if self.slope is None:
            return x
        if context is None:
            raise ArgumentError("this baseline depends on the condition; got none. Pass `context`, [B, context_dim].")
        return x - context.to(self.slope) @ self.slope

    def log_likelihood(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Exact `log p(x)`, or `log p(x | c)`, of each example `[B, D]`, in nats."""
        rest = self.residual(x, context)
        return ppca_log_likelihood(self.ppca, rest) if self.factor is None else factor_log_likelihood(self.factor, rest)

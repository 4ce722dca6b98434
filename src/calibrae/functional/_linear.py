"""The linear model that a trained one has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._factor import FactorAnalysis, factor_log_likelihood
from ._ppca import PPCA, ppca_log_likelihood


@dataclass(frozen=True, slots=True)
class LinearBaseline:
    """Linear model of the training examples, with as many sigmas as the model that it is compared with.

    Attributes:
        ppca: probabilistic PCA, with one sigma.
        factor: factor analysis, with a sigma for each element or channel; `None` where one sigma is compared.
        shared: extent of one sigma in it: `all`, `channel` or `element`.
        is_exact: whether its eigenvalues are.
    """

    ppca: PPCA
    factor: FactorAnalysis | None = None
    shared: str = "all"
    is_exact: bool = True

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
        latents = f"{self.latent_dim} latent{'' if self.latent_dim == 1 else 's'}"
        if self.factor is None:
            return f"probabilistic PCA with {latents}"
        return f"factor analysis with {latents} and one sigma per {self.shared}"

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Exact `log p(x)` of each example `[B, D]`, in nats."""
        return ppca_log_likelihood(self.ppca, x) if self.factor is None else factor_log_likelihood(self.factor, x)

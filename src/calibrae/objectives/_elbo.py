"""Evidence lower bound of each example."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._draw import Draw


@dataclass(frozen=True, slots=True)
class ELBOTerms:
    r"""Terms of $\mathrm{ELBO}(x) = E_q[\log p(x|z)] - \mathrm{KL}(q(z|x) \| p(z))$ of each example, in nats.

    Attributes:
        nll: `-log p(x|z)`, mean over the samples of `z`, `[B]`; constants kept.
        kl: KL, summed over the latents, `[B]`.
        kl_per_dim: KL of each latent, `[B, d]`; `None` unless posterior and prior factorise.

    Examples:
        >>> from calibrae.objectives import ELBOTerms
        >>> ELBOTerms(nll=torch.tensor([3.0]), kl=torch.tensor([1.5]), kl_per_dim=None).elbo
        tensor([-4.5000])
    """

    nll: Tensor
    kl: Tensor
    kl_per_dim: Tensor | None

    @property
    def elbo(self) -> Tensor:
        """`[B]`, in nats. Beta is 1 here, always."""
        return -(self.nll + self.kl)


def elbo_terms(draw: Draw) -> ELBOTerms:
    """ELBO's terms of each example from a draw.

    Raises:
        NoDensityError: for a plain autoencoder, which has no KL.
    """
    return ELBOTerms(nll=draw.nll.mean(0), kl=draw.kl, kl_per_dim=draw.kl_per_dim)

"""The evidence lower bound, per example."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .._types import ModelOutput
from ..errors import NoDensityError


@dataclass(frozen=True, slots=True)
class ELBOTerms:
    r"""The terms of $\mathrm{ELBO}(x) = E_q[\log p(x|z)] - \mathrm{KL}(q(z|x) \| p(z))$ of each example, in nats.

    Attributes:
        nll: `-log p(x|z)` at one sample of `z`, `[B]`; constants kept.
        kl: the KL of each latent dimension, `[B, d]`.
        is_bound: `False` for a plain autoencoder, whose code has no density.

    Example:
        >>> terms = ELBOTerms(nll=torch.tensor([3.0]), kl=torch.tensor([[0.5, 1.0]]))
        >>> terms.elbo
        tensor([-4.5000])
    """

    nll: Tensor
    kl: Tensor
    is_bound: bool = True

    @property
    def elbo(self) -> Tensor:
        """`[B]`, in nats. Beta is 1 here, always."""
        if not self.is_bound:
            raise NoDensityError(
                "a plain autoencoder's code is a point: its KL is infinite and it has no ELBO. Read `nll`, or train a "
                'probabilistic model, as in `build("sigma-vae", ...)`.'
            )
        return -(self.nll + self.kl.sum(-1))


def elbo_terms(output: ModelOutput, x: Tensor) -> ELBOTerms:
    """The ELBO's terms of a batch `x` from any model's output.

    Args:
        output: posterior, prior, likelihood and the sampled `z`.
        x: the batch, `[B, *data]`.

    Returns:
        The terms per example.
    """
    posterior = output.posterior
    return ELBOTerms(
        nll=output.likelihood.nll(x), kl=output.prior.kl(posterior, output.z), is_bound=posterior.is_density
    )

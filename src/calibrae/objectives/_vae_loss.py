"""A model's training loss as a function of the decoder's output and a Gaussian posterior."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .._types import Batch
from ..errors import ArgumentError
from ..latents import DiagonalGaussian, Prior
from ..likelihoods import Likelihood
from ._draw import Draw
from ._objectives import Objective

AuditedLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def vae_loss(likelihood: Likelihood, prior: Prior, objective: Objective, context: Tensor | None = None) -> AuditedLoss:
    """Write an objective as `loss(x, x_hat, mu, logvar)`, as an audit takes it: the very code that training minimises.

    The loss is the mean over the batch at the objective's final weights. The latents sit at the mean of the posterior, so an
    objective that needs samples is judged at that point.

    Args:
        likelihood: reads `x_hat`, which has the shape of the data.
        prior: `p(z)`.
        objective: loss to minimise.
        context: one context `[context_dim]` for all examples, for a conditional prior.

    Raises:
        ArgumentError: if the decoder gives more than one feature per element, which a loss of `x_hat` cannot show.

    Examples:
        >>> from calibrae.audit import audit_loss
        >>> from calibrae.objectives import vae_loss
        >>> model = build("vae", data_shape=(1, 8, 8), latent_dim=4)
        >>> loss = vae_loss(model.likelihood, model.prior, model.objective)
        >>> record = audit_loss(loss, data_shape=(1, 8, 8), latent_dim=4, batch_size=8)
        >>> round(record.implied_sigma, 6), record.codes("error")
        (1.0, [])
    """
    shape = likelihood.data_shape
    if likelihood.output_shape(shape) != shape:
        raise ArgumentError(
            f"an audit probes loss(x, x_hat, mu, logvar) with an x_hat of the shape of x; {type(likelihood).__name__} reads "
            f"{likelihood.output_shape(shape)} for data of {shape}. Check it with cb.testing.check_likelihood instead."
        )
    weights = objective.final_weights()

    def loss(x: Tensor, x_hat: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        q = DiagonalGaussian(mu, 0.5 * logvar)
        given = None if context is None else context.to(mu).expand(len(mu), -1)
        p = prior(given) if prior.is_density else None
        z = mu.expand(objective.samples, *mu.shape)
        px = likelihood(x_hat.expand(objective.samples, *x_hat.shape))
        return objective(Draw(Batch(x, given), q, p, z, px), weights).loss.mean()

    return loss

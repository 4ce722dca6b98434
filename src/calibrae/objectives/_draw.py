"""Samples of a model's latents for a batch, and what follows from them."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.distributions import Distribution

from .._types import Batch
from ..errors import NoDensityError
from ..latents import kl, kl_per_dimension, log_prob_of
from ..likelihoods import squared_error

NO_PRIOR = (
    "a plain autoencoder has no prior, so it has no KL, ELBO or likelihood. Read `nll`, or train a probabilistic model, as in "
    '`build("sigma-vae", ...)`.'
)


@final
class Draw:
    r"""`K` samples of the latents of each example of a batch, $z_k \sim q(z|x)$. Sums and divergences are computed when asked for.

    Args:
        batch: examples and their context.
        q: `q(z|x)`, batch `[B]`, event `[d]`.
        p: `p(z)` or `p(z|context)`, batch `[]` or `[B]`, event `[d]`; `None` for a plain autoencoder.
        z: samples, `[K, B, d]`.
        px: `p(x|z)` at the samples, batch `[K, B]`, event `[*data]`.
        eps: standard normal noise that made the samples, `[K, B, d]`, if it did.

    Examples:
        >>> model = build("vae", data_shape=(4,), latent_dim=2)
        >>> draw = model.draw(torch.zeros(3, 4), samples=5)
        >>> draw.nll.shape, draw.kl.shape, draw.log_weights.shape
        (torch.Size([5, 3]), torch.Size([3]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        batch: Batch,
        q: Distribution,
        p: Distribution | None,
        z: Tensor,
        px: Distribution,
        eps: Tensor | None = None,
    ) -> None:
        self.batch = batch
        self.q = q
        self.z = z
        self.px = px
        self.eps = eps
        self._p = p
        self._nll: Tensor | None = None
        self._kl: Tensor | None = None
        self._log_q: Tensor | None = None
        self._log_p: Tensor | None = None

    @property
    def x(self) -> Tensor:
        """Examples, `[B, *data]`."""
        return self.batch.x

    @property
    def context(self) -> Tensor | None:
        """Context, `[B, context_dim]`, or `None`."""
        return self.batch.context

    @property
    def is_bound(self) -> bool:
        """Tell whether there is an ELBO: a plain autoencoder has none."""
        return self._p is not None

    @property
    def p(self) -> Distribution:
        """Prior.

        Raises:
            NoDensityError: for a plain autoencoder.
        """
        if self._p is None:
            raise NoDensityError(NO_PRIOR)
        return self._p

    @property
    def nll(self) -> Tensor:
        """`-log p(x|z)` of each sample, `[K, B]`, in nats; summed over the data dimensions, nothing dropped."""
        if self._nll is None:
            self._nll = -self.px.log_prob(self.batch.x)
        return self._nll

    @property
    def sse(self) -> Tensor:
        """Squared error of the mean of `p(x|z)`, summed over the data dimensions, `[K, B]`."""
        return squared_error(self.px, self.batch.x)

    @property
    def log_q(self) -> Tensor:
        """`log q(z|x)` of each sample, `[K, B]`, in nats."""
        if self._log_q is None:
            self._log_q = log_prob_of(self.q, self.z, self.eps)
        return self._log_q

    @property
    def log_p(self) -> Tensor:
        """`log p(z)` of each sample, `[K, B]`, in nats."""
        if self._log_p is None:
            self._log_p = self.p.log_prob(self.z)
        return self._log_p

    @property
    def kl(self) -> Tensor:
        """`KL(q(z|x) || p(z))` of each example, `[B]`, in nats: in closed form where one is known, else from the samples."""
        if self._kl is None:
            self._kl = kl(self.q, self.p, self.z, self.eps)
        return self._kl

    @property
    def kl_per_dim(self) -> Tensor | None:
        """KL of each latent, `[B, d]`, in nats; `None` unless posterior and prior factorise."""
        return kl_per_dimension(self.q, self.p)

    @property
    def log_weights(self) -> Tensor:
        """`log p(x|z) + log p(z) - log q(z|x)` of each sample, `[K, B]`, in nats."""
        return self.log_p - self.log_q - self.nll

"""Squared errors and negative log densities of the data given the decoder's output."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

from .._types import Float
from ._checks import require_examples, require_same_shape, require_spread

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
MOST_FACTORS = 112  # between 1 and 2, so that float32 holds their product


def sse(x: Float[Tensor, "b *data"], x_hat: Float[Tensor, "b *data"]) -> Float[Tensor, " b"]:
    r"""Sum of squared errors of each example.

    $$\mathrm{SSE}(x, \hat x) = \sum_{i=1}^{D} (x_i - \hat x_i)^2 = D \cdot \mathrm{MSE}$$

    Convention: summed over the data dimensions, without a half; not reduced over the batch.

    Args:
        x: data, `[B, *data]`.
        x_hat: reconstruction, the same shape.

    Returns:
        `[B]`, in squared units of the data.

    Raises:
        ShapeError: if the shapes differ or have no data dimension.

    Examples:
        >>> sse(torch.zeros(2, 3), torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 0.0]]))
        tensor([3., 4.])
    """
    require_examples(x=x, x_hat=x_hat)
    dtype = torch.promote_types(
        x.dtype, x_hat.dtype
    )  # by itself `mse_loss` has no gradient of two types in older versions of torch
    return F.mse_loss(x_hat.to(dtype), x.to(dtype), reduction="none").flatten(1).sum(1)  # one pass each way


def mse(x: Float[Tensor, "b *data"], x_hat: Float[Tensor, "b *data"]) -> Float[Tensor, " b"]:
    r"""Mean squared error of each example.

    $$\mathrm{MSE}(x, \hat x) = \frac1D \sum_{i=1}^{D} (x_i - \hat x_i)^2$$

    Convention: the mean over the data dimensions, without a half; not reduced over the batch.

    Args:
        x: data, `[B, *data]`.
        x_hat: reconstruction, the same shape.

    Returns:
        `[B]`, in squared units of the data.

    Raises:
        ShapeError: if the shapes differ or have no data dimension.

    Examples:
        >>> mse(torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [0.0, 2.0]]))
        tensor([1., 2.])
    """
    require_examples(x=x, x_hat=x_hat)
    return (x - x_hat).square().flatten(1).mean(1)


def gaussian_nll(
    x: Float[Tensor, "*s"], mean: Float[Tensor, "*s"], log_sigma: Float[Tensor, "..."] | float
) -> Float[Tensor, "*s"]:
    r"""Negative log density of a Gaussian, element by element, in nats.

    $$-\log N(x; \mu, \sigma^2) = \tfrac12 \Big(\frac{x - \mu}{\sigma}\Big)^2 + \log\sigma + \tfrac12 \log 2\pi$$

    Convention: nothing is summed, averaged or dropped; the half and the constant are kept.

    Args:
        x: data.
        mean: mean of the density, the shape of `x`.
        log_sigma: natural logarithm of its standard deviation: one number, or a tensor that broadcasts over `x` with
            every data dimension written out (a sigma per channel of `[B, C, H, W]` is `[C, 1, 1]`).

    Returns:
        The shape of `x`, in nats.

    Raises:
        ShapeError: if `x` and `mean` differ in shape, or `log_sigma` does not broadcast.

    References:
        Rybkin, Daniilidis & Levine 2021, https://arxiv.org/abs/2006.13202

    Examples:
        >>> gaussian_nll(torch.zeros(1), torch.zeros(1), torch.zeros(1))
        tensor([0.9189])
    """
    require_same_shape(x=x, mean=mean)
    log_sigma = (
        torch.as_tensor(log_sigma, dtype=x.dtype, device=x.device) if isinstance(log_sigma, float) else log_sigma
    )
    require_spread("log_sigma", log_sigma, x)
    return 0.5 * ((x - mean) * torch.exp(-log_sigma)).square() + log_sigma + HALF_LOG_TWO_PI


def gaussian_nll_of_sse(sse: Float[Tensor, "*s"], log_sigma: Float[Tensor, ""], data_dim: int) -> Float[Tensor, "*s"]:
    r"""Negative log-density of each example under `N(mean, sigma^2)` with one sigma, from its squared error, in nats.

    $$-\log p(x) = \frac{\mathrm{SSE}}{2\sigma^2} + D \log\sigma + \tfrac D2\log 2\pi$$

    Convention: summed over the data dimensions; constants kept. It is the sum of `gaussian_nll` in one pass over the data.

    Args:
        sse: summed squared errors, `[*S]`, one for each example.
        log_sigma: logarithm of the standard deviation, one number.
        data_dim: `D`.

    Returns:
        `[*S]`, in nats.

    Examples:
        >>> gaussian_nll_of_sse(torch.tensor([2.0]), torch.tensor(0.0), data_dim=2)
        tensor([2.8379])
    """
    return 0.5 * sse * torch.exp(-2.0 * log_sigma) + data_dim * (log_sigma + HALF_LOG_TWO_PI)


def laplace_nll(
    x: Float[Tensor, "*s"], location: Float[Tensor, "*s"], log_scale: Float[Tensor, "..."] | float
) -> Float[Tensor, "*s"]:
    r"""Negative log density of a Laplace distribution, element by element, in nats.

    $$-\log p(x) = \frac{|x - m|}{b} + \log 2b$$

    Convention: nothing is summed, averaged or dropped; the constant is kept. The standard deviation is $\sqrt2\,b$.

    Args:
        x: data.
        location: mean and median of the density, the shape of `x`.
        log_scale: natural logarithm of $b$: one number, or a tensor that broadcasts over `x` with every data dimension
            written out.

    Returns:
        The shape of `x`, in nats.

    Raises:
        ShapeError: if `x` and `location` differ in shape, or `log_scale` does not broadcast.

    Examples:
        >>> laplace_nll(torch.ones(1), torch.zeros(1), torch.zeros(1))
        tensor([1.6931])
    """
    require_same_shape(x=x, location=location)
    log_scale = (
        torch.as_tensor(log_scale, dtype=x.dtype, device=x.device) if isinstance(log_scale, float) else log_scale
    )
    require_spread("log_scale", log_scale, x)
    return (x - location).abs() * torch.exp(-log_scale) + log_scale + math.log(2.0)


def bernoulli_nll(x: Float[Tensor, "*s"], logits: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    r"""Negative log probability of binary data, element by element, in nats.

    $$-\log p(x) = \log(1 + e^{l}) - x\,l, \qquad x \in \{0, 1\}$$

    Convention: nothing is summed or averaged. For `x` strictly between 0 and 1 the value is a cross-entropy, not the
    log-density of anything (Loaiza-Ganem & Cunningham 2019, https://arxiv.org/abs/1907.06845).

    Args:
        x: data, 0 or 1.
        logits: log odds of a one, the shape of `x`.

    Returns:
        The shape of `x`, in nats.

    Raises:
        ShapeError: if the shapes differ.

    Examples:
        >>> bernoulli_nll(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0]))
        tensor([0.6931, 0.1269])
    """
    require_same_shape(x=x, logits=logits)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none")


def bernoulli_nll_sum(x: Float[Tensor, "b *data"], logits: Float[Tensor, "b *data"]) -> Float[Tensor, " b"]:
    r"""Negative log probability of binary data, summed over the data dimensions, in nats.

    $$\sum_i \max(l_i, 0) - x_i l_i + \sum_g \log \prod_{i \in g} (1 + e^{-|l_i|})$$

    The sum of `bernoulli_nll` with one logarithm for a group `g` of up to 112 elements (each factor is between 1 and 2, so their
    product is below $2^{112}$): in float32 right to some 1e-5 nats, and nearly twice as fast once compiled.

    Convention: summed over all but the first dimension, the constant kept.

    Args:
        x: data, 0 or 1, `[B, *data]`.
        logits: log odds of a one, the shape of `x`.

    Returns:
        `[B]`, in nats.

    Raises:
        ShapeError: if the shapes differ.

    Examples:
        >>> bernoulli_nll_sum(torch.ones(1, 2), torch.zeros(1, 2))
        tensor([1.3863])
    """
    require_same_shape(x=x, logits=logits)
    count = logits[:1].numel()
    group = max(size for size in range(1, MOST_FACTORS + 1) if count % size == 0)
    groups = (len(logits), count // group, group)
    odds, bits = logits.reshape(groups), x.reshape(groups)
    products: Tensor = (1.0 + (-odds.abs()).exp()).prod(2)
    return ((odds.clamp_min(0.0) - bits * odds).sum(2) + products.log()).sum(1)

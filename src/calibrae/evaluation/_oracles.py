"""Exact answers that estimates are checked against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import functional
from .._types import Shape
from ..models import VAE, build


def linear_vae_at_ppca(ppca: functional.PPCA, data_shape: Shape) -> VAE:
    r"""The linear VAE whose ELBO equals `log p(x)`: probabilistic PCA's parameters, in its dtype.

    Decoder $W z + b$, encoder mean $\Lambda^{-1} W^T (x - b)$ and standard deviation $\sigma \Lambda^{-1/2}$.

    Examples:
        >>> ppca = functional.PPCA(torch.zeros(2), torch.eye(2)[:, :1], torch.tensor([4.0]), 1.0)
        >>> model = linear_vae_at_ppca(ppca, (2,))
        >>> x = torch.ones(1, 2)
        >>> torch.allclose(exact_linear_elbo(model, x), functional.ppca_log_likelihood(ppca, x))
        True
    """
    latent_dim = len(ppca.eigenvalues)
    model = build("vae", data_shape=data_shape, latent_dim=latent_dim, network="linear", sigma=ppca.sigma)
    model = model.to(ppca.mean.dtype).eval()
    state = model.state_dict()
    state |= {
        "decoder.body.output.weight": ppca.weight,
        "decoder.body.output.bias": ppca.mean,
        "encoder.body.mean.weight": ppca.posterior_weight,
        "encoder.body.mean.bias": -ppca.posterior_weight @ ppca.mean,
        "encoder.body.constant": ppca.posterior_log_std,
        "likelihood.scale._log_scale": torch.tensor(math.log(ppca.sigma), dtype=ppca.mean.dtype),
    }
    model.load_state_dict(state)
    return model


def cubature_noise(latent_dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    r"""Noise points $\pm\sqrt d\, e_i$, `[2 d, d]`, over which a mean is exact for polynomials up to degree 3.

    Examples:
        >>> cubature_noise(1, torch.float32)
        tensor([[ 1.],
                [-1.]])
    """
    points = math.sqrt(latent_dim) * torch.eye(latent_dim, dtype=dtype)
    return torch.cat([points, -points])


def exact_linear_elbo(model: VAE, x: Tensor) -> Tensor:
    """The ELBO of a linear VAE, `[B]`, nats, without Monte Carlo: its NLL is quadratic in `z`."""
    with torch.no_grad():
        points = cubature_noise(model.latent_dim, x.dtype)
        return torch.stack([model.elbo(x, eps=point.expand(len(x), -1)).elbo for point in points]).mean(0)

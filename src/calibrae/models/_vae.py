"""The composition: encoder, decoder, likelihood, prior, posterior."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from .._types import DataSpec, ModelOutput
from ..errors import NoDensityError, ShapeError
from ..latents import (
    AbstractPosterior,
    AbstractPrior,
    DiagonalGaussianPosterior,
    require_density,
    standard_normal_noise,
)
from ..likelihoods import AbstractLikelihood
from ..networks import set_data_statistics
from ..objectives import BetaELBO, ELBOTerms, elbo_terms


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that `build` needs to make the same model again.

    Attributes:
        name: the preset.
        arguments: those of `build`, of plain types.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


@final
class VAE(nn.Module):
    r"""A variational autoencoder by composition.

    $$z \sim p(z), \quad x \sim p(x|z) \qquad \mathrm{ELBO}(x) = E_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \| p(z))$$

    Args:
        encoder: any module from `[B, *data]` to `[B, 2 d]` (mean, then log std), or to a pair `(mean, log_std)`.
        decoder: any module from `[B, d]` to `[B, *data]`: means of a Gaussian, log odds of a Bernoulli.
        likelihood: what the decoder's output means.
        prior: `p(z)`.
        posterior: the family that the encoder's output is read as.
        objective: what `fit` descends unless it is told otherwise.
        config: how to build the model again; only presets have one.

    Example:
        >>> model = VAE(nn.Linear(3, 4), nn.Linear(2, 3), GaussianLikelihood(0.5), StandardNormalPrior(2))
        >>> terms = model.elbo(torch.zeros(5, 3))
        >>> terms.nll.shape, terms.kl.shape, terms.elbo.shape
        (torch.Size([5]), torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: AbstractLikelihood,
        prior: AbstractPrior,
        *,
        posterior: type[AbstractPosterior] = DiagonalGaussianPosterior,
        objective: BetaELBO | None = None,
        config: ModelConfig | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.prior = prior
        self.posterior = posterior
        self.objective = objective or BetaELBO()
        self.config = config

    @property
    def latent_dim(self) -> int:
        """`d`."""
        return self.prior.latent_dim

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> ModelOutput:
        """One pass: posterior, one sample of `z`, and `p(x|z)`.

        Args:
            x: `[B, *data]`.
            noise: standard normal, `[B, d]`; drawn if not given.
        """
        posterior = self.encode(x)
        noise = standard_normal_noise(posterior) if noise is None else noise
        if noise.shape != posterior.mean.shape:
            raise ShapeError(f"`noise` must be [B, d] = {tuple(posterior.mean.shape)}; got {tuple(noise.shape)}.")
        z = posterior.sample(noise)
        return ModelOutput(posterior, self.prior, self.likelihood(self.decoder(z)), z)

    def elbo(self, x: Tensor, noise: Tensor | None = None) -> ELBOTerms:
        """The ELBO's terms of each example at one sample of `z`, in nats: `nll` `[B]`, `kl` `[B, d]`, `elbo` `[B]`.

        Args:
            x: `[B, *data]`, as the model sees them (dequantised).
            noise: standard normal, `[B, d]`; drawn if not given.

        Raises:
            UnfrozenSigmaError: in eval mode, if an optimal sigma was not fixed on the training set.
            NoDensityError: for a plain autoencoder, which has a reconstruction term but no ELBO.
        """
        output = self(x, noise)
        require_density(output.posterior)
        return elbo_terms(output, x)

    def encode(self, x: Tensor) -> AbstractPosterior:
        """`q(z|x)` of a batch `[B, *data]`; its `.mean` is the usual code."""
        features = self.encoder(x)
        wide = _widened(features) if isinstance(features, Tensor) else tuple(_widened(part) for part in features)
        posterior = self.posterior.from_features(wide)
        if posterior.mean.shape[1] != self.latent_dim:
            raise ShapeError(
                f"the encoder must give as many latents as the prior has, {self.latent_dim}; got {posterior.mean.shape[1]}. "
                "Change the width of its last layer, or the prior."
            )
        return posterior

    def decode(self, z: Tensor) -> Tensor:
        """Mean of `p(x|z)`, `[B, *data]`, for latents `[B, d]`."""
        mean: Tensor = self.likelihood(self.decoder(z)).mean
        return mean

    def reconstruct(self, x: Tensor) -> Tensor:
        """Mean of `p(x|z)` at the posterior mean of `z`, `[B, *data]`; deterministic."""
        return self.decode(self.encode(x).mean)

    @torch.no_grad()
    def sample(self, n: int, noise: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """`n` samples `[n, *data]`: the mean of `p(x|z)` at `z ~ p(z)`, or with the decoder's `noise` a true `x`.

        Raises:
            NoDensityError: for a plain autoencoder, whose codes follow no known prior.
            UnfrozenSigmaError: with noise, if an optimal sigma was not fixed.
        """
        if not self.posterior.is_density:
            raise NoDensityError(
                "a plain autoencoder cannot be sampled: its codes follow no known prior. Train a probabilistic model, as "
                'in `build("sigma-vae", ...)`.'
            )
        z = self.prior.sample(n, generator)
        conditional = self.likelihood(self.decoder(z))
        drawn: Tensor = conditional.sample(generator) if noise else conditional.mean
        return drawn

    def adapt(self, spec: DataSpec, mean: Tensor, std: Tensor) -> None:
        """Take the data's shape, step, mean image `[*data]` and overall standard deviation `[]`, before training.

        Sigma's floor follows from the step, and the networks of the presets are standardised. Own modules are left as
        they are.
        """
        self.likelihood.bind(spec.data_shape, spec.step)
        shift, scale = self.likelihood.output_affine(mean, std)
        set_data_statistics(self.encoder, self.decoder, mean=mean, std=std, output_shift=shift, output_scale=scale)


def _widened(features: Tensor) -> Tensor:
    """At least float32, whatever the network's precision."""
    return features.to(torch.promote_types(features.dtype, torch.float32))

"""The composition: encoder, decoder, likelihood, prior, posterior, objective."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .._types import Batch, DataSpec
from ..errors import ArgumentError, NoDensityError, ShapeError
from ..latents import (
    Features,
    GaussianPosterior,
    Posterior,
    Prior,
    reparameterise,
    require_event,
    widened_features,
)
from ..likelihoods import Likelihood, mean_of_data
from ..networks import set_data_statistics
from ..objectives import BetaELBO, Draw, ELBOTerms, Objective, elbo_terms
from ._config import ModelConfig
from ._modes import sample_data, sample_latents

OUTSIDE = 0.05  # how far beyond its range, in ranges, a value may lie before it is taken for one on another scale


@final
class VAE(nn.Module):
    r"""A variational autoencoder by composition.

    $$z \sim p(z), \quad x \sim p(x|z) \qquad \mathrm{ELBO}(x) = E_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \| p(z))$$

    Args:
        encoder: any module from `[B, *data]` to the features that the posterior reads: for a Gaussian `[B, 2 d]` (mean, then
            spread), or a pair.
        decoder: any module from `[B, d]` to what the likelihood reads, `[B, *likelihood.output_shape(data)]`.
        likelihood: reads the decoder's output as `p(x|z)`.
        prior: `p(z)`, or `p(z|context)`.
        posterior: reads the encoder's output as `q(z|x)`. A network of `build_networks` says itself what it gives; for a module of
            one's own say it: `cb.GaussianPosterior("log_var")` or `("log_std")`.
        objective: loss that `fit` minimises; by default the ELBO.
        context_dim: features of the context. If there are any, encoder and decoder are called with `(input, context)`.
        config: how to compose the model again; presets of registered parts have one.

    Raises:
        ArgumentError: if nothing says how the encoder's output is to be read.

    Examples:
        >>> model = VAE(nn.Linear(3, 4), nn.Linear(2, 3), GaussianLikelihood(0.5), StandardNormalPrior(2),
        ...             posterior=GaussianPosterior("log_var"))
        >>> terms = model.elbo(torch.zeros(5, 3))
        >>> terms.nll.shape, terms.kl.shape, terms.kl_per_dim.shape, terms.elbo.shape
        (torch.Size([5]), torch.Size([5]), torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        prior: Prior,
        *,
        posterior: Posterior | None = None,
        objective: Objective | None = None,
        context_dim: int = 0,
        config: ModelConfig | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.prior = prior
        self.posterior = posterior or _announced_posterior(encoder)
        self.objective: Objective = objective or BetaELBO()
        self.context_dim = context_dim
        self.config = config
        self.data_range: tuple[float, float] | None = None
        shape = getattr(encoder, "data_shape", None)
        if shape is not None and not likelihood.knows_data_shape:
            likelihood.set_data_shape(shape)

    @property
    def latent_dim(self) -> int:
        """Number of latents, `d`."""
        return self.prior.latent_dim

    @property
    def is_probabilistic(self) -> bool:
        """Tell whether the model has an ELBO and can be sampled: a plain autoencoder has and can not."""
        return self.prior.is_density and self.posterior.is_density

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def forward(self, batch: Batch | Tensor, samples: int = 1, eps: Tensor | None = None) -> Draw:
        """Draw samples of the latents; see `draw`."""
        return self.draw(batch, samples, eps)

    def draw(
        self, batch: Batch | Tensor, samples: int = 1, eps: Tensor | None = None, *, q: Distribution | None = None
    ) -> Draw:
        """Draw samples of the latents of a batch, and decode them.

        Args:
            batch: examples with their context; or the examples alone, `[B, *data]`.
            samples: samples of `z` for each example, `K`.
            eps: standard normal noise, `[K, B, d]`; drawn from torch's global generator if not given. A posterior for which no map
                from noise is known draws its samples itself.
            q: `q(z|x)` of the batch, if it is known already.

        Raises:
            ArgumentError: if a context is missing or superfluous, or there is a mask and the likelihood takes no missing elements.
        """
        batch = batch if isinstance(batch, Batch) else Batch(batch)
        batch = self._with_missing(batch)
        q = self.encode(batch.x, batch.context) if q is None else q
        z, noise = self._sampled(q, len(batch.x), samples, eps)
        return Draw(batch, q, self.prior_for(batch.context, len(batch.x)), z, self.decode(z, batch.context), noise)

    def _with_missing(self, batch: Batch) -> Batch:
        """The batch with NaN for the elements that its mask says are missing."""
        if batch.mask is None:
            return batch
        if not self.likelihood.takes_missing:
            raise ArgumentError(
                "this model cannot use a mask: its encoder and likelihood take all elements as observed. Fill the missing values, "
                "drop the mask, or take a mixed likelihood."
            )
        x = batch.x.masked_fill(~batch.mask.bool(), torch.nan)
        return Batch(x, batch.context, None, batch.index)

    def _sampled(self, q: Distribution, count: int, samples: int, eps: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Samples `[K, B, d]`, and the noise that made them, if it did."""
        shape = (samples, count, self.latent_dim)
        if eps is None:
            eps = torch.randn(shape, dtype=_noise_dtype(self), device=self.device)
        if tuple(eps.shape) != shape:
            raise ShapeError(f"`eps` must be [K, B, d] = {list(shape)}; got {list(eps.shape)}.")
        z = reparameterise(q, eps)
        return (q.rsample((samples,)), None) if z is None else (z, eps)

    def prior_for(self, context: Tensor | None, count: int | None = None) -> Distribution | None:
        """`p(z|context)`; `None` for a plain autoencoder.

        Args:
            context: `[B, context_dim]`, or `None`.
            count: `B`, which a prior with a batch must have.
        """
        if not self.prior.is_density:
            return None
        p: Distribution = self.prior(context)
        require_event(p, self.latent_dim, count, "the prior")
        return p

    def elbo(self, x: Tensor, context: Tensor | None = None, *, eps: Tensor | None = None) -> ELBOTerms:
        """ELBO's terms of each example at one sample of `z`, in nats: `nll`, `kl` and `elbo` `[B]`, `kl_per_dim` `[B, d]` or `None`.

        Args:
            x: `[B, *data]`, on the model's scale (dequantised).
            context: `[B, context_dim]`, for a conditional model.
            eps: standard normal noise, `[B, d]`; drawn if not given.

        Raises:
            ScaleNotFixedError: in eval mode, if an optimal scale was not fixed on the training set.
            NoDensityError: for a plain autoencoder, which has a reconstruction term but no ELBO.
        """
        if not self.training:
            self.require_scale(x)
        if not self.is_probabilistic:
            raise NoDensityError(
                "a plain autoencoder's code is a point: its KL is infinite and it has no ELBO. Train a probabilistic model, as in "
                '`build("sigma-vae", ...)`.'
            )
        return elbo_terms(self.draw(Batch(x, context), eps=None if eps is None else eps[None]))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """`q(z|x)` of a batch `[B, *data]`; its `.mean` is the usual code."""
        return self.posterior_of(self.features(x, context), len(x))

    def features(self, x: Tensor, context: Tensor | None = None) -> Features:
        """Encoder's output for a batch, in float32 or better: what the posterior reads."""
        self._require_context(context, len(x))
        if not self.likelihood.knows_data_shape:
            self.likelihood.set_data_shape(tuple(x.shape[1:]))
        features: Features = self.encoder(x, context) if self.context_dim else self.encoder(x)
        return widened_features(features)

    def posterior_of(self, features: Features, count: int | None = None) -> Distribution:
        """`q(z|x)` from the encoder's features.

        Raises:
            ShapeError: if it is not over as many latents as the prior.
        """
        q: Distribution = self.posterior(features)
        if tuple(q.event_shape) != (self.latent_dim,):
            raise ShapeError(
                f"the encoder must give as many latents as the prior has, {self.latent_dim}; got {list(q.event_shape)}. "
                "Change the width of its last layer, or the prior."
            )
        require_event(q, self.latent_dim, count, "the posterior", shared=False)
        return q

    def decode(self, z: Tensor, context: Tensor | None = None) -> Distribution:
        """`p(x|z)` of latents `[*S, d]`, with the batch `[*S]`; its mean is the usual reconstruction.

        Args:
            z: latents.
            context: `[B, context_dim]` for latents `[*K, B, d]` of a conditional model.
        """
        lead = z.shape[:-1]
        flat = z.reshape(-1, z.shape[-1])
        if self.context_dim:
            if context is None:
                raise ArgumentError(_NEEDS_CONTEXT)
            given = context.expand(*lead, context.shape[-1]).reshape(len(flat), -1)
            output: Tensor = self.decoder(flat, given)
        elif context is not None:
            raise ArgumentError(_TAKES_NO_CONTEXT)
        else:
            output = self.decoder(flat)
        if not self.likelihood.knows_data_shape:
            self._infer_data_shape(tuple(output.shape[1:]))
        px: Distribution = self.likelihood(output.unflatten(0, lead) if len(lead) != 1 else output)
        event, batch = tuple(px.event_shape), tuple(px.batch_shape)
        if event != self.likelihood.data_shape or batch != tuple(lead):
            raise ShapeError(
                f"the likelihood must give a distribution with the event {list(self.likelihood.data_shape)} and the batch "
                f"{list(lead)}; got {list(event)} and {list(batch)}. Wrap it in torch.distributions.Independent(..., "
                f"{len(self.likelihood.data_shape)}), and give the decoder the output {list(self.likelihood.output_shape(self.likelihood.data_shape))}."
            )
        return px

    def _infer_data_shape(self, output_shape: tuple[int, ...]) -> None:
        if tuple(self.likelihood.output_shape(output_shape)) != output_shape:
            raise ShapeError(
                "the shape of the data is not known yet, and cannot be told from the decoder's output. Encode an example first, or "
                "call model.likelihood.set_data_shape(shape)."
            )
        self.likelihood.set_data_shape(output_shape)

    def _require_context(self, context: Tensor | None, count: int) -> None:
        if self.context_dim == 0 and context is not None:
            raise ArgumentError(_TAKES_NO_CONTEXT)
        if self.context_dim == 0:
            return
        if context is None:
            raise ArgumentError(_NEEDS_CONTEXT)
        if tuple(context.shape) != (count, self.context_dim):
            raise ShapeError(
                f"`context` must be [B, context_dim] = [{count}, {self.context_dim}]; got {list(context.shape)}."
            )

    def require_scale(self, x: Tensor) -> None:
        """Raise `ArgumentError` for integers, or values far outside the range of the data that the model was trained on."""
        if torch.compiler.is_compiling():
            return
        if not x.is_floating_point():
            raise ArgumentError(
                f"a model takes floats on its own scale; got {x.dtype}. Give a run the data in your units "
                "(run.reconstruct(data)), or prepare them first."
            )
        if self.data_range is None or x.numel() == 0:
            return
        (low, high), (least, most) = self.data_range, (float(x.min()), float(x.max()))
        slack = OUTSIDE * (high - low)
        if least < low - slack or most > high + slack:
            raise ArgumentError(
                f"this model was trained on data from {low:g} to {high:g}; got values from {least:g} to {most:g}. Give a run the "
                "data in your units (run.reconstruct(data)), or scale them first."
            )

    def reconstruct(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean of `p(x|z)` at the posterior mean of `z`, `[B, *data]`; deterministic.

        Raises:
            ArgumentError: if the values cannot be on the model's scale.
        """
        self.require_scale(x)
        return mean_of_data(self.decode(mean_of(self.encode(x, context)), context))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        observation_noise: bool = False,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw `n` examples `[n, *data]`: the mean of `p(x|z)` at `z ~ p(z)`, or with the decoder's noise a true `x`.

        Args:
            n: number of examples.
            observation_noise: draw `x` from `p(x|z)` instead of taking its mean.
            context: `[n, context_dim]`, or one `[context_dim]` for all, for a conditional model.
            generator: source of all noise; torch's global one by default.

        Raises:
            NoDensityError: for a plain autoencoder, whose codes follow no known prior.
            ScaleNotFixedError: if an optimal scale was not fixed.
        """
        if not self.is_probabilistic:
            raise NoDensityError(
                "a plain autoencoder cannot be sampled: its codes follow no known prior. Train a probabilistic model, as "
                'in `build("sigma-vae", ...)`.'
            )
        if context is not None:
            context = context.to(self.device).expand(n, -1)
        self._require_context(context, n)
        p = self.prior_for(context, n)
        assert p is not None
        z = sample_latents(p, 1 if p.batch_shape else n, self.device, generator)
        px = self.decode(z[0] if p.batch_shape else z, context)
        drawn: Tensor = sample_data(px, self.device, generator) if observation_noise else mean_of_data(px)
        return drawn

    def initialise_from_data(self, spec: DataSpec, mean: Tensor, std: Tensor) -> None:
        """Take the data's shape, step, mean `[*data]` and overall standard deviation `[]`, before training.

        A scale's floor follows from the step, and the networks of the presets are standardised. Own modules are left as
        they are.
        """
        self.likelihood.set_data_shape(spec.data_shape)
        self.likelihood.set_step(spec.step)
        self.data_range = (0.0, 1.0) if spec.scale.startswith("[0, 1]") else None
        output = self.likelihood.output_init(mean, std)
        set_data_statistics(self.encoder, self.decoder, mean=mean, std=std, output=output)


_NEEDS_CONTEXT = (
    "this model is conditional: encoder and decoder need a context, [B, context_dim]; got none. Pass `context` (a run takes "
    "`condition=`)."
)


_TAKES_NO_CONTEXT = "this model takes no context; got one. Build it with context_dim, or leave the condition out."


def _announced_posterior(encoder: nn.Module) -> Posterior:
    """Posterior of an encoder that says what its features are."""
    spread: Any = getattr(encoder, "spread", None)
    if spread not in ("log_std", "log_var"):  # a module of one's own may have another attribute of that name
        raise ArgumentError(
            "nothing says what the second half of the encoder's output is. Pass posterior=cb.GaussianPosterior('log_var') (as most "
            "code has it) or posterior=cb.GaussianPosterior('log_std')."
        )
    return GaussianPosterior(spread)


def _noise_dtype(model: nn.Module) -> torch.dtype:
    """Precision of a model's noise: that of its parameters, at least float32."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return torch.promote_types(dtype, torch.float32)


def mean_of(q: Distribution) -> Tensor:
    """Mean of a posterior, `[*S, d]`.

    Raises:
        ArgumentError: if the distribution cannot tell it.
    """
    try:
        mean: Tensor = q.mean
    except NotImplementedError:
        raise ArgumentError(
            f"the posterior, a {type(q).__name__}, cannot tell its mean, which this needs. Take samples: model.encode(x).sample()."
        ) from None
    return mean

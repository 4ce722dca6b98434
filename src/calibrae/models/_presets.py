"""Presets: well-known models as choices of likelihood, posterior and objective."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch

from .._types import SHARED, Shape, Shared, SigmaChoice
from ..errors import ArgumentError
from ..latents import AbstractPosterior, DiagonalGaussianPosterior, PointPosterior, StandardNormalPrior
from ..likelihoods import AbstractLikelihood, BernoulliLikelihood, GaussianLikelihood
from ..networks import NetworkOptions, build_networks, resolve_network
from ..objectives import BetaELBO
from ._vae import VAE, ModelConfig


@dataclass(frozen=True, slots=True)
class Preset:
    """What a model's name stands for.

    Attributes:
        sigma: the decoder's standard deviation unless the user says otherwise.
        beta: weight of the KL in training (convention `nll`).
        posterior: how the encoder's output is read.
        summary: one line.
    """

    sigma: SigmaChoice
    beta: float
    posterior: type[AbstractPosterior]
    summary: str


PRESETS: dict[str, Preset] = {
    "autoencoder": Preset(1.0, 0.0, PointPosterior, "a plain autoencoder: squared error, no density"),
    "vae": Preset(1.0, 1.0, DiagonalGaussianPosterior, "sigma = 1: half the squared error plus the KL"),
    "beta-vae": Preset(1.0, 4.0, DiagonalGaussianPosterior, "sigma = 1 and beta = 4 (Higgins et al. 2017)"),
    "sigma-vae": Preset("optimal", 1.0, DiagonalGaussianPosterior, "calibrated sigma, beta = 1 (Rybkin et al. 2021)"),
}


def build(
    name: str = "sigma-vae",
    *,
    data_shape: Shape,
    latent_dim: int = 50,
    network: str = "auto",
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
    sigma: SigmaChoice | None = None,
    sigma_shared: Shared = "all",
    initial_sigma: float = 1.0,
    beta: float | None = None,
    options: NetworkOptions | None = None,
) -> VAE:
    """A preset model.

    | name | sigma | beta | posterior |
    |---|---|---|---|
    | `autoencoder` | 1 | - | a point |
    | `vae` | 1 | 1 | diagonal Gaussian |
    | `beta-vae` | 1 | 4 | diagonal Gaussian |
    | `sigma-vae` | optimal | 1 | diagonal Gaussian |

    Args:
        name: one of the four.
        data_shape: `(C, H, W)`, `(C, L)` or `(D,)`.
        latent_dim: `d`.
        network: `auto`, `linear`, `mlp` or `conv`.
        likelihood: `gaussian`, or `bernoulli` for binary data (sigma then has no meaning).
        sigma: a number in units of the data, `"learned"` or `"optimal"`; by default the preset's.
        sigma_shared: `"all"`, `"channel"` or `"element"`.
        initial_sigma: where a learned sigma starts in a loop of your own; `fit` starts it at the residuals of the data.
        beta: weight of the summed KL beside the full NLL; by default the preset's.
        options: sizes of the networks.

    Returns:
        A `VAE`, in training mode, with random weights from torch's global generator.

    Raises:
        ArgumentError: if an argument has no meaning.

    Example:
        >>> model = build("sigma-vae", data_shape=(3, 32, 32), latent_dim=50, network="conv")
        >>> model.elbo(torch.rand(2, 3, 32, 32)).kl.shape
        torch.Size([2, 50])
    """
    if name not in PRESETS:
        raise ArgumentError(f"`model` must be one of {', '.join(PRESETS)}; got {name!r}.")
    if likelihood not in ("gaussian", "bernoulli"):
        raise ArgumentError(f"`likelihood` must be gaussian or bernoulli; got {likelihood!r}.")
    if likelihood == "bernoulli" and sigma is not None:
        raise ArgumentError(
            f"a Bernoulli likelihood has no sigma; got {sigma}. Drop it, or take likelihood='gaussian'."
        )
    if sigma_shared not in SHARED:
        raise ArgumentError(f"`sigma_shared` must be one of {', '.join(SHARED)}; got {sigma_shared!r}.")
    preset = PRESETS[name]
    options = options or NetworkOptions()
    shape = tuple(data_shape)
    network = resolve_network(network, shape)
    chosen_sigma = preset.sigma if sigma is None else sigma
    encoder, decoder = build_networks(network, shape, latent_dim, preset.posterior.features_per_latent, options)
    model_likelihood: AbstractLikelihood
    if likelihood == "bernoulli":
        model_likelihood = BernoulliLikelihood()
    else:
        model_likelihood = GaussianLikelihood(chosen_sigma, sigma_shared, initial_sigma=initial_sigma)
    model_likelihood.bind(shape, None)
    arguments = {
        "data_shape": list(shape),
        "latent_dim": latent_dim,
        "network": network,
        "likelihood": likelihood,
        "sigma": None if likelihood == "bernoulli" else chosen_sigma,
        "sigma_shared": sigma_shared,
        "initial_sigma": initial_sigma,
        "beta": preset.beta if beta is None else beta,
        "options": {**asdict(options), "hidden": list(options.hidden)},
    }
    return VAE(
        encoder,
        decoder,
        model_likelihood,
        StandardNormalPrior(latent_dim),
        posterior=preset.posterior,
        objective=BetaELBO(preset.beta if beta is None else beta),
        config=ModelConfig(name, arguments),
    )


def build_from_config(config: ModelConfig) -> VAE:
    """The model that a stored configuration describes, with fresh weights.

    Example:
        >>> model = build("vae", data_shape=(4,), latent_dim=2)
        >>> build_from_config(model.config).config == model.config
        True
    """
    arguments = dict(config.arguments)
    options = arguments.pop("options", {})
    arguments["data_shape"] = tuple(arguments["data_shape"])
    with torch.random.fork_rng(devices=[]):
        return build(
            config.name, **arguments, options=NetworkOptions(**{**options, "hidden": tuple(options["hidden"])})
        )

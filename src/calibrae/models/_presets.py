"""Presets: well-known models as choices of likelihood, posterior, prior and objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch

from .._registry import KINDS, create, describe, find, name_in, parameters_of, parse
from .._types import SHARED, DataSpec, ScaleChoice, Shape, Shared
from ..errors import ArgumentError
from ..latents import Posterior, Prior
from ..likelihoods import Likelihood
from ..networks import NetworkOptions, build_networks, resolve_network
from ..objectives import Objective
from ._config import ModelConfig
from ._vae import VAE
from ._weights import seeded_weights

Spec: TypeAlias = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Preset:
    """Composition that a model's name stands for.

    Attributes:
        sigma: decoder's scale unless the user says otherwise.
        objective: loss to minimise.
        posterior: how the encoder's output is read.
        prior: distribution of the latents.
        summary: one line.
    """

    sigma: ScaleChoice
    objective: str
    posterior: str
    prior: str
    summary: str


PRESETS: dict[str, Preset] = {
    "autoencoder": Preset(1.0, "reconstruction", "point", "none", "a plain autoencoder: squared error, no density"),
    "vae": Preset(1.0, "beta-elbo", "gaussian", "standard-normal", "sigma = 1: half the squared error plus the KL"),
    "beta-vae": Preset(
        1.0, "beta-elbo:beta=4", "gaussian", "standard-normal", "sigma = 1 and beta = 4 (Higgins et al. 2017)"
    ),
    "sigma-vae": Preset(
        "optimal", "beta-elbo", "gaussian", "standard-normal", "calibrated sigma, beta = 1 (Rybkin et al. 2021)"
    ),
}


def build(
    name: str = "sigma-vae",
    *,
    data_shape: Shape | None = None,
    spec: DataSpec | None = None,
    latent_dim: int = 50,
    network: str = "auto",
    likelihood: Spec | Likelihood | None = None,
    sigma: ScaleChoice | None = None,
    sigma_shared: Shared = "all",
    initial_sigma: float = 1.0,
    prior: Spec | Prior | None = None,
    posterior: Spec | Posterior | None = None,
    objective: Spec | Objective | None = None,
    beta: float | None = None,
    kl_warmup: float | None = None,
    context_dim: int = 0,
    options: NetworkOptions | None = None,
    seed: int | None = None,
) -> VAE:
    """Compose a model from a preset, perhaps with other parts.

    | name | sigma | objective | posterior | prior |
    |---|---|---|---|---|
    | `autoencoder` | 1 | `reconstruction` | `point` | `none` |
    | `vae` | 1 | `beta-elbo` | `gaussian` | `standard-normal` |
    | `beta-vae` | 1 | `beta-elbo:beta=4` | `gaussian` | `standard-normal` |
    | `sigma-vae` | optimal | `beta-elbo` | `gaussian` | `standard-normal` |

    A part is given by its registered name (`"mixture"`), with arguments (`"mixture:components=4"`), or as an object.

    Args:
        name: one of the four.
        data_shape: `(C, H, W)`, `(C, L)`, `(D,)`, or `(C, D, H, W)` for an mlp.
        spec: in place of the shape, what is known of the data: `load_data(data).spec`. A table of mixed columns needs it.
        latent_dim: `d`.
        network: `auto`, `linear`, `mlp` or `conv`.
        likelihood: `gaussian`, `laplace`, `bernoulli` (binary data), `gaussian-per-example`, `mixed` (tables of several types), or an
            object; by default `mixed` for a table of mixed columns, else `gaussian`.
        sigma: scale of the likelihood: a number in units of the data, `"learned"` or `"optimal"`; by default the preset's.
        sigma_shared: `"all"`, `"channel"` or `"element"`.
        initial_sigma: start of a learned scale in a loop of your own; `fit` starts it at the residuals of the data.
        prior: `standard-normal`, `mixture`, `conditional-gaussian`, or an object.
        posterior: `gaussian`, or an object.
        objective: `beta-elbo`, `iwae`, or an object.
        beta: weight of the summed KL beside the full NLL, for `beta-elbo`.
        kl_warmup: share of all steps over which beta rises from 0, for `beta-elbo`.
        context_dim: features of the context that encoder and decoder take.
        options: sizes of the networks.
        seed: seed of the weights; by default 0, or that of the run that calls a factory. Torch's global generator is left alone.

    Returns:
        A `VAE`, in training mode, with random weights that depend on the seed alone.

    Raises:
        ArgumentError: if an argument has no meaning.

    Examples:
        >>> model = build("sigma-vae", data_shape=(3, 32, 32), latent_dim=50, network="conv", prior="mixture:components=4")
        >>> model.elbo(torch.rand(2, 3, 32, 32)).kl.shape
        torch.Size([2])
    """
    if name not in PRESETS:
        raise ArgumentError(f"`model` must be one of {', '.join(PRESETS)}; got {name!r}.")
    if sigma_shared not in SHARED:
        raise ArgumentError(f"`sigma_shared` must be one of {', '.join(SHARED)}; got {sigma_shared!r}.")
    preset = PRESETS[name]
    shape = _shape(data_shape, spec)
    likelihood = _chosen_likelihood(likelihood, spec)
    with seeded_weights(seed):
        head = _likelihood(likelihood, preset, sigma, sigma_shared, initial_sigma)
        head.set_data_shape(shape)
        return _composed(
            name,
            shape,
            latent_dim,
            resolve_network(network, shape),
            options or NetworkOptions(),
            head,
            _part("prior", prior or preset.prior, Prior, latent_dim=latent_dim, context_dim=context_dim),
            _part("posterior", posterior or preset.posterior, Posterior),
            _objective(objective, preset, beta, kl_warmup),
            context_dim,
        )


def _shape(data_shape: Shape | None, spec: DataSpec | None) -> Shape:
    if (data_shape is None) == (spec is None):
        raise ArgumentError("give either `data_shape` or `spec`, as in build(spec=load_data(data).spec).")
    return tuple(data_shape) if spec is None else spec.data_shape  # type: ignore[arg-type]


def _chosen_likelihood(given: Spec | Likelihood | None, spec: DataSpec | None) -> Spec | Likelihood:
    """The likelihood as it was given, with the columns of the data if it is a mixed one; by default what suits the data."""
    columns = () if spec is None else spec.columns
    if given is None:
        given = "mixed" if columns else "gaussian"
    if not isinstance(given, str | Mapping):
        return given
    described = parse(given) if isinstance(given, str) else given
    if columns and name_in("likelihood", described) == "mixed":
        return {**described, "columns": list(columns)}
    return given


def _composed(
    name: str,
    shape: Shape,
    latent_dim: int,
    network: str,
    options: NetworkOptions,
    likelihood: Likelihood,
    prior: Prior,
    posterior: Posterior,
    objective: Objective,
    context_dim: int,
) -> VAE:
    if prior.latent_dim != latent_dim:
        raise ArgumentError(
            f"the prior must be over latent_dim = {latent_dim} latents; got one over {prior.latent_dim}. Give both the same size."
        )
    features = posterior.features_shape(latent_dim)
    if len(features) != 1:
        raise ArgumentError(
            f"the presets' encoders give one row of features; {type(posterior).__name__} wants {tuple(features)}. Compose the model "
            "with cb.VAE and an encoder of your own."
        )
    first = likelihood.input_layer()
    encoder, decoder = build_networks(
        network,
        shape,
        latent_dim,
        features=features[0],
        output_shape=likelihood.output_shape(shape),
        context_dim=context_dim,
        options=options,
        first=first,
        first_width=None if first is None else first.width,
    )
    components = {"likelihood": likelihood, "prior": prior, "posterior": posterior, "objective": objective}
    described = {kind: describe(part) for kind, part in components.items()}
    config = None
    if all(part is not None for part in described.values()):
        sizes: dict[str, Any] = {"data_shape": list(shape), "latent_dim": latent_dim, "context_dim": context_dim}
        sizes |= {"network": network, "options": {**asdict(options), "hidden": list(options.hidden)}}
        config = ModelConfig(name, sizes | described)
    return VAE(
        encoder,
        decoder,
        likelihood,
        prior,
        posterior=posterior,
        objective=objective,
        context_dim=context_dim,
        config=config,
    )


def _part(kind: str, given: Any, cls: type, **offered: Any) -> Any:
    """A component, from its name or as it is."""
    if isinstance(given, cls):
        return given
    if not isinstance(given, str | Mapping):
        raise ArgumentError(f"`{kind}` must be a name or a cb.{cls.__name__}; got {type(given).__name__}.")
    return create(kind, given, **offered)


def _likelihood(
    given: Spec | Likelihood, preset: Preset, sigma: ScaleChoice | None, shared: Shared, initial: float
) -> Likelihood:
    if not isinstance(given, str | Mapping):
        if sigma is not None:
            raise ArgumentError(
                f"`sigma` is for likelihoods by name; got sigma={sigma} and a {type(given).__name__}. Give it to that."
            )
        own: Likelihood = _part("likelihood", given, Likelihood)
        return own
    spec = parse(given) if isinstance(given, str) else given
    taken = parameters_of(find("likelihood", name_in("likelihood", spec))) if isinstance(spec, Mapping) else {}
    names: dict[str, Any] = {"shared": shared, "initial_sigma": initial, "initial_scale": initial}
    for name in (
        "sigma",
        "scale",
    ):  # of one's own class the preset's choice is offered only where it speaks of a calibrated scale
        if name in taken and (sigma is not None or taken[name].default == "optimal"):
            names[name] = preset.sigma if sigma is None else sigma
    made: Likelihood = _part("likelihood", spec, Likelihood, **names)
    if sigma is not None and made.scale is None and not {"sigma", "scale"} & set(taken):
        raise ArgumentError(
            f"a {given} likelihood has no scale to set; got sigma={sigma}. Drop it, or take likelihood='gaussian'."
        )
    return made


def _objective(
    given: Spec | Objective | None, preset: Preset, beta: float | None, kl_warmup: float | None
) -> Objective:
    asked = {name: value for name, value in (("beta", beta), ("kl_warmup", kl_warmup)) if value is not None}
    if given is None:  # what is asked for replaces the preset's own
        given = parse(preset.objective)
        given |= {name: asked[name] for name in asked if name in parameters_of(find("objective", given["name"]))}
    if not isinstance(given, str | Mapping):
        if asked:
            raise ArgumentError(f"give {' and '.join(asked)} to the objective itself; got both that and an object.")
        own: Objective = _part("objective", given, Objective)
        return own
    made: Objective = _part("objective", given, Objective, **asked)
    ignored = [name for name, value in asked.items() if (describe(made) or {}).get(name) != value]
    if ignored:
        raise ArgumentError(
            f"`{ignored[0]}` has no meaning for the objective {given!r}. Drop it, or take objective='beta-elbo'."
        )
    return made


def build_from_config(config: ModelConfig) -> VAE:
    """Compose the model that a stored configuration describes, with fresh weights.

    Raises:
        ArgumentError: if a part is not registered, or an entry is missing.

    Examples:
        >>> model = build("vae", data_shape=(4,), latent_dim=2)
        >>> build_from_config(model.config).config == model.config
        True
    """
    parts = dict(config.parts)
    lacking = [
        key for key in ("data_shape", "latent_dim", "network", "options", "likelihood", "prior") if key not in parts
    ]
    if lacking:
        raise ArgumentError(f"the description of a model lacks {', '.join(lacking)}.")
    options = {**parts.pop("options")}
    options["hidden"] = tuple(options["hidden"])
    parts["data_shape"] = tuple(parts["data_shape"])
    sizes = {name: parts[name] for name in ("latent_dim", "context_dim") if name in parts}
    with torch.random.fork_rng(devices=[]):
        for kind in KINDS:  # made here, as they are described: the preset's choices are for parts that are not
            if isinstance(parts.get(kind), Mapping):
                parts[kind] = create(kind, parts[kind], **sizes)
        return build(config.name, **parts, options=NetworkOptions(**options))

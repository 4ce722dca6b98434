"""Training requests: everything that the command line asks for, as a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, final

from .._registry import describe, parse
from .._types import ColumnModel, DataSpec, ScaleChoice, Shared
from ..data import NAMES, Data, DataOptions, load_data
from ..errors import ArgumentError, RunError, first_line
from ..models import PRESETS, VAE, ModelConfig, build, build_from_config, seeded_weights
from ..networks import NETWORKS, NetworkOptions
from ..objectives import BetaELBO, Objective
from ..runs import RunFolder
from ..training import FREE_ON_RESUME, Bar, TrainSettings, in_turn, join_world, progress_bar, was_restarted
from ._fit import SETTINGS, fit
from ._records import OWN, StoredRequest, plainly, stored_request
from ._report import report
from ._run import Run

NOT_STORED = frozenset({"data", "out", "resume", "overwrite", "json", "config", "report", "pictures", "verbose"})
CONVENTIONAL = {"gaussian": "gaussian", "bernoulli": "bernoulli"}
OPTIONS = (  # arguments of parts that are options of their own
    ("likelihood", "sigma", "sigma"),
    ("likelihood", "scale", "sigma"),
    ("likelihood", "shared", "sigma_shared"),
    ("objective", "beta", "beta"),
    ("objective", "kl_warmup", "kl_warmup"),
)
Spec: TypeAlias = str | Mapping[str, Any]
_ROWS = DataSpec((2,), None, "identity", columns=(ColumnModel("a", "gaussian"), ColumnModel("b", "gaussian")))


@final
@dataclass(frozen=True, slots=True)
class TrainRequest:
    """A run as it is asked for on the command line. It is checked when it is made, before any data are read.

    Attributes:
        data: a name, or a path.
        out: run folder.
        model: preset.
        network: `auto`, `linear`, `mlp` or `conv`.
        latent_dim: `d`.
        likelihood: registered name, perhaps with arguments; `None` for what suits the data.
        prior: registered name; `None` for the preset's.
        posterior: registered name; `None` for the preset's.
        objective: registered name; `None` for the preset's.
        sigma: scale of the likelihood; `None` for the preset's.
        sigma_shared: extent of one entry of it: all elements, a channel or an element.
        beta: weight of the KL; `None` for the preset's.
        beta_convention: loss in which `beta` is written.
        kl_warmup: share of all steps over which beta rises; `None` for none.
        network_options: sizes of the networks.
        settings: how to train.
        options: how the data are read.
        overwrite: replace a run that is there.
        pictures: draw pictures at the end; `None` as for `fit`.
        verbose: tell how it is done.
        words: the user's own values by option, kept in `config.toml`.

    Raises:
        ArgumentError: if a value has no meaning.
    """

    data: str
    out: Path
    model: str = "sigma-vae"
    network: str = "auto"
    latent_dim: int = 50
    likelihood: Spec | None = None
    prior: Spec | None = None
    posterior: Spec | None = None
    objective: Spec | None = None
    sigma: ScaleChoice | None = None
    sigma_shared: Shared = "all"
    beta: float | None = None
    beta_convention: str = "nll"
    kl_warmup: float | None = None
    network_options: NetworkOptions = field(default_factory=NetworkOptions)
    settings: TrainSettings = field(default_factory=TrainSettings)
    options: DataOptions = field(default_factory=DataOptions)
    overwrite: bool = False
    pictures: bool | None = None
    verbose: bool = False
    words: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.model not in PRESETS:
            raise ArgumentError(f"`model` must be one of {', '.join(PRESETS)}; got {self.model!r}.")
        if self.network not in NETWORKS:
            raise ArgumentError(f"`network` must be one of {', '.join(NETWORKS)}; got {self.network!r}.")
        if self.beta is None and self.beta_convention != "nll":
            raise ArgumentError(f"--beta-convention {self.beta_convention} says how --beta is written; got no --beta.")
        if self.beta is not None and self.model == "autoencoder":
            raise ArgumentError("--beta weighs a KL; a plain autoencoder has none. Drop it, or take --model beta-vae.")
        # a small model of these parts: unknown names are refused before any data are read
        self.compose(_ROWS if self._is_mixed else DataSpec((4, 16, 16)), context_dim=2)

    @property
    def _is_mixed(self) -> bool:
        spec = parse(self.likelihood) if isinstance(self.likelihood, str) else self.likelihood
        return spec is not None and spec.get("name") == "mixed"

    def compose(self, spec: DataSpec, context_dim: int) -> VAE:
        """Build the model for data, with weights that depend on the seed alone."""
        data_shape = spec.data_shape
        network = "mlp" if self.network == "conv" and len(data_shape) == 1 else self.network
        if network != self.network:
            raise ArgumentError(f"a conv network needs (C, H, W) or (C, L); got {data_shape}. Take --network mlp.")
        is_written_as_nll = self.beta_convention == "nll"

        def make() -> VAE:
            return build(
                self.model,
                spec=spec,
                latent_dim=self.latent_dim,
                network=network,
                likelihood=self.likelihood,
                sigma=self.sigma,
                sigma_shared=self.sigma_shared,
                prior=self.prior,
                posterior=self.posterior,
                objective=self.objective,
                beta=self.beta if is_written_as_nll else None,
                kl_warmup=self.kl_warmup,
                context_dim=context_dim,
                options=self.network_options,
            )

        return seeded_build(self.settings.seed, make)

    def goal(self, model: VAE, data: Data) -> Objective:
        """The objective: the model's, or the one that beta has in another convention."""
        if self.beta is None or self.beta_convention == "nll":
            return model.objective
        scale = model.likelihood.scale
        family = str((describe(model.likelihood) or {}).get("name"))
        if family not in CONVENTIONAL:
            raise ArgumentError(f"--beta-convention knows Gaussian and Bernoulli likelihoods; got {family}.")
        return BetaELBO.from_convention(
            self.beta,
            self.beta_convention,
            data_dim=data.spec.data_dim,
            latent_dim=model.latent_dim,
            sigma=scale.summary() if scale is not None and scale.choice == "fixed" else None,
            batch_size=self.settings.batch_size,
            likelihood=CONVENTIONAL[family],
            kl_warmup=self.kl_warmup or 0.0,
        )

    def run(self) -> Run:
        """Read the data, build the model and train it.

        Raises:
            CalibraeError: if anything is not usable, saying what to do.
        """
        world = join_world(self.settings.device)
        world.from_first(partial(RunFolder.require_free, self.out, overwrite=self.overwrite))
        with progress_bar(show=world.is_first):
            data = in_turn(partial(load_data, self.data, self.options), world)
        model = self.compose(data.spec, 0 if data.condition is None else data.condition.dim)
        settings: dict[str, Any] = {name: getattr(self.settings, name) for name in SETTINGS}
        return fit(
            model,
            data,
            self.out,
            objective=self.goal(model, data),
            options=self.options,
            overwrite=self.overwrite,
            pictures=self.pictures,
            verbose=self.verbose,
            request=self.words,
            **settings,
        )


def train_run(values: Mapping[str, Any], given: set[str]) -> Run:
    """Train from scratch, or go on with a run.

    Args:
        values: values by option name: `data`, `out`, and the fields of the model, `DataOptions` and `TrainSettings`.
        given: names that the user wrote; on resuming the others are those of the run.

    Raises:
        CalibraeError: if anything is not usable, saying what to do.
    """
    goes_on = was_restarted() and RunFolder(Path(values["out"])).has_begun  # a launcher repeats the command as it was
    run = _resume(values, given) if values["resume"] or goes_on else request_from(values).run()
    if values.get("report") and run.folder.read_run()["finished"]:
        join_world(str(values["device"])).from_first(partial(_report, run))
    return run


def _report(run: Run) -> None:
    """Write the report of a run that has ended, on its validation split: only what is asked for touches the test split."""
    try:
        report(run, split="validation")
    except Exception as error:  # whatever a report stumbles over, the model is trained and saved
        Bar().say(f"note: the report could not be written: {first_line(error)}. Again: calibrae report {run.path}")


def request_from(values: Mapping[str, Any]) -> TrainRequest:
    """Build a request from values by option name.

    Raises:
        ArgumentError: if a value has no meaning.
    """
    data_names = [field.name for field in fields(DataOptions)]
    own = [field.name for field in fields(TrainRequest) if field.name in values and field.name not in ("out", "data")]
    hidden, activation, width = values["hidden"], values["activation"], values["width"]
    return TrainRequest(
        data=str(values["data"]),
        out=Path(values["out"]),
        network_options=NetworkOptions(hidden=hidden, activation=activation, width=width),
        settings=TrainSettings(**{name: values[name] for name in SETTINGS if name in values}),
        options=DataOptions(**{name: values[name] for name in data_names if name in values}),
        words={name: value for name, value in values.items() if name not in NOT_STORED},
        **{name: values[name] for name in own},
    )


def words_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values by option name from a `config.toml`: the words of its request, or what its sections say.

    Raises:
        ArgumentError: if the run was of own modules, or the file has no such sections.
    """
    if config.get("request"):
        return dict(config["request"])
    model = dict(config.get("model", {}))
    if not model or OWN in (model.get("name"), config.get("objective", {}).get("name")):
        raise ArgumentError(
            "a configuration needs [request], or the [model] of a run of registered parts. Pass the config.toml of such a run."
        )
    network = model.get("options", {})
    words = {"model": model["name"], "latent_dim": model.get("latent_dim"), "network": model.get("network")}
    words |= _parts_beside_the_preset(config) | {key: network.get(key) for key in ("hidden", "activation", "width")}
    words |= {**config.get("training", {}), **{k: v for k, v in config.get("data", {}).items() if k != "source"}}
    return {key: value for key, value in words.items() if value is not None}


def _parts_beside_the_preset(config: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of a stored model that are not those of its preset, so that other options can still say otherwise."""
    model = config["model"]
    sizes = {name: model[name] for name in ("latent_dim", "context_dim") if name in model}
    usual = build(model["name"], data_shape=(4,), network="linear", **sizes).config
    assert usual is not None
    stored = {**model, "objective": config.get("objective")}
    kinds = [kind for kind in ("likelihood", "prior", "posterior", "objective") if stored.get(kind)]
    found = {kind: dict(stored[kind]) for kind in kinds if stored[kind] != plainly(usual.parts[kind])}
    lifted = {option: found[kind].pop(key) for kind, key, option in OPTIONS if key in found.get(kind, {})}
    return found | lifted


def _resume(values: Mapping[str, Any], given: set[str]) -> Run:
    folder = RunFolder.open(values["out"])
    stored = _registered_request(folder)
    if values["data"] != stored.source and {values["data"], stored.source} & set(NAMES):
        raise RunError(
            f"a resumed run keeps its data, {stored.source}; got {values['data']}. Train anew with another --out."
        )
    _require_same_words(values, given, stored.request or words_of(folder.read_config()))
    changed = {name: values[name] for name in FREE_ON_RESUME & given}
    shown = {"verbose": bool(values.get("verbose")), "pictures": values.get("pictures")}
    return resume_run(folder.path, values["data"], **shown, **changed)


def resume_run(out: Path, data: str | None = None, **changed: Any) -> Run:
    """Go on with a run of registered parts from its last checkpoint.

    Args:
        out: the run folder, which says all that was asked for.
        data: place of its data, if they have moved; they must be the same.
        changed: settings that differ from now on, of those in `FREE_ON_RESUME`.

    Raises:
        CalibraeError: if the run or its data are not usable, saying what to do.
    """
    folder = RunFolder.open(out)
    stored = _registered_request(folder)
    return fit(model_of(stored), data or stored.source, folder.path, resume=True, **changed)


def model_of(stored: StoredRequest) -> VAE:
    """The model that a run was asked for, with weights of its own."""
    if stored.is_own:
        raise RunError(f"{stored.path} was trained on your own modules, whose code is not stored. Open it in Python.")
    parts = {name: value for name, value in stored.model.items() if name != "name"}
    return build_from_config(ModelConfig(stored.model["name"], parts))


def _registered_request(folder: RunFolder) -> StoredRequest:
    """Read what a run of registered parts was asked for."""
    stored = stored_request(folder)
    if stored.is_own:
        raise RunError(
            f"{folder.path} was trained on your own modules; resume it in Python: fit(model, ..., resume=True)."
        )
    return stored


def _require_same_words(values: Mapping[str, Any], given: set[str], stored: Mapping[str, Any]) -> None:
    asked = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    asked, stored = ({**found, "condition": _listed(found.get("condition"))} for found in (asked, stored))
    wrong = [
        f"--{name.replace('_', '-')} {_words(asked[name])} (was {_words(stored.get(name))})"
        for name in sorted(given - FREE_ON_RESUME - NOT_STORED)
        if asked[name] != stored.get(name)
    ]
    if wrong:
        raise RunError(
            f"a resumed run keeps its settings; got {', '.join(wrong)}. Drop them, or train anew with another --out."
        )


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def seeded_build(seed: int, make: Callable[[], VAE]) -> VAE:
    """Build a model with weights that depend on the seed alone."""
    with seeded_weights(seed):
        return make()

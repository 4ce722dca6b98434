"""Train a model and look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ..data import NAMES, Data, DataOptions, Preparation, load_data
from ..errors import ArgumentError, RunError
from ..evaluation import log_likelihoods, training_ppca
from ..functional import beta_in_conventions
from ..likelihoods import BernoulliLikelihood, LearnedSigma, ManualSigma, OptimalSigma
from ..models import VAE
from ..objectives import BetaELBO
from ..runs import RunFolder, replace_json, save_floor
from ..training import AbstractReporter, Bar, Silent, Trainer, TrainSettings, find_device
from ._draw import draw_run
from ._run import Run, options_from, options_to_dict, require_same

SETTINGS = tuple(field.name for field in fields(TrainSettings))
DATA_OPTIONS = tuple(field.name for field in fields(DataOptions))
FEW_STEPS = 500


def fit(
    model: VAE,
    data: Any,
    out: str | Path,
    *,
    epochs: int = 20,
    objective: BetaELBO | None = None,
    options: DataOptions | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    pictures: bool = True,
    request: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Run:
    """Train a model, select it by its validation ELBO at beta = 1, fix its sigma on the training set, and save it.

    Args:
        model: any `VAE`; trained in place.
        data: a name, a path, an array `[N, *data]`, a tensor, a dict of arrays, or a Dataset.
        out: the run folder.
        epochs: passes over the training set.
        objective: what is descended; by default the model's.
        options: how the data are read and split; its fields may be given as keywords instead.
        resume: go on from the last checkpoint in `out`.
        overwrite: replace a run that is already there.
        quiet: say nothing.
        pictures: draw curves, reconstructions, samples and a traversal at the end.
        request: what the user asked for in their own words, kept in `config.toml`.
        settings: fields of `TrainSettings` (batch_size, lr, seed, precision, ...) and of `DataOptions` (size,
            data_range, skip_broken, binarise, split_seed, ...).

    Returns:
        The run: folder, model, data and history.

    Raises:
        CalibraeError: if the data, a setting or the folder is not usable, saying what to do.

    Example:
        >>> import tempfile
        >>> model = build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2)
        >>> run = fit(model, "digits", tempfile.mkdtemp(), epochs=1, quiet=True, pictures=False)
        >>> run.evaluate().n
        180
    """
    options = _data_options(options, settings)
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise ArgumentError(
            f"settings must be among {', '.join(SETTINGS)} or {', '.join(DATA_OPTIONS)}; got {', '.join(unknown)}."
        )
    chosen = TrainSettings(epochs=epochs, **settings)
    find_device(chosen.accelerator)
    reporter: AbstractReporter = Silent() if quiet else Bar()
    if resume:
        folder = RunFolder.open(out)
        ready, objective = _resumed(folder, data, options, objective)
    else:
        RunFolder.require_free(out, overwrite=overwrite)
        ready, objective = load_data(data, options), objective or model.objective
    ready = _suited(model, ready, chosen)
    for note in ready.source.notes:
        reporter.say(f"note: {note}")
    trainer, history = _trained(model, ready, out, chosen, objective, reporter, options, request, resume, overwrite)
    folder = trainer.folder
    run = Run(folder, model, ready, history)
    _write_end(run, chosen)
    floor = _keep_floor(run)
    if pictures:
        draw_run(run, floor)
    return run


def _trained(
    model: VAE,
    ready: Data,
    out: str | Path,
    chosen: TrainSettings,
    objective: BetaELBO,
    reporter: AbstractReporter,
    options: DataOptions | None,
    request: Mapping[str, Any] | None,
    resume: bool,
    overwrite: bool,
) -> tuple[Trainer, list[dict[str, float]]]:
    """Train in a folder that is left as it was if nothing begins."""
    folder, is_new = RunFolder(Path(out)), not Path(out).exists()
    try:
        if not resume:
            RunFolder.create(out, overwrite=overwrite)
            _write_start(folder, model, ready, options or DataOptions(), chosen, objective, request)
        trainer = Trainer(model, ready, folder, chosen, objective, reporter)
        _announce(model, ready, objective, reporter)
        if trainer.total_steps < FEW_STEPS:
            reporter.say(
                f"note: {trainer.total_steps} steps in all; a model gains for some thousands (--epochs, --batch-size)"
            )
        return trainer, trainer.run(resume=resume)
    except BaseException as error:
        if not resume and not (folder.checkpoints / "last.pt").exists():
            folder.abandon(remove=is_new)
            if isinstance(error, KeyboardInterrupt):
                message = "interrupted before the first step: there is nothing to keep, and the folder is as it was"
                reporter.say(message)
                raise KeyboardInterrupt(message) from None
        raise
    finally:
        if (folder.checkpoints / "last.pt").exists():
            folder.discard_old()


def _data_options(options: DataOptions | None, settings: dict[str, Any]) -> DataOptions | None:
    """The data options, whichever way they were given; those among the settings are taken out."""
    named = {name: settings.pop(name) for name in DATA_OPTIONS if name in settings}
    if not named:
        return options
    if options is not None:
        raise ArgumentError(f"give data options as `options=` or as keywords; got both, with {', '.join(named)}.")
    return DataOptions(**named)


def _resumed(
    folder: RunFolder, data: Any, options: DataOptions | None, objective: BetaELBO | None
) -> tuple[Data, BetaELBO]:
    """The data and the objective of a run that goes on, which must be those that it began with."""
    stored = resume_options(folder)
    if options is not None and options != stored.options:
        raise RunError(f"a resumed run keeps its data options, {stored.options}; got {options}. Leave them out.")
    if objective is not None and objective != stored.objective:
        raise RunError(f"a resumed run keeps its objective, {stored.objective}; got {objective}. Leave it out.")
    known = folder.read_run()["data"]
    ready = load_data(data, stored.options, Preparation.from_dict(known["preparation"]))
    require_same(folder.path, ready, known)
    return ready, stored.objective


def _suited(model: VAE, data: Data, settings: TrainSettings) -> Data:
    """The data as this model's likelihood needs them.

    Raises:
        ArgumentError: if the likelihood or a setting has no meaning for them.
    """
    name = data.source.name
    shape = model.config.arguments.get("data_shape") if model.config else None
    if shape is not None and tuple(shape) != data.spec.data_shape:
        raise ArgumentError(
            f"the model was built for data of shape {tuple(shape)}; {name} has {data.spec.data_shape}. Build it with "
            f"data_shape={data.spec.data_shape}."
        )
    if settings.flip and len(data.spec.data_shape) != 3:
        raise ArgumentError(f"--flip mirrors pictures; got {name} of shape {data.spec.data_shape}. Drop it.")
    if not isinstance(model.likelihood, BernoulliLikelihood):
        if data.spec.preparation == "binarise":
            raise ArgumentError(
                f"binarised data have no density; got {name} and a Gaussian. Take --likelihood bernoulli."
            )
        return data
    if data.spec.levels == 2:
        return data.binarised()
    if data.spec.preparation != "binarise":
        raise ArgumentError(
            f"a Bernoulli likelihood is for binary data; got {name} on {data.spec.scale}. Binarise them with "
            "--binarise (in Python `binarise=True`), or take a Gaussian."
        )
    return data


def _write_start(
    folder: RunFolder,
    model: VAE,
    data: Data,
    options: DataOptions,
    settings: TrainSettings,
    objective: BetaELBO,
    request: Mapping[str, Any] | None,
) -> None:
    name, arguments = (model.config.name, model.config.arguments) if model.config else ("own modules", {})
    folder.write_config(
        {
            "data": {"source": _place(data.source.name), **options_to_dict(options)},
            "model": {"name": name, **arguments},
            "objective": asdict(objective),
            "training": asdict(settings),
            "request": dict(request or {}),
        }
    )
    folder.write_run({"seed": settings.seed, "data": data.describe(), "finished": False})


def _place(name: str) -> str | None:
    """Under which name or path the data can be opened again, if they can."""
    if name in NAMES:
        return name
    return str(Path(name).resolve()) if Path(name).exists() else None


def _write_end(run: Run, settings: TrainSettings) -> None:
    best = max(run.history, key=lambda row: row.get("validation_elbo", -row["validation_nll"]))
    known = run.folder.read_run()
    known |= {"finished": True, "epochs": len(run.history), "selected_epoch": best["epoch"], "seed": settings.seed}
    known |= {"training_seconds": run.history[-1]["seconds"]}
    replace_json(run.path / "run.json", known)


def _announce(model: VAE, data: Data, objective: BetaELBO, reporter: AbstractReporter) -> None:
    """The data, the model, and what the objective's beta is called elsewhere."""
    sizes = {split: len(data.view(split)) for split in ("train", "validation", "test")}
    parameters = sum(p.numel() for p in model.parameters())
    reporter.say(
        f"{data.source.name}: {sizes['train']:,} training, {sizes['validation']:,} validation, {sizes['test']:,} test examples "
        f"of shape {data.spec.data_shape} on {data.spec.scale}; {parameters:,} parameters"
    )
    if model.latent_dim >= data.spec.data_dim:
        reporter.say(
            f"note: {model.latent_dim} latents for {data.spec.data_dim} data dimensions leave nothing to compress; a smaller "
            "--latent-dim says more"
        )
    if not model.posterior.is_density:
        return
    sigma = getattr(model.likelihood, "sigma", None)
    fixed = round(float(sigma.log_sigma.exp().flatten()[0]), 9) if isinstance(sigma, ManualSigma) else None
    likelihood = "bernoulli" if isinstance(model.likelihood, BernoulliLikelihood) else "gaussian"
    elsewhere = beta_in_conventions(objective.beta, data.spec.data_dim, model.latent_dim, fixed, likelihood=likelihood)
    named = ", ".join(f"{name} {value:.4g}" for name, value in elsewhere.items())
    kinds: dict[object, str] = {
        OptimalSigma: "optimal sigma",
        LearnedSigma: "learned sigma",
        ManualSigma: f"sigma {fixed}",
    }
    kind = kinds.get(type(sigma), "bits")
    reporter.say(f"beta {objective.beta:g} on the summed KL beside the full NLL ({kind}); the same elsewhere: {named}")


def _keep_floor(run: Run) -> float | None:
    """Store the closed-form floor with the run; its log-likelihood of the validation split, if it is comparable."""
    if not run.model.posterior.is_density:
        return None
    ppca, _ = training_ppca(run.model, run.data)
    if ppca is None:
        return None
    save_floor(ppca, run.path)
    return float(log_likelihoods(ppca, run.data, "validation").mean())


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What a run was asked for.

    Attributes:
        source: name or path of the data, if it has one.
        data: the stored data options.
        options: the same, as `DataOptions`.
        model: name and arguments of the model.
        training: fields of `TrainSettings`.
        objective: what was descended.
        request: the command line's values, if it came from there.
    """

    source: str | None
    data: dict[str, Any]
    options: DataOptions
    model: dict[str, Any]
    training: dict[str, Any]
    objective: BetaELBO
    request: dict[str, Any]


def resume_options(folder: RunFolder) -> StoredRequest:
    """What a run that is to go on was asked for."""
    config = folder.read_config()
    try:
        data, objective = config["data"], BetaELBO(**config["objective"])
        return StoredRequest(
            data.get("source"),
            data,
            options_from(data),
            config["model"],
            config["training"],
            objective,
            config.get("request", {}),
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder.config_file} is not complete: {error}. Restore the file, or train again.") from error


def seeded_build(seed: int, make: Any) -> VAE:
    """Build a model with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: VAE = make()
    return model

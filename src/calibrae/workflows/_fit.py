"""Train a model and look at it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ..data import Data, DataOptions, load_data
from ..errors import ArgumentError, CalibraeError
from ..evaluation import training_spectrum
from ..functional import beta_in_conventions, ppca_log_likelihood
from ..likelihoods import BernoulliLikelihood, GaussianLikelihood, ManualSigma
from ..models import VAE
from ..objectives import BetaELBO
from ..runs import RunFolder, replace_json
from ..training import AbstractReporter, Bar, Silent, Trainer, TrainSettings
from ._draw import draw_run
from ._run import Run, options_from, options_to_dict

SETTINGS = tuple(field.name for field in fields(TrainSettings))


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
    source: str | None = None,
    **settings: Any,
) -> Run:
    """Train a model, select it by its validation ELBO at beta = 1, fix its sigma on the training set, and save it.

    Args:
        model: any `VAE`; trained in place.
        data: a name, a path, an array `[N, *data]`, a tensor, a dict of arrays, or a Dataset.
        out: the run folder.
        epochs: passes over the training set.
        objective: what is descended; by default the model's.
        options: how the data are read and split.
        resume: go on from the last checkpoint in `out`.
        overwrite: replace a run that is already there.
        quiet: say nothing.
        pictures: draw curves, reconstructions, samples and a traversal at the end.
        source: name or path under which `data` can be opened again, where it is not itself one.
        settings: fields of `TrainSettings`: batch_size, lr, seed, precision, ...

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
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise ArgumentError(f"settings must be among {', '.join(SETTINGS)}; got {', '.join(unknown)}.")
    chosen = TrainSettings(epochs=epochs, **settings)
    if not resume:
        RunFolder.require_free(out, overwrite=overwrite)
    reporter: AbstractReporter = Silent() if quiet else Bar()
    options = options or DataOptions()
    ready = load_data(data, options)
    _require_binary(model, ready)
    for note in ready.source.notes:
        reporter.say(f"note: {note}")
    folder = RunFolder.open(out) if resume else RunFolder.create(out, overwrite=overwrite)
    objective = objective or model.objective
    if not resume:
        _write_start(folder, model, data if source is None else source, ready, options, chosen, objective)
    trainer = Trainer(model, ready, folder, chosen, objective, reporter)
    _announce(model, ready, objective, reporter)
    history = trainer.run(resume=resume)
    run = Run(folder, model, ready, history)
    _write_end(run, chosen)
    if pictures:
        draw_run(run, _validation_floor(run))
    return run


def _require_binary(model: VAE, data: Data) -> None:
    if (
        isinstance(model.likelihood, BernoulliLikelihood)
        and data.spec.preparation != "binarise"
        and data.spec.levels != 2
    ):
        raise ArgumentError(
            f"a Bernoulli likelihood is for binary data; got {data.source.name} on {data.spec.scale}. Binarise them with "
            "--binarise (in Python `options=DataOptions(binarise=True)`), or take a Gaussian."
        )


def _write_start(
    folder: RunFolder,
    model: VAE,
    data: Any,
    ready: Data,
    options: DataOptions,
    settings: TrainSettings,
    objective: BetaELBO,
) -> None:
    source = str(data) if isinstance(data, str) and not Path(data).exists() else None
    if isinstance(data, str | Path) and Path(data).exists():
        source = str(Path(data).resolve())
    name, arguments = (model.config.name, model.config.arguments) if model.config else ("own modules", {})
    folder.write_config(
        {
            "data": {"source": source, **options_to_dict(options)},
            "model": {"name": name, **arguments},
            "objective": asdict(objective),
            "training": asdict(settings),
        }
    )
    folder.write_run({"seed": settings.seed, "data": ready.describe(), "finished": False})


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
        f"{data.source.name}: {sizes['train']} training, {sizes['validation']} validation, {sizes['test']} test examples of "
        f"shape {data.spec.data_shape} on {data.spec.scale}; {parameters:,} parameters"
    )
    if not model.posterior.is_density:
        return
    sigma = getattr(model.likelihood, "sigma", None)
    fixed = float(sigma.log_sigma.exp().flatten()[0]) if isinstance(sigma, ManualSigma) else None
    elsewhere = beta_in_conventions(objective.beta, data.spec.data_dim, model.latent_dim, fixed)
    named = ", ".join(f"{name} {value:.4g}" for name, value in elsewhere.items() if name != "nll")
    kind = (
        f"sigma {fixed:g}"
        if fixed
        else type(sigma).__name__
        if isinstance(model.likelihood, GaussianLikelihood)
        else "bits"
    )
    reporter.say(f"beta {objective.beta:g} on the summed KL beside the full NLL ({kind}); the same elsewhere: {named}")


def _validation_floor(run: Run) -> float | None:
    """Log-likelihood of the validation split under probabilistic PCA, if it is comparable."""
    if not isinstance(run.model.likelihood, GaussianLikelihood) or not run.model.posterior.is_density:
        return None
    try:
        ppca = training_spectrum(run.data, 0, run.model.latent_dim).ppca(run.model.latent_dim)
    except CalibraeError:
        return None
    total, count = 0.0, 0
    for _, x in run.data.batches("validation", 4096):
        total += float(ppca_log_likelihood(ppca, x.flatten(1).double()).sum())
        count += len(x)
    return total / count


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
    """

    source: str | None
    data: dict[str, Any]
    options: DataOptions
    model: dict[str, Any]
    training: dict[str, Any]
    objective: BetaELBO


def resume_options(folder: RunFolder) -> StoredRequest:
    """What a run that is to go on was asked for."""
    config = folder.read_config()
    data, objective = config["data"], BetaELBO(**config["objective"])
    return StoredRequest(data.get("source"), data, options_from(data), config["model"], config["training"], objective)


def seeded_build(seed: int, make: Any) -> VAE:
    """Build a model with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: VAE = make()
    return model

"""Many runs that differ in beta, sigma or latent size: trained side by side, compared, and one recommended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, final

from .._cores import cores
from .._optional import names_missing
from .._progress import seen
from .._registry import describe
from .._types import Shared, Split
from ..acceleration import find_device
from ..data import GIVEN, NAMES, DataOptions, keep_source, names_of, open_source, with_condition
from ..errors import ArgumentError
from ..evaluation import RatePoint, Recommendation, linear_curve, recommend, summarise_split, training_spectrum
from ..figures import save_rate_distortion
from ..functional import LinearCode, Spectrum, active_latents
from ..latents import Posterior, Prior
from ..likelihoods import Likelihood
from ..networks import NetworkOptions
from ..objectives import Objective
from ..runs import RunFolder, replace_json
from ..training import Stopped, TrainSettings, progress_bar
from ._crew import Crew, Say
from ._job import Factory, Job, made, pack, require_factory
from ._run import load
from ._stored import run_data
from ._study import KINDS, Axis, Point, Study, require_sweep_folder, sqlite_address
from ._train import Spec, TrainRequest, request_from

SPLIT: Split = "validation"


@final
@dataclass(frozen=True)
class Sweep:
    """Trained points, and what follows from them.

    Attributes:
        path: folder of the sweep; each point is a run under `points/`.
        points: by value.
        linear: curves of the best linear models, by latent size; empty for binary data.
        recommendation: the point to take; `None` while none is trained.
        failed: reason of each failure, by point.
        held: points that others are training.
    """

    path: Path
    points: list[RatePoint]
    linear: dict[int, list[LinearCode]]
    recommendation: Recommendation | None
    failed: dict[str, str]
    held: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "split": SPLIT,
            "points": [point.to_dict() for point in self.points],
            "linear": {str(d): [asdict(code) for code in codes] for d, codes in self.linear.items()},
            "recommendation": asdict(self.recommendation) if self.recommendation else None,
            "failed": self.failed,
            "held": self.held,
        }


@names_missing
def sweep(
    data: Any,
    out: str | Path,
    *,
    beta: str | float | Sequence[float] = (),
    sigma: str | float | Sequence[float] = (),
    latent_dim: str | int | Sequence[int] = (),
    model: str | Factory = "sigma-vae",
    network: str = "auto",
    likelihood: Spec | Likelihood | None = None,
    prior: Spec | Prior | None = None,
    posterior: Spec | Posterior | None = None,
    objective: Spec | Objective | None = None,
    sigma_shared: Shared = "all",
    beta_convention: str = "nll",
    kl_warmup: float | None = None,
    condition: Any = None,
    network_options: NetworkOptions | None = None,
    settings: TrainSettings | None = None,
    options: DataOptions | None = None,
    trials: int = 0,
    jobs: int | None = None,
    storage: str | None = None,
    take_over: bool = False,
    quiet: bool = False,
) -> Sweep:
    """Train a run for each value of beta, sigma or latent size (all combinations), and recommend one.

    Several runs train side by side, each in a process with its share of the cores. A sweep that was stopped goes on where it was
    when it is called again with the same settings; more values add points. Runs are compared on the validation split alone.

    Args:
        data: a name, a path, an array, a tensor, a dict of arrays or a Dataset.
        out: folder of the sweep.
        beta: weights of the KL, numbers or a range to search such as `"0.1:10"`.
        sigma: scales of the likelihood, likewise, or `"optimal"` or `"learned"` for all points; by default the model's.
        latent_dim: latent sizes, likewise; one number for all.
        model: a preset, or a function that makes a model of your own from what is swept, by name: `def make(latent_dim): ...`. It
            may stand in a module, a script or a notebook.
        network: `auto`, `linear`, `mlp` or `conv`.
        likelihood: registered name, perhaps with arguments, or an object of a registered class; by default what suits the data.
        prior: prior, likewise; by default the model's.
        posterior: posterior, likewise.
        objective: objective, likewise.
        sigma_shared: extent of one scale: all elements, a channel or an element.
        beta_convention: loss in which `beta` is written, as in `calibrae beta --list`.
        kl_warmup: share of all steps over which beta rises.
        condition: condition, as in `fit`.
        network_options: sizes of the networks.
        settings: how to train.
        options: how the data are read.
        trials: number of points in all, where a range is searched.
        jobs: runs at once; by default one for each core, or one with an accelerator.
        storage: address of a database that several machines share; by default `study.db` in the folder.
        take_over: take the points that a machine which is gone had begun.
        quiet: say nothing.

    Returns:
        The trained points, what the best linear models reach beside them, and which to take.

    Raises:
        CalibraeError: if an option, the data or the folder is not usable, saying what to do.

    Examples:
        >>> settings = TrainSettings(epochs=1, compile="off")
        >>> found = sweep("digits", "digits-sweep", beta=0.5, latent_dim=2, settings=settings, quiet=True)
        >>> [point.name for point in found.points]
        ['beta-0.5_latent-dim-2']
    """
    word: Any = sigma if sigma in ("optimal", "learned") else None
    axes: dict[str, Any] = {"beta": beta, "sigma": () if word else sigma, "latent_dim": latent_dim}
    axes = {name: given for name, given in axes.items() if not isinstance(given, tuple) or given}
    place, chosen = _place(data, condition, options or DataOptions())
    factory: Factory | None = None if isinstance(model, str) else model
    request = TrainRequest(
        data=place,
        out=Path(out),
        model=model if isinstance(model, str) else "sigma-vae",
        network=network,
        likelihood=_spec("likelihood", likelihood),
        prior=_spec("prior", prior),
        posterior=_spec("posterior", posterior),
        objective=_spec("objective", objective),
        sigma_shared=sigma_shared,
        beta_convention=beta_convention,
        kl_warmup=kl_warmup,
        network_options=network_options or NetworkOptions(),
        settings=settings or TrainSettings(),
        options=chosen,
        **({"sigma": word} | _lowest([Axis.of(name, given) for name, given in axes.items()])),
    )
    return run_sweep(
        request,
        axes,
        factory=factory,
        trials=trials,
        jobs=jobs,
        storage=storage,
        take_over=take_over,
        say=None if quiet else print,
    )


def _spec(name: str, part: Any) -> Spec | None:
    """Name and arguments of a part, which every point makes anew.

    Raises:
        ArgumentError: if it is an object of a class that is not registered.
    """
    if part is None or isinstance(part, str | Mapping):
        return part
    described = describe(part)
    if described is None:
        raise ArgumentError(
            f"`{name}` of a sweep is made anew for each point; got an object of {type(part).__name__}, which is not registered. Register "
            "its class with @cb.component(...), or pass a function that makes the model."
        )
    return described


def _place(data: Any, condition: Any, options: DataOptions) -> tuple[str, DataOptions]:
    """Name or path under which worker processes find the data, and how they read them."""
    if names_of(condition, data) is not None:
        options, condition = replace(options, condition=names_of(condition, data)), None
    if isinstance(data, str | Path) and condition is None:
        return named_data(data), options
    source = open_source(data, options)
    if condition is not None:
        source, options = with_condition(source, condition), replace(options, condition=GIVEN)
    place = keep_source(source)
    if place is None:
        raise ArgumentError(
            "arrays of a sweep are kept in the cache for its processes, up to a gigabyte. Save these to a file."
        )
    return place, options


def named_data(data: str | Path) -> str:
    """Name of data, or the absolute path of a file or folder that is there.

    Raises:
        ArgumentError: if it is neither.
    """
    if str(data) in NAMES:
        return str(data)
    if not Path(data).exists():
        raise ArgumentError(f"{data} is neither a name of data ({', '.join(NAMES)}) nor a path that exists.")
    return str(Path(data).resolve())


@progress_bar()
def run_sweep(
    request: TrainRequest,
    axes: Mapping[str, str | float | Sequence[float]],
    *,
    factory: Factory | None = None,
    trials: int = 0,
    jobs: int | None = None,
    storage: str | None = None,
    take_over: bool = False,
    say: Say | None = None,
) -> Sweep:
    """Run a sweep of what all its points have in common; see `sweep`.

    Args:
        request: a run as it is asked for; `out` is the folder of the sweep.
        axes: values of what is varied, by name.
        factory: makes a model of one's own.
        trials: number of points of a search.
        jobs: runs at once.
        storage: address of a database.
        take_over: take points that another machine holds.
        say: told what happens, a line at a time.
    """
    if not axes:
        raise ArgumentError(
            "a sweep varies something: pass --beta, --sigma or --latent-dim with several values, as in 0.5,1,2."
        )
    if jobs is not None and jobs < 1:
        raise ArgumentError(f"--jobs must be at least 1; got {jobs}.")
    if factory is not None:
        require_factory(factory, axes)
    chosen, out = [Axis.of(name, given) for name, given in axes.items()], request.out
    request = _checked(request, chosen, factory)
    pack(Job(request, factory, {}))  # what cannot travel is refused before anything is written
    require_sweep_folder(out)
    (out / "points").mkdir(parents=True, exist_ok=True)
    is_empty = not any(RunFolder(point).has_begun for point in (out / "points").glob("*"))
    known = _facts(request, factory, list(axes))
    study = Study(storage or sqlite_address(out), chosen, trials, known, take_over=take_over, is_empty=is_empty)
    at_once = jobs or (cores() if find_device(request.settings.device).type == "cpu" else 1)
    crew = Crew(study, request, factory, out / "points", at_once, say or (lambda _: None))
    crew.say(_said_at_start(study, at_once))
    try:
        crew.work()
    except KeyboardInterrupt as interrupt:
        message = f"stopped; {len(study.done())} points are done, the others keep what they have. To go on, give the same command again"
        crew.say(message)
        raise Stopped(message, getattr(interrupt, "code", 130)) from None
    found = _compared(out, study.done(), factory)
    result = Sweep(out, *found, crew.failed, study.held())
    replace_json(out / "sweep.json", result.to_dict())
    if result.points:
        save_rate_distortion(
            result.points, result.linear, result.recommendation, [axis.name for axis in chosen], out / "sweep.png"
        )
    return result


def sweep_request(values: Mapping[str, Any], axes: Mapping[str, str]) -> TrainRequest:
    """Build what all points share from values by option name, with the lowest value of each axis.

    Raises:
        ArgumentError: if a value has no meaning.
    """
    lowest = _lowest([Axis.of(name, given) for name, given in axes.items()])
    return request_from({**values, **lowest})


def _lowest(axes: Sequence[Axis]) -> dict[str, Any]:
    return {axis.name: KINDS[axis.name](axis.low) for axis in axes}


def _checked(request: TrainRequest, axes: Sequence[Axis], factory: Factory | None) -> TrainRequest:
    """Request at the lowest value of each axis; every value that is listed is tried before any run begins.

    Raises:
        ArgumentError: if a model cannot be made with a value.
    """
    if factory is not None:
        return request
    lowest = _lowest(axes)
    for axis in axes:
        for value in axis.values:
            replace(request, **{**lowest, axis.name: value})
    return replace(request, **lowest)


def _facts(request: TrainRequest, factory: Factory | None, axes: Sequence[str]) -> dict[str, Any]:
    """Settings that all points share, in plain types: a study keeps them. Threads, memory and pictures move no figure."""
    left_out = {
        "out",
        "overwrite",
        "words",
        "settings",
        "options",
        "network_options",
        "threads",
        "retain_memory",
        "pictures",
        "verbose",
    }
    found: dict[str, Any] = {f.name: getattr(request, f.name) for f in fields(request)}
    found |= asdict(request.network_options) | asdict(request.options) | asdict(request.settings)
    found = {name: value for name, value in found.items() if name not in left_out}
    found |= dict.fromkeys(axes)
    found["factory"] = None if factory is None else f"{factory.__module__}.{factory.__qualname__}"
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _said_at_start(study: Study, at_once: int) -> str:
    left, done, held = study.left(), len(study.done()), len(study.held())
    others = f", {held} under way elsewhere" if held else ""
    if not left:
        return f"nothing is left to train: {done} points are done{others}"
    return f"{left} points to train, {min(left, at_once)} at once; {done} done already{others}"


def _compared(
    out: Path, done: Sequence[Point], factory: Factory | None
) -> tuple[list[RatePoint], dict[int, list[LinearCode]], Recommendation | None]:
    """Every trained point on the validation split, the linear curves, and the recommendation."""
    points = []
    for number, point in enumerate(done, 1):
        points.append(_rate_point(out / "points" / point.name, point, factory))
        seen("comparing", number, len(done))
    if not points:
        return [], {}, None
    spectrum, data = None, run_data(out / "points" / done[0].name)
    if points[0].sigma is not None and data.condition is None:  # linear codes do not know a condition
        spectrum = training_spectrum(data, max(p.latent_dim for p in points))
    return points, _linear(points, spectrum), recommend(points, spectrum)


def _rate_point(folder: Path, point: Point, factory: Factory | None) -> RatePoint:
    model, data = load(folder, model=None if factory is None else made(factory, point.values)), run_data(folder)
    summary = summarise_split(model, data, SPLIT)
    scale, variance = model.likelihood.scale, summary.posterior_mean_var
    return RatePoint(
        name=point.name,
        axes=dict(point.values),
        beta=float(RunFolder.open(folder).read_config()["objective"].get("beta", 1.0)),
        sigma=None if scale is None else scale.std(),
        latent_dim=model.latent_dim,
        elbos=summary.elbos,
        kl_nats=summary.kl or 0.0,
        reconstruction_nats=summary.nll,
        sse=None if summary.mse is None else summary.mse * data.spec.data_dim,
        active_units=model.latent_dim if variance is None else int(active_latents(variance).sum()),
    )


def _linear(points: Sequence[RatePoint], spectrum: Spectrum | None) -> dict[int, list[LinearCode]]:
    if spectrum is None:
        return {}
    most = 1.1 * max(point.kl_nats for point in points)
    return {d: linear_curve(spectrum, d, most) for d in sorted({point.latent_dim for point in points})}

"""One point of a sweep as a worker process trains it, and its way there."""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, final

from .._registry import own_components, readmit
from ..errors import ArgumentError, MissingExtraError, first_line
from ..models import VAE
from ..runs import RunFolder
from ._fit import SETTINGS, fit
from ._train import TrainRequest, resume_run, seeded_build

Factory: TypeAlias = Callable[..., VAE]


@final
@dataclass(frozen=True)
class Job:
    """A run that a worker process trains, or goes on with.

    Attributes:
        request: the run as it is asked for. Where a factory makes the model, its data, options, settings and folder count.
        factory: makes the model from the point's values that it takes by name; `None` for a model of registered parts.
        values: values of the axes.
    """

    request: TrainRequest
    factory: Factory | None
    values: Mapping[str, float]

    def train(self) -> None:
        """Train the point, or go on with it.

        Raises:
            CalibraeError: if the request is not usable.
        """
        request = self.request
        is_begun = RunFolder(request.out).has_begun
        if self.factory is not None:
            self._fit_own(self.factory, is_begun=is_begun)
        elif is_begun:
            resume_run(request.out, threads=request.settings.threads, pictures=request.pictures)
        else:
            request.run()

    def _fit_own(self, factory: Factory, *, is_begun: bool) -> None:
        request = self.request
        model = seeded_build(request.settings.seed, partial(made, factory, self.values))
        settings: dict[str, Any] = {name: getattr(request.settings, name) for name in SETTINGS}
        fit(
            model,
            request.data,
            request.out,
            beta=None if "beta" in _taken(factory) else self.values.get("beta"),
            kl_warmup=request.kl_warmup,
            options=None if is_begun else request.options,
            resume=is_begun,
            overwrite=request.overwrite,
            pictures=request.pictures,
            **settings,
        )


def pack(job: Job) -> bytes:
    """Write a job, its factory and all registered classes of the user's own, so that another process can read them.

    Classes and functions of a module travel by name, those of a notebook or a script by value.

    Raises:
        ArgumentError: if the factory, or what it refers to, cannot travel.
        MissingExtraError: if cloudpickle is not installed.
    """
    try:
        import cloudpickle
    except ImportError as error:
        raise MissingExtraError("a sweep needs cloudpickle. Install it: pip install 'calibrae[sweep]'") from error
    try:
        load = cloudpickle.dumps((job, own_components()))
    except Exception as error:  # pickling runs anybody's code
        raise ArgumentError(
            f"the model and components of a sweep must be such that they can be sent to another process: {first_line(error)}. "
            "Define them at the top level of a module."
        ) from error
    return pickle.dumps((sys.path, load))


def unpack(packed: bytes) -> Job:
    """Read a job that `pack` wrote in another process, and register the classes that came with it."""
    sys.path[:], load = pickle.loads(packed)  # noqa: S301 (written by our own parent process)
    job, components = pickle.loads(load)  # noqa: S301
    for name, cls in components:
        readmit(name, cls)
    found: Job = job
    return found


def made(factory: Factory, values: Mapping[str, float]) -> VAE:
    """Make a model from the values that its factory takes by name.

    Raises:
        ArgumentError: if it makes something else.
    """
    model = factory(**{name: value for name, value in values.items() if name in _taken(factory)})
    if not isinstance(model, VAE):
        raise ArgumentError(
            f"`model` must be a function that makes a VAE; {_name(factory)} made {type(model).__name__}."
        )
    return model


def _taken(factory: Factory) -> list[str]:
    return list(inspect.signature(factory).parameters)


def _name(factory: Factory) -> str:
    return getattr(factory, "__qualname__", type(factory).__name__)


def require_factory(factory: Factory, axes: Mapping[str, object]) -> None:
    """Raise `ArgumentError` unless a factory makes models, and takes what is swept by name."""
    if not callable(factory) or isinstance(factory, VAE):
        raise ArgumentError(
            f"`model` must be a preset, or a function that makes a VAE anew for each point; got {type(factory).__name__}."
        )
    lacking = [name for name in axes if name != "beta" and name not in _taken(factory)]
    if lacking:
        raise ArgumentError(f"`model` must take what is swept by name; {_name(factory)} lacks {', '.join(lacking)}.")

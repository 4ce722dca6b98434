"""Names of components, and compositions of them as plain data."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

from .errors import ArgumentError, first_line

Class = TypeVar("Class", bound=type)
KINDS = ("likelihood", "posterior", "prior", "objective")
_CLASSES: dict[str, dict[str, type]] = {kind: {} for kind in KINDS}
_ARGUMENTS = "_component_arguments"


def component(name: str) -> Callable[[Class], Class]:
    """Register a likelihood, posterior, prior or objective under a name.

    A registered part is stored with the run by its name and the arguments that it was made with, so a model of registered
    parts can be loaded, resumed, swept and audited without its code in hand. `build`, the command line's `--likelihood`,
    `--posterior`, `--prior` and `--objective`, and `train --config` know it by that name.

    Args:
        name: as users type it, such as `laplace`.

    Raises:
        ArgumentError: if the class is none of the four kinds, or another class has the name.

    Examples:
        >>> @cb.component("sharp-gaussian")
        ... class SharpGaussian(cb.Likelihood):
        ...     def __init__(self, sigma: float = 0.01) -> None:
        ...         super().__init__()
        ...         self.sigma = sigma
        ...     def forward(self, output):
        ...         normal = torch.distributions.Normal(output, self.sigma)
        ...         return torch.distributions.Independent(normal, len(self.data_shape))
        >>> build("vae", data_shape=(4,), latent_dim=2, likelihood="sharp-gaussian").config.parts["likelihood"]
        {'name': 'sharp-gaussian'}
    """

    def register(cls: Class) -> Class:
        kind = getattr(cls, "kind", None)
        if kind not in KINDS:
            raise ArgumentError(
                f"a component must be a Likelihood, Posterior, Prior or Objective; got {cls.__name__}. Derive it from one of them."
            )
        known = _CLASSES[kind].get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ArgumentError(f"the name {name!r} belongs to {known.__qualname__} already. Choose another name.")
        _CLASSES[kind][name] = cls
        _remember_arguments(cls)
        return cls

    return register


def _remember_arguments(cls: Any) -> None:
    """Keep the arguments of each object's constructor; those of a subclass replace its parent's."""
    original = cls.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 (it takes the place of that method)
        original(self, *args, **kwargs)
        given = inspect.signature(original).bind(self, *args, **kwargs).arguments
        values = dict(list(given.items())[1:])
        object.__setattr__(self, _ARGUMENTS, (cls, values))

    cls.__init__ = __init__


def names(kind: str) -> list[str]:
    """Registered names of a kind, sorted.

    Examples:
        >>> from calibrae._registry import names
        >>> "beta-elbo" in names("objective")
        True
    """
    return sorted(_CLASSES[kind])


def find(kind: str, name: str) -> type:
    """Class that is registered under a name.

    Raises:
        ArgumentError: if there is none, naming those there are.
    """
    if name not in _CLASSES[kind]:
        raise ArgumentError(
            f"`{kind}` must be one of {', '.join(names(kind))}, or an object of one's own; got {name!r}. Register a class of "
            f'your own with @cb.component("{name}").'
        )
    return _CLASSES[kind][name]


def own_components() -> list[tuple[str, type]]:
    """Registered names and classes from outside this package, so that another process can register them too.

    Examples:
        >>> from calibrae._registry import own_components
        >>> [name for name, cls in own_components() if cls.__module__.startswith("calibrae.")]
        []
    """
    package = __name__.partition(".")[0]
    known = (entry for classes in _CLASSES.values() for entry in classes.items())
    return [(name, cls) for name, cls in known if cls.__module__.partition(".")[0] != package]


def readmit(name: str, cls: Any) -> None:
    """Register a class that was registered in another process."""
    _CLASSES[cls.kind].setdefault(name, cls)


def create(kind: str, spec: str | Mapping[str, Any], **offered: Any) -> Any:
    """Make a component from `"mixture"`, `"mixture:components=4"` or `{"name": "mixture", "components": 4}`.

    Args:
        kind: `likelihood`, `posterior`, `prior` or `objective`.
        spec: name and arguments.
        offered: further arguments, each used if the class takes it; those in `spec` win.

    Raises:
        ArgumentError: for an unknown name or argument.

    Examples:
        >>> from calibrae._registry import create
        >>> create("objective", "beta-elbo:beta=2").beta
        2.0
    """
    given = parse(spec) if isinstance(spec, str) else dict(spec)
    cls = find(kind, name_in(kind, given))
    del given["name"]
    taken = parameters_of(cls)
    unknown = [name for name in given if name not in taken]
    if unknown:
        raise ArgumentError(
            f"the {kind} {spec!r} has no argument {unknown[0]!r}; it takes {', '.join(taken) or 'none'}."
        )
    arguments = {name: value for name, value in offered.items() if name in taken}
    arguments |= {name: _made(value) for name, value in given.items()}
    lacking = [n for n, p in taken.items() if p.default is p.empty and n not in arguments]
    if lacking:
        raise ArgumentError(f"the {kind} {spec!r} needs {', '.join(lacking)}. Give it as NAME:{lacking[0]}=VALUE.")
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ArgumentError(f"the {kind} {spec!r} cannot be made: {first_line(error)}. Check its arguments.") from error


def name_in(kind: str, spec: Mapping[str, Any]) -> str:
    """Name that the description of a component gives.

    Raises:
        ArgumentError: if it gives none.
    """
    if not isinstance(spec.get("name"), str):
        raise ArgumentError(f'a {kind} is described by its name and arguments, {{"name": ..., ...}}; got {dict(spec)}.')
    return str(spec["name"])


def _made(value: Any) -> Any:
    """Component from its description with the kind, as `_plain` writes it inside another's; anything else as it is."""
    if isinstance(value, tuple | list):
        return [_made(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    if value.get("kind") in KINDS and "name" in value:
        return create(value["kind"], {key: part for key, part in value.items() if key != "kind"})
    return {key: _made(part) for key, part in value.items()}


def parameters_of(cls: type) -> dict[str, inspect.Parameter]:
    """Named parameters of a class's constructor."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(cls).parameters.items() if p.kind in named}


def parse(text: str) -> dict[str, Any]:
    """Name and arguments as users type them.

    Examples:
        >>> from calibrae._registry import parse
        >>> parse("mixture:components=4,spread=0.5")
        {'name': 'mixture', 'components': 4, 'spread': 0.5}
    """
    name, _, rest = text.partition(":")
    pairs = [part.partition("=") for part in rest.split(",") if part]
    wrong = [key for key, equals, _ in pairs if not equals]
    if wrong:
        raise ArgumentError(f"arguments are written NAME:KEY=VALUE,KEY=VALUE; got {text!r}.")
    return {"name": name.strip()} | {key.strip(): _value(value.strip()) for key, _, value in pairs}


def _value(text: str) -> Any:
    """Integer, float, true, false, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def describe(part: Any) -> dict[str, Any] | None:
    """Name and arguments of a component; `None` if it is not registered or its arguments are not plain data.

    Examples:
        >>> from calibrae._registry import describe
        >>> describe(BetaELBO(beta=2.0))
        {'name': 'beta-elbo', 'beta': 2.0}
    """
    cls, arguments = getattr(part, _ARGUMENTS, (None, {}))
    name = next((n for n, known in _CLASSES.get(getattr(part, "kind", ""), {}).items() if known is type(part)), None)
    if name is None or cls is not type(part):
        return None
    plain = {key: _plain(value) for key, value in arguments.items()}
    return None if any(value is _NOT_PLAIN for value in plain.values()) else {"name": name, **plain}


_NOT_PLAIN = object()


def _plain(value: Any) -> Any:
    """Numbers, text, and lists and dicts of them; a registered component as its description with its kind."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        parts = [_plain(part) for part in value]
        return _NOT_PLAIN if any(part is _NOT_PLAIN for part in parts) else parts
    if isinstance(value, dict):
        entries = {str(key): _plain(part) for key, part in value.items()}
        return _NOT_PLAIN if any(part is _NOT_PLAIN for part in entries.values()) else entries
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    inner = describe(value)
    return _NOT_PLAIN if inner is None else {"kind": value.kind, **inner}

"""What a component can do is asked of the component: nobody outside its room asks for its class."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn
from torch.distributions import Distribution

import calibrae
from calibrae.latents import Posterior, Prior
from calibrae.likelihoods import Likelihood, Scale
from calibrae.objectives import Objective

SOURCE = Path(calibrae.__file__).parent
BASES = (Likelihood, Posterior, Prior, Objective, Scale)
ROOMS = ("likelihoods", "latents", "objectives")
# the audited loss has no decoder, and the checks of components call them as a model would
READS_OUTPUTS = ("objectives/_vae_loss.py", "testing/")


def component_classes() -> dict[str, str]:
    """Classes of components and our own distributions, by name, with the room that owns each."""
    found = {}
    for room in ROOMS:
        package = importlib.import_module(f"calibrae.{room}")
        for module in pkgutil.iter_modules(package.__path__):
            parts = importlib.import_module(f"calibrae.{room}.{module.name}")
            for name, value in inspect.getmembers(parts, inspect.isclass):
                if issubclass(value, (*BASES, Distribution)) and value.__module__ == parts.__name__:
                    found[name] = room
    return found


CLASSES = component_classes()


def names_in(node: ast.AST) -> set[str]:
    """Last names in an expression: of `a.B | (C, d.D)` B, C and D."""
    return {
        n.attr if isinstance(n, ast.Attribute) else n.id
        for n in ast.walk(node)
        if isinstance(n, ast.Attribute | ast.Name)
    }


def name_of(node: ast.AST) -> str:
    """Last name of what is called: `likelihood` of `self.model.likelihood`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _asks_for_a_class(call: ast.Call, room: str) -> str | None:
    if name_of(call.func) not in ("isinstance", "issubclass") or len(call.args) < 2:
        return None
    foreign = sorted(n for n in names_in(call.args[1]) if CLASSES.get(n, room) != room)
    return f"asks whether something is a {', '.join(foreign)}" if foreign else None


def _matches_a_class(pattern: ast.MatchClass, room: str) -> str | None:
    name = name_of(pattern.cls)
    return f"asks whether something is a {name}" if CLASSES.get(name, room) != room else None


def _feels_for_an_attribute(call: ast.Call) -> str | None:
    if name_of(call.func) not in ("getattr", "hasattr") or len(call.args) < 2:
        return None
    wanted = call.args[1].value if isinstance(call.args[1], ast.Constant) else None
    of = name_of(call.args[0])
    if wanted in ("sigma", "scale") or of in ("likelihood", "prior", "posterior", "objective", "scale"):
        return f"feels for {wanted!r} of {of or 'something'}"
    return None


def _reads_an_output(call: ast.Call) -> str | None:
    of_a_decoder = any(isinstance(a, ast.Call) and name_of(a.func) == "decoder" for a in call.args)
    is_reader = name_of(call.func) == "likelihood" or (isinstance(call.func, ast.Name) and call.func.id == "head")
    if is_reader and call.args:
        return "reads a decoder's output by itself: call `model.decode`"
    return "calls something with a decoder's output: call `model.decode`" if of_a_decoder else None


def violations(text: str, place: str) -> Iterator[str]:
    """Faults of a module, with their lines.

    Args:
        text: its source.
        place: its path below the package, such as `evaluation/_score.py`.
    """
    room = place.partition("/")[0]
    for node in ast.walk(ast.parse(text)):
        found = []
        if isinstance(node, ast.MatchClass):
            found.append(_matches_a_class(node, room))
        if isinstance(node, ast.Call):
            found += [_asks_for_a_class(node, room), _feels_for_an_attribute(node)]
            if room != "models" and not place.startswith(READS_OUTPUTS):
                found.append(_reads_an_output(node))
        if isinstance(node, ast.Compare) and any(
            isinstance(part, ast.Call) and name_of(part.func) == "type" for part in ast.walk(node)
        ):
            named = {n for part in node.comparators for n in names_in(part)}
            found += [f"asks whether something is a {n}" for n in sorted(named) if CLASSES.get(n, room) != room]
        yield from (f"{place}:{node.lineno} {what}" for what in found if what is not None)


def test_the_classes_are_those_of_the_rooms():
    assert CLASSES["GaussianLikelihood"] == CLASSES["OptimalScale"] == CLASSES["IndependentNormal"] == "likelihoods"
    assert CLASSES["MixturePrior"] == CLASSES["DiagonalGaussian"] == CLASSES["PointPosterior"] == "latents"
    assert CLASSES["BetaELBO"] == "objectives"
    assert len(CLASSES) > 20
    assert not any(issubclass(value, nn.Module) for value in (Objective,))


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_no_module_asks_for_the_class_of_a_component(file):
    assert list(violations(file.read_text(encoding="utf-8"), file.relative_to(SOURCE).as_posix())) == []


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ("isinstance(model.likelihood, GaussianLikelihood)", "is a GaussianLikelihood"),
        (
            "isinstance(part, cb.BernoulliLikelihood | cb.LaplaceLikelihood)",
            "is a BernoulliLikelihood, LaplaceLikelihood",
        ),
        ("isinstance(model.prior, (int, latents.StandardNormalPrior))", "is a StandardNormalPrior"),
        ("isinstance(q, DiagonalGaussian)", "is a DiagonalGaussian"),
        ("isinstance(model.likelihood.scale, OptimalScale)", "is a OptimalScale"),
        ("issubclass(kind, Objective)", "is a Objective"),
        ("type(model.objective) is BetaELBO", "is a BetaELBO"),
        ("match q:\n    case DiagonalGaussian(): pass", "is a DiagonalGaussian"),
        ("getattr(thing, 'sigma', None)", "feels for 'sigma'"),
        ("getattr(model.likelihood, 'floor')", "feels for 'floor' of likelihood"),
        ("hasattr(likelihood, 'sigma')", "feels for 'sigma'"),
        ("px = model.likelihood(model.decoder(z))", "reads a decoder's output"),
        ("px = likelihood(output)", "reads a decoder's output"),
        ("px = self.model.likelihood(output)", "reads a decoder's output"),
        ("px = anything(self.decoder(z))", "with a decoder's output"),
    ],
)
def test_what_is_planted_is_found(planted, says):
    found = list(violations(planted, "evaluation/_planted.py"))
    assert any(says in what for what in found), found
    assert all(what.startswith("evaluation/_planted.py:") for what in found)


@pytest.mark.parametrize(
    ("allowed", "place"),
    [
        ("isinstance(scale, OptimalScale)", "likelihoods/_x.py"),
        ("isinstance(q, DiagonalGaussian)", "latents/_x.py"),
        ("px = self.likelihood(self.decoder(z))", "models/_x.py"),
        ("px = likelihood(x_hat)", "objectives/_vae_loss.py"),
        ("px = head(output)", "testing/_components.py"),
        ("isinstance(q, Independent)", "evaluation/_x.py"),
        ("model.likelihood.scale is None", "evaluation/_x.py"),
        ("getattr(encoder, 'spread', None)", "models/_x.py"),
        ("px = model.decode(z)", "evaluation/_x.py"),
    ],
)
def test_what_is_allowed_is_not_found(allowed, place):
    assert list(violations(allowed, place)) == []


def test_the_exceptions_are_needed():
    """Each file that may read outputs by itself does."""
    for place in READS_OUTPUTS:
        files = [SOURCE / place] if place.endswith(".py") else sorted((SOURCE / place).glob("*.py"))
        texts = [file.read_text(encoding="utf-8") for file in files]
        assert any(
            "reads a decoder's output" in what for text in texts for what in violations(text, "evaluation/_x.py")
        )

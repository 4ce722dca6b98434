"""`compile="on"`: the compiler runs before the first epoch's clock starts, and its failure is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

import calibrae as cb
from calibrae.training import _terms, _whole_step
from calibrae.training._descent import Descent
from calibrae.training._optimiser import build_optimisers
from calibrae.training._settings import TrainSettings
from calibrae.training._terms import MicroBatch, StepTerms
from calibrae.training._trial import StepTrial, choose_compile


def _choose(descent: Descent, pieces: int = 1) -> str:
    batch = MicroBatch(torch.rand(4, 1, 4, 4), None, torch.randn(4, 2))
    return choose_compile(TrainSettings(compile="on"), StepTrial(descent, [batch] * pieces), steps=1)


@pytest.fixture
def descent() -> Descent:
    torch.manual_seed(0)
    model = cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2, network="mlp").train()
    return Descent(StepTerms(model), build_optimisers(model, TrainSettings()), limit=1.0)


@pytest.mark.parametrize(("pieces", "where"), [(1, _whole_step), (2, _terms)])
def test_it_is_compiled_before_the_first_step(
    descent: Descent, monkeypatch: pytest.MonkeyPatch, pieces: int, where: ModuleType
) -> None:
    calls = []

    def counted(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        assert device.type == "cpu"

        def call(*arguments: Any) -> Any:
            calls.append(arguments)
            return function(*arguments)

        return call

    monkeypatch.setattr(where, "compile_alone", counted)
    terms = descent.terms
    before = {name: value.clone() for name, value in terms.state_dict().items()}
    said = "compiled (as asked)" if pieces == 1 else "compiled (as asked; its loss alone, as batches are cut up)"
    assert _choose(descent, pieces) == said
    assert len(calls) == 2
    assert descent.is_compiled
    assert terms.is_compiled == (pieces > 1)
    assert all(p.grad is None for p in terms.parameters())
    assert all(torch.equal(value, before[name]) for name, value in terms.state_dict().items())


def _failing(message: str) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise RuntimeError(message)

    return lambda *_, **__: call


def test_a_compiler_that_fails_is_named(descent: Descent, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (_terms, _whole_step):
        monkeypatch.setattr(where, "compile_alone", _failing("no compiler here"))
    assert _choose(descent) == "not compiled (the compiler failed: no compiler here)"
    assert not descent.is_compiled


def test_terms_are_compiled_where_the_whole_step_cannot_be(descent: Descent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_whole_step, "compile_alone", _failing("cannot trace gradients"))
    monkeypatch.setattr(_terms, "compile_alone", lambda function, **_: function)
    assert _choose(descent) == "compiled (as asked; its loss alone, as the whole failed: cannot trace gradients)"
    assert descent.terms.is_compiled


PROGRAM = """
import sys, tempfile, torch, calibrae as cb
from torch._dynamo.utils import counters
model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
with tempfile.TemporaryDirectory() as folder:
    cb.fit(model, "digits", folder + "/run", epochs=3, compile="on", precision="fp32", quiet=True, pictures=False,
           accumulate=int(sys.argv[1]), kl_warmup=2.0)
print(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", ["1", "2"])
def test_one_graph_serves_the_whole_run(accumulate: str) -> None:
    """Through a warm-up of beta, validation and a held sigma; in a process of its own, as shape checks cannot be traced."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, accumulate], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]


def test_the_compiler_is_not_imported_before_it_is_needed() -> None:
    """It takes a second, which a short run and every command would wait for."""
    program = "import sys, calibrae.training, calibrae.cli; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]

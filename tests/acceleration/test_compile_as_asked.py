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
from calibrae.acceleration import AcceleratedStep, StepTrial, _accelerated, _fused, choose_compile
from calibrae.training import EagerStep, Piece, PieceLoss, TrainSettings, build_optimisers

needs_tracing = pytest.mark.skipif(
    not _fused.can_trace_gradients(), reason="needs a torch that compiles functions that take gradients"
)


def _choose(step: AcceleratedStep, pieces: int = 1) -> str:
    piece = Piece(torch.rand(4, 1, 4, 4), None, None, None, torch.randn(1, 4, 2))
    return choose_compile("on", StepTrial(step, [piece] * pieces), steps=1)


@pytest.fixture
def step() -> AcceleratedStep:
    torch.manual_seed(0)
    options = cb.NetworkOptions(hidden=(16,))
    model = cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2, network="mlp", options=options).train()
    eager = EagerStep(PieceLoss(model, model.objective), build_optimisers(model, TrainSettings()), 1, max_norm=1.0)
    return AcceleratedStep(eager, torch.device("cpu"))


@pytest.mark.parametrize(("pieces", "where"), [pytest.param(1, _fused, marks=needs_tracing), (2, _accelerated)])
def test_it_is_compiled_before_the_first_step(
    step: AcceleratedStep, monkeypatch: pytest.MonkeyPatch, pieces: int, where: ModuleType
) -> None:
    calls = []

    def counted(function: Callable[..., Any], device: torch.device, **_: Any) -> Callable[..., Any]:
        assert device.type == "cpu"

        def call(*arguments: Any) -> Any:
            calls.append(arguments)
            return function(*arguments)

        return call

    monkeypatch.setattr(where, "compile_alone", counted)
    loss = step.eager.module
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    said = "compiled (as asked)" if pieces == 1 else "compiled (as asked; its loss alone, as batches are cut up)"
    assert _choose(step, pieces) == said
    assert len(calls) == 2
    assert step.compiled != "none"
    assert (step.eager.loss is not loss) == (pieces > 1)
    assert all(p.grad is None for p in loss.parameters())
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def _failing(message: str) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise RuntimeError(message)

    return lambda *_, **__: call


def test_a_compiler_that_fails_is_named(step: AcceleratedStep, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (_accelerated, _fused):
        monkeypatch.setattr(where, "compile_alone", _failing("no compiler here"))
    assert _choose(step) == "not compiled (the compiler failed: no compiler here)"
    assert step.compiled == "none"


@needs_tracing
def test_the_loss_is_compiled_where_the_whole_step_cannot_be(
    step: AcceleratedStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_fused, "compile_alone", _failing("cannot trace gradients"))
    monkeypatch.setattr(_accelerated, "compile_alone", lambda function, **_: function)
    assert _choose(step) == "compiled (as asked; its loss alone, as the whole failed: cannot trace gradients)"
    assert step.eager.loss is not step.eager.module
    assert step.compiled != "none"


PROGRAM = """
import tempfile, torch, calibrae as cb
from torch._dynamo.utils import counters
for micro_batches in (1, 2):
    counters.clear()
    model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
    with tempfile.TemporaryDirectory() as folder:
        cb.fit(model, "digits", folder + "/run", epochs=3, compile="on", precision="fp32", quiet=True, pictures=False,
               micro_batches=micro_batches, kl_warmup=0.6)
    print(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))
"""


@pytest.mark.slow
def test_one_graph_serves_the_whole_run() -> None:
    """Through a warm-up of beta, validation and a held scale; in a process of its own, whose compiler has seen nothing else."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 0", "1 0"]


def test_the_compiler_is_not_imported_before_it_is_needed() -> None:
    """It takes a second, which a short run and every command would wait for."""
    program = "import sys, calibrae.training, calibrae.cli; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]

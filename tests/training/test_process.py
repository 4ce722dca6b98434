"""A run leaves the process as it found it, and changes what belongs to all of it only where it is asked to.

Run as a program, it compares the process before and after runs: pytest and its plugins draw from Python's generator.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import calibrae as cb
from calibrae.training import EagerStep, TrainSettings, _choices, _trainer

TABLE = np.random.default_rng(0).normal(size=(100, 5))


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Threads with which each step was taken."""
    seen: list[int] = []
    original = EagerStep.__call__
    monkeypatch.setattr(
        EagerStep, "__call__", lambda self, *given: (seen.append(torch.get_num_threads()), original(self, *given))[1]
    )
    return seen


def fit(**settings: Any) -> cb.Run:
    torch.manual_seed(0)
    model = cb.build("sigma-vae", data_shape=(5,), latent_dim=2, options=cb.NetworkOptions(hidden=(8,)))
    given = {"epochs": 1, "batch_size": 16, "precision": "fp32", "compile": "off", "pictures": False}
    return cb.fit(model, TABLE, **given | settings)


@pytest.mark.usefixtures("three_threads")
def test_auto_chooses_by_measuring_says_so_and_restores(during, monkeypatch, capsys) -> None:
    monkeypatch.setattr(_choices, "choose_threads", lambda trial, _: (trial(), (2, "measured: by decree"))[1])
    fit(threads="auto", verbose=True)
    assert "cpu, fp32 (as asked), 2 threads (measured: by decree), not compiled" in capsys.readouterr().err
    assert during[-5:] == [2] * 5
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_auto_measures_for_real(capsys) -> None:
    fit(threads="auto", verbose=True)
    said = capsys.readouterr().err
    assert ("1 thread (measured: " in said) or ("3 threads (measured: " in said)
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_a_number_of_threads_holds_during_the_run_alone(during) -> None:
    fit(threads=2, quiet=True)
    assert set(during) == {2}
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_threads_come_back_from_a_run_that_fails(monkeypatch) -> None:
    monkeypatch.setattr(_choices, "choose_threads", lambda *_: (1, "by decree"))

    def fails(*_: Any) -> Any:
        raise ArithmeticError("in the first step")

    monkeypatch.setattr(_trainer, "train_epochs", fails)
    for given in ("auto", 2):
        with pytest.raises(ArithmeticError, match="in the first step"):
            fit(threads=given, quiet=True)
        assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_by_default_threads_are_torchs_own(during, monkeypatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("threads were measured")

    monkeypatch.setattr(_choices, "choose_threads", never)
    fit(quiet=True)
    assert TrainSettings().threads is None
    assert set(during) == {3}


@pytest.mark.parametrize(("settings", "expected"), [({}, []), ({"retain_memory": True}, ["held", "given back"])])
def test_memory_is_retained_only_where_it_is_asked_for(settings, expected, monkeypatch) -> None:
    told: list[str] = []

    @contextmanager
    def retained() -> Iterator[None]:
        told.append("held")
        yield
        told.append("given back")

    monkeypatch.setattr(_trainer, "retain_freed_memory", retained)
    fit(quiet=True, **settings)
    assert told == expected


def of_process() -> dict[str, Any]:
    """Settings that belong to the whole process and a library might change."""
    cudnn = torch.backends.cudnn
    return {
        "threads": torch.get_num_threads(),
        "threads between operations": torch.get_num_interop_threads(),
        "grad": torch.is_grad_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "precision of products": torch.get_float32_matmul_precision(),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "validation of distributions": torch.distributions.Distribution._validate_args,
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002 (the global generator is what is looked at)
        "python": random.getstate(),
        "interrupt": signal.getsignal(signal.SIGINT),
        "terminate": signal.getsignal(signal.SIGTERM),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109
        "collector": gc.isenabled(),
        "numpy's errors": np.geterr(),
    }


def test_a_default_run_changes_nothing_of_the_process() -> None:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["{} []", "{'acceleration': 'off'} []"]


def main() -> None:
    """Print what differs after a run with all defaults, and after a plain one; the first imports have effects of their own."""
    kinds: list[dict[str, Any]] = [{}, {"acceleration": "off"}]
    for number, settings in enumerate([{}, *kinds]):
        torch.manual_seed(7)
        model = cb.build("sigma-vae", data_shape=(5,), latent_dim=2, options=cb.NetworkOptions(hidden=(8,)))
        before = of_process()
        cb.fit(model, TABLE, epochs=1, quiet=True, **settings)
        after = of_process()
        if number > 0:
            print(settings, [name for name in before if before[name] != after[name]])


if __name__ == "__main__":
    main()

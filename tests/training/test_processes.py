"""Any number of processes gives the numbers of one: they share each batch, and nothing else changes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import calibrae as cb
from calibrae.cli._main import main
from calibrae.errors import ArgumentError
from calibrae.runs import RunFolder, load_tree

PROGRAM = Path(__file__).with_name("processes.py")
KINDS = ("optimal", "element", "laplace, learned", "conv", "table, iwae", "condition, pieces", "own", "cut", "cut, pieces", "cut, own", "cut, mixture", "stream")  # fmt: skip
UNEVEN = ("optimal", "table, iwae", "condition, pieces", "cut", "stream")  # with three processes, whose shares differ
pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(sys.platform == "win32", reason="gloo's launcher is not tried there"),
]


def launch(processes: int, *arguments: str, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the program under torchrun, or alone."""
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "--max-restarts",
        str(restarts),
    ]
    command = [sys.executable, *(launcher if processes > 1 else []), str(PROGRAM), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=400, env=environment)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """What each number of processes found."""
    folder = tmp_path_factory.mktemp("processes")
    assert launch(1, str(folder / "1"), "shards").returncode == 0
    results = {}
    for processes in (1, 2, 3):
        done = launch(processes, str(folder / str(processes)), *(UNEVEN if processes == 3 else KINDS))
        assert done.returncode == 0, done.stderr
        results[processes] = json.loads((folder / str(processes) / "found.json").read_text())
    return results


@pytest.mark.parametrize(("processes", "kind"), [(2, kind) for kind in KINDS] + [(3, kind) for kind in UNEVEN])
def test_the_numbers_are_those_of_one_process(found, kind, processes) -> None:
    one, many = found[1][kind], found[processes][kind]
    assert len(one["history"]) == len(many["history"]) == 2
    for ours, theirs in zip(many["history"], one["history"], strict=True):
        for name in theirs.keys() - {"seconds"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5, abs=1e-5), name
    for name in ("elbo", "bound", "sigma", "baseline"):
        expected = None if one[name] is None else pytest.approx(one[name], rel=1e-5, abs=1e-4)
        assert many[name] == expected, name
    assert many["errors"].keys() == one["errors"].keys()
    for name in one["errors"]:
        assert many["errors"][name] == pytest.approx(one["errors"][name], rel=1e-4, abs=1e-5), name
    assert many["scores"] == pytest.approx(one["scores"], rel=1e-5, abs=1e-3)
    for ours, theirs in zip(many["codes"], one["codes"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("processes", [2, 3])
def test_a_call_that_the_others_do_not_make_does_not_wait_for_them_forever(found, processes) -> None:
    alone, shared_again, own_examples = found[processes]["optimal"]["first alone"]
    assert alone == pytest.approx(found[processes]["optimal"]["elbo"], rel=1e-6)
    assert shared_again
    assert own_examples == 50  # each process evaluated other data: nothing was put together


@pytest.mark.parametrize("processes", [2, 3])
def test_a_process_holds_its_piece_of_cut_networks_alone(found, processes) -> None:
    assert found[processes]["cut"]["share"] == pytest.approx(1 / processes, abs=0.03)


def test_a_cut_run_goes_on_in_one_piece_and_in_pieces_again(tmp_path: Path) -> None:
    """What processes with a piece each have saved is whole: one goes on with it, and two with what that has saved."""
    sys.path.insert(0, str(PROGRAM.parent))
    from processes import IMAGES, build

    done = launch(2, str(tmp_path / "two"), "cut, mixture")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "two" / "cut, mixture"
    expected = RunFolder(folder).read_history()
    max((folder / "checkpoints").glob("step-*")).unlink()
    run = cb.fit(build(prior="mixture"), IMAGES, folder, resume=True, fsdp=False, quiet=True, pictures=False)
    assert run.history[1]["validation_loss"] == pytest.approx(expected[1]["validation_loss"], rel=1e-5)
    again = launch(2, str(tmp_path / "two"), "longer")
    assert again.returncode == 0, again.stderr
    found = json.loads((tmp_path / "two" / "found.json").read_text())["cut, mixture"]["history"]
    assert len(found) == 4
    assert found[3]["validation_loss"] < found[0]["validation_loss"]


def test_what_cut_networks_cannot_do_is_refused() -> None:
    with pytest.raises(ArgumentError, match="`ema_decay` must be 0 with fsdp"):
        cb.TrainSettings(fsdp=True, ema_decay=0.9)


def test_a_worker_that_dies_is_started_again_and_the_run_goes_on(tmp_path: Path) -> None:
    whole, cut = launch(2, str(tmp_path / "whole"), "optimal"), launch(2, str(tmp_path / "cut"), "dying", restarts=2)
    assert whole.returncode == 0, whole.stderr
    assert cut.returncode == 0, cut.stderr
    states = [load_tree(max((tmp_path / name / "optimal" / "checkpoints").glob("step-*"))) for name in ("whole", "cut")]
    for name, value in states[0]["model"].items():
        assert value.equal(states[1]["model"][name]), name
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in RunFolder(tmp_path / n / "optimal").read_history()]
        for n in ("whole", "cut")
    ]
    assert rows[0] == rows[1]


def test_another_number_of_processes_goes_on_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of two processes is resumed by one, from the middle: the numbers are the same but for rounding."""
    sys.path.insert(0, str(PROGRAM.parent))
    from processes import IMAGES, build

    done = launch(2, str(tmp_path / "two"), "optimal")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "two" / "optimal"
    newest, before = sorted((folder / "checkpoints").glob("step-*"), reverse=True)[:2]
    expected = RunFolder(folder).read_history()
    newest.unlink()
    run = cb.fit(build(), IMAGES, folder, resume=True, pictures=False)
    said = capsys.readouterr().err
    assert "processes was 2, now 1: from here on the numbers are those of an unbroken run but for rounding" in said
    assert f"step {int(before.name.split('-')[1])}" in said
    assert run.history[-1]["validation_loss"] == pytest.approx(expected[-1]["validation_loss"], rel=1e-5)


def command(processes: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in several processes."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    whole = [sys.executable, "-m", *launcher, "calibrae", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=200, env=environment)


def test_the_commands_print_once_and_say_the_same_in_any_number_of_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "r")
    options = ["--out", run, "--epochs", "2", "--network", "linear", "--latent-dim", "2", "--precision", "fp32"]
    done = command(2, "train", "digits", "--verbose", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained: ") == 1
    assert done.stderr.count("plain steps, whose gradients are summed over 2 processes") == 1
    assert done.stderr.count("kept epoch") == 1
    again = command(2, "train", "digits", *options)
    assert again.returncode != 0
    assert again.stderr.count("already holds a run") == 1
    assert "calibrae: " in again.stderr
    for words in (
        ["evaluate", run, "--importance-samples", "5"],
        ["score", run],
        ["encode", run, "--out", f"{run}/z.csv"],
    ):
        many = command(2, *words)
        with pytest.raises(SystemExit) as ended:
            main(words)
        one = capsys.readouterr().out
        assert ended.value.code == many.returncode == 0, many.stderr
        assert numbers_in(many.stdout) == pytest.approx(numbers_in(one), rel=1e-3, abs=0.02)
        assert re.sub(r"[\d.]+", "", many.stdout) == re.sub(r"[\d.]+", "", one)


def numbers_in(text: str) -> list[float]:
    """All numbers of a text."""
    return list(map(float, re.findall(r"\d+\.?\d*", text)))

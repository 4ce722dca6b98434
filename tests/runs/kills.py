"""Kill a training run again and again, go on with it, and compare its end with that of an unbroken run, bit for bit.

    python tests/runs/kills.py --kills 200

Half of the kills come at a random time, half of them within a save, at a random call that brings bytes or names to the disk. The unbroken
run starts from a copy of the first state of the other, so that both have made the same choices by measuring.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

import calibrae as cb
from calibrae.runs import RunFolder, load_tree

EPOCHS = 12
LONG = 40  # epochs of a run of several processes, whose start alone takes seconds


def model() -> cb.VAE:
    """A model of modules with dropout, which draw from torch's global generator."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.SiLU(), nn.Dropout(0.2), nn.Linear(32, 8))
    decoder = nn.Sequential(nn.Linear(4, 32), nn.SiLU(), nn.Dropout(0.2), nn.Linear(32, 64), nn.Unflatten(1, (1, 8, 8)))
    likelihood, prior = cb.GaussianLikelihood("optimal"), cb.StandardNormalPrior(4)
    return cb.VAE(encoder, decoder, likelihood, prior, posterior=cb.GaussianPosterior("log_var"))


def train(out: Path, **given: Any) -> None:
    """Begin the run, or go on with it; settings that are not given are the defaults."""
    epochs = LONG if "RANK" in os.environ else EPOCHS
    settings: dict[str, Any] = {"epochs": epochs, "save_every": 7, "threads": "auto", "ema_decay": 0.9}
    resume = RunFolder(out).has_begun
    cb.fit(model(), "digits", out, resume=resume, quiet=True, pictures=False, **settings | given)


def in_child(work: Callable[[], None]) -> int:
    """Start work in a child process; returns its number. It ends with 0, or 1 if the work failed."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # whatever it is, the child must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def killed_in_a_save(out: Path, call: int) -> None:
    """Train, and die at a call that brings something to the disk, before it or after it."""
    left = [call]

    def deadly(original: Callable[..., Any]) -> Callable[..., Any]:
        def call_or_die(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call_or_die

    for room, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "touch"), (Path, "chmod")):
        setattr(room, name, deadly(getattr(room, name)))
    train(out)


def ended(child: int, seconds: float | None) -> int:
    """Kill a child after some seconds if it still runs; returns its exit status, negative if a signal ended it."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG if until is not None else 0)
        if done:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() >= until:
            os.kill(child, signal.SIGKILL)
            until = None
        time.sleep(0.005)


def difference(one: Path, other: Path) -> list[str]:
    """Names of what differs between two runs: weights, history but for seconds, last state."""
    wrong: list[str] = []
    ours, theirs = (RunFolder(path) for path in (one, other))
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.read_history()] for run in (ours, theirs)]
    wrong += ["history"] if rows[0] != rows[1] else []
    states = [load_tree(max(run.checkpoints.glob("step-*"))) for run in (ours, theirs)]
    for name in ("model", "optimisers", "generator", "random", "average", "choices"):
        if not same(states[0].get(name), states[1].get(name)):
            wrong.append(name)
    models = [cb.load(path, model=model()).state_dict() for path in (one, other)]
    wrong += [] if same(*models) else ["saved model"]
    return wrong


def same(one: Any, other: Any) -> bool:
    """Compare nested values bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def kill_and_compare(kills: int, seed: int, folder: Path) -> tuple[int, int, list[str], list[str]]:
    """Kill a run so often, over as many runs as that takes.

    Returns:
        Kills at a random time, kills within a save, differences from the unbroken runs, and files that were left behind.
    """
    import lightning_fabric  # noqa: F401 (once, rather than in every child)
    import sklearn.datasets  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401

    rng, at_random, in_saves, wrong, left = random.Random(seed), 0, 0, [], []
    number = 0
    while at_random + in_saves < kills:
        number += 1
        out, whole = folder / f"killed-{number}", folder / f"whole-{number}"
        while not RunFolder(out).has_begun:  # until the first state is there
            child = in_child(lambda out=out: killed_in_a_save(out, 24))
            status = ended(child, None)
            in_saves += status < 0
        shutil.copytree(out, whole)
        assert ended(in_child(lambda whole=whole: train(whole)), None) == 0, "the unbroken run failed"
        while True:
            is_over = at_random + in_saves >= kills
            if not is_over and at_random > in_saves:
                status = ended(in_child(lambda out=out: killed_in_a_save(out, rng.randint(3, 120))), None)
                in_saves += status < 0
            else:
                status = ended(in_child(lambda out=out: train(out)), None if is_over else rng.uniform(0.2, 1.6))
                at_random += status < 0
            if status == 0:
                break
            if status > 0:
                wrong.append(f"{out.name}: a resumed run failed")
                break
        wrong += [f"{out.name}: {name}" for name in difference(out, whole)] if status == 0 else []
        left += [str(path) for path in out.rglob(".*")]
    return at_random, in_saves, wrong, left


def launched(out: Path, processes: int) -> subprocess.Popen[bytes]:
    """Train under torchrun, in a group of processes that can be killed together."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *launcher, __file__, "--train", str(out)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, start_new_session=True, **quiet)


def newest_state(out: Path) -> str:
    """Name of the newest state of training."""
    return max((path.name for path in (out / "checkpoints").glob("step-*")), default="")


def end_all(group: subprocess.Popen[bytes]) -> None:
    """Kill a launcher and all that it has started, as a machine that loses its power does."""
    for process in [*psutil.Process(group.pid).children(recursive=True), psutil.Process(group.pid)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    group.wait()


def kill_processes_and_compare(kills: int, processes: int, seed: int, folder: Path) -> tuple[int, list[str]]:
    """Kill a run of several processes so often, all of them or one; returns the kills, and differences from the unbroken runs."""
    rng, done, number, wrong = random.Random(seed), 0, 0, []
    while done < kills:
        number += 1
        out, whole = folder / f"killed-{number}", folder / f"whole-{number}"
        is_copied = False
        while True:
            newest = newest_state(out)
            group = launched(out, processes)
            while newest_state(out) == newest and group.poll() is None:
                time.sleep(0.02)
            if not is_copied:
                is_copied = True
                end_all(group)
                shutil.copytree(out, whole, ignore=shutil.ignore_patterns(".lock"))
                assert launched(whole, processes).wait() == 0, "the unbroken run failed"
                continue
            time.sleep(rng.uniform(0.0, 1.0))
            if done < kills and group.poll() is None:
                workers = psutil.Process(group.pid).children(recursive=True)
                if workers and rng.random() < 0.5:
                    rng.choice(workers).kill()
                else:
                    end_all(group)
                done += 1
            if group.wait() == 0:
                break
        wrong += [f"{out.name}: {name}" for name in difference(out, whole)]
        wrong += [f"left behind: {path}" for path in out.rglob(".*")]
    return done, wrong


def main() -> None:
    """Print what was survived."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.train is not None:
        train(asked.train)
        return
    os.environ.setdefault("CALIBRAE_CACHE", tempfile.mkdtemp(prefix="calibrae-kills-cache-"))
    with tempfile.TemporaryDirectory(prefix="calibrae-kills-") as folder:
        if asked.processes > 1:
            done, wrong = kill_processes_and_compare(asked.kills, asked.processes, asked.seed, Path(folder))
            print(f"kills of {asked.processes} processes {done}; differences {wrong}")
            sys.exit(bool(wrong))
        at_random, in_saves, wrong, left = kill_and_compare(asked.kills, asked.seed, Path(folder))
    print(
        f"kills at a random time {at_random}, within a save {in_saves}; differences {wrong}; files left behind {left}"
    )
    sys.exit(bool(wrong or left))


if __name__ == "__main__":
    main()

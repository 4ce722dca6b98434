"""One writer at a time; who it is; and when it is dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import calibrae as cb
from calibrae.errors import RunError
from calibrae.runs import RunFolder
from calibrae.runs._lock import Lock, Owner, process_runs

HOLD = """
import sys, time
from pathlib import Path
from calibrae.runs._lock import Lock
with Lock(Path(sys.argv[1]), beat=0.05)():
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def lock_of(folder: Path, **owner: object) -> None:
    """Write the lock of somebody else."""
    content = {**asdict(Owner.this()), "token": "1", **owner}
    (folder / ".lock").write_text(json.dumps(content))


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    first = holder(tmp_path)
    try:
        with pytest.raises(RunError, match=rf"another process is training in .*: process {first.pid} on .*, since 20"):
            Lock(tmp_path)._take()
    finally:
        first.kill()
        first.communicate()


def test_a_crashed_owner_is_recognised_at_once(tmp_path: Path) -> None:
    first = holder(tmp_path)
    first.kill()
    first.communicate()
    assert (tmp_path / ".lock").exists()
    began = time.monotonic()
    with Lock(tmp_path)():
        assert time.monotonic() - began < 1.0
    assert not list(tmp_path.iterdir())


def test_a_number_that_was_given_anew_is_not_the_owner(tmp_path: Path) -> None:
    """A process with the number of a dead one, such as process 1 of a container that began again."""
    lock_of(tmp_path, started=Owner.this().started - 1000.0)
    with Lock(tmp_path, watch=0.2)():
        assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()


@pytest.mark.parametrize("owner", [{"host": "elsewhere"}, {"space": "pid:[1]"}])
def test_an_owner_on_another_machine_is_watched(tmp_path: Path, owner: dict[str, str]) -> None:
    lock_of(tmp_path, **owner)
    alive = subprocess.Popen(
        [sys.executable, "-c", f"import os, time\nwhile True: os.utime({str(tmp_path / '.lock')!r}); time.sleep(0.1)"]
    )
    try:
        with pytest.raises(RunError, match="another process is training in"):
            Lock(tmp_path, watch=20.0)._take()
    finally:
        alive.kill()
        alive.wait()
    with Lock(tmp_path, watch=0.7)():  # it gives no sign of life any more
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"host": 3}', "\x00" * 5000])
def test_a_lock_that_cannot_be_read_is_watched_too(tmp_path: Path, content: str) -> None:
    (tmp_path / ".lock").write_text(content)
    with Lock(tmp_path, watch=0.2)():
        assert process_runs(json.loads((tmp_path / ".lock").read_text())["process"], None)


def test_whoever_lost_the_lock_writes_nothing_more(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    with folder.held():
        folder.commit(seed=1)
        other = replace(Owner.this(), host="elsewhere")
        (tmp_path / "r" / ".lock").write_text(json.dumps({**asdict(other), "token": "x"}))
        with pytest.raises(RunError, match=r"was taken over by process .* on elsewhere"):
            folder.commit(seed=2)
    assert folder.read_run()["seed"] == 1
    assert (tmp_path / "r" / ".lock").exists()  # it is not ours to remove


@pytest.mark.whole
def test_eight_processes_at_once_one_at_a_time(tmp_path: Path) -> None:
    """All wait for one lock that a dead process holds; never do two hold it together."""
    lock_of(tmp_path, process=2**22 + 1)
    code = """
import sys, os, time
from pathlib import Path
from calibrae.errors import RunError
from calibrae.runs._lock import Lock
folder, mark = Path(sys.argv[1]), Path(sys.argv[1]) / "inside"
got = 0
until = time.monotonic() + 6
while time.monotonic() < until:
    try:
        with Lock(folder)():
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            got += 1
            mark.unlink()
    except RunError:
        time.sleep(0.002)
print(got)
"""
    many = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    said = [process.communicate(timeout=120) for process in many]
    assert not "".join(err for _, err in said)
    assert sum(int(out) for out, _ in said) > 8


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_a_refused_command_touches_nothing(tmp_path: Path, how: dict[str, bool]) -> None:
    """C1, C2: while another process trains or overwrites, a second one is refused before it writes."""
    model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
    settings = {"epochs": 1, "quiet": True, "pictures": False, "compile": "off", "precision": "fp32"}
    cb.fit(model, "digits", tmp_path / "r", **settings)
    first = holder(tmp_path / "r")
    before = {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted((tmp_path / "r").rglob("*"))
        if path.name != ".lock"
    }
    try:
        with pytest.raises(RunError, match=r"another process is training in|already holds a run"):
            cb.fit(model, "digits", tmp_path / "r", **settings, **how)
    finally:
        first.kill()
        first.communicate()
    after = {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted((tmp_path / "r").rglob("*"))
        if path.name != ".lock"
    }
    assert after == before


def test_a_running_overwrite_is_not_undone_by_a_second_command(tmp_path: Path) -> None:
    """C1: the old run used to come back under the feet of the new one."""
    model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
    settings = {"epochs": 1, "quiet": True, "pictures": False, "compile": "off", "precision": "fp32"}
    cb.fit(model, "digits", tmp_path / "r", **settings)
    first = holder(tmp_path / "r")
    try:
        RunFolder.create(tmp_path / "r", overwrite=True)  # as the first process does, before its first state
        for use in (cb.evaluate, cb.load, lambda out: cb.fit(model, "digits", out, **settings, overwrite=True)):
            with pytest.raises(RunError, match="another process is training in"):
                use(tmp_path / "r")
        assert (tmp_path / "r" / ".replaced" / "model.safetensors").exists()
    finally:
        first.kill()
        first.communicate()
    assert cb.evaluate(tmp_path / "r").n == 180  # the overwrite died: the old run is back

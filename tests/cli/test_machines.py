"""A sweep on several machines: a shared database, and what becomes of the points of one that disappears."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibrae.workflows._study import Axis, Study, sqlite_address

AXES = [Axis.of("beta", "0.5,1")]
SEARCH = [Axis.of("beta", "0.1:10")]
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def study(address: str, host: str, monkeypatch: pytest.MonkeyPatch, **options: object) -> Study:
    """The study as a machine of that name opens it."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    options = {"axes": AXES, "trials": 0, "beat": 1, "grace": 2, **options}
    return Study(address, request={"seed": 0}, **options)


@pytest.mark.parametrize("search", [False, True])
def test_a_machine_that_is_silent_gives_its_points_back(tmp_path, monkeypatch, search) -> None:
    address = sqlite_address(tmp_path)
    options = {"axes": SEARCH, "trials": 2} if search else {}
    one = study(address, "one", monkeypatch, **options)
    first, second = one.claim(), one.claim()
    assert first is not None
    assert second is not None
    two = study(address, "two", monkeypatch, **options)
    assert two.claim() is None
    one._held.pop(first.number)  # no sign of life of this one any more
    until = time.monotonic() + 4
    while time.monotonic() < until:
        one.beat()
        time.sleep(0.5)
    again = two.claim()
    assert again is not None
    assert (again.name, again.values) == (first.name, first.values)
    assert two.claim() is None  # the other point's machine lives


def test_a_process_number_that_was_given_anew_holds_no_point(tmp_path, monkeypatch) -> None:
    """C6: after a restart of a container, process 1 was taken for the one that held the point, for ever."""
    address = sqlite_address(tmp_path)
    one = study(address, "here", monkeypatch, grace=1000)
    point = one.claim()
    assert point is not None
    one._held[point.number].set_user_attr("started", 1.0)
    later = study(address, "here", monkeypatch, grace=1000)
    found = [later.claim(), later.claim()]
    assert point.name in {claimed.name for claimed in found if claimed is not None}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server on the loopback; yields the address of its database."""
    if not SERVERS:
        pytest.skip("there is no PostgreSQL server; Debian has it in the package postgresql")
    pytest.importorskip("psycopg2", reason="the database's driver is not installed: pip install psycopg2-binary")
    folder = tmp_path_factory.mktemp("postgres")
    programs = SERVERS[-1].parent
    as_user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
        for parent in folder.parents[:3]:
            parent.chmod(0o755)
        as_user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True, "cwd": "/"}
    data = str(folder / "data")
    subprocess.run([*as_user, str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "calibrae"], **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    subprocess.run(
        [*as_user, str(programs / "pg_ctl"), "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start"],
        **quiet,
    )
    try:
        yield f"postgresql+psycopg2://calibrae@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*as_user, str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop"], **quiet)


HOST = """
import socket, sys
socket.gethostname = lambda name=sys.argv.pop(1): name
from calibrae.workflows import _study
_study.BEAT = _study.GRACE = 3
_study.Study.__init__.__kwdefaults__.update(beat=1, grace=4)
from calibrae.workflows import _crew
_crew.BEAT = 1
from calibrae.cli._main import main
main()
"""


def machine(name: str, out: Path, address: str, *more: str) -> subprocess.Popen[str]:
    """A sweep on a machine of that name."""
    options = [
        "--beta",
        "0.5,1,2",
        "--latent-dim",
        "2",
        "--jobs",
        "1",
        "--epochs",
        "6",
        "--network",
        "linear",
        "--storage",
        address,
    ]
    command = [
        sys.executable,
        "-c",
        HOST,
        name,
        "sweep",
        "digits",
        "--out",
        str(out),
        *options,
        "--compile",
        "off",
        *more,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.whole
def test_two_machines_share_a_server_and_one_dies(tmp_path: Path, server: str) -> None:
    out = tmp_path / "s"
    dies = machine("one", out, server)
    until = time.monotonic() + 120
    while not list((out / "points").glob("*/checkpoints/step-*")) and time.monotonic() < until:
        time.sleep(0.1)
    lives = machine("two", out, server)
    for child in subprocess.run(
        ["pgrep", "-P", str(dies.pid)], capture_output=True, text=True, check=False
    ).stdout.split():
        os.kill(int(child), signal.SIGKILL)  # the machine is gone, with all that it trained
    dies.kill()
    dies.communicate()
    _, err = lives.communicate(timeout=300)
    assert lives.returncode == 0, err
    if len(list((out / "points").glob("*/model.safetensors"))) < 3:  # the last point was held until after the end
        time.sleep(5)
        _, err = machine("two", out, server).communicate(timeout=300)
    names = {path.parent.name for path in (out / "points").glob("*/model.safetensors")}
    assert names == {f"beta-{beta}_latent-dim-2" for beta in ("0.5", "1", "2")}, err

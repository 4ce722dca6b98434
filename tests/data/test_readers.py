"""Readers of a stream: processes that read ahead, against reading in place; their ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import picture, png, write_table, write_tar

import calibrae as cb
from calibrae._cores import cores_of_each
from calibrae.acceleration import prefetch
from calibrae.data import DataOptions, byte_source, load_data
from calibrae.data.streams._readers import NAME, read_ahead, readers_for
from calibrae.errors import ArgumentError, DataError
from calibrae.training import Stopped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="readers are copies of a process, which only Linux has")
STREAM = DataOptions(stream=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder of each kind: tar files, pictures in Parquet, a table."""
    root = tmp_path_factory.mktemp("shards")
    for i in range(3):
        write_tar(root / "tar" / f"{i}.tar", range(i * 200, (i + 1) * 200))
    (root / "parquet").mkdir()
    for i in range(3):
        pictures = [{"bytes": png(picture(i * 200 + j)), "path": None} for j in range(200)]
        pq.write_table(pa.table({"image": pictures}), root / "parquet" / f"{i}.parquet", row_group_size=40)
    write_table(root / "table")
    return root


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 9))
def test_what_comes_does_not_depend_on_the_readers(readers, size, count):
    values = np.random.default_rng(0).normal(size=(50, 2))
    batches = [np.random.default_rng(i).permutation(50)[: size if i < count - 1 else 1] for i in range(count)]
    found = list(read_ahead(values, batches, size, readers))
    assert len(found) == count
    for batch, rows in zip(found, batches, strict=True):
        np.testing.assert_array_equal(batch, values[rows])
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("kind", ["tar", "parquet", "table"])
def test_batches_and_passes_are_those_of_reading_in_place(shards, kind, monkeypatch):
    found = []
    for readers in ("0", "2", "3"):
        monkeypatch.setenv(NAME, readers)
        data = load_data(shards / kind, STREAM)
        order = data.view("train").batches(32, 0, 1)
        epoch = [x for x, _, _ in data.stored_batches(order, torch.Generator().manual_seed(0), byte_source(0))]
        found.append((torch.cat(epoch), torch.cat([batch.x for batch in data.batches("train", 100)])))
    for epoch, whole in found[1:]:
        assert torch.equal(epoch, found[0][0])
        assert torch.equal(whole, found[0][1])


def test_what_is_held_out_is_what_it_was(shards, monkeypatch, tmp_path):
    found = []
    for readers in ("0", "2"):
        monkeypatch.setenv(NAME, readers)
        monkeypatch.setenv("CALIBRAE_CACHE", str(tmp_path / readers))
        data = load_data(shards / "tar", STREAM)
        found.append([data.view(split).slice(0, len(data.view(split))) for split in ("validation", "test")])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def without_seconds(epoch):
    return {name: value for name, value in epoch.items() if name != "seconds"}


def test_a_run_ends_where_it_would_without_and_goes_on_with_others(shards, monkeypatch, tmp_path):
    def fresh():
        return cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2, network="linear", seed=0)

    how = {"epochs": 2, "options": STREAM, "quiet": True, "pictures": False, "compile": "off", "batch_size": 32}
    monkeypatch.setenv(NAME, "0")
    alone = cb.fit(fresh(), str(shards / "tar"), tmp_path / "a", **how)
    monkeypatch.setenv(NAME, "2")
    with pytest.raises(Stopped):
        cb.fit(fresh(), str(shards / "tar"), tmp_path / "b", max_minutes=1e-6, **how)
    monkeypatch.setenv(NAME, "3")
    other = cb.fit(fresh(), str(shards / "tar"), tmp_path / "b", resume=True, **how)
    for ours, theirs in zip(alone.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [without_seconds(epoch) for epoch in alone.history] == [without_seconds(epoch) for epoch in other.history]
    assert not multiprocessing.active_children()


# -- what goes wrong


class ForeignError(Exception):
    """An error that cannot be made again from its message alone."""

    def __init__(self, number, words):
        super().__init__(f"{number}: {words}")


@dataclass
class Failing:
    """An array of which the row 5 cannot be read."""

    failure: str
    shape: tuple[int, ...] = (10,)
    dtype: type = np.int64

    def __getitem__(self, rows):
        if 5 in rows and self.failure == "error":
            raise DataError("row 5 is broken. Mend it.")
        if 5 in rows and self.failure == "foreign error":
            raise ForeignError(5, "a library's own")
        if 5 in rows and self.failure == "warning":
            warnings.warn("row 5 was guessed.", BytesWarning, stacklevel=2)
        if 5 in rows and self.failure == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return np.asarray(rows)


BATCHES = [np.array([0, 1, 2]), np.array([3, 4, 5]), np.array([6, 7, 8])]


def test_an_error_of_a_reader_is_that_of_reading_in_place():
    with pytest.raises(DataError, match=r"^row 5 is broken. Mend it.$"):
        list(read_ahead(Failing("error"), BATCHES, 3, 2))
    assert not multiprocessing.active_children()


def test_an_error_that_cannot_be_sent_is_named():
    with pytest.raises(DataError, match=r"^the stream cannot be read: ForeignError: 5: a library's own$"):
        list(read_ahead(Failing("foreign error"), BATCHES, 3, 2))


@pytest.mark.parametrize("readers", ["0", "2"])
def test_a_neighbour_in_a_place_is_said_once_and_as_a_note(tmp_path, readers):
    write_tar(tmp_path / "a.tar", range(300), lambda i: b"broken" if i == 123 else png(picture(i)))
    command = [sys.executable, "-m", "calibrae", "train", str(tmp_path / "a.tar"), "--stream", "--skip-broken", "--out"]
    command += [str(tmp_path / "r"), "--network", "linear", "--latent-dim", "2", "--epochs", "3", "--no-pictures"]
    ran = subprocess.run(command, env=os.environ | {NAME: readers}, capture_output=True, text=True, check=True)
    said = ran.stdout + ran.stderr
    assert (
        said.count("note: a.tar picture 123 cannot be read as a picture: a.tar picture 124 was taken in its place.")
        == 1
    )
    assert "Warning" not in said


def test_a_warning_that_is_not_shown_is_not_shown():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        list(read_ahead(Failing("warning"), BATCHES, 3, 2))
    assert not said


def test_a_process_that_cannot_be_begun_is_named_and_leaves_none(monkeypatch):
    begin = multiprocessing.context.ForkProcess.start
    begun = []

    def start(process):
        begun.append(process)
        if len(begun) == 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        begin(process)

    monkeypatch.setattr(multiprocessing.context.ForkProcess, "start", start)
    with pytest.raises(DataError, match=rf"Resource temporarily unavailable. Set {NAME} to fewer than 4"):
        list(read_ahead(np.arange(10), BATCHES, 3, 4))
    assert not multiprocessing.active_children()


def test_readers_end_though_a_process_that_was_begun_later_has_their_lines():
    elder, younger = (read_ahead(np.arange(10), BATCHES, 3, 2) for _ in range(2))
    next(elder)
    next(younger)
    elder.close()
    assert next(younger).tolist() == [3, 4, 5]
    younger.close()
    assert not multiprocessing.active_children()


def test_batches_are_read_ahead_by_a_thread_too():
    every = prefetch(read_ahead(np.arange(10), BATCHES, 3, 2), torch.Generator())
    assert next(every).tolist() == [0, 1, 2]
    readers = multiprocessing.active_children()
    assert len(readers) == 2
    assert np.concatenate(list(every)).tolist() == [3, 4, 5, 6, 7, 8]
    assert [reader.exitcode for reader in readers] == [0, 0]


def test_a_warning_of_a_reader_is_heard_here():
    with pytest.warns(BytesWarning, match="row 5 was guessed"):
        found = list(read_ahead(Failing("warning"), BATCHES, 3, 2))
    assert np.concatenate(found).tolist() == list(range(9))


def test_a_reader_that_was_killed_is_named():
    with pytest.raises(DataError, match=f"ended from outside, perhaps for want of memory. Set {NAME} to fewer"):
        list(read_ahead(Failing("killed"), BATCHES, 3, 3))
    assert not multiprocessing.active_children()


def test_readers_end_when_nobody_wants_more():
    every = read_ahead(np.arange(10), BATCHES, 3, 2)
    next(every)
    assert len(multiprocessing.active_children()) == 2
    every.close()
    assert not multiprocessing.active_children()


SCRIPT = f"""
import multiprocessing, sys, time
import numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
from calibrae.data.streams._readers import read_ahead
every = read_ahead(np.arange(10), [np.arange(3)] * 9, 3, 3)
next(every)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_readers_end_with_the_process_that_asks(end):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as asking:
        readers = [psutil.Process(int(pid)) for pid in asking.stdout.readline().split()]
        assert len(readers) == 3
        if end == "kill":
            asking.kill()
        else:
            asking.stdin.close()
        asking.wait(timeout=30)
    psutil.wait_procs(readers, timeout=30)
    assert not [reader for reader in readers if reader.is_running() and reader.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.whole
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_saves_and_stops(shards, tmp_path, number):
    command = [sys.executable, "-m", "calibrae", "train", str(shards / "tar"), "--stream", "--out", str(tmp_path / "r")]
    command += ["--network", "linear", "--latent-dim", "2", "--epochs", "100000", "--no-pictures"]
    environment = os.environ | {NAME: "2"}
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
    deadline = time.monotonic() + 120.0
    while "best" not in (tmp_path / "said").read_text():  # the line of an epoch
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(run.pid, number)
    assert run.wait(timeout=60) == 128 + number, (tmp_path / "said").read_text()
    assert "Traceback" not in (tmp_path / "said").read_text()


# -- how many


def started(monkeypatch):
    """Numbers of readers that are begun from now on, in order."""
    found = []

    def noted(source, batches, most, readers):
        found.append(readers)
        return read_ahead(source, batches, most, 0)

    monkeypatch.setattr("calibrae.data.streams._stream.read_ahead", noted)
    return found


@pytest.mark.parametrize(
    ("kind", "held", "in_order", "of_epoch"),
    [("parquet", 1 << 29, 1, 4), ("parquet", 9000, 1, 1), ("tar", 1 << 29, 5, 5)],
)
def test_no_block_is_read_by_two_readers(shards, monkeypatch, kind, held, in_order, of_epoch):
    for module in ("_order", "_stream"):
        monkeypatch.setattr(f"calibrae.data.streams.{module}.HELD", held)
    monkeypatch.setenv(NAME, "5")
    data = load_data(shards / kind, STREAM)
    found = started(monkeypatch)
    list(data.batches("train", 100))
    list(data.stored_batches(data.view("train").batches(32, 0, 0), torch.Generator(), byte_source(0)))
    assert found == [in_order, of_epoch]


def test_a_worker_of_a_pool_reads_by_itself(monkeypatch):
    monkeypatch.setenv(NAME, "3")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(readers_for, kwds={"is_decoded": True}) == 0


@pytest.mark.parametrize(
    ("environment", "mine", "expected"),
    [
        ({}, 8, 8),
        ({"LOCAL_WORLD_SIZE": "4"}, 8, 2),
        ({"LOCAL_WORLD_SIZE": "16"}, 8, 1),
        ({"SLURM_CPUS_PER_TASK": "6", "SLURM_NTASKS_PER_NODE": "4"}, 8, 6),
        ({"SLURM_CPUS_PER_TASK": "6", "LOCAL_WORLD_SIZE": "3"}, 8, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, 8, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, 2, 2),  # bound to its own
    ],
)
def test_processes_of_a_launcher_share_the_cores(monkeypatch, environment, mine, expected):
    for name in ("LOCAL_WORLD_SIZE", "SLURM_CPUS_PER_TASK", "SLURM_STEP_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("calibrae._cores.cores", lambda: mine)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert cores_of_each() == expected


@pytest.mark.parametrize(
    ("asked", "has_card", "is_decoded", "processes", "expected"),
    [
        ("", True, True, "", 7),
        ("", True, True, "4", 1),
        ("", True, False, "", 0),
        ("", False, True, "", 0),
        ("3", False, False, "", 3),
        ("0", True, True, "", 0),
    ],
)
def test_readers_are_as_many_as_asked_or_as_cards_leave_cores(
    monkeypatch, asked, has_card, is_decoded, processes, expected
):
    monkeypatch.setattr("calibrae._cores.cores", lambda: 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_card)
    monkeypatch.setenv(NAME, asked)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert readers_for(is_decoded=is_decoded) == expected
    assert readers_for(is_decoded=is_decoded, has_card=False) == (int(asked) if asked else 0)


@pytest.mark.parametrize("asked", ["two", "-1", "1.5"])
def test_a_number_of_readers_that_is_none_is_refused(monkeypatch, asked):
    monkeypatch.setenv(NAME, asked)
    with pytest.raises(ArgumentError, match=f"{NAME} must be a number of processes"):
        readers_for(is_decoded=True)

"""Runs by name, what people send, and the queue: nothing outside a folder is reached, nothing is lost."""

import os
import shutil
import stat
import time
import zipfile

import numpy as np
import pytest

import calibrae as cb
from calibrae.errors import ArgumentError, DataError, RunError
from calibrae.runs import RunFolder
from calibrae.workflows import (
    Queue,
    Shelf,
    Training,
    draw_so_far,
    forget_uploads,
    keep_uploads,
    model_so_far,
    progress_of,
    rename_run,
)
from calibrae.workflows import _uploads as uploads
from calibrae.workflows._queue import UNKNOWN


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("shelf") / "runs"
    for name in ("a", "b"):
        model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
        cb.fit(model, "digits", place / name, epochs=2, quiet=True, pictures=False)
    return place


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../runs/a",
        "/etc",
        "a/../../x",
        "",
        ".",
        "a\x00b",
        "x" * 5000,
        "c",
        "a/config.toml",
        "~",
        ".uploads/a",
        ".bin/a",
    ],
)
def test_a_name_reaches_no_other_folder(folder, name):
    with pytest.raises(RunError, match="there is no run"):
        Shelf(folder).place(name)


def test_a_link_out_of_the_folder_is_no_run(folder, tmp_path):
    shelf = tmp_path / "other"
    shelf.mkdir()
    (shelf / "linked").symlink_to(folder / "a")
    with pytest.raises(RunError, match="there is no run"):
        Shelf(shelf).place("linked")


@pytest.mark.parametrize("name", ["-rf", "..", "a/b", "", " ", "a b", "a;rm", "$(x)", ".hidden", "ü", "x" * 81, "a\n"])
def test_the_name_of_a_new_run_is_a_plain_word(folder, name):
    with pytest.raises(ArgumentError, match="a name must be"):
        Shelf(folder).new(name)


def test_a_run_is_opened_once_and_again_when_it_changes(folder):
    shelf = Shelf(folder)
    one = shelf.open("a")
    assert shelf.open("a") is one
    assert not one.model.training
    path = folder / "a" / "model.safetensors"
    os.utime(path, (1, 1))
    assert shelf.open("a") is not one


def test_few_runs_stay_in_memory(folder, monkeypatch):
    monkeypatch.setattr("calibrae.workflows._shelf.OPEN", 1)
    shelf = Shelf(folder)
    one = shelf.open("a")
    shelf.open("b")
    assert shelf.open("a") is not one


def test_a_run_is_renamed(folder):
    cb.fit(
        cb.build("vae", data_shape=(1, 8, 8), latent_dim=2, network="linear"),
        "digits",
        folder / "old",
        epochs=1,
        quiet=True,
        pictures=False,
    )
    with pytest.raises(ArgumentError, match="is taken"):
        rename_run(folder / "old", "a")
    place = rename_run(folder / "old", "new")
    assert place == folder / "new"
    assert cb.open_run(place).history
    assert not (folder / "old").exists()
    with RunFolder(place).held():
        assert progress_of(place).state == "training"


def test_a_finished_run_is_looked_at(folder):
    found = progress_of(folder / "a")
    assert (found.epochs, len(found.history), found.is_at_most, found.state) == (2, 2, False, "finished")
    one, other = model_so_far(folder / "a"), cb.load(folder / "a")
    assert all((one.state_dict()[name] == value).all() for name, value in other.state_dict().items())


def test_a_run_that_goes_on_is_no_longer_what_it_was(tmp_path):
    """The pages show the run as it is: its epochs, its state, its newest weights."""
    place = tmp_path / "r"

    def train(**how):
        model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
        return cb.fit(model, "digits", place, quiet=True, pictures=False, **how)

    train(epochs=2)
    before, first = model_so_far(place).state_dict(), RunFolder(place).read_run()["validation"]["elbo_nats"]
    train(epochs=6, resume=True, stop_after=4)
    found = progress_of(place)
    assert (len(found.history), found.epochs, found.state) == (4, 6, "stopped after epoch 4")
    after = model_so_far(place).state_dict()
    assert any((before[name] != value).any() for name, value in after.items())
    row = next(iter(Shelf(tmp_path).rows()))
    assert row.state == "stopped after epoch 4"
    assert row.elbo == RunFolder(place).read_run()["validation"]["elbo_nats"] != first
    train(epochs=None, resume=True)
    assert progress_of(place).state == "finished"
    assert progress_of(place).epochs == 6


def test_patience_may_end_a_run_before(tmp_path):
    model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
    cb.fit(model, "digits", tmp_path / "r", epochs=3, patience=2, quiet=True, pictures=False)
    assert progress_of(tmp_path / "r").is_at_most


def test_numbers_that_are_text_are_damage(folder, tmp_path):
    place = tmp_path / "runs" / "odd"
    shutil.copytree(folder / "a", place)
    RunFolder(place).commit(validation={"elbo_nats": "<img src=x onerror=alert(1)>"})
    (row,) = Shelf(tmp_path / "runs").rows("elbo")
    assert "numbers of the validation split must be numbers" in row.state


def test_examples_of_another_run_of_the_same_name_are_not_shown(tmp_path):
    place = tmp_path / "r"
    how = {"quiet": True, "pictures": False, "epochs": 1, "overwrite": True}
    cb.fit(cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear"), "digits", place, **how)
    draw_so_far(place, tmp_path / "a.png")
    model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear", context_dim=10)
    cb.fit(model, "digits", place, condition="label", **how)
    draw_so_far(place, tmp_path / "b.png")


# -- what people send


def zipped(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil", "a/..", "C:evil"])
def test_a_zip_that_climbs_out_is_refused_and_leaves_nothing(tmp_path, name):
    path = zipped(tmp_path / "x.zip", {"fine.txt": "1", name: "boo"})
    with pytest.raises(DataError, match="plain files inside it"):
        keep_uploads([path], tmp_path / "runs")
    assert list((tmp_path / "runs" / ".uploads").iterdir()) == []
    assert not (tmp_path / "evil.txt").exists()


def test_a_link_in_a_zip_is_refused(tmp_path):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(DataError, match="plain files inside it"):
        keep_uploads([tmp_path / "x.zip"], tmp_path / "runs")


def test_a_zip_that_grows_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(3 << 20))
    assert (tmp_path / "bomb.zip").stat().st_size < 10_000
    with pytest.raises(DataError, match="can be sent; got more"):
        keep_uploads([tmp_path / "bomb.zip"], tmp_path / "runs")
    assert list((tmp_path / "runs" / ".uploads").iterdir()) == []


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_FILES", 2)
    with pytest.raises(DataError, match="can be sent; got more"):
        keep_uploads([zipped(tmp_path / "x.zip", {str(i): "" for i in range(3)})], tmp_path / "runs")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"hello"])
def test_what_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.zip cannot be unpacked"):
        keep_uploads([tmp_path / "x.zip"], tmp_path / "runs")


def test_a_zip_of_pictures_is_data(tmp_path):
    from PIL import Image

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    noise = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(pictures / f"{i}.png")
    files = {f"mine/{path.name}": path.read_bytes() for path in pictures.iterdir()}
    place = keep_uploads(
        [zipped(tmp_path / "mine.zip", files | {"__MACOSX/mine/._0.png": b"x", "mine/.DS_Store": b"x"})],
        tmp_path / "runs",
    )
    assert place.name == "mine"
    assert cb.load_data(str(place)).spec.data_shape == (3, 8, 8)


def test_what_is_sent_twice_is_kept_once_and_what_no_run_uses_is_forgotten(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 9, (60, 3)))
    one, other = (keep_uploads([tmp_path / "a.npy"], tmp_path / "runs") for _ in range(2))
    assert one == other
    model = cb.build("sigma-vae", data_shape=(3,), latent_dim=2, network="linear")
    cb.fit(model, str(one), tmp_path / "runs" / "r", epochs=1, quiet=True, pictures=False)
    np.save(tmp_path / "b.npy", np.zeros((3, 3)))
    unused = keep_uploads([tmp_path / "b.npy"], tmp_path / "runs")
    forget_uploads(tmp_path / "runs", [str(unused)])
    assert unused.exists()
    forget_uploads(tmp_path / "runs")
    assert one.exists()
    assert not unused.exists()


def test_sent_files_keep_their_endings_and_lose_what_is_odd(tmp_path):
    for name in ("a b.npy", "a$(x).npy"):
        np.save(tmp_path / name, np.zeros((20, 3)))
    place = keep_uploads([tmp_path / "a b.npy", tmp_path / "a$(x).npy"], tmp_path / "runs")
    assert sorted(path.name for path in place.iterdir()) == ["a b.npy", "a__x_.npy"]


# -- the queue


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about in time")


def states(queue):
    queue.advance()
    return {entry.run: (entry.state, entry.code) for entry in queue.entries()}


@pytest.fixture
def slow(monkeypatch, tmp_path):
    """In place of calibrae: a program that notes its start and its end, and takes its time."""
    package = tmp_path / "path" / "calibrae"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('stopping', flush=True), sys.exit(143)))\n"
        "print('began', *sys.argv[1:], flush=True)\n"
        "time.sleep(float(sys.argv[2]))\n"
        "sys.exit(int(sys.argv[3]) if len(sys.argv) > 3 else 0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_training_follows_the_other(slow):
    queue = Queue(slow / "runs")
    queue.add("a", ["train", "0.5"])
    queue.add("b", ["train", "0", "2"])
    assert states(queue) == {"a": ("training", None), "b": ("waiting", None)}
    wait_for(lambda: all(state == "ended" for state, _ in states(queue).values()))
    assert states(queue) == {"a": ("ended", 0), "b": ("ended", 2)}
    assert queue.log("b").strip() == "began train 0 2"


def test_arguments_meet_no_shell(slow):
    queue = Queue(slow / "runs")
    queue.add("a", ["train", "0", "0", "$(touch x); `touch y`"])
    wait_for(lambda: states(queue)["a"][0] == "ended")
    assert "$(touch x); `touch y`" in queue.log("a")
    assert not (slow / "x").exists()


def test_a_run_is_in_the_queue_once(slow):
    queue = Queue(slow / "runs")
    queue.add("a", ["train", "30"])
    with pytest.raises(ArgumentError, match="in the queue already"):
        queue.add("a", ["train", "30"])
    wait_for(lambda: "began" in queue.log("a"))
    queue.stop("a")
    wait_for(lambda: states(queue)["a"] == ("ended", 143))
    assert "stopping" in queue.log("a")
    queue.add("a", ["train", "0"])
    wait_for(lambda: all(state == "ended" for state, _ in states(queue).values()))


def test_what_waits_can_be_taken_out_and_what_is_not_there_cannot(slow):
    queue = Queue(slow / "runs")
    queue.add("a", ["train", "30"])
    queue.add("b", ["train", "30"])
    queue.stop("b")
    assert set(states(queue)) == {"a"}
    queue.stop("a")
    with pytest.raises(ArgumentError, match="not in the queue"):
        queue.stop("b")
    wait_for(lambda: states(queue)["a"][0] == "ended")


def test_the_queue_is_not_endless(slow, monkeypatch):
    monkeypatch.setattr("calibrae.workflows._queue.MOST_WAITING", 2)
    queue = Queue(slow / "runs")
    queue.add("a", ["train", "30"])
    queue.add("b", ["train", "0"])
    with pytest.raises(ArgumentError, match="at most 2 trainings"):
        queue.add("c", ["train", "0"])
    queue.stop("b")
    queue.stop("a")
    wait_for(lambda: states(queue)["a"][0] == "ended")


def test_another_queue_knows_what_goes_on_and_what_has_ended(slow):
    first = Queue(slow / "runs")
    first.add("a", ["train", "1.5"])
    first.add("b", ["train", "0"])
    second = Queue(slow / "runs")  # as after the first server was killed
    assert states(second) == {"a": ("training", None), "b": ("waiting", None)}
    wait_for(lambda: states(second).get("b") == ("ended", 0))
    assert states(second)["a"] == ("ended", UNKNOWN)  # nobody saw its exit code
    for child in first._children.values():
        child.wait()


def test_what_cannot_be_started_does_not_hold_up_the_rest(slow):
    queue = Queue(slow / "runs")
    queue._write(Training(1, "lost", ("train", "0"), str(slow / "gone")))
    queue.add("a", ["train", "0"])
    wait_for(lambda: states(queue).get("a") == ("ended", 0))
    assert states(queue)["lost"] == ("ended", UNKNOWN)
    assert "could not be started" in queue.log("lost")


def test_one_server_at_a_time(slow):
    queue = Queue(slow / "runs")
    with queue.held(), pytest.raises(RunError, match="another workbench serves"), Queue(slow / "runs").held():
        pass


def test_a_damaged_entry_is_left_out(slow):
    queue = Queue(slow / "runs")
    queue.add("a", ["train", "0"])
    wait_for(lambda: states(queue)["a"][0] == "ended")
    for name, content in (
        ("000002.json", "{"),
        ("000003.json", "[]"),
        ("000004.json", '{"run": 1}'),
        ("000005.json", "\x00"),
    ):
        (queue.folder / name).write_text(content)
    assert set(states(queue)) == {"a"}


def test_old_entries_are_forgotten(slow, monkeypatch):
    monkeypatch.setattr("calibrae.workflows._queue.ENDED_KEPT", 2)
    queue = Queue(slow / "runs")
    for name in "abcd":
        queue.add(name, ["train", "0"])
    wait_for(lambda: all(state == "ended" for state, _ in states(queue).values()))
    queue.advance()
    assert set(states(queue)) == {"c", "d"}
    assert len(list(queue.folder.glob("*.log"))) == 2

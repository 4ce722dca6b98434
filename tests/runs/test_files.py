"""Files that are whole, or refused by name; and what a run does when it cannot write or is told to stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import calibrae as cb
from calibrae.errors import CalibraeError, RunError
from calibrae.runs import RunFolder, load_tree
from calibrae.runs._atomic import replace_file
from calibrae.training import Stopped

PLAIN: dict[str, Any] = {"epochs": 3, "quiet": True, "pictures": False, "compile": "off", "precision": "fp32"}


def model() -> cb.VAE:
    return cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")


def fit(out: Path, **settings: Any) -> cb.Run:
    return cb.fit(model(), "digits", out, **PLAIN | settings)


def states(out: Path) -> list[Path]:
    return sorted((out / "checkpoints").glob("step-*"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("files") / "r", keep=3, save_every=5).path


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "r"))


def test_every_file_that_is_written_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C3: a file that was renamed but is not on the disk may be empty after a power cut."""
    synced: list[str] = []
    original = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: (synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())), original(handle))[1],
    )
    fit(tmp_path / "r", epochs=1)
    names = {Path(name).name for name in synced}
    assert {
        "config.toml",
        "run.json",
        "history.csv",
        "model.safetensors",
        "model.json",
        "baseline.safetensors",
    } <= names
    assert {"r", "checkpoints"} <= names  # the folders too, for the names in them


def test_the_umask_is_respected(tmp_path: Path) -> None:
    """C7."""
    before = os.umask(0o077)
    try:
        fit(tmp_path / "r", epochs=1)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "r").rglob("*.*") if path.is_file()}
    assert {name: mode for name, mode in modes.items() if mode & 0o077 and "tfevents" not in name} == {}


def test_states_are_kept_as_many_as_asked(run: Path) -> None:
    assert len(states(run)) == 3
    needed = {path.name[path.name.index("best-") :] for path in states(run)}
    assert {path.name for path in (run / "checkpoints").glob("best-*")} == needed - {"best-000000.safetensors"}


def test_a_damaged_state_is_passed_over_for_the_one_before(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest, before = states(copy)[-1], states(copy)[-2]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    resumed = fit(copy, resume=True, quiet=False)
    said = capsys.readouterr().err
    assert f"{newest.name} is not as it was written: its checksum is wrong" in said
    assert "Going on from the state before it" in said
    assert f"step {int(before.name.split('-')[1])}\n" in said
    assert len(resumed.history) == 3


def test_the_best_weights_of_a_part_that_was_given_up_are_not_believed(copy: Path) -> None:
    """Passed over with another rate, a run finds other best weights in an epoch of the same number."""
    for state in states(copy)[1:]:
        state.write_bytes(b"damaged")
    best = {path: path.read_bytes() for path in (copy / "checkpoints").glob("best-*")}
    resumed = fit(copy, resume=True, lr=1e-3, keep=3)
    kept = copy / "checkpoints" / f"best-{resumed.folder.read_run()['selected_epoch']:06d}.safetensors"
    assert kept in best  # the epoch had weights on the disk already
    stored = load_tree(kept)["model"]
    ours = {name: value for name, value in resumed.model.state_dict().items() if "scale" not in name}
    assert all(stored[name].equal(value) for name, value in ours.items())
    again = fit(copy, resume=True, lr=1e-3)
    assert all(again.model.state_dict()[name].equal(value) for name, value in ours.items())


def test_files_that_follow_from_the_state_are_written_again(copy: Path) -> None:
    """B4: killed between the state and `history.csv`, the row of the last epoch was lost."""
    rows = (copy / "history.csv").read_text()
    (copy / "history.csv").unlink()
    (copy / "model.safetensors").unlink()
    fit(copy, resume=True)
    assert (copy / "history.csv").read_text() == rows
    assert cb.evaluate(copy).n == 180


@pytest.mark.parametrize(
    "name", ["config.toml", "history.csv", "model.json", "model.safetensors", "baseline.safetensors", "run.json"]
)
def test_one_flipped_bit_is_refused_by_name(copy: Path, name: str) -> None:
    """A8: it used to turn a verdict round, or to end in a model whose ELBO is NaN."""
    content = bytearray((copy / name).read_bytes())
    for place in range(0, len(content), max(1, len(content) // 40)):
        damaged = bytearray(content)
        damaged[place] ^= 4
        (copy / name).write_bytes(damaged)
        with pytest.raises(RunError, match=rf"{name}.* (checksum is wrong|cannot be read|format)"):
            _ = cb.open_run(copy).evaluate(), cb.open_run(copy).history


@pytest.mark.parametrize("change", [{"format": 2}, {"format": 99, "new": 1}])
def test_a_newer_format_is_refused_in_one_line(copy: Path, change: dict[str, int]) -> None:
    stored = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(stored | change))
    with pytest.raises(
        RunError, match=r"is of format \d+, written by a newer calibrae; this one reads up to 1\. Update"
    ):
        cb.load(copy)


def test_a_run_of_the_first_format_is_read_for_ever(tmp_path: Path) -> None:
    """The run in `format-1` is never to be written anew."""
    copy = Path(shutil.copytree(Path(__file__).with_name("format-1"), tmp_path / "r"))
    assert cb.evaluate(copy, limit=None).elbo_nats == pytest.approx(KEPT_ELBO, abs=1e-3)
    assert len(cb.open_run(copy).history) == 2
    resumed = cb.fit(
        cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear"),
        "digits",
        copy,
        epochs=3,
        resume=True,
        quiet=True,
        pictures=False,
    )
    assert len(resumed.history) == 3


KEPT_ELBO = -10.461239


@pytest.mark.parametrize("limit", [2_000, 20_000])
def test_a_disk_that_is_full_leaves_the_last_good_state_and_says_what_to_do(copy: Path, limit: int) -> None:
    """C9: the system refuses to write more, as a full disk or a quota does."""
    before = {path.name: path.read_bytes() for path in states(copy)}
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"from calibrae.cli._main import main; main(['train', 'digits', '--out', {str(copy)!r}, '--resume', '--epochs', '5'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "cannot be written: File too large. Free some space there" in last
    assert {path.name: path.read_bytes() for path in states(copy)} == before
    assert len(fit(copy, resume=True, epochs=5).history) == 5


@pytest.mark.parametrize(
    "words",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        'Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })',
    ],
)
def test_a_library_that_writes_by_itself_has_its_disk_error_understood(tmp_path: Path, words: str) -> None:
    def write(_: Path) -> None:
        raise RuntimeError(words)

    with pytest.raises(RunError, match=r"No space left on device\. Free some space there"):
        replace_file(tmp_path / "x", write)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_refused_in_one_line(copy: Path) -> None:
    copy.chmod(0o555)
    try:
        with pytest.raises(RunError, match="cannot be written: Permission denied"):
            fit(copy, resume=True, epochs=5)
    finally:
        copy.chmod(0o755)


def test_a_kill_before_the_first_step_does_not_stand_in_the_way(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    folder.path.mkdir()
    folder.commit({"config.toml": folder.config_writer({"training": {}})}, seed=0)
    assert len(fit(tmp_path / "r").history) == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends_with_its_code(tmp_path: Path, number: int, code: int) -> None:
    """B5: a scheduler sends SIGTERM some seconds before it kills."""
    quick = ["--epochs", "100000", "--compile", "off", "--hidden", "16", "--precision", "fp32"]
    command = [sys.executable, "-m", "calibrae", "train", "digits", "--out", str(tmp_path / "r"), *quick]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "r" / "history.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "nothing is lost. Go on with: calibrae train digits --out" in err.strip().splitlines()[-1]
    assert not (tmp_path / "r" / ".lock").exists()
    step = int(err.split("after step ")[1].split()[0])
    assert int(states(tmp_path / "r")[-1].name.split("-")[1]) == step


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_before_the_first_step_leaves_all_in_order(tmp_path: Path, number: int, code: int) -> None:
    """Data that are read, steps that are measured: nothing is to be saved, but the lock must go."""
    quick = ["--epochs", "1", "--compile", "off", "--hidden", "16", "--precision", "fp32", "--no-pictures"]
    call = ["train", "digits", "--out", str(tmp_path / "r"), *quick]
    code_of = (
        "import os, signal; from calibrae.training import _trainer; from calibrae.cli._main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background commands ignore it
        f"_trainer.Trainer.run = lambda self, *, resume: os.kill(os.getpid(), {int(number)})\n"
        f"main({call!r})"
    )
    done = subprocess.run([sys.executable, "-c", code_of], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("interrupted before the first step")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r").exists()
    assert subprocess.run([sys.executable, "-m", "calibrae", *call], capture_output=True, check=False).returncode == 0


def test_a_signal_in_the_last_validation_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B5: `fit` used to return as if nothing had come."""
    from calibrae.training import _trainer

    original = _trainer.Trainer.row

    def row(self: Any, summary: Any) -> Any:
        if self.state.epoch == PLAIN["epochs"]:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, summary)

    monkeypatch.setattr(_trainer.Trainer, "row", row)
    with pytest.raises(Stopped) as stopped:
        fit(tmp_path / "r")
    assert stopped.value.code == 130
    assert len(fit(tmp_path / "r", resume=True).history) == 3


def test_a_limit_of_minutes_saves_and_keeps_the_best_so_far(tmp_path: Path) -> None:
    cut = fit(tmp_path / "r", epochs=100_000, max_minutes=0.02)
    assert 1 <= len(cut.history) < 100_000
    assert cut.folder.read_run()["finished"] is False
    assert cb.evaluate(tmp_path / "r").n == 180
    again = fit(tmp_path / "r", epochs=100_000, max_minutes=0.02, resume=True)
    assert len(again.history) > len(cut.history)
    with pytest.raises(Stopped, match="out of time after step 1 of") as stopped:
        fit(tmp_path / "s", max_minutes=1e-9)
    assert stopped.value.code == 75
    assert len(fit(tmp_path / "s", resume=True).history) == 3


def test_the_command_ends_with_75_when_its_minutes_are_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from calibrae.cli._main import main

    quick = [
        "--epochs",
        "100000",
        "--compile",
        "off",
        "--network",
        "linear",
        "--precision",
        "fp32",
        "--latent-dim",
        "2",
    ]
    with pytest.raises(SystemExit) as ended:
        main(["train", "digits", "--out", str(tmp_path / "r"), *quick, "--max-minutes", "0.03"])
    assert ended.value.code == 75
    assert "this model is the best so far. Go on with: calibrae train digits" in capsys.readouterr().err


@pytest.mark.parametrize("every", ["0", "-5", "1.5", "5 parsecs", "", "min"])
def test_an_interval_that_has_no_meaning_is_refused(every: str) -> None:
    with pytest.raises(CalibraeError, match=r"`save_every` must be a number of steps, such as 1000, or a time"):
        cb.TrainSettings(save_every=every)

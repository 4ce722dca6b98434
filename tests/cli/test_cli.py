"""The command as a user types it: output, one-line errors, exit codes."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command import call

from calibrae.cli._main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    with pytest.raises(SystemExit) as stopped:
        main(["train", "digits", "--out", str(out), "--latent-dim", "3", "--epochs", "2", "--hidden", "32"])
    assert stopped.value.code == 0
    return out


def test_train_says_what_it_does(tmp_path, capsys):
    code, out, err = call(
        capsys, "train", "digits", "--out", tmp_path / "r", "--latent-dim", 2, "--epochs", 1, "--hidden", 16
    )
    assert code == 0
    assert "next:    calibrae evaluate" in out
    assert "1,455 training, 162 validation, 180 test examples" in err
    assert "bits/dim" in err
    assert "beta 1 on the summed KL beside the full NLL" in err


def test_evaluate_json(run, capsys):
    code, out, _ = call(capsys, "evaluate", run, "--json", "--importance-samples", 4)
    record = json.loads(out)
    assert code == 0
    assert record["n"] == 180
    assert record["log_likelihood_nats"] >= record["elbo_nats"] - 1.0


def test_evaluate_table_ends_in_a_sentence(run, capsys):
    _, out, _ = call(capsys, "evaluate", run)
    assert "linear baseline" in out
    assert "probabilistic PCA with 3 latents" in out


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["sample", "-n", "12", "--observation-noise"], "samples.png"),
        (["reconstruct", "-n", "10", "--split", "train"], "reconstructions.png"),
        (["interpolate", "--between", "0,3", "--steps", "5"], "interpolation.png"),
        (["interpolate", "--between", "0,3,5,7", "--steps", "4"], "interpolation.png"),
        (["traverse", "-n", "2", "--steps", "5"], "traversal.png"),
    ],
)
def test_pictures_are_seeded_and_come_with_numbers(run, capsys, tmp_path, command, file):
    contents = []
    for i in range(2):
        png, npy = tmp_path / f"{i}-{file}", tmp_path / f"{i}.npy"
        code, _, err = call(capsys, command[0], run, *command[1:], "--out", png, "--arrays", npy)
        assert code == 0, err
        contents.append((png.read_bytes(), np.load(npy).tobytes()))
    assert contents[0] == contents[1]
    assert contents[0][0].startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_encode(run, capsys, tmp_path, suffix):
    file = tmp_path / f"codes.{suffix}"
    code, out, _ = call(capsys, "encode", run, "--out", file, "--json")
    assert code == 0
    assert json.loads(out)["codes"] == str(file)
    codes = np.load(file) if suffix == "npy" else np.loadtxt(file, delimiter=",", skiprows=1)[:, 1:]
    assert codes.shape == (180, 3)
    if suffix == "csv":
        assert file.read_text().startswith("example,z0,z1,z2\n")
    call(capsys, "encode", run, "--out", tmp_path / "std.npy", "--what", "log_std")
    assert not np.allclose(np.load(tmp_path / "std.npy"), codes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "no-such-data", "--out", "{tmp}/r"], "neither a path that exists nor one of digits"),
        (["train", "digits"], "Missing option '--out'"),
        (["train", "digits", "--out", "{tmp}/r", "--model", "gan"], "`model` must be one of"),
        (
            ["train", "digits", "--out", "{tmp}/r", "--sigma", "best"],
            "--sigma must be optimal, learned or a positive number",
        ),
        (["train", "digits", "--out", "{tmp}/r", "--sigma", "-1"], "positive number"),
        (["train", "digits", "--out", "{tmp}/r", "--epochs", "0"], "`epochs` must be at least 1; got 0"),
        (["train", "digits", "--out", "{tmp}/r", "--beta", "1", "--beta-convention", "mse"], "needs a fixed sigma"),
        (["train", "digits", "--out", "{tmp}/r", "--beta", "1", "--beta-convention", "x"], "must be one of nll"),
        (["train", "digits", "--out", "{tmp}/r", "--size", "a,b"], "--size must be two numbers"),
        (["train", "digits", "--out", "{tmp}/r", "--hidden", "x"], "--hidden must be"),
        (["train", "digits", "--out", "{tmp}/r", "--sigma-shared", "row"], "one of all, channel, element"),
        (["train", "digits", "--out", "{tmp}/r", "--likelihood", "bernoulli"], "--binarise"),
        (["train", "digits", "--out", "{run}"], "already holds a run"),
        (["train", "digits", "--out", "{tmp}/r", "--resume"], "does not exist"),
        (["train", "mnist", "--out", "{run}", "--resume"], "keeps its data, digits; got mnist"),
        (["train", "digits", "--out", "{run}", "--resume", "--latent-dim", "7"], "got --latent-dim 7 (was 3)"),
        (["train", "digits", "--out", "{run}", "--resume", "--beta", "2"], "got --beta 2.0 (was None)"),
        (
            ["train", "digits", "--out", "{tmp}/r", "--device", "abacus"],
            "`device` must be one that this machine has",
        ),
        (["evaluate", "{run}", "--device", "abacus"], "`device` must be one that this machine has"),
        (["train", "digits", "--out", "{tmp}/r", "--standardise"], "holds integers"),
        (["evaluate", "{tmp}/nowhere"], "does not exist"),
        (["evaluate", "{tmp}"], "is not a run folder"),
        (["evaluate", "{run}", "--split", "dev"], "--split must be train, validation, test or all"),
        (["evaluate", "{run}", "--importance-samples", "-3"], "not negative"),
        (["sample", "{run}", "-n", "0"], "at least 1"),
        (["interpolate", "{run}", "--between", "0,9999"], "between 0 and 179"),
        (["interpolate", "{run}", "--between", "0,1,2"], "2 or 4 corners"),
        (["encode", "{run}", "--out", "{tmp}/codes.txt"], "must end in .csv, .npy"),
        (["encode", "{run}", "--what", "mode"], "mean, sample or log_std"),
        (["frobnicate"], "No such command"),
    ],
)
def test_errors_are_one_line_and_exit_2(run, capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *(a.format(tmp=tmp_path, run=run) for a in arguments))
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("calibrae: ")
    assert len(err.strip().splitlines()) == 1


def test_a_translated_beta(tmp_path, capsys):
    """SSE + 4 KL is half-SSE + 2 KL, beta = 2 at sigma = 1."""
    arguments = ["--model", "vae", "--beta", 4, "--beta-convention", "sse", "--epochs", 1, "--hidden", 16]
    code, out, err = call(
        capsys, "train", "digits", "--out", tmp_path / "r", "--latent-dim", 2, *arguments, "--json", "--verbose"
    )
    assert code == 0
    assert json.loads(out)["beta"] == 2.0
    assert "sse 4" in err


def test_resume_goes_on(tmp_path, capsys):
    options = ["--latent-dim", 2, "--hidden", 16]
    call(capsys, "train", "digits", "--out", tmp_path / "r", "--epochs", 1, *options)
    code, out, err = call(
        capsys, "train", "digits", "--out", tmp_path / "r", "--epochs", 2, *options, "--resume", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["epoch"] == 2
    assert "going on after epoch 1" in err


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    quick = ["--epochs", "100000", "--compile", "off", "--hidden", "16"]
    command = [sys.executable, "-m", "calibrae", "train", "digits", "--out", str(tmp_path / "r"), *quick]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "r" / "history.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "--resume" in err.strip().splitlines()[-1]
    assert list((tmp_path / "r" / "checkpoints").glob("step-*.safetensors"))


@pytest.mark.parametrize(
    ("waits_in", "says"),
    [
        ("calibrae.workflows._train.load_data", "calibrae: stopped by Ctrl-C"),
        (
            "calibrae.training._trainer.Trainer._show_data",
            "interrupted before the first step: there is nothing to keep",
        ),
    ],
)
def test_ctrl_c_before_the_first_step_says_so_and_leaves_no_trace(tmp_path, waits_in, says):
    code = (
        "import signal, time, unittest.mock; from calibrae.cli._main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in what a shell runs in the background
        "wait = lambda *_: (print('waiting', flush=True), time.sleep(60))\n"
        f"with unittest.mock.patch({waits_in!r}, wait):\n"
        f"    main(['train', 'digits', '--out', {str(tmp_path / 'r')!r}, '--latent-dim', '2'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith(says)
    assert err.count(says) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "r").exists()


def test_help_needs_no_torch():
    code = "import sys, calibrae.cli._main; print(sorted({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    done = subprocess.run([sys.executable, "-m", "calibrae", "--help"], capture_output=True, text=True, check=True)
    assert "self-test" in done.stdout


def test_version(capsys):
    code, out, _ = call(capsys, "--version")
    assert code == 0
    assert out.startswith("calibrae ")


@pytest.mark.slow
def test_self_test(capsys):
    started = time.monotonic()
    code, out, _ = call(capsys, "self-test", "--json")
    record = json.loads(out)
    assert code == 0, record
    assert record["failed"] == 0
    assert record["passed"] >= 11
    assert time.monotonic() - started < 600


def test_a_closed_pipe_or_full_disk_is_one_line(run, capsys, tmp_path):
    locked = tmp_path / "file"
    locked.write_text("")
    code, _, err = call(capsys, "sample", run, "--out", locked / "x.png")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert locked.read_text() == ""


LOSS = """
import torch

def loss(x, x_hat, mu, logvar):
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
    return torch.nn.functional.mse_loss(x_hat, x) + 0.00025 * kl
"""


def test_audit_of_a_file(tmp_path, capsys):
    file = tmp_path / "vae.py"
    file.write_text(LOSS)
    arguments = ["audit", f"{file}:loss", "--data-shape", "3,64,64", "--latent-dim", 128, "--batch-size", 8]
    code, out, _ = call(capsys, *arguments, "--json")
    record = json.loads(out)
    assert code == 0
    assert record["rho"] == pytest.approx(3.072)
    assert record["implied_sigma"] == pytest.approx(1.239, rel=1e-3)
    assert (record["convention"], record["equivalents"]["sse"]) == ("mse", pytest.approx(3.072))
    _, out, _ = call(capsys, *arguments)
    assert "mse 0.00025" in out
    assert "reconstruction-mean-kl-sum" in out


def test_audit_of_a_run(run, capsys):
    code, out, _ = call(capsys, "audit", "--run", run, "--json")
    record = json.loads(out)
    assert code == 0
    assert (record["reconstruction"], record["implied_beta"]) == ("log_mse", pytest.approx(1.0, rel=1e-3))
    assert not [f for f in record["findings"] if f["severity"] != "note"]


def test_beta_json_and_list(capsys):
    arguments = ["beta", 0.00025, "--from", "mse", "--data-shape", "3,64,64", "--latent-dim", 128]
    code, out, _ = call(capsys, *arguments, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["rho"], found["sigma"]) == (pytest.approx(3.072), pytest.approx(1.2394, rel=1e-4))
    assert found["equivalents"]["half-sse"] == pytest.approx(1.536)
    _, out, _ = call(capsys, *arguments)
    assert "CelebA 64" in out
    _, out, _ = call(capsys, "beta", "--list")
    assert "SSE / 2 + beta * KL" in out
    _, out, _ = call(capsys, "beta", "--list", "--json")
    assert len(json.loads(out)["conventions"]) >= 36


def test_beta_on_data(capsys):
    code, out, _ = call(capsys, "beta", 1, "--from", "mse-mean-kl", "--data", "digits", "--latent-dim", 10, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["rho"] == pytest.approx(6.4)
    assert found["linear"]["directions"] <= 10
    assert 0.05 < found["optimal_sigma"] < 0.2
    assert found["total_variance"] > found["linear"]["sse"] > 0 or found["linear"]["directions"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["beta"], "a beta needs VALUE, --from, --latent-dim"),
        (["beta", "1", "--from", "mse", "--latent-dim", "2"], "pass --data-shape C,H,W, or --data PATH"),
        (["beta", "1", "--from", "MSEE", "--data-shape", "3", "--latent-dim", "2"], "must be one of mse"),
        (["beta", "1", "--from", "mse", "--data-shape", "0", "--latent-dim", "2"], "must be positive numbers"),
        (["beta", "0", "--from", "mse", "--data-shape", "3", "--latent-dim", "2"], "positive numbers; got value 0"),
        (["audit"], "an audit needs FILE.py:FUNCTION"),
        (["audit", "nowhere.py:f", "--data-shape", "3", "--latent-dim", "2"], "nowhere.py is not a file"),
        (["audit", "{tmp}/broken.py:f", "--data-shape", "3", "--latent-dim", "2"], "cannot be imported: SyntaxError"),
        (["audit", "{tmp}/fine.py:g", "--data-shape", "3", "--latent-dim", "2"], "has no function g; it has f"),
        (
            ["audit", "{tmp}/fine.py:f", "--data-shape", "3", "--latent-dim", "2"],
            "cannot be called as loss(x, x_hat, mu, logvar)",
        ),
        (["audit", "--run", "{tmp}/nowhere"], "does not exist"),
    ],
)
def test_errors_of_beta_and_audit_are_one_line(capsys, tmp_path, arguments, message):
    (tmp_path / "broken.py").write_text("def f(:")
    (tmp_path / "fine.py").write_text("def f():\n    return 0")
    code, out, err = call(capsys, *(a.format(tmp=tmp_path) for a in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1

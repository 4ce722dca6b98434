"""`calibrae sweep`, as a user types it."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib

import numpy as np
import pandas as pd
import pytest
import torch
from command import call

import calibrae as cb
from calibrae.errors import ArgumentError
from calibrae.workflows._study import Axis, Study, spread_points, sqlite_address

BRIEF = ("--epochs", "1", "--hidden", "16", "--compile", "off")
REQUEST = {"data": "digits", "epochs": 20}
SMALL = cb.NetworkOptions(hidden=(8,))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "sweep"
    settings, sizes = cb.TrainSettings(epochs=2, compile="off"), cb.NetworkOptions(hidden=(16,))
    found = cb.sweep(
        "digits", out, beta=[1.0, 50.0], latent_dim=[3], jobs=2, quiet=True, settings=settings, network_options=sizes
    )
    return out, found


def test_every_point_is_a_run_and_one_is_recommended(swept):
    out, found = swept
    assert [p.axes for p in found.points] == [{"beta": 1.0, "latent_dim": 3}, {"beta": 50.0, "latent_dim": 3}]
    for point in found.points:
        folder = out / "points" / point.name
        assert cb.load(folder).latent_dim == 3
        record = cb.evaluate(folder, split="validation")
        assert point.elbo_nats == pytest.approx(record.elbo_nats, rel=1e-6)
        assert point.kl_nats == pytest.approx(record.kl_nats, rel=1e-6)
        assert point.sse == pytest.approx(record.mse * 64, rel=1e-6)
    assert found.points[1].kl_nats < found.points[0].kl_nats
    assert found.recommendation.name in {p.name for p in found.points}
    assert (out / "sweep.png").stat().st_size > 10_000
    assert json.loads((out / "sweep.json").read_text())["recommendation"]["name"] == found.recommendation.name


def test_options_of_training_reach_every_point(tmp_path, capsys):
    """Options by their names, registered parts with their arguments, and a condition."""
    rng = np.random.default_rng(0)
    (tmp_path / "t.csv").write_text(
        "a,b,kind\n" + "".join(f"{x},{y},{'uv'[i % 2]}\n" for i, (x, y) in enumerate(rng.normal(size=(60, 2))))
    )
    settings = {
        "epochs": 1, "batch_size": 16, "grad_clip_norm": 0.5, "lr_warmup": 0.2, "ema_decay": 0.5, "micro_batches": 2,
        "acceleration": "off", "threads": 1, "seed": 3,
    }  # fmt: skip
    found = cb.sweep(
        tmp_path / "t.csv",
        tmp_path / "s",
        latent_dim=[1],
        jobs=1,
        quiet=True,
        likelihood="laplace",
        prior=cb.MixturePrior(1, components=2),
        condition="kind",
        network_options=SMALL,
        settings=cb.TrainSettings(**settings),
    )
    (point,) = found.points
    stored = tomllib.loads((tmp_path / "s" / "points" / point.name / "config.toml").read_text())
    assert {name: stored["training"][name] for name in settings} == settings
    assert stored["model"]["likelihood"]["name"] == "laplace"
    assert (stored["model"]["prior"]["name"], stored["model"]["prior"]["components"]) == ("mixture", 2)
    assert (stored["data"]["condition"], stored["model"]["context_dim"]) == ("kind", 2)
    code, _, err = call(capsys, "sweep", "digits", "--out", tmp_path / "other", "--beta", "1,2", "--flip")
    assert code == 2
    assert "No such option" in err


def test_a_finished_sweep_trains_nothing_again(swept, capsys):
    out, found = swept
    before = {p: p.stat().st_mtime_ns for p in out.glob("points/*/model.safetensors")}
    same = ("--beta", "1,50", "--latent-dim", 3, "--epochs", 2, "--hidden", "16", "--no-compile")
    code, _, err = call(capsys, "sweep", "digits", "--out", out, *same)
    assert code == 2  # other options than before
    assert "No such option" in err
    code, shown, _ = call(
        capsys, "sweep", "digits", "--out", out, "--beta", "1,50", "--latent-dim", 3, "--epochs", 2, "--hidden", 16, "--compile", "off", "--json"
    )  # fmt: skip
    assert code == 0
    assert json.loads(shown)["points"][0]["elbo_nats"] == pytest.approx(found.points[0].elbo_nats)
    assert {p: p.stat().st_mtime_ns for p in out.glob("points/*/model.safetensors")} == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "a sweep varies something"),
        (("--beta", "0,1"), "must be positive numbers"),
        (("--beta", "1:1", "--trials", "3"), "a range to search"),
        (("--beta", "0.1:10"), "--trials is the number"),
        (("--beta", "1,2", "--trials", "3"), "no range"),
        (("--latent-dim", "4.5,8"), "must be positive numbers"),
        (("--beta", "10:0.1", "--trials", "3"), "a range to search that rises, as in 0.1:10"),
        (("--sigma", "banana"), "or `optimal` or `learned` for all points"),
        (("--beta", "1,2", "--jobs", "0"), "--jobs must be at least 1"),
        (("--beta", "1,2", "--epoch", "3"), "No such option"),
        (("--beta", "1,2", "--resume"), "goes on by itself"),
    ],
)
def test_wrong_use_is_one_line(capsys, tmp_path, arguments, says):
    code, _, err = call(capsys, "sweep", "digits", "--out", tmp_path / "sweep", *arguments)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_no_folder_of_others_is_touched(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    code, _, err = call(capsys, "sweep", "digits", "--out", tmp_path, "--beta", "1,2")
    assert code == 2
    assert "is not a sweep" in err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_options_that_no_run_can_use_stop_the_sweep(capsys, tmp_path):
    code, _, err = call(capsys, "sweep", "digits", "--out", tmp_path / "s", "--beta", "1,2", "--lr", "-1", "--jobs", 1)
    assert code == 2
    assert "lr" in err.splitlines()[-1]
    corrected = ["--lr", "0.001", "--epochs", 1, "--network", "linear", "--latent-dim", "2"]
    code, out, err = call(capsys, "sweep", "digits", "--out", tmp_path / "s", "--beta", "1,2", *corrected, "--jobs", 2)
    assert code == 0, err
    assert "recommended" in out


def test_two_machines_share_a_study_and_no_point(tmp_path):
    axes = [Axis.of("beta", "0.5,1,2")]
    first, second = (Study(sqlite_address(tmp_path), axes, 0, REQUEST) for _ in range(2))
    names = [study.claim().name for study in (first, second, first)]
    assert sorted(names) == ["beta-0.5", "beta-1", "beta-2"]
    assert first.claim() is None
    assert second.claim() is None
    assert len(second.held()) == 3


def test_points_of_a_process_that_is_gone_are_taken_again(tmp_path):
    axes = [Axis.of("beta", "0.5,1")]
    died, lives = (point for point in (Study(sqlite_address(tmp_path), axes, 0, REQUEST),) * 2)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lost, kept = died.claim(), lives.claim()
    died.hold(lost, gone.pid)
    lives.hold(kept, os.getpid())
    later = Study(sqlite_address(tmp_path), axes, 0, REQUEST)
    assert later.claim().name == lost.name
    assert later.claim() is None


def test_a_study_of_which_nothing_came_gives_way(tmp_path):
    def study(values, lr, *, is_empty):
        request = {**REQUEST, "lr": lr}
        return Study(sqlite_address(tmp_path), [Axis.of("beta", values)], 0, request, is_empty=is_empty)

    study("1,2", "-1", is_empty=True)
    with pytest.raises(ArgumentError, match="keeps its data"):
        study("3", "1", is_empty=False)
    replaced = study("3", "1", is_empty=True)
    point = replaced.claim()
    assert point.name == "beta-3"
    replaced.finish(point, 1.0)
    with pytest.raises(ArgumentError, match="keeps its data"):
        study("4", "2", is_empty=True)


def test_a_refusal_shows_the_options_that_changed(tmp_path):
    def study(**request):
        return Study(sqlite_address(tmp_path), [Axis.of("beta", "1,2")], 0, {**REQUEST, **request})

    study(epochs=3, hidden=[16, 16])
    with pytest.raises(ArgumentError, match="epochs was 3, got 2; hidden was 16 16, got 8\\. Take another --out"):
        study(epochs=2, hidden=[8])


def narrow_model(latent_dim):
    """A model of own networks, as a user's module has it."""
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2 * latent_dim))
    decoder = torch.nn.Sequential(torch.nn.Linear(latent_dim, 64), torch.nn.Unflatten(-1, (1, 8, 8)))
    posterior = cb.GaussianPosterior("log_std")
    return cb.VAE(encoder, decoder, cb.GaussianLikelihood(0.2), cb.StandardNormalPrior(latent_dim), posterior=posterior)


def a_model_of_two():
    return narrow_model(2)


def test_arrays_conditions_and_models_of_ones_own_are_swept(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (400, 1, 8, 8), dtype=np.uint8)
    common = {"jobs": 2, "quiet": True, "settings": cb.TrainSettings(epochs=1, compile="off")}
    swept = {"beta": [1.0, 9.0], "latent_dim": 2, "model": narrow_model}
    found = cb.sweep(x, tmp_path / "own", **swept, **common)
    assert [(p.beta, p.latent_dim) for p in found.points] == [(1.0, 2), (9.0, 2)]
    assert not found.failed
    record = cb.evaluate(tmp_path / "own" / "points" / "beta-9_latent-dim-2", split="validation", model=narrow_model(2))
    assert found.points[1].elbo_nats == pytest.approx(record.elbo_nats, rel=1e-6)
    again = cb.sweep(x, tmp_path / "own", **swept, **common)
    assert [p.elbo_nats for p in again.points] == [p.elbo_nats for p in found.points]
    with pytest.raises(ArgumentError, match="keeps its data"):
        cb.sweep(x[:-1], tmp_path / "own", **swept, **common)
    labels = {"condition": np.arange(400) % 4, "network_options": SMALL}
    conditional = cb.sweep(x, tmp_path / "conditional", latent_dim=[2], **labels, **common)
    folder = tmp_path / "conditional" / "points" / conditional.points[0].name
    assert tomllib.loads((folder / "config.toml").read_text())["model"]["context_dim"] == 4


def test_models_and_components_of_a_script_are_swept(tmp_path):
    """A script without a guard, run as users run it."""
    script = tmp_path / "study.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "registered sharp" in done.stdout
    assert "own 0.1" in done.stdout


SCRIPT = """
import numpy as np, torch
import calibrae as cb

@cb.component("sharp")
class Sharp(cb.Likelihood):
    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, output):
        return torch.distributions.Independent(torch.distributions.Normal(output, self.sigma), len(self.data_shape))

def make(latent_dim):
    return cb.build("vae", data_shape=(4,), latent_dim=latent_dim, likelihood=Sharp(0.1), network="linear")

x = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
common = dict(settings=cb.TrainSettings(epochs=1, compile="off"), jobs=2, network_options=cb.NetworkOptions(hidden=(4,)))
first = cb.sweep(x, "registered", beta=[2], latent_dim=2, likelihood="sharp", **common)
print("registered", cb.load("registered/points/" + first.points[0].name).config.parts["likelihood"]["name"])
second = cb.sweep(x, "own", latent_dim=[1], model=make, **common)
print("own", cb.load("own/points/" + second.points[0].name, model=make(1)).likelihood.sigma)
"""


def test_betas_of_another_convention_are_swept(tmp_path, capsys):
    """`--beta-convention` says how the swept values are written: 0.01 beside a mean over 64 dimensions."""
    options = (
        "--sigma",
        "1",
        "--beta",
        "0.01",
        "--beta-convention",
        "mse",
        "--latent-dim",
        "2",
        "--epochs",
        "1",
        "--network",
        "linear",
    )
    code, out, err = call(capsys, "sweep", "digits", "--out", tmp_path / "s", *options, "--compile", "off", "--json")
    assert code == 0, err
    assert json.loads(out)["points"][0]["beta"] == pytest.approx(0.01 * 64 / 2)


def test_a_model_that_cannot_travel_is_refused_before_anything_is_written(tmp_path):
    lock = threading.Lock()
    with pytest.raises(ArgumentError, match="can be sent to another process"):
        cb.sweep("digits", tmp_path / "s", beta=[1], model=lambda: lock and a_model_of_two(), quiet=True)
    assert not (tmp_path / "s").exists()


class Unregistered(cb.StandardNormalPrior):
    pass


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"model": a_model_of_two, "latent_dim": [2]},
            "`model` must take what is swept by name; a_model_of_two lacks latent_dim",
        ),
        ({"model": a_model_of_two(), "beta": [1]}, "a function that makes a VAE anew for each point; got VAE"),
        ({"prior": Unregistered(2), "beta": [1]}, "an object of Unregistered, which is not registered"),
        ({"data": "nowhere.csv", "beta": [1]}, "neither a name of data"),
        (
            {"prior": cb.MixturePrior(2), "latent_dim": [2, 3]},
            "the prior must be over latent_dim = 3 latents; got one over 2",
        ),
    ],
)
def test_what_a_sweep_cannot_send_is_refused(tmp_path, options, says):
    with pytest.raises(ArgumentError, match=says):
        cb.sweep(options.pop("data", "digits"), tmp_path / "s", quiet=True, **options)


def test_the_same_search_draws_the_same_points(tmp_path):
    def drawn(folder):
        folder.mkdir()
        study = Study(sqlite_address(folder), [Axis.of("beta", "0.1:10")], 12, REQUEST)
        found = []
        while (point := study.claim()) is not None:
            found.append(point.values["beta"])
            study.finish(point, -abs(point.values["beta"] - 1.0))
        return found

    first = drawn(tmp_path / "a")
    assert first == drawn(tmp_path / "b")
    assert len(set(first)) == 12
    # however few, they fill the range
    parts = {int(10 * (math.log10(beta) + 1) / 2) for beta in first[:10]}
    assert len(parts) >= 9
    assert all(len({int(n * (math.log10(b) + 1) / 2) for b in first[:n]}) == n for n in (2, 3))


def test_a_fixed_axis_does_not_disturb_the_spread_of_the_others():
    alone = [p["beta"] for p in spread_points([Axis.of("beta", "0.1:10")], 5)]
    beside = spread_points([Axis.of("latent_dim", "4"), Axis.of("beta", "0.1:10")], 5)
    assert [p["beta"] for p in beside] == alone
    assert {p["latent_dim"] for p in beside} == {4}
    both = spread_points([Axis.of("latent_dim", "8:128"), Axis.of("beta", "0.1:10")], 10)
    quarters = {(p["latent_dim"] < 32, p["beta"] < 1.0) for p in both[1:]}
    assert len(quarters) == 4


def test_a_sweep_says_how_many_points_are_left(swept, tmp_path, capsys):
    out, _ = swept
    same = ("--latent-dim", 3, "--epochs", 2, "--hidden", 16, "--compile", "off")
    code, _, err = call(capsys, "sweep", "digits", "--out", out, "--beta", "1,50", *same)
    assert code == 0
    assert "nothing is left to train: 2 points are done" in err
    study = Study(sqlite_address(tmp_path), [Axis.of("beta", "0.1:10")], 4, REQUEST)
    study.finish(study.claim(), 0.0)
    assert study.claim() is not None
    assert study.left() == 2


def test_an_interrupted_point_of_a_search_is_claimed_again(tmp_path):
    axes = [Axis.of("beta", "0.1:10")]
    study = Study(sqlite_address(tmp_path), axes, 3, REQUEST)
    done, stopped = study.claim(), study.claim()
    study.finish(done, 1.0)
    study.put_back(stopped)
    later = Study(sqlite_address(tmp_path), axes, 3, REQUEST)
    assert later.left() == 2
    claimed = [later.claim() for _ in range(2)]
    assert stopped.values in [point.values for point in claimed]
    assert done.name not in {point.name for point in claimed}
    assert later.claim() is None


@pytest.mark.parametrize(("values", "trials", "left"), [("2:4", 10, 3), ("2:64", 10, 10)])
def test_no_more_points_are_left_than_there_are(tmp_path, values, trials, left):
    assert Study(sqlite_address(tmp_path), [Axis.of("latent_dim", values)], trials, REQUEST).left() == left


def test_a_search_has_as_many_points_as_it_was_given(tmp_path):
    study = Study(sqlite_address(tmp_path), [Axis.of("latent_dim", "2:64")], 4, REQUEST)
    points = []
    while (point := study.claim()) is not None:
        points.append(point)
        study.finish(point, -abs(point.values["latent_dim"] - 20))
    assert len(points) == len({p.name for p in points}) == 4
    assert all(2 <= p.values["latent_dim"] <= 64 for p in points)


@pytest.mark.parametrize("trials", [3, 5])
def test_a_search_of_few_whole_numbers_finds_each_once(tmp_path, trials):
    study = Study(sqlite_address(tmp_path), [Axis.of("latent_dim", "2:4")], trials, REQUEST)
    found = []
    while (point := study.claim()) is not None:
        found.append(point.values["latent_dim"])
        study.finish(point, 0.0)
    assert sorted(found) == [2, 3, 4]


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path):
    """Ctrl-C ends all runs, which keep what they have; called again, the sweep ends as if nothing had happened."""
    np.save(tmp_path / "data.npy", np.random.default_rng(0).integers(0, 256, (3000, 1, 8, 8), dtype=np.uint8))
    out = tmp_path / "sweep"
    command = [
        sys.executable, "-m", "calibrae", "sweep", str(tmp_path / "data.npy"), "--out", str(out), "--beta", "0.5:1", "--trials", "2", "--latent-dim", "3",
        "--epochs", "20", "--hidden", "16", "--compile", "off",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list(out.glob("points/*/history.csv"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = "".join(process.communicate(timeout=60))
    assert process.returncode == 130
    assert "give the same command again" in said
    begun = sorted(path.name for path in out.glob("points/*/"))
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert "recommended" in finished.stdout
    assert sorted(path.name for path in out.glob("points/*/")) == begun
    for history in out.glob("points/*/history.csv"):
        epochs = [int(float(line.split(",")[0])) for line in history.read_text().splitlines()[1:]]
        assert epochs == list(range(1, 21))


def test_a_table_of_mixed_columns_is_swept(tmp_path, capsys):
    """It has no squared error, which is said so and not written as NaN; several conditions go with it."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "height": rng.normal(170, 9, 200),
            "hair": rng.choice(["brown", "grey"], 200),
            "age": rng.integers(18, 80, 200),
        }
    ).assign(sex=rng.choice(["f", "m"], 200))
    table.to_csv(tmp_path / "people.csv", index=False)
    words = [
        "--beta",
        "1,2",
        "--epochs",
        "1",
        "--latent-dim",
        "2",
        "--hidden",
        "8",
        "--condition",
        "sex",
        "--condition",
        "age",
    ]
    code, printed, said = call(capsys, "sweep", tmp_path / "people.csv", *words, "--out", tmp_path / "sweep")
    assert code == 0, said
    points = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["points"]
    assert [point["sse"] for point in points] == [None, None]
    assert "nan" not in printed
    assert (tmp_path / "sweep" / "sweep.png").is_file()

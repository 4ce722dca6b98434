"""The events of the pages, called as the browser calls them: hostile, odd and large values end in a message."""

import subprocess
import sys
import zipfile

import gradio as gr
import numpy as np
import pytest
from pets import table
from PIL import Image

import calibrae as cb
from calibrae.app import _limited as limited
from calibrae.app._audit import AuditPage
from calibrae.app._bench import Bench
from calibrae.app._betas import BetasPage
from calibrae.app._explore import ExplorePage
from calibrae.app._latents import _cells
from calibrae.app._subject import Subject, subject_of
from calibrae.app._train import TrainPage
from calibrae.errors import ArgumentError, DataError
from calibrae.workflows import Queue

HOW = {"quiet": True, "pictures": False, "epochs": 1}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "runs"
    cb.fit(cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=3, network="linear"), "digits", folder / "a", **HOW)
    mixture = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=3, network="linear", prior="mixture:components=2")
    cb.fit(mixture, "digits", folder / "mixture", **HOW)
    large = np.random.default_rng(0).integers(0, 256, (30, 3, 300, 200), dtype=np.uint8)
    model = cb.build("sigma-vae", data_shape=(3, 300, 200), latent_dim=2, network="linear")
    cb.fit(model, large, folder / "large", **HOW)
    return Bench.of(folder, Queue(folder), may_audit=True)


@pytest.fixture(scope="module")
def explore(bench, blocks):
    with blocks():
        return ExplorePage(bench)


@pytest.fixture(scope="module")
def train(bench, blocks):
    with blocks():
        return TrainPage(bench)


def message(call, *values):
    with pytest.raises(gr.Error) as raised:
        call(*values)
    assert "nobody foresaw" not in raised.value.message
    return raised.value.message


@pytest.mark.parametrize("between", ["99999999999999999999,1", "-1,2", "0,1,2", "a,b", "0,180"])
def test_positions_are_bounded(explore, between):
    assert "position" in message(explore._interpolate, "a", "test", 0, between, 5) or between == "0,1,2"


@pytest.mark.parametrize("count", [0, -1, 201, 1e30, float("nan"), None, 2.5])
def test_counts_are_bounded(explore, count):
    assert "whole number from 1 to" in message(explore._sample, "a", "test", 0, count, "", False)
    assert "whole number from 1 to" in message(explore._reconstruct, "a", "test", 0, count, None)


@pytest.mark.parametrize("run", [None, "", "nothing", "../a", ".uploads/x"])
def test_runs_that_are_not_there(explore, train, run):
    assert message(explore._sample, run, "test", 0, 3, "", False)
    if run:
        assert message(train._resume, run, "")


def test_without_a_choice_the_newest_training_is_meant(train):
    known = train._known(train.bench.queue.entries())
    assert train._chosen(None) == train._chosen("") == known[0]
    assert train._chosen(known[-1]) == known[-1]


def test_a_condition_of_a_run_without_one(explore):
    assert "no condition" in message(explore._sample, "a", "test", 0, 3, "7", False)


def test_large_pictures_are_reduced_and_too_many_refused(explore, monkeypatch):
    drawn = explore._sample("large", "test", 0, 8, "", False)["value"]
    assert max(drawn.size) < 2000
    monkeypatch.setattr("calibrae.app._subject.NUMBERS", 3 * 300 * 200 * 4)
    assert "at most 4 examples" in message(explore._sample, "large", "test", 0, 5, "", False)


def test_sliders_start_where_the_walk_does(explore, bench):
    from calibrae.workflows import prior_middle

    _, start, _, *sliders = explore.walks._walk("mixture", "test", 0, "", 1)
    mean, std = prior_middle(bench.shelf.open("mixture").model, None)
    assert start["code"] == pytest.approx(mean.tolist())
    assert [slider["value"] for slider in sliders[:3]] == [0.0, 0.0, 0.0]
    moved = explore.walks._move("mixture", "test", 0, start, 1.5, 0.0, 0.0)["value"]
    code, dim = mean.clone(), start["dims"][0]
    code[dim] += 1.5 * std[dim]
    expected = explore.walks._decoded(subject_of(bench, "mixture", "test", 0), code, None)["value"]
    unmoved = explore.walks._move("mixture", "test", 0, start, 0.0, 0.0, 0.0)["value"]
    assert (np.asarray(moved) == np.asarray(expected)).all()
    assert (np.asarray(moved) != np.asarray(unmoved)).any()


def test_an_example_beyond_the_walk_is_not_framed(bench):
    import torch

    from calibrae.workflows import traverse

    run = bench.shelf.open("a")
    found = traverse(run.model, run.data, n=3, code=torch.tensor([9.0, 0.1, 0.1]))
    by_dim = dict(zip(found.ranking.dims.tolist(), found.nearest.tolist(), strict=True))
    assert by_dim[0] == -1
    assert by_dim[1] == by_dim[2] == 5


@pytest.mark.parametrize(
    "values",
    [("1e-320", "mse", "3,64,64", "128", "", "", ""), ("1", "nll", "3,64,64", "128", "", "1e-200", ""), ("1", "mse", "9" * 400, "1", "", "", ""),
     ("1", "mse", "3,64", "9" * 400, "", "", ""), ("1e308", "mse", "3,64,64", "128", "", "", "x"), ("nan", "mse", "1", "1", "", "", "")],
)  # fmt: skip
def test_odd_numbers_of_a_beta_are_a_sentence(values, blocks):
    with blocks():
        said, _ = BetasPage().translate(*values)
    assert said.startswith("**")


def options(train, **changed):
    return [changed.get(option.name, option.value) for option in train.options]


def test_a_command_has_what_was_changed_and_nothing_else(train, bench):
    line = train._line("digits", None, "x", *options(train, latent_dim="4", binarise=True, prior="mixture"))
    assert line == f"calibrae train digits --out {bench.folder}/x --latent-dim 4 --prior mixture --binarise"
    assert train._line("digits", None, "../../x", *options(train)).startswith("# a name must be")


@pytest.mark.parametrize("name", ["--help", "-x"])
def test_data_are_never_taken_for_an_option(train, name):
    assert message(train._look, name, None, *options(train))


@pytest.mark.parametrize("changed", [{"hidden": "--resume"}, {"lr": "fast"}, {"size": "8"}, {"levels": "many"}])
def test_options_are_values(train, changed):
    assert message(train._go, "digits", None, "fine", *options(train, **changed))


def test_others_may_read_the_folder_of_the_runs_alone(bench, tmp_path):
    open_to_others = Bench.of(bench.folder, bench.queue, is_local=False)
    for place in ("/etc", "/etc/passwd", "../..", "~", str(tmp_path)):
        with pytest.raises(ArgumentError, match="as others can reach this workbench"):
            open_to_others.data_place(place, None)
    assert open_to_others.data_place("digits", None) == "digits"


@pytest.mark.whole
def test_a_bomb_is_refused_and_the_server_lives(train, tmp_path, monkeypatch):
    monkeypatch.setattr(limited, "MEMORY", 3 << 30)
    Image.new("1", (12000, 12000)).save(tmp_path / "x.png")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(40):
            archive.write(tmp_path / "x.png", f"p/{i}.png")
    said = message(train._look, "", [str(tmp_path / "bomb.zip")], *options(train))
    assert "memory" in said or "seconds" in said or "cannot be read" in said


def test_what_cannot_be_read_is_said_in_the_readers_words(train, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    said = message(train._look, "", [str(tmp_path / "broken.png")], *options(train))
    assert "broken.png" in said
    assert ".uploads" not in said


def test_a_folder_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(limited, "SECONDS", 1)
    np.save(tmp_path / "x.npy", np.zeros((20, 3)))
    with pytest.raises(DataError, match="more than 1 seconds"):
        limited.require_readable(str(tmp_path / "x.npy"), {})


AUDITED = """
import os, sys, time
import torch

{before}


def loss(x, x_hat, mu, logvar):
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
    return ((x - x_hat) ** 2).flatten(1).sum(1).mean() + kl
"""


def audited(bench, tmp_path, before, blocks):
    (tmp_path / "mine.py").write_text(AUDITED.format(before=before))
    with blocks():
        page = AuditPage(bench)
    return page._audit(str(tmp_path / "mine.py"), "loss", "3,8,8", 4, 8, "data", "logvar")


def test_a_loss_is_audited(bench, tmp_path, blocks):
    answer = audited(bench, tmp_path, "", blocks)
    assert "implied sigma   0.70711" in answer
    assert "constants-dropped" in answer


def test_an_audit_leaves_no_process_and_waits_for_none(bench, tmp_path, blocks):
    mark = tmp_path / "mark"
    before = f"if os.fork() == 0:\n    time.sleep(3)\n    open({str(mark)!r}, 'w').close()\n    os._exit(0)"
    assert "implied sigma   0.70711" in audited(bench, tmp_path, before, blocks)
    import time

    time.sleep(3.5)  # longer than the process that was left behind would sleep
    assert not mark.exists()


def test_endless_output_ends_at_the_limit_of_a_file(bench, tmp_path, monkeypatch, blocks):
    monkeypatch.setattr(limited, "SECONDS", 30)
    assert message(audited, bench, tmp_path, "while True:\n    sys.stderr.write('x' * 1_000_000)", blocks)


@pytest.mark.parametrize("shape", ["x", "", "0", "1,-2", "9999999,9999999"])
def test_shapes_of_an_audit_are_shapes(bench, tmp_path, shape, blocks):
    (tmp_path / "mine.py").write_text("")
    with blocks():
        page = AuditPage(bench)
    assert "shape of an example" in message(
        page._audit, str(tmp_path / "mine.py"), "loss", shape, 4, 8, "data", "logvar"
    )
    assert "must be a name" in message(page._audit, str(tmp_path / "mine.py"), None, "3", 4, 8, "data", "logvar")


def test_answers_import_no_large_package_themselves(tmp_path):
    """Two threads that import packages which share others can wait for each other, so the server imports them before it answers."""
    code = (
        "import sys; from calibrae.app import workbench; workbench(sys.argv[1]); "
        "print([name for name in ('plotly.graph_objects', 'sklearn.datasets', 'matplotlib.figure', 'datasets') if name not in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["bytes", "numbers", "mixed"])
def test_a_row_is_drawn_on_the_scale_of_its_data(tmp_path, kind):
    rng = np.random.default_rng(0)
    data = {
        "bytes": rng.integers(0, 256, (100, 6)).astype(np.uint8),
        "numbers": rng.normal(5.0, 3.0, (100, 6)),
        "mixed": table(100),
    }[kind]
    ready = cb.load_data(data)
    model = cb.build(spec=ready.spec, latent_dim=2, options=cb.NetworkOptions(hidden=(8,)))
    run = cb.fit(model, ready, tmp_path / "r", epochs=1, quiet=True, pictures=False)
    subject = Subject(run, "test", 0)
    x = ready.gather("test", [3], 0).x
    row = ready.preparation.restore(x).double().numpy()
    columns, said = _cells(subject, row)
    assert len(columns) == len(said) == row.shape[1]
    for column in columns:
        assert len(column.data) == len(ready.view("test"))
        own = column.data[3]  # the row is one of those that are drawn, so it lies where its own cell does
        assert np.isnan(own) or column.made[0] == pytest.approx(own, abs=0.02 * np.nanmax(np.abs(column.data)))


def test_files_that_were_sent_have_their_names(bench):
    kept = bench.folder / ".uploads" / "31c106aad7838b2d"
    assert bench.unplaced(f"all 5 examples of {kept}/new.csv") == "all 5 examples of new.csv"
    assert bench.unplaced(f"all 5 examples of {kept}") == "all 5 examples of your files"
    assert bench.unplaced("all 5 examples of digits") == "all 5 examples of digits"

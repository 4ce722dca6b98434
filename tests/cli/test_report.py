"""`calibrae report` and `calibrae runs`."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from command import call
from torch import nn

import calibrae as cb
from calibrae.errors import ArgumentError, DataError, RunError
from calibrae.evaluation import number, summarise_split
from calibrae.figures.page import Advice, Figure, Page, Section, Table, render
from calibrae.runs import RunFolder
from calibrae.workflows import list_runs, remove_run, runs_table

RNG = np.random.default_rng(0)
LABELS = np.array(["cat", "dog"])[RNG.integers(0, 2, 160)]


class Reader(HTMLParser):
    """Everything that matters of a page: text, pictures, links, identifiers."""

    def __init__(self, text):
        super().__init__()
        self.words, self.pictures, self.links, self.ids, self.tags = [], [], [], [], []
        self.skip = False
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        self.tags.append(tag)
        self.skip = tag in ("script", "style")
        if tag == "img":
            self.pictures.append(known)
        if "id" in known:
            self.ids.append(known["id"])
        self.links += [known[name] for name in ("href", "src") if name in known]

    def handle_endtag(self, tag):
        self.skip = False

    def handle_data(self, data):
        if not self.skip:
            self.words.append(data)


def small(**parts):
    made = {"data_shape": (1, 8, 8), "latent_dim": 3, "network": "mlp", "options": cb.NetworkOptions(hidden=(16,))}
    return cb.build("sigma-vae", **made | parts)


def own():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 6))
    decoder = nn.Sequential(nn.Linear(3, 64), nn.Unflatten(1, (1, 8, 8)))
    likelihood, prior = cb.GaussianLikelihood("optimal"), cb.StandardNormalPrior(3)
    return cb.VAE(encoder, decoder, likelihood, prior, posterior=cb.GaussianPosterior("log_var"))


IMAGES = RNG.integers(0, 256, (160, 1, 8, 8), dtype=np.uint8)
TABLE = {"train": RNG.normal(size=(160, 3)), "test": RNG.normal(size=(60, 3))}
KINDS = {
    "pictures": (small, IMAGES, {}),
    "table": (lambda: small(data_shape=(3,)), TABLE, {}),
    "signals": (
        lambda: small(data_shape=(2, 12)),
        RNG.normal(size=(160, 2, 12)),
        {"options": cb.DataOptions(standardise=True)},
    ),
    "bits": (lambda: small(likelihood="bernoulli"), IMAGES // 128, {}),
    "condition": (lambda: small(context_dim=2), IMAGES, {"condition": LABELS}),
    "mixture": (lambda: small(prior="mixture"), IMAGES, {}),
    "one latent": (lambda: small(latent_dim=1), IMAGES, {}),
    "own modules": (own, IMAGES, {}),
}


@pytest.fixture(scope="module", params=list(KINDS))
def reported(request, tmp_path_factory):
    make, data, settings = KINDS[request.param]
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("reports") / "run"
    run = cb.fit(make(), data, place, epochs=2, quiet=True, pictures=False, **settings)
    return run, run.report()


def test_a_report_has_the_numbers_that_evaluate_gives(reported):
    run, place = reported
    text = Reader(place.read_text(encoding="utf-8")).text
    e = run.evaluate()
    for value, digits in ((e.elbo_nats, 2), (e.kl_nats, 2), (e.reconstruction_nats, 2)):
        assert number(value, digits) in text
    assert e.verdict.replace("+-", "±") in text
    assert f"numbers of {e.n:,} test examples" in text


def test_a_report_needs_nothing_else_and_can_be_read_by_everybody(reported):
    _, place = reported
    assert place.stat().st_size < 5e6
    page = Reader(place.read_text(encoding="utf-8"))
    assert len(page.pictures) >= 5
    assert all(picture["alt"] for picture in page.pictures)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "Not shown" not in page.text, page.text


def test_a_plain_autoencoder_has_a_report_too(tmp_path):
    model = cb.build("autoencoder", data_shape=(1, 8, 8), latent_dim=3, network="linear")
    run = cb.fit(model, IMAGES, tmp_path / "r", epochs=1, quiet=True, pictures=False)
    page = Reader(run.report(tmp_path / "a" / "report.html").read_text(encoding="utf-8"))
    assert "ELBO, nats" not in page.text
    assert "Reconstructions" in page.text


def test_what_cannot_be_drawn_is_said_and_takes_nothing_down(reported, monkeypatch, tmp_path):
    def fails(*_args, **_kwargs):
        raise DataError("the pencil broke")

    monkeypatch.setattr("calibrae.workflows._exhibits.save_picture", fails)
    text = Reader(reported[0].report(tmp_path / "x.html").read_text(encoding="utf-8")).text
    assert "Not shown" in text
    assert "the pencil broke" in text


def test_hostile_words_stay_words():
    words = "</script><img src=x onerror=alert(1)>"
    plot = {"data": [{"name": words}], "layout": {}, "height": 1}
    figure = Figure(words, b"png", words, words, plot)
    section = Section(words, words, [figure], [Table((words,), [(words, words)], words)], words)
    text = render(
        Page(words, words, words, [(words, words, words)], [figure], [Advice("note", words, words, words)], [section])
    )
    assert "<img src=x" not in text
    found = Reader(text)
    assert found.tags.count("img") == 2
    assert json.loads(re.search(r'class="plot">(.*?)</script>', text)[1]) == plot


def test_train_ends_with_a_report_of_the_validation_split(tmp_path, monkeypatch, capsys):
    train = ["train", "digits", "--epochs", "1", "--network", "linear", "--latent-dim", "2", "--out"]
    assert "look at:" not in call(capsys, *train, tmp_path / "a", "--no-report")[1]
    assert not (tmp_path / "a" / "report.html").exists()
    _, said, _ = call(capsys, *train, tmp_path / "b", "--report")
    assert f"look at: {tmp_path / 'b' / 'report.html'}" in said
    text = Reader((tmp_path / "b" / "report.html").read_text(encoding="utf-8")).text
    assert "numbers of 162 validation examples" in text
    monkeypatch.setattr(
        "calibrae.workflows._train.report", lambda *_a, **_k: (_ for _ in ()).throw(RunError("no room."))
    )
    code, _, warned = call(capsys, *train, tmp_path / "c", "--report")
    assert code == 0
    assert "the report could not be written: no room" in warned


def test_a_report_says_what_follows(tmp_path):
    run = cb.fit(small(), "digits", tmp_path / "a b", epochs=1, quiet=True, pictures=False)
    text = Reader(run.report().read_text(encoding="utf-8")).text
    assert "What to try next" in text
    assert f"calibrae train digits --out '{tmp_path}/a b' --resume --epochs 20" in text


def test_report_refuses_in_one_line(tmp_path, capsys):
    for place in (tmp_path, tmp_path / "none"):
        code, _, said = call(capsys, "report", place)
        assert code == 2
        assert said.count("\n") == 1
        assert "run folder" in said or "does not exist" in said


# -- several runs


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    settings = {"quiet": True, "pictures": False}
    return [
        cb.fit(small(), "digits", folder / "long", epochs=6, **settings),
        cb.fit(small(latent_dim=1), "digits", folder / "short", epochs=1, lr=1e-3, **settings),
    ]


def test_runs_are_compared_example_by_example(two):
    place = cb.compare([two[1].path, two[0]])
    assert place == two[1].path.parent / "comparison.html"
    text = Reader(place.read_text(encoding="utf-8")).text
    losses = [run.evaluate().elbo_nats for run in two]
    elbos = [summarise_split(run.model, run.data, "test").elbos for run in two]
    difference = (elbos[0] - elbos[1]).numpy()
    error = difference.std(ddof=1) / len(difference) ** 0.5
    assert f"long is best: its ELBO is {losses[0] - losses[1]:.2f} ± {error:.2f} nats above that of short" in text
    assert "training.epochs 1 6" in text
    assert "training.lr 0.001 0.004" in text
    assert "model.latent_dim 1 3" in text
    assert "training.batch_size" not in text


def test_runs_that_differ_by_less_than_their_error_are_said_to(two, tmp_path, capsys):
    code, said, _ = call(capsys, "report", two[0].path, two[0].path, "--out", tmp_path / "x.html")
    assert (code, said) == (0, f"wrote {tmp_path / 'x.html'}\n")
    text = Reader((tmp_path / "x.html").read_text(encoding="utf-8")).text
    assert "differ by less than the error can tell: 0.00 ± 0.00 nats" in text


def test_runs_on_other_data_are_compared_with_a_warning_and_one_run_is_none(two, tmp_path):
    other = cb.fit(small(), IMAGES, tmp_path / "other", epochs=1, quiet=True, pictures=False)
    text = Reader(cb.compare([two[0], other], tmp_path / "x.html").read_text(encoding="utf-8")).text
    assert "other examples or another scale, so their ELBOs do not compare" in text
    assert "is best" not in text
    with pytest.raises(ArgumentError, match="two runs at least"):
        cb.compare([two[0]])


def test_runs_with_other_splits_or_conditions(two, tmp_path):
    settings = {"epochs": 1, "quiet": True, "pictures": False}
    seeded = cb.fit(small(), "digits", tmp_path / "s", options=cb.DataOptions(split_seed=1), **settings)
    text = Reader(cb.compare([two[0], seeded], tmp_path / "x.html").read_text(encoding="utf-8")).text
    assert "other examples or another scale" in text
    conditional = cb.fit(small(context_dim=2), IMAGES, tmp_path / "c", condition=LABELS, **settings)
    plain = cb.fit(small(), IMAGES, tmp_path / "$x_{$^", **settings)
    for pair in ([conditional, plain], [plain, conditional]):
        page = Reader(cb.compare(pair, tmp_path / "y.html").read_text(encoding="utf-8"))
        assert "on the same examples" in page.text
        assert len(page.pictures) == 2
    autoencoder = cb.build("autoencoder", data_shape=(1, 8, 8), latent_dim=3, network="linear")
    run = cb.fit(autoencoder, IMAGES, tmp_path / "a", **settings)
    assert "no common number" in Reader(cb.compare([plain, run], tmp_path / "z.html").read_text(encoding="utf-8")).text


class Mine(cb.BetaELBO):
    """An objective that is not registered."""


@pytest.mark.parametrize("data", [IMAGES, RNG.integers(0, 256, (160, 1, 1, 900), dtype=np.uint8), IMAGES[:4]])
def test_reports_of_odd_runs(tmp_path, data, monkeypatch):
    model = small(data_shape=data.shape[1:])
    cb.fit(model, data, tmp_path / "r", epochs=1, objective=Mine(1.0), quiet=True, pictures=False)
    monkeypatch.chdir(tmp_path / "r")
    page = Reader(cb.report(".").read_text(encoding="utf-8"))
    assert "r sigma-vae with 3 latents" in page.text
    assert "Effective beta" in page.text  # cannot be told, and that is said
    assert "--out ." not in page.text


def test_many_classes_are_others_and_one_epoch_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("calibrae.figures._map.MOST_GROUPS", 9)
    labels = np.array([f"$c{i}$" for i in RNG.integers(0, 15, 160)])
    run = cb.fit(small(context_dim=15), IMAGES, tmp_path / "r", epochs=1, condition=labels, quiet=True, pictures=False)
    text = run.report().read_text(encoding="utf-8")
    plots = [json.loads(found) for found in re.findall(r'class="plot">(.*?)</script>', text)]
    groups = [trace["name"] for trace in plots[1]["data"]]
    assert "others" in groups
    assert len(groups) == 9
    assert sum(len(trace["x"]) for trace in plots[1]["data"]) == len(run.data.view("test"))
    assert {trace["mode"] for trace in plots[0]["data"]} == {"markers"}


# -- runs


@pytest.fixture
def folder(tmp_path):
    for name, epochs, dim in (("good", 8, 3), ("weak", 1, 1), ("deep/er", 2, 2)):
        cb.fit(small(latent_dim=dim), "digits", tmp_path / name, epochs=epochs, quiet=True, pictures=False)
    return tmp_path


def test_runs_are_listed_with_the_numbers_of_their_validation_split(folder):
    rows = {row.run: row for row in list_runs(folder)}
    assert set(rows) == {str(folder / name) for name in ("good", "weak", "deep/er")}
    for path, row in rows.items():
        e = cb.open_run(path).evaluate(split="validation")
        assert row.elbo == pytest.approx(e.elbo_nats, rel=1e-6)
        assert row.error == pytest.approx(e.elbo_standard_error, rel=1e-6)
        assert row.above_baseline == pytest.approx(e.elbo_nats - e.baseline_log_likelihood_nats, rel=1e-5)
        assert (row.data, row.state) == ("digits", "finished")
    best = list_runs(folder, sort="elbo")
    assert [row.elbo for row in best] == sorted((row.elbo for row in best), reverse=True)
    assert best[0].run.endswith("good")
    least = list_runs(folder, sort="bits_per_dim")
    assert least[0].run.endswith("good")


def test_runs_on_the_command_line(folder, capsys):
    table = call(capsys, "runs", folder, "--sort", "elbo")[1].splitlines()
    assert len(table) == 4
    assert "good" in table[1]
    listed = json.loads(call(capsys, "runs", folder, "--json")[1])["runs"]
    rows = list(csv.DictReader(io.StringIO(call(capsys, "runs", folder, "--csv")[1])))
    assert [row["run"] for row in rows] == [row["run"] for row in listed]
    assert float(rows[0]["elbo"]) == pytest.approx(listed[0]["elbo"])
    assert call(capsys, "runs", folder, "--sort", "beauty")[0] == 2
    assert call(capsys, "runs", folder / "none")[0] == 2
    assert "no runs in" in call(capsys, "runs", folder / "good" / "checkpoints")[1]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_table_fits_the_terminal(folder, width):
    rows = list_runs(folder)
    assert max(map(len, runs_table(rows, width).splitlines())) <= width


def test_damaged_unfinished_and_running_runs_are_said_to_be_so(folder):
    (folder / "weak" / "config.toml").write_text("nonsense")
    cb.fit(small(), "digits", folder / "half", epochs=3, stop_after=1, quiet=True, pictures=False)
    with RunFolder(folder / "good").held():
        states = {row.run.rpartition("/")[2]: row.state for row in list_runs(folder)}
    assert states["good"] == "training"
    assert states["half"] == "stopped after epoch 1"
    assert states["weak"].startswith("damaged: ")


def test_a_run_moves_to_a_bin_from_where_it_can_come_back(folder, capsys):
    elbo = cb.open_run(folder / "good").evaluate().elbo_nats
    place = remove_run(folder / "good")
    assert not (folder / "good").exists()
    assert place.parent == folder / ".bin"
    assert not any(path.name.startswith(".lock") for path in place.iterdir())
    assert len(list_runs(folder)) == 2
    place.rename(folder / "good")
    assert cb.open_run(folder / "good").evaluate().elbo_nats == elbo
    assert call(capsys, "runs", "rm", folder / "good", folder / "weak")[1].count("moved ") == 2
    assert call(capsys, "runs", "rm", folder)[0] == 2


def test_a_run_in_which_somebody_trains_is_not_moved(folder):
    from calibrae.runs import Lock

    lock = Lock(folder / "good")
    with lock(), pytest.raises(RunError, match="another process is training"):
        remove_run(folder / "good")
    assert (folder / "good").exists()

"""Conditional runs: what is stored with them, and how they are asked, in Python and on the command line."""

import json
import shutil
import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from command import call

import calibrae as cb
from calibrae.errors import ArgumentError, DataError

RNG = np.random.default_rng(0)
N, SITES = 80, ("east", "north", "west")
PLAIN = {"epochs": 2, "quiet": True, "pictures": False, "compile": "off", "precision": "fp32"}
WORDS = ("--epochs", "2", "--hidden", "8", "--latent-dim", "2", "--compile", "off", "--precision", "fp32")


def table():
    """Rows that say in which order they were written, and whose mean depends on the site."""
    sites = np.array(SITES)[RNG.integers(0, 3, N)]
    x = RNG.normal(size=(N, 3)) * [1, 5, 0.1] + 10.0 * (sites == "west")[:, None]
    return x, sites


X, SITE = table()
SPEED = RNG.normal([50.0, -2.0], [20.0, 0.5], (N, 2))


def small(context_dim, data_shape=(3,), **parts):
    torch.manual_seed(0)
    options = cb.NetworkOptions(hidden=(8,))
    return cb.build(
        "sigma-vae",
        data_shape=data_shape,
        latent_dim=2,
        network="mlp",
        context_dim=context_dim,
        options=options,
        **parts,
    )


@pytest.fixture(scope="module")
def by_site(tmp_path_factory):
    """A run of the command line on a CSV whose text column is the condition."""
    folder = tmp_path_factory.mktemp("conditional")
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame.insert(1, "site", SITE)
    frame.to_csv(folder / "t.csv", index=False)
    from calibrae.cli._main import main

    with pytest.raises(SystemExit) as stopped:
        main(["train", str(folder / "t.csv"), "--out", str(folder / "run"), "--condition", "site", *WORDS])
    assert stopped.value.code == 0
    return folder / "run"


@pytest.fixture(scope="module")
def by_numbers(tmp_path_factory):
    """A run of Python on arrays, with two numbers as the condition."""
    return cb.fit(small(2), X, tmp_path_factory.mktemp("numbers") / "run", condition=SPEED, **PLAIN)


def test_the_coding_is_stored_with_the_run(by_site, by_numbers):
    stored = json.loads((by_site / "run.json").read_text())["data"]["condition"]
    assert stored == {"name": "site", "kind": "classes", "values": list(SITES), "mean": [], "std": []}
    assert tomllib.loads((by_site / "config.toml").read_text())["data"]["condition"] == "site"
    assert json.loads((by_site / "run.json").read_text())["data"]["schema"]["fields"][0]["name"] == "a"
    opened = cb.open_run(by_numbers.path).condition
    train = SPEED[by_numbers.data.view("train").index]
    np.testing.assert_allclose(opened.mean, train.mean(0), rtol=1e-12)
    np.testing.assert_allclose(opened.std, train.std(0), rtol=1e-12)


def test_sampling_takes_conditions_in_the_users_words(by_site, by_numbers):
    run = cb.open_run(by_site)
    context = torch.eye(3)[2].expand(5, -1)
    expected = run.model.sample(5, context=context, generator=torch.Generator().manual_seed(7))
    shift, scale = run.preparation.shift.numpy(), run.preparation.scale.numpy()
    np.testing.assert_allclose(run.sample(5, condition="west", seed=7), expected.numpy() * scale + shift, rtol=1e-5)
    each = run.sample(3, condition=["west", "east", "west"], seed=7)
    np.testing.assert_allclose(each[[0, 2]], run.sample(3, condition="west", seed=7)[[0, 2]], rtol=1e-5)
    np.testing.assert_allclose(each[1], run.sample(3, condition="east", seed=7)[1], rtol=1e-5)
    assert not np.allclose(each[1], run.sample(3, condition="west", seed=7)[1])

    coded = (np.array([60.0, -1.0]) - by_numbers.condition.mean) / by_numbers.condition.std
    context = torch.from_numpy(coded).float().expand(4, -1)
    expected = by_numbers.model.sample(4, context=context, generator=torch.Generator().manual_seed(0))
    shift, scale = by_numbers.preparation.shift.numpy(), by_numbers.preparation.scale.numpy()
    found = by_numbers.sample(4, condition=[60.0, -1.0])
    np.testing.assert_allclose(found, expected.numpy() * scale + shift, rtol=1e-5)


def numpy_inputs(run, rows, contexts):
    """Standardise with the training moments, in NumPy, and pair with contexts."""
    train = X[run.data.view("train").index]
    shift, scale = train.mean(0), train.std(0)
    return torch.from_numpy((X[rows] - shift) / scale).float(), torch.from_numpy(contexts[rows]).float(), shift, scale


def test_encoding_and_reconstruction_use_the_condition_of_each_example(by_site, by_numbers):
    speeds = SPEED[by_numbers.data.view("train").index]
    every = {
        cb.open_run(by_site): np.eye(3)[np.searchsorted(SITES, SITE)],
        by_numbers: (SPEED - speeds.mean(0)) / speeds.std(0),
    }
    for run, contexts in every.items():
        for split in ("train", "test", "all"):
            rows = np.arange(N) if split == "all" else run.data.view(split).index
            x, context, shift, scale = numpy_inputs(run, rows, contexts)
            with torch.no_grad():
                mean = run.model.encode(x, context).mean
                x_hat = run.model.decode(mean, context).mean
                elbo = run.model.encode(x, context.flip(0)).mean
            np.testing.assert_allclose(run.encode(split=split), mean.numpy(), rtol=1e-4, atol=1e-5)
            assert not np.allclose(elbo.numpy(), mean.numpy(), atol=1e-4)  # contexts matter to this encoder
            found = run.reconstruct(split=split)
            np.testing.assert_allclose(found, x_hat.numpy() * scale + shift, rtol=1e-4, atol=1e-4)


def test_other_data_come_with_their_own_condition(by_site, by_numbers):
    run = cb.open_run(by_site)
    rows = run.data.view("test").index
    np.testing.assert_allclose(run.encode(X[rows], condition=SITE[rows]), run.encode(), rtol=1e-5, atol=1e-6)
    frame = pd.DataFrame(X[rows], columns=["a", "b", "c"]).assign(site=SITE[rows])
    np.testing.assert_allclose(run.encode(frame), run.encode(), rtol=1e-5, atol=1e-6)
    rows = by_numbers.data.view("test").index
    found = by_numbers.reconstruct(X[rows], condition=SPEED[rows])
    np.testing.assert_allclose(found, by_numbers.reconstruct(), rtol=1e-5, atol=1e-6)
    own = by_numbers.evaluate()
    other = by_numbers.evaluate(X[rows], condition=SPEED[rows])
    assert (other.n, other.elbo_nats) == (own.n, pytest.approx(own.elbo_nats, rel=1e-6))
    scores = [
        by_numbers.score(importance_samples=3).nll,
        by_numbers.score(X[rows], importance_samples=3, condition=SPEED[rows]).nll,
    ]
    torch.testing.assert_close(*scores)
    assert by_numbers.diagnose(X[rows], condition=SPEED[rows]) == by_numbers.diagnose(X[rows], condition=SPEED[rows])
    with pytest.raises(ArgumentError, match=r"this run is conditional. Pass `condition` with the data"):
        by_numbers.encode(X[:5])
    with pytest.raises(DataError, match="must be one of east, north, west; got south"):
        run.encode(X[:2], condition=["east", "south"])


def test_what_cannot_be_conditioned_on_is_refused(by_site, by_numbers):
    run = cb.open_run(by_site)
    with pytest.raises(ArgumentError, match="Pass `condition`: condition 'site': 3 classes"):
        run.sample(2)
    with pytest.raises(DataError, match="must be one of east, north, west; got 7"):
        run.sample(2, condition=7)
    with pytest.raises(ArgumentError, match="one for all or one for each of 4; got 3"):
        run.sample(4, condition=["east", "west", "east"])
    with pytest.raises(DataError, match="must be 2 finite numbers"):
        by_numbers.sample(2, condition=[1.0, 2.0, 3.0])
    model = small(0)
    with pytest.raises(
        ArgumentError, match=r"a context of 0 features; got condition 'condition': 3 classes.*context_dim=3"
    ):
        cb.fit(model, X, condition=SITE, **PLAIN)
    with pytest.raises(ArgumentError, match="a context of 2 features; got no condition"):
        cb.fit(small(2), X, **PLAIN)


def test_a_run_without_a_condition_takes_none(tmp_path):
    run = cb.fit(small(0), X, tmp_path / "run", **PLAIN)
    with pytest.raises(ArgumentError, match="this run has no condition"):
        run.sample(2, condition="east")


# Data that came from Python are found again


@pytest.mark.parametrize("kind", ["plain", "numbers", "classes", "frame", "parts", "pictures"])
def test_a_folder_is_evaluated_like_the_run_that_came_from_arrays(tmp_path, kind):
    pictures = RNG.integers(0, 256, (N, 1, 4, 4), dtype=np.uint8)
    frame = pd.DataFrame(X, columns=["a", "b/2", "c"]).assign(site=SITE)
    data, condition, dim = {
        "plain": (X, None, 0),
        "numbers": (X, SPEED, 2),
        "classes": (torch.from_numpy(X), SITE, 3),
        "frame": (frame, "site", 3),
        "parts": ({"train": X[:50], "test": X[50:]}, {"train": SITE[:50], "test": SITE[50:]}, 3),
        "pictures": ([(x, int(y)) for x, y in zip(pictures, SITE == "west", strict=True)], "label", 2),
    }[kind]
    shape = (1, 4, 4) if kind == "pictures" else (3,)
    run = cb.fit(small(dim, shape), data, tmp_path / "run", condition=condition, **PLAIN)
    source = tomllib.loads((run.path / "config.toml").read_text())["data"]["source"]
    assert source.startswith("cache:")
    for split in ("test", "train", "all"):
        assert cb.evaluate(run.path, split=split) == run.evaluate(split=split)
    again = cb.open_run(run.path)
    np.testing.assert_array_equal(again.encode(), run.encode())
    assert cb.load(run.path).context_dim == dim


def test_data_that_are_gone_from_the_cache_are_asked_for(tmp_path, capsys):
    x = RNG.normal(size=(50, 3))
    labels = np.arange(50) % 2
    run = cb.fit(small(2), x, tmp_path / "run", condition=labels, **PLAIN)
    before = run.evaluate()
    key = tomllib.loads((run.path / "config.toml").read_text())["data"]["source"].removeprefix("cache:")
    from calibrae.data import cache_root

    shutil.rmtree(cache_root() / key)
    with pytest.raises(
        DataError, match=r"came from Python and are no longer in the cache .*evaluate\(run, data=\.\.\.\)"
    ):
        cb.evaluate(run.path)
    code, out, err = call(capsys, "evaluate", run.path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no longer in the cache" in err
    again = cb.evaluate(run.path, x, condition=labels)
    assert "5 of the 50 examples of array: the test split" in again.notes
    assert replace(again, notes=()) == replace(before, notes=())
    assert run.evaluate() == before  # the run in hand has its data


def test_a_conditional_run_goes_on_where_it_was(tmp_path):
    whole = cb.fit(small(2), X, tmp_path / "whole", condition=SPEED, acceleration="off", **PLAIN)
    model = small(2)
    cb.fit(model, X, tmp_path / "halves", condition=SPEED, acceleration="off", stop_after=1, **PLAIN)
    settings = {"quiet": True, "pictures": False}
    resumed = cb.fit(small(2), X, tmp_path / "halves", condition=SPEED, resume=True, **settings)
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert one.keys() == other.keys()
        assert all(one[key] == other[key] for key in one if key != "seconds")


# On the command line


@pytest.mark.parametrize(
    ("command", "value"),
    [("sample", "north"), ("traverse", "north"), ("sample", "60,-1.5"), ("traverse", "60,-1.5")],
)
def test_conditions_on_the_command_line(by_site, by_numbers, tmp_path, capsys, command, value):
    run = cb.open_run(by_site) if value == "north" else by_numbers
    asked = "north" if value == "north" else [60.0, -1.5]
    size = ("-n", "6") if command == "sample" else ("-n", "2", "--steps", "3")
    place = ("--out", tmp_path / "p.png", "--arrays", tmp_path / "a.npy")
    code, _, err = call(capsys, command, run.path, *size, "--condition", value, *place)
    assert code == 0, err
    found = np.load(tmp_path / "a.npy")
    if command == "sample":
        np.testing.assert_allclose(found, run.sample(6, condition=asked), rtol=1e-5)
        return
    context = run.contexts(asked, 1)[0]
    first = run.preparation.restore(run.model.decode(torch.zeros(1, 2), context[None]).mean.detach())
    np.testing.assert_allclose(
        found[[1, 4]], np.repeat(first.numpy(), 2, 0), rtol=1e-4, atol=1e-5
    )  # middles of the walks


@pytest.mark.parametrize("command", ["sample", "traverse"])
@pytest.mark.parametrize(
    ("which", "value", "message"),
    [
        ("site", "south", "must be one of east, north, west; got south"),
        ("site", "7", "must be one of east, north, west; got 7"),
        ("numbers", "fast", "the condition must be 2 numbers, as in 1.5,2; got 'fast'"),
        ("numbers", "1,2,3", "must be 2 finite numbers"),
    ],
)
def test_wrong_conditions_are_one_line(by_site, by_numbers, capsys, command, which, value, message):
    run = by_site if which == "site" else by_numbers.path
    code, out, err = call(capsys, command, run, "-n", "2", "--condition", value)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_conditional_run_must_be_told_its_condition(by_site, capsys):
    code, _, err = call(capsys, "sample", by_site, "-n", "2")
    assert (code, err.count("\n")) == (2, 1)
    assert "this run is conditional. Pass `condition`" in err


def test_classes_keep_their_names_on_the_command_line(tmp_path, capsys):
    """`007` is a class, not the number 7."""
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(agent=np.array(["007", "1e3"])[np.arange(N) % 2])
    run = cb.fit(small(2), frame, tmp_path / "run", condition="agent", **PLAIN)
    for name in ("007", "1e3"):
        place = ("--out", tmp_path / "p.png", "--arrays", tmp_path / "a.npy")
        code, _, err = call(capsys, "sample", run.path, "-n", "3", "--condition", name, *place)
        assert code == 0, err
        np.testing.assert_allclose(np.load(tmp_path / "a.npy"), run.sample(3, condition=name), rtol=1e-5)


def test_integer_classes_on_the_command_line(tmp_path, capsys):
    model = small(10, (1, 8, 8))
    run = cb.fit(model, "digits", tmp_path / "run", condition="label", **{**PLAIN, "epochs": 1})
    assert run.condition.values == tuple(range(10))
    place = ("--out", tmp_path / "p.png", "--arrays", tmp_path / "a.npy")
    code, _, err = call(capsys, "sample", run.path, "-n", "3", "--condition", "7", *place)
    assert code == 0, err
    found = np.load(tmp_path / "a.npy")
    drawn = run.model.sample(3, context=torch.eye(10)[7].expand(3, -1), generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(found, run.preparation.in_units(drawn))
    assert run.sample(3, condition=7).dtype.kind in "iu"
    code, _, err = call(capsys, "sample", run.path, "--condition", "cat")
    assert (code, err.count("\n")) == (2, 1)
    assert "must be one of 0, 1, 2" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--condition", "city"], "has no column 'city' for the condition; it has a, site, b, c"),
    ],
)
def test_training_refuses_a_condition_that_is_not_there(tmp_path, capsys, arguments, message):
    frame = tmp_path / "numbers.csv"
    pd.DataFrame({"a": X[:, 0], "site": np.arange(N), "b": X[:, 1], "c": X[:, 2]}).to_csv(frame, index=False)
    code, out, err = call(capsys, "train", frame, "--out", tmp_path / "r", *arguments, *WORDS)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "r").exists()


def test_a_conditional_run_is_resumed_on_the_command_line(by_site, tmp_path, capsys):
    shutil.copytree(by_site, tmp_path / "run")
    data = by_site.parent / "t.csv"
    code, out, err = call(capsys, "train", data, "--out", tmp_path / "run", "--epochs", 3, "--resume", "--json")
    assert code == 0, err
    assert json.loads(out)["epoch"] == 3
    assert cb.open_run(tmp_path / "run").condition.values == SITES
    code, _, err = call(capsys, "train", data, "--out", tmp_path / "run", "--resume", "--condition", "a")
    assert (code, err.count("\n")) == (2, 1)
    assert "got --condition a (was site)" in err

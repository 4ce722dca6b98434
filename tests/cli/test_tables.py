"""A table as it comes, from the command line to rows and back."""

import html
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from command import call
from pets import table

import calibrae as cb
from calibrae.cli._main import main
from calibrae.data import load_data
from calibrae.errors import ArgumentError
from calibrae.workflows import _column_exhibits

SIZES = ["--latent-dim", "3", "--hidden", "32", "--epochs", "4", "--lr", "5e-3", "--compile", "off"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    table(900).to_csv(folder / "pets.csv", index=False)
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(folder / "pets.csv"), "--out", str(folder / "run"), *SIZES])
    assert stopped.value.code == 0
    return folder


def test_training_shows_what_each_column_was_taken_for(place, tmp_path, capsys):
    _, _, said = call(capsys, "train", place / "pets.csv", "--out", tmp_path / "run", *SIZES[:-4], "--epochs", "1")
    assert "column  type           levels  missing  because" in said
    assert "rating  ordinal             5        -  5 whole numbers from 1 to 5" in said
    assert "left out" in said
    assert "RMSE" not in said


def test_the_numbers_of_a_table(place, capsys):
    found = json.loads(call(capsys, "evaluate", place / "run", "--importance-samples", "20", "--json")[1])
    assert found["mse"] is None
    assert found["sigma"] is None
    assert found["bits_per_dim"] is None
    assert found["elbo_nats_original_units"] is None
    assert found["baseline"].startswith("a Chow-Liu tree of 4 columns times factor analysis of 4")
    assert found["log_likelihood_nats"] >= found["elbo_nats"]
    assert found["standard_errors"]["elbo_minus_baseline_nats"] > 0
    again = cb.evaluate(place / "run", place / "pets.csv", split="all")  # another split has the baseline of training
    assert again.baseline == found["baseline"]


def test_rows_have_the_columns_types_and_ranges_of_the_table(place, capsys):
    call(capsys, "sample", place / "run", "--n", "300", "--out", place / "rows.csv")
    rows, came = (
        pd.read_csv(place / "rows.csv", dtype={"zip": str}),
        pd.read_csv(place / "pets.csv", dtype={"zip": str}),
    )
    assert list(rows) == [name for name in came if name != "id"]
    assert len(rows) == 300
    assert not rows.isna().any().any()
    for name in ("kind", "zip", "site", "rating", "alive"):
        assert set(rows[name]) <= set(came[name].dropna()), name
    for name in ("visits", "rating"):
        assert rows[name].dtype == came[name].dtype
    for name in ("visits", "height", "income", "gain", "price"):
        assert came[name].min() <= rows[name].min()
        assert rows[name].max() <= came[name].max()
    assert 0.7 < (rows["gain"] == 0).mean() < 0.9
    assert pd.to_datetime(rows["day"], format="%Y-%m-%d").between("2021-03-01", "2023-09-01").all()
    np.testing.assert_allclose((rows["price"] * 10).round(), rows["price"] * 10, atol=1e-6)
    assert rows["height"].std() > 0.7 * came["height"].std()  # draws, and no means


def test_given_cells_are_kept_and_change_the_others(place, capsys):
    run = cb.open_run(place / "run")
    found = cb.synthesise(run, 200, given={"kind": "dog", "rating": 5})
    assert set(found.rows["kind"]) == {"dog"}
    assert set(found.rows["rating"]) == {5}
    assert 0 < found.effective_samples <= 10_000
    call(
        capsys,
        "sample",
        place / "run",
        "-n",
        "5",
        "--given",
        "alive=True",
        "--given",
        "day=2022-01-01",
        "--out",
        place / "g.csv",
    )
    rows = pd.read_csv(place / "g.csv")
    assert rows["alive"].tolist() == [True] * 5
    assert rows["day"].tolist() == ["2022-01-01"] * 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "yak"}, "must be one of cat, dog, eel"),
        ({"age": 3}, "no column 'age'"),
        ({"height": "tall"}, "a number"),
        ({"rating": 9}, "levels of training"),
    ],
)
def test_given_cells_that_cannot_be_are_refused(place, given, message):
    with pytest.raises(ArgumentError, match=message):
        cb.open_run(place / "run").sample_frame(3, given=given)


def test_filling_leaves_what_was_there(place, capsys):
    came = pd.read_csv(place / "pets.csv", dtype={"zip": str})
    _, out, _ = call(
        capsys, "impute", place / "run", place / "pets.csv", "--out", place / "filled.csv", "--samples", "30"
    )
    filled = pd.read_csv(place / "filled.csv", dtype={"zip": str})
    assert not filled.isna().any().any()
    assert f"{int(came.drop(columns='id').isna().sum().sum()):,} cells filled" in out
    for name in filled:
        there = came[name].notna()
        if came[name].dtype.kind == "f":
            np.testing.assert_allclose(filled[name][there], came[name][there])
        else:
            assert filled[name][there].tolist() == came[name][there].tolist(), name
    assert filled["height"][came["height"].isna()].between(came["height"].min(), came["height"].max()).all()
    call(
        capsys,
        "impute",
        place / "run",
        place / "pets.csv",
        "--out",
        place / "many.csv",
        "--draws",
        "3",
        "--samples",
        "20",
    )
    many = pd.read_csv(place / "many.csv")
    assert many["draw"].value_counts().tolist() == [900, 900, 900]
    holes = came["height"].isna().to_numpy()
    each = [many["height"][many["draw"] == k].to_numpy() for k in (1, 2, 3)]
    assert (each[0][~holes] == each[1][~holes]).all()
    assert (each[0][holes] != each[1][holes]).mean() > 0.9


def test_cells_that_training_never_lacked_are_said(place):
    frame = table(20, seed=3)
    frame.loc[2, "rating"] = np.nan
    found = cb.impute(cb.open_run(place / "run"), frame, samples=20)
    assert any("no training row lacked rating" in note for note in found.notes)


def test_a_frame_comes_back_as_a_frame(place):
    run = cb.open_run(place / "run")
    frame = table(20, seed=3).set_index(pd.Index(range(100, 120)))
    filled = run.impute(frame)
    assert filled.index.tolist() == frame.index.tolist()
    assert list(run.reconstruct(frame)) == [name for name in frame if name != "id"]
    assert run.encode(frame).shape == (20, 3)
    scores = run.score(frame, importance_samples=5)
    assert np.isfinite(np.asarray(scores.nll)).all()


def test_a_run_that_stops_goes_on_to_the_same_numbers(tmp_path):
    data = cb.load_data(table(300))
    how = {"epochs": 4, "quiet": True, "pictures": False, "compile": "off"}

    def model():
        return cb.build(spec=data.spec, latent_dim=2, options=cb.NetworkOptions(hidden=(16,)), seed=0)

    whole = cb.fit(model(), data, tmp_path / "whole", **how)
    cb.fit(model(), data, tmp_path / "parts", stop_after=2, **how)
    parts = cb.fit(model(), data, tmp_path / "parts", resume=True, **how)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, parts.model.state_dict()[name]), name
    stored = cb.load(tmp_path / "parts")
    assert torch.equal(next(stored.parameters()), next(parts.model.parameters()))


def test_an_alarm_names_the_column(place, capsys, tmp_path):
    strange = table(40, seed=5)
    strange.loc[:9, "height"] = 400.0
    strange.to_csv(tmp_path / "new.csv", index=False)
    how = ("--importance-samples", "20", "--csv", tmp_path / "scores.csv")
    _, out, _ = call(capsys, "score", place / "run", tmp_path / "new.csv", "--false-alarms", "0.05", *how)
    assert "at most 5.00% of ordinary examples raise one, on average over the choice of the 90 held-out examples" in out
    scores = pd.read_csv(tmp_path / "scores.csv").sort_values("example")
    assert scores["alarm"][scores["example"] < 10].all()
    assert (scores["column"][scores["example"] < 10] == "height").all()
    assert scores["alarm"][scores["example"] >= 10].mean() < 0.2
    _, out, _ = call(capsys, "score", place / "run", tmp_path / "new.csv", "--false-alarms", "0.05", "--json", *how)
    assert json.loads(out)["alarms"] == int(scores["alarm"].sum())
    assert call(capsys, "score", place / "run", tmp_path / "new.csv", "--false-alarms", "0.0001")[0] == 2


def test_synthetic_rows_are_compared_with_held_out_ones(place):
    run = cb.open_run(place / "run")
    found = cb.fidelity(run, run.sample_frame(500, seed=2))
    assert set(found.shapes) == set(run.data.source.columns)
    assert found.shape_error < 0.2
    training = table(900)
    copied = cb.fidelity(run, training)
    assert copied.copies == pytest.approx(0.81, abs=0.01)  # the share of training rows
    assert copied.nearest == 0.0
    assert copied.nearest < copied.held_out_nearest
    assert found.copies == 0.0
    assert "column shapes" in str(found)


def test_the_other_verbs_work(place, capsys):
    for verb in ("diagnose", "score", "encode", "reconstruct", "traverse", "report"):
        code, _, err = call(capsys, verb, place / "run")
        assert code == 0, err


def test_types_from_a_file_and_from_the_line(tmp_path, capsys):
    table(200).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "types.toml").write_text('[columns]\nrating = "categorical"\nvisits = "leave-out"\n')
    for types in (tmp_path / "types.toml", "rating=categorical,visits=leave-out"):
        _, out, err = call(
            capsys, "train", tmp_path / "t.csv", "--out", tmp_path / "run", "--overwrite", "--types", types, *SIZES
        )
        assert "rating  categorical" in out + err
        assert "visits  " not in out + err
        assert cb.open_run(tmp_path / "run").data.options.columns == {"rating": "categorical", "visits": "leave-out"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "T", "--out", "R", "--types", "kind=number"], "must be one of real"),
        (["train", "T", "--out", "R", "--types", "none.toml"], "cannot be read"),
        (["train", "T", "--out", "R", "--types", "kind=categorical,x"], "NAME=TYPE"),
        (["train", "T", "--out", "R", "--likelihood", "gaussian", "--epochs", "1"], "needs likelihood='mixed'"),
        (["train", "T", "--out", "R", "--sigma", "0.1"], "no scale to set"),
        (["impute", "RUN", "T", "--out", "filled.xlsx"], "must end in .csv, .parquet"),
        (["impute", "RUN", "none.csv", "--out", "filled.csv"], "none.csv"),
        (["sample", "RUN", "--out", "rows.png"], "must end in .csv, .parquet"),
        (["sample", "RUN", "--given", "kind", "--out", "rows.csv"], "COLUMN=VALUE"),
    ],
)
def test_mistakes_are_one_line(place, tmp_path, capsys, arguments, message):
    names = {"T": str(place / "pets.csv"), "R": str(tmp_path / "new"), "RUN": str(place / "run")}
    code, _, err = call(capsys, *[names.get(a, a) for a in arguments])
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_run_of_other_data_has_no_rows(tmp_path):
    run = cb.fit(
        cb.build(data_shape=(1, 8, 8), latent_dim=2), "digits", tmp_path / "run", epochs=1, quiet=True, pictures=False
    )
    for verb in (run.sample_frame, run.impute):
        with pytest.raises(ArgumentError, match="not trained on a table of mixed columns"):
            verb()


def test_a_better_model_has_better_numbers_than_chance():
    """Two columns that determine one another: log p nears the exact entropy, which marginals cannot."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, 3000)
    frame = pd.DataFrame({"a": np.array(list("wxyz"))[kind], "b": np.array(list("WXYZ"))[kind]})
    data = cb.load_data(frame)
    model = cb.build(spec=data.spec, latent_dim=2, options=cb.NetworkOptions(hidden=(64,)), seed=0)
    run = cb.fit(model, data, epochs=30, lr=5e-3, quiet=True, pictures=False, compile="off")
    found = run.evaluate(importance_samples=100)
    assert found.log_likelihood_nats > -math.log(4) - 0.35  # marginals alone reach -2 log 4
    assert abs(found.baseline_log_likelihood_nats + math.log(4)) < 0.05


def test_a_report_shows_the_columns(place):
    run = cb.open_run(place / "run")
    page = run.report(place / "report.html").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    found = run.score(split="test").attribution.per_element
    nats = found.double().mean(0)
    schema = run.preparation.schema
    shown = dict(
        re.findall(
            r"^\s*(\w+)\s+(?:real|categorical|binary|count|ordinal|positive|date|zero-inflated)\s.*?%\s+(-?[\d.]+)\s*$",
            text,
            re.M,
        )
    )
    assert set(shown) == set(schema.columns)
    for name, value in zip(schema.columns, nats.tolist(), strict=True):
        assert float(shown[name]) == pytest.approx(value, abs=1e-3)
    assert "Pairs of columns that hang together most" in text
    assert "Missing cells, rows that lack the same ones side by side" in text
    assert "a word of its own in nearly every row; left out" in text


def test_pairs_of_columns_are_those_that_hang_together(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    rows = pd.DataFrame(
        {
            "a": x,
            "b": x + 0.1 * rng.normal(size=400),
            "c": rng.normal(size=400),
            "w": np.where(x > 0, "up", "down"),
            "v": rng.choice(["p", "q"], 400),
        }
    )
    drawn = []
    monkeypatch.setattr(
        _column_exhibits,
        "save_column_pairs",
        lambda pairs, path, **_: drawn.extend((a.name, b.name) for a, b in pairs) or path,
    )
    data = load_data(rows)
    _column_exhibits.draw_pairs(data, "test", data.view("test").slice(0, 40).numpy(), tmp_path / "x.png")
    assert set(drawn[0]) == {"a", "b"}
    assert {"w"} < set(drawn[1])
    assert _column_exhibits.draw_missing(data, "test", tmp_path / "x.png") is None

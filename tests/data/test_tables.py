"""Tables as they come: types, words, dates, missing cells, and the way back."""

import math

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pets import table

import calibrae as cb
from calibrae.data import Preparation, load_data, open_source
from calibrae.data.tables import as_frame, column_table, rows_of
from calibrae.errors import ArgumentError, DataError

TYPES = {
    "id": "identifier", "kind": "categorical", "alive": "binary", "rating": "ordinal", "visits": "count", "height": "real",
    "income": "positive", "gain": "zero-inflated", "day": "date", "site": "constant", "zip": "categorical", "price": "real",
}  # fmt: skip


def types_of(source):
    return {column.name: column.type for column in (*source.schema.fields, *source.schema.left_out)}


@pytest.fixture(params=["csv", "parquet", "pandas", "polars", "arrow", "semicolons"])
def door(request, tmp_path):
    frame = table()
    if request.param == "csv":
        frame.to_csv(tmp_path / "t.csv", index=False)
        return tmp_path / "t.csv"
    if request.param == "semicolons":
        frame.to_csv(tmp_path / "t.csv", index=False, sep=";", decimal=",")
        return tmp_path / "t.csv"
    if request.param == "parquet":
        frame.to_parquet(tmp_path / "t.parquet")
        return tmp_path / "t.parquet"
    if request.param == "polars":
        return polars.from_pandas(frame)
    return pa.Table.from_pandas(frame) if request.param == "arrow" else frame


def test_every_door_finds_the_same_types_and_numbers(door):
    source, known = open_source(door), open_source(table())
    assert types_of(source) == TYPES
    np.testing.assert_allclose(source.parts["all"], known.parts["all"])
    for column, same in zip(source.schema.fields, known.schema.fields, strict=True):
        assert list(map(str, column.categories)) == list(map(str, same.categories))  # a CSV knows no truth values
    said = " ".join(source.notes)
    assert "2 columns left out: id (a word of its own in nearly every row), site (one value in all rows)" in said
    assert "missing cells in 2 columns" in said


def test_the_table_of_columns_names_type_reason_and_holes():
    source = open_source(table())
    text = column_table([*source.schema.fields, *source.schema.left_out])
    assert "kind    categorical" in text
    assert "id      identifier" in text
    assert "left out" in text
    assert "10.0%" in text or "%" in text


@pytest.mark.parametrize("mark", ["", "?", " ? ", "NA", "n/a", "NaN", "null", "None", "-999", "unknown"])
def test_what_means_a_missing_cell(tmp_path, mark):
    lines = [f"{i % 7}.5,{'ab'[i % 2]}" for i in range(60)]
    lines[3], lines[5] = f"{mark},a", f"1.5,{mark}"
    (tmp_path / "t.csv").write_text("x,y\n" + "\n".join(lines) + "\n")
    source = open_source(tmp_path / "t.csv", cb.DataOptions(missing=("-999", "Unknown")))
    assert np.argwhere(np.isnan(source.parts["all"])).tolist() == [[3, 0], [5, 1]]
    assert types_of(source)["y"] == "binary"


def test_a_late_word_changes_no_number(tmp_path):
    count = 300_000
    (tmp_path / "t.csv").write_text("x,y\n" + "1.25,3\n2.5,4\n" * count + "?,5\n")
    source = open_source(tmp_path / "t.csv")
    assert source.parts["all"].shape == (2 * count + 1, 2)
    assert math.isnan(source.parts["all"][-1, 0])


@pytest.mark.parametrize(
    ("form", "word", "days"),
    [
        ("%d.%m.%Y", "31.12.1970", 364.0),
        ("%Y/%m/%d", "1971/01/01", 365.0),
        ("%Y-%m-%d %H:%M:%S", "1970-01-01 00:01:00", 60.0),
    ],
)
def test_dates_are_numbers_and_come_back(form, word, days):
    moments = pd.date_range("2001-01-01", periods=50, freq="37h")
    frame = pd.DataFrame({"when": [*moments.strftime(form), word], "x": np.arange(51) / 7})
    source = open_source(frame)
    assert source.parts["all"][-1, 0] == days
    assert rows_of(source.schema, source.parts["all"]).column("when").to_pylist() == [*frame["when"]]


def test_dates_that_can_be_read_in_two_ways_are_said():
    frame = pd.DataFrame({"when": [f"0{1 + i % 9}/0{1 + (i * 5) % 9}/2020" for i in range(40)], "x": np.arange(40) / 7})
    assert any("%d/%m/%Y would fit too" in note for note in open_source(frame).notes)


def test_rows_come_back_as_they_came(door):
    """Names, order, words, truth values, whole numbers, dates; the constant too, and not the identifier."""
    source, frame = open_source(door), table().drop(columns="id")
    found = as_frame(rows_of(source.schema, source.parts["all"]))
    assert list(found) == list(frame)
    for name in frame:
        given, back = frame[name], found[name]
        assert (given.isna() == back.isna()).all(), name
        if name in ("height", "income", "gain", "price"):
            np.testing.assert_allclose(back.astype(float), given.astype(float))
        elif name == "alive":
            assert [str(v).lower() for v in back] == [str(v).lower() for v in given]
        else:
            assert back.dropna().tolist() == given.dropna().tolist(), name


def test_types_are_asked_for():
    chosen = {
        "rating": "categorical",
        "visits": "leave-out",
        "height": "heavy-tailed",
        "price": "positive",
        "gain": "real",
    }
    source = open_source(table(), cb.DataOptions(columns=chosen))
    assert types_of(source) == {
        **{k: v for k, v in TYPES.items() if k != "visits"},
        **{k: v for k, v in chosen.items() if k != "visits"},
    }
    assert source.schema.fields[source.columns.index("rating")].categories == (1, 2, 3, 4, 5)
    numbers = np.stack([np.arange(30) % 3, np.arange(30) / 7], 1)
    asked = open_source(pd.DataFrame(numbers, columns=["a", "b"]), cb.DataOptions(columns={"a": "categorical"}))
    assert asked.schema.is_mixed
    assert not open_source(pd.DataFrame(numbers, columns=["a", "b"])).schema.is_mixed


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "count"}, "whole numbers from 0; 'kind' does not"),
        ({"height": "positiv"}, "must be one of real,"),
        ({"height": "ordinal"}, "few numbers at equal distances; 'height' does not"),
        ({"hight": "real"}, "types are asked for of columns that there are not: hight"),
        ({"kind": "binary"}, "two values; 'kind' does not"),
        ({"zip": "real"}, "numbers; 'zip' does not"),
        (dict.fromkeys(TYPES, "leave-out"), "no column is left"),
    ],
)
def test_types_without_a_meaning_are_refused(asked, message):
    with pytest.raises(DataError, match=message):
        open_source(table(), cb.DataOptions(columns=asked))


@pytest.mark.parametrize("option", [{"binarise": True}, {"data_range": (0.0, 1.0)}, {"levels": 9}])
def test_options_for_numbers_of_one_kind_are_refused(option):
    with pytest.raises(DataError, match="table of mixed columns"):
        load_data(table(), cb.DataOptions(**option))


def test_new_rows_are_coded_as_in_training():
    data = load_data(table())
    new = table(30, seed=1)[["price", *[name for name in table() if name not in ("price", "site")]]]
    new.loc[3, "kind"], new.loc[4, "rating"], new.loc[5, "kind"] = "yak", 9, None
    found = load_data(new, preparation=data.preparation, split=False)
    assert found.source.schema == data.source.schema
    rows = found.view("all").slice(0, 30)
    kind, rating = (found.source.columns.index(name) for name in ("kind", "rating"))
    assert rows[3, kind].isnan()
    assert rows[4, rating].isnan()
    assert any(
        "2 cells with values that training did not have taken as missing: kind (1), rating (1)" in n
        for n in found.source.notes
    )
    same = load_data(table(), preparation=data.preparation, split=False)
    np.testing.assert_array_equal(same.source.parts["all"], data.source.parts["all"])


def test_new_rows_of_another_kind_are_refused():
    data = load_data(table())
    with pytest.raises(DataError, match=r"'height' held numbers in training; got words"):
        load_data(table(30).assign(height="tall"), preparation=data.preparation)
    with pytest.raises(DataError, match="missing: height"):
        load_data(table(30).drop(columns="height"), preparation=data.preparation)


def test_words_for_a_model_of_numbers_are_refused():
    numbers = load_data(pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["a", "b"]))
    with pytest.raises(DataError, match=r"must be numbers|numbers alone"):
        load_data(pd.DataFrame({"a": ["x"] * 5, "b": range(5)}), preparation=numbers.preparation)


def test_an_array_with_missing_cells_is_a_table():
    x = np.random.default_rng(0).normal(size=(80, 3))
    x[::7, 1] = np.nan
    data = load_data(x)
    assert [column.head for column in data.spec.columns] == ["gaussian"] * 3
    assert data.spec.columns[1].missing == pytest.approx(np.isnan(x[:, 1]).mean(), abs=0.05)
    with pytest.raises(DataError, match="infinity"):
        load_data(np.where(np.isnan(x), np.inf, x))


def test_the_model_s_scale_and_back_are_inverse_but_for_the_noise():
    data = load_data(table())
    for split in ("train", "test"):
        stored = data.view(split).slice(0, len(data.view(split))).double().numpy()
        x = torch.cat([batch.x for batch in data.batches(split, 64)])
        back = data.preparation.in_units(x)
        np.testing.assert_allclose(back, stored, rtol=2e-5, atol=1e-3)
        assert (np.isnan(back) == np.isnan(stored)).all()


def test_a_stored_preparation_is_the_same():
    data = load_data(table())
    again = Preparation.from_dict(data.preparation.to_dict())
    assert again.spec == data.preparation.spec
    assert again.spec.columns == data.spec.columns
    assert again.schema == data.preparation.schema


def held_out_words(frame, seed):
    """Words of the rows of the test split, by a column that is the row's number."""
    data = load_data(pd.DataFrame({"row": np.arange(len(frame)) + 0.5}), cb.DataOptions(split_seed=seed))
    view = data.view("test")
    return frame["a"].iloc[(view.slice(0, len(view)).numpy()[:, 0] - 0.5).astype(int)].tolist()


def test_a_column_must_vary_in_the_training_split():
    frame = pd.DataFrame({"a": ["x"] * 49 + ["y"], "b": np.arange(50) / 7})
    seed = next(seed for seed in range(99) if "y" in held_out_words(frame, seed))
    data = load_data(frame, cb.DataOptions(split_seed=seed))
    assert data.source.columns == ("b",)
    assert [(c.name, c.categories) for c in data.source.schema.left_out] == [("a", ("x",))]
    assert any("1 column of one value in the training split left out: a" in note for note in data.source.notes)
    parts = {"train": frame[:40], "test": frame[40:]}
    assert [column.name for column in load_data(parts).source.schema.left_out] == ["a"]
    with pytest.raises(DataError, match=r"must vary in the training split|no column is left to model"):
        load_data(frame[["a"]], cb.DataOptions(split_seed=seed))


def test_a_run_without_such_a_column_reads_its_data_again(tmp_path):
    frame = pd.DataFrame({"a": ["x"] * 49 + ["y"], "b": np.arange(50) / 7, "c": list("pq") * 25})
    seed = next(seed for seed in range(99) if "y" in held_out_words(frame, seed))
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load_data(str(tmp_path / "t.csv"), cb.DataOptions(split_seed=seed))
    model = cb.build(spec=data.spec, latent_dim=1, network="linear")
    cb.fit(model, data, tmp_path / "run", epochs=1, quiet=True, pictures=False, compile="off")
    run = cb.open_run(tmp_path / "run")
    assert np.isfinite(run.evaluate().elbo_nats)
    assert list(run.sample_frame(3)) == ["a", "b", "c"]
    assert list(run.impute(frame)) == ["a", "b", "c"]


def test_the_transform_makes_the_training_values_normal():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "skewed": rng.gamma(0.7, 3.0, 5000),
            "two humps": np.where(rng.random(5000) < 0.5, -5, 5) + rng.normal(size=5000),
            "w": rng.choice(["a", "b"], 5000),
        }
    )
    data = load_data(frame)
    likelihood = cb.MixedLikelihood(data.spec.columns)
    x = torch.cat([batch.x for batch in data.batches("test", 512)])
    scores = likelihood.transform_of(data.spec.columns[:2])(x[:, :2])[0]
    for j in range(2):
        z = scores[:, j].sort().values.double()
        uniform = (torch.arange(len(z)) + 0.5) / len(z)
        assert float((torch.special.ndtr(z) - uniform).abs().max()) < 1.6 / len(z) ** 0.5, j  # Kolmogorov


def test_a_likelihood_of_other_data_is_refused():
    data = load_data(table())
    model = cb.build(data_shape=data.spec.data_shape, latent_dim=2)
    with pytest.raises(ArgumentError, match="needs likelihood='mixed'"):
        cb.fit(model, data, epochs=1, quiet=True)
    mixed = cb.build(spec=data.spec, latent_dim=2)
    with pytest.raises(ArgumentError, match="mixed"):
        cb.fit(mixed, np.random.default_rng(0).normal(size=(50, len(data.spec.columns))), epochs=1, quiet=True)


def test_parts_of_a_table_share_their_words(tmp_path):
    frame = table()
    for name, rows in (("train", frame[:300]), ("test", frame[300:])):
        pq.write_table(pa.Table.from_pandas(rows), tmp_path / f"{name}.parquet")
    source = open_source(tmp_path)
    assert set(source.parts) == {"train", "test"}
    np.testing.assert_allclose(
        np.concatenate([source.parts["train"], source.parts["test"]]), open_source(frame).parts["all"]
    )


def test_frames_in_a_dict_share_their_words():
    """Each part alone would number its words anew."""
    frame = table()
    parts = {"train": frame[frame.kind != "eel"], "validation": frame[frame.kind == "eel"], "test": frame[:40]}
    source = open_source(parts)
    assert source.schema.fields[source.columns.index("kind")].categories == ("cat", "dog", "eel")
    found = as_frame(rows_of(source.schema, source.parts["validation"]))
    assert found["kind"].tolist() == ["eel"] * len(found)
    assert found["zip"].tolist() == parts["validation"]["zip"].tolist()


def test_a_time_zone_comes_back():
    moments = pd.date_range("2020-01-01", periods=60, freq="7h", tz="Europe/Rome")
    frame = pd.DataFrame({"when": moments, "kind": list("ab") * 30})
    source = open_source(frame)
    back = as_frame(rows_of(source.schema, source.parts["all"]))["when"]
    assert str(back.dt.tz) == "Europe/Rome"
    assert (back.to_numpy() == moments.to_numpy()).all()

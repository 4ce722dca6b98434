"""Tables as people have them: several files, words that look alike, no names, dates, holes that are filled and nothing else."""

import datetime as dt
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import calibrae as cb
from calibrae.data import DataOptions, load_data, open_source
from calibrae.data.tables import as_frame, rows_of, stored_cell, stored_rows
from calibrae.errors import DataError
from calibrae.workflows import save_rows

HOW = {"epochs": 1, "quiet": True, "pictures": False, "compile": "off"}
RNG = np.random.default_rng(0)


def fitted(data, folder, options=None, **how):
    found = load_data(data, options or DataOptions())
    return cb.fit(cb.build(spec=found.spec, latent_dim=2, network="linear"), found, folder, **HOW | how)


def frame(count=120, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"p{i:04}" for i in range(count)],
            "kind": rng.choice(["a", "b", "c"], count),
            "height": rng.normal(size=count).round(1),
            "site": "north",
            "ok": rng.random(count) < 0.5,
        }
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("lacking", ["one", "two"])
def test_a_file_that_lacks_a_column_is_refused(tmp_path, suffix, lacking):
    for name in ("one", "two"):
        part = frame().drop(columns=["height"] if name == lacking else [])
        part.to_csv(tmp_path / f"{name}.csv", index=False) if suffix == "csv" else part.to_parquet(
            tmp_path / f"{name}.parquet"
        )
    with pytest.raises(DataError, match=rf"two\.{suffix} must have the columns of one\.{suffix}.*differ in height"):
        open_source(tmp_path)


def test_a_part_that_lacks_a_column_is_refused(tmp_path):
    frame().to_csv(tmp_path / "train.csv", index=False)
    frame(30, 1).drop(columns="kind").to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(DataError, match=r"must have the columns of .*differ in kind"):
        open_source(tmp_path)


def test_parquet_files_may_hold_a_column_in_other_types(tmp_path):
    pq.write_table(pa.table({"w": list("ab") * 20, "n": pa.array(range(40), pa.int32())}), tmp_path / "one.parquet")
    pq.write_table(pa.table({"w": list("ba") * 20, "n": np.arange(40) / 3}), tmp_path / "two.parquet")
    pq.write_table(pa.table({"w": list("ba") * 20, "n": [str(i) for i in range(40)]}), tmp_path / "zoo.parquet")
    source = open_source(tmp_path)
    assert source.parts["all"].shape == (120, 2)
    np.testing.assert_allclose(source.parts["all"][40:80, 1], np.arange(40) / 3)


def test_words_that_look_alike_stay_apart():
    words = ["01", "1", "1e2", "100", "TRUE", "True"] * 20
    source = open_source(pd.DataFrame({"w": words, "x": RNG.normal(size=120)}))
    assert len(source.schema.fields[0].categories) == 6
    assert as_frame(rows_of(source.schema, source.parts["all"]))["w"].tolist() == words
    assert (
        as_frame(rows_of(source.schema, stored_rows(source.schema, pd.DataFrame({"w": words, "x": 0.0}))))["w"].tolist()
        == words
    )


@pytest.mark.parametrize("came", [[True, False], [1, 0], ["true", "FALSE"], ["1", "0"], [1.0, 0.0]])
def test_truth_values_are_known_in_every_form(came):
    source = open_source(frame())
    new = frame(2).assign(ok=came)
    assert stored_rows(source.schema, new)[:, source.columns.index("ok")].tolist() == [1.0, 0.0]


def test_columns_without_names_keep_their_places(tmp_path):
    lines = [
        f"{x:.3f},{w},{i % 7},{v}"
        for i, (x, w, v) in enumerate(zip(RNG.normal(size=90), list("pqr") * 30, ["on", "off", "on"] * 30, strict=True))
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    plain = open_source(tmp_path / "t.csv", DataOptions(header=False))
    short = open_source(tmp_path / "t.csv", DataOptions(header=False, columns={"column 1": "leave-out"}))
    assert short.columns == ("column 2", "column 3", "column 4")
    assert [c.type for c in short.schema.fields] == ["categorical", "ordinal", "binary"]
    np.testing.assert_array_equal(short.parts["all"], plain.parts["all"][:, 1:])
    np.testing.assert_array_equal(stored_rows(short.schema, tmp_path / "t.csv"), short.parts["all"])
    (tmp_path / "cut.csv").write_text("\n".join(line.split(",", 1)[1] for line in lines) + "\n")
    np.testing.assert_array_equal(stored_rows(short.schema, tmp_path / "cut.csv"), short.parts["all"])
    (tmp_path / "one.csv").write_text(lines[0] + "\n")  # a line of words alone is no line of names
    np.testing.assert_array_equal(stored_rows(short.schema, tmp_path / "one.csv"), short.parts["all"][:1])
    conditioned = open_source(tmp_path / "t.csv", DataOptions(header=False, condition="column 2"))
    assert [c.type for c in conditioned.schema.fields] == ["real", "ordinal", "binary"]


@pytest.mark.parametrize("written", ["-999", "-999.0", -999, -999.0])
def test_a_declared_word_is_missing_in_training_and_in_new_rows(written):
    values = [*RNG.normal(size=79).tolist(), written]
    if isinstance(written, str):
        values = [str(v) for v in values]
    came = pd.DataFrame({"x": values, "w": list("ab") * 40})
    source = open_source(came, DataOptions(missing=("-999",)))
    assert source.schema.missing == ("-999",)
    assert np.isnan(source.parts["all"][-1, 0])
    assert np.isnan(stored_rows(source.schema, came)[-1, 0])
    assert np.isnan(stored_rows(source.schema, np.array([[-999.0, 1.0]]))[0, 0])


def test_an_array_may_have_a_declared_number_for_missing_cells():
    rows = RNG.normal(size=(60, 2))
    rows[3, 1] = -9
    source = open_source(rows, DataOptions(missing=("-9",)))
    assert np.isnan(source.parts["all"][3, 1])


def test_filling_changes_nothing_but_holes(tmp_path):
    train = frame()
    train["day"] = [f"{1 + i % 9}/5/2020" for i in range(120)]
    train["when"] = pd.Timestamp("2021-01-01 00:00:00.125") + pd.to_timedelta(RNG.integers(0, 9000, 120), "s")
    train["big"] = RNG.normal(size=120).astype(np.float32)
    train.loc[::7, ["height", "kind"]] = None
    run = fitted(train, tmp_path / "run")
    new = train.iloc[:20].reset_index(drop=True).copy()
    new.loc[0, "site"] = "south"
    new.loc[1, "kind"] = "unheard of"
    new.loc[2, "height"] = np.nan
    found = run.impute(new)
    assert list(found.columns) == list(new.columns)
    there = new.notna()
    for name in new.columns:
        kept = there[name]
        assert (found[name][kept] == new[name][kept]).all(), name
        assert found[name].notna().all(), name
    assert found["big"].dtype == np.float32
    new.to_csv(tmp_path / "new.csv", index=False)
    again = cb.impute(run, tmp_path / "new.csv")
    assert again.rows["id"].tolist() == new["id"].tolist()
    assert again.rows["day"].tolist() == new["day"].tolist()
    assert again.rows["site"].tolist() == new["site"].tolist()
    assert again.filled == int((~there).to_numpy().sum())
    draws = cb.impute(run, new, draws=3).rows
    assert draws["draw"].tolist() == [1] * 20 + [2] * 20 + [3] * 20
    assert draws["id"].tolist() == new["id"].tolist() * 3


def test_rows_without_holes_are_passed_over_and_estimates_do_not_depend_on_batches(tmp_path, monkeypatch):
    came = frame()
    came.loc[::7, "height"] = np.nan
    run = fitted(came, tmp_path / "run")
    holes = came["height"].isna().to_numpy()
    found = cb.impute(run, came, samples=30)
    assert np.isnan(found.effective_samples[~holes]).all()
    assert ((found.effective_samples[holes] > 1) & (found.effective_samples[holes] < 30)).all()
    monkeypatch.setattr("calibrae.workflows._impute.AT_ONCE", 4)
    again = cb.impute(run, came, samples=30)
    assert again.rows["height"].tolist() == pytest.approx(found.rows["height"].tolist(), rel=1e-5)
    whole = cb.impute(run, came[~holes])
    assert (whole.filled, whole.median_effective_samples, str(whole)) == (0, None, "no cell was missing")
    assert whole.rows["height"].tolist() == came["height"][~holes].tolist()


def test_filling_a_table_with_decimal_commas(tmp_path):
    came = frame()
    came.loc[::5, "height"] = np.nan
    came.to_csv(tmp_path / "t.csv", index=False, sep=";", decimal=",")
    run = fitted(str(tmp_path / "t.csv"), tmp_path / "run")
    found = run.impute(str(tmp_path / "t.csv"))
    kept = came["height"].notna()
    assert found["height"][kept].tolist() == came["height"][kept].tolist()


@pytest.mark.parametrize("door", ["frame", "csv"])
def test_whole_numbers_that_floats_cannot_tell_apart_are_refused(tmp_path, door):
    came = pd.DataFrame({"key": [2**53 + 1 + i for i in range(40)], "w": list("ab") * 20})
    if door == "csv":
        came.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"'key' holds whole numbers beyond 2\^53.*leave it out"):
        open_source(came if door == "frame" else tmp_path / "t.csv")
    left_out = DataOptions(columns={"key": "leave-out"})
    assert open_source(came if door == "frame" else tmp_path / "t.csv", left_out).columns == ("w",)


def test_copies_are_found_among_decimals(tmp_path):
    run = fitted(frame(), tmp_path / "run")
    train = run.data.view("train")
    schema = run.preparation.schema
    rows = as_frame(
        rows_of(
            schema,
            run.in_units(
                run.preparation(train.slice(0, len(train)).double(), torch.full((len(train), 3), 0.5).double())
            ),
        )
    )
    assert cb.fidelity(run, rows).copies == 1.0


def test_an_alarm_is_calibrated_anew_for_another_model(tmp_path):
    run = fitted(frame(), tmp_path / "run", epochs=1)
    first = cb.watch(run, frame(10, 5), false_alarm_rate=0.2)
    path = tmp_path / "run" / "alarm.safetensors"
    kept = path.read_bytes()
    assert (cb.watch(run, frame(10, 5), false_alarm_rate=0.2).p_values == first.p_values).all()
    assert path.read_bytes() == kept
    again = fitted(frame(), tmp_path / "run", epochs=3, resume=True)
    cb.watch(again, frame(10, 5), false_alarm_rate=0.2)
    assert path.read_bytes() != kept
    kept = path.read_bytes()
    cb.watch(again, frame(10, 5), false_alarm_rate=0.2, seed=9)
    assert path.read_bytes() != kept


def test_a_narrow_column_far_from_zero_is_real():
    values = 1e8 + np.exp(RNG.normal(size=200))
    source = open_source(pd.DataFrame({"x": values, "w": list("ab") * 100}))
    assert source.schema.fields[0].type == "real"


def test_a_guessed_hurdle_is_at_zero():
    values = np.where(RNG.random(300) < 0.4, 0.0, np.where(RNG.random(300) < 0.8, 777.5, RNG.normal(size=300)))
    source = open_source(pd.DataFrame({"x": values, "w": list("ab") * 150}))
    assert (source.schema.fields[0].type, source.schema.fields[0].atom) == ("zero-inflated", 0.0)


@pytest.mark.parametrize("value", ["2020-03-01", dt.date(2020, 3, 1), pd.Timestamp("2020-03-01 05:00:00")])
def test_a_constant_date_comes_back_as_a_date(value):
    source = open_source(pd.DataFrame({"d": [value] * 40, "w": list("ab") * 20}))
    back = as_frame(rows_of(source.schema, source.parts["all"]))["d"]
    assert pd.to_datetime(back.iloc[0]) == pd.Timestamp(value)


def test_test_rows_settle_nothing():
    train, test = frame(), frame(40, 1)
    test.loc[0, "kind"], test.loc[1, "height"] = "z", 90.0
    source = open_source({"train": train, "test": test})
    kind, height = (source.schema.fields[source.columns.index(name)] for name in ("kind", "height"))
    assert kind.categories == ("a", "b", "c")
    assert height.most < 90.0
    assert np.isnan(source.parts["test"][0, source.columns.index("kind")])
    assert any("1 cell with values that training did not have" in note for note in source.notes)


def test_new_dates_are_read_as_those_of_training():
    train = pd.DataFrame({"d": [f"{d:02}/{m:02}/2020" for d in range(1, 29) for m in (1, 2)], "w": list("ab") * 28})
    schema = open_source(train).schema
    assert schema.fields[0].form == "%d/%m/%Y"
    new = pd.DataFrame({"d": ["03/04/2020"], "w": ["a"]})  # alone, the third of April or the fourth of March
    assert stored_rows(schema, new)[0, 0] == (dt.date(2020, 4, 3) - dt.date(1970, 1, 1)).days


def test_dates_of_two_parts_are_read_together():
    days = [f"{d:02}/{m:02}/2020" for d in range(1, 13) for m in range(1, 7)]
    parts = {
        "train": pd.DataFrame({"d": [*days, "28/01/2020"], "w": ["a", "b", "a"] * 24 + ["b"]}),
        "test": pd.DataFrame({"d": days, "w": list("ab") * 36}),
    }
    source = open_source(parts)
    np.testing.assert_array_equal(source.parts["train"][:-1, 0], source.parts["test"][:, 0])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Rome"])
def test_a_run_reads_the_rows_that_it_writes(tmp_path, unit, zone):
    moments = pd.date_range("2020-01-01", periods=90, freq="7h", tz=zone).as_unit(unit)
    run = fitted(pd.DataFrame({"when": moments, "w": list("ab") * 45}), tmp_path / "run")
    rows = run.sample_frame(20)
    save_rows(rows, tmp_path / "rows.csv")
    for back in (rows, str(tmp_path / "rows.csv")):
        assert len(stored_rows(run.preparation.schema, back)) == 20


def test_a_stray_nanosecond_is_no_error():
    moments = pd.date_range("2020-01-01", periods=40, freq="h").as_unit("ns") + pd.Timedelta(1, "ns")
    assert open_source(pd.DataFrame({"when": moments, "w": list("ab") * 20})).schema.fields[0].type == "date"


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (pd.DataFrame({"d": [5.0], "w": ["a"]}), "'d' held dates; got numbers"),
        (pd.DataFrame({"d": ["2020-01-01"], "w": [dt.date(2020, 1, 1)]}), "'w' held words in training; got dates"),
        (pd.DataFrame({"d": ["2020-01-01 03:00:00"], "w": ["a"]}), "'d' held days; got times"),
    ],
)
def test_new_rows_with_dates_in_the_wrong_place_are_refused(new, message):
    schema = open_source(pd.DataFrame({"d": [f"2020-01-{d:02}" for d in range(1, 29)], "w": list("ab") * 14})).schema
    with pytest.raises(DataError, match=message):
        stored_rows(schema, new)


@pytest.mark.parametrize("value", ["2020-01-05", dt.date(2020, 1, 5), pd.Timestamp("2020-01-05")])
@pytest.mark.parametrize("came", ["text", "date", "timestamp"])
def test_a_date_may_be_given_in_any_form(came, value):
    days = pd.date_range("2020-01-01", periods=40)
    column = {"text": days.strftime("%Y-%m-%d"), "date": days.date, "timestamp": days}[came]
    schema = open_source(pd.DataFrame({"d": column, "w": list("ab") * 20})).schema
    i, number = stored_cell(schema, "d", value)
    assert (i, number / (86400 if came == "timestamp" else 1)) == (0, 18266.0)


def test_given_without_a_meaning_is_one_sentence():
    schema = open_source(pd.DataFrame({"d": pd.date_range("2020-01-01", periods=40), "w": list("ab") * 20})).schema
    with pytest.raises(cb.errors.ArgumentError, match="'d' must be a date"):
        stored_cell(schema, "d", None)


def test_declared_words_are_kept_with_the_run(tmp_path):
    came = pd.DataFrame({"x": [*RNG.normal(size=79).tolist(), -999.0], "w": list("ab") * 40})
    fitted(came, tmp_path / "run", DataOptions(missing=("-999",)))
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert cb.open_run(tmp_path / "moved").preparation.schema.missing == ("-999",)


@pytest.mark.parametrize(
    ("first", "is_header"),
    [("39,State-gov,Male", False), ("age,work,sex", True), ("age,2019,sex", True), ("p,Private,Female", True)],
)
def test_a_first_line_of_words_that_come_again_is_an_example(tmp_path, first, is_header):
    lines = [first, *["41,Private,Female", "17,State-gov,Male", "28,Private,Male"] * 15]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    source = open_source(tmp_path / "t.csv")
    assert len(source.parts["all"]) == 46 - is_header
    assert source.schema.is_named == is_header
    assert any("come again in their columns" in note for note in source.notes) != is_header


def test_words_of_training_stay_words_in_new_rows():
    """A few of them alone look like dates or numbers."""
    words = ["2020-01-01", "2021-01-01", "1e2", "100", "never"] * 12
    schema = open_source(pd.DataFrame({"w": words, "x": RNG.normal(size=60)})).schema
    for word in set(words):
        code = stored_rows(schema, pd.DataFrame({"w": [word], "x": [0.0]}))[0, 0]
        assert schema.fields[0].categories[int(code)] == word


def test_rows_that_cannot_be_are_infinitely_strange(tmp_path):
    came = pd.DataFrame({"x": np.exp(RNG.normal(size=200)), "w": list("ab") * 100})
    run = fitted(came, tmp_path / "run")
    assert run.preparation.schema.fields[0].type == "positive"
    new = came[:5].copy()
    new.loc[0, "x"] = -3.0
    assert cb.score(run, new).nll.tolist()[0] == float("inf")
    seen = cb.watch(run, new, false_alarm_rate=0.2)
    assert seen.p_values[0] == seen.p_values.min() < 0.06
    assert seen.strangest[0] == 0
    new.loc[0, "w"] = None
    found = cb.impute(run, new, draws=2)
    assert found.rows["w"].notna().all()
    assert found.effective_samples[0] == 0.0
    assert any("1 of the filled rows hold a value that cannot be" in note for note in found.notes)


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,a,b\n" + "".join(f"x{i % 3},{i},y\n" for i in range(40)))
    with pytest.raises(DataError, match=r"t\.csv: each column must have a name of its own; got several called a"):
        open_source(tmp_path / "t.csv")


def test_truth_values_among_numbers_are_a_binary_column():
    source = open_source(pd.DataFrame({"a": RNG.random(40) < 0.5, "x": RNG.normal(size=40)}))
    assert [column.type for column in source.schema.fields] == ["binary", "real"]


@pytest.mark.parametrize("kind", ["int8", "uint16", "int64", "float32", "float64", "category", "bool"])
def test_types_of_columns_come_back(kind):
    values = pd.Series(
        [f"w{i % 5}" for i in range(60)] if kind == "category" else np.arange(60) % (2 if kind == "bool" else 40)
    )
    frame = pd.DataFrame({"x": values.astype(kind), "w": list("ab") * 30})
    source = open_source(frame)
    back = as_frame(rows_of(source.schema, source.parts["all"]))
    assert back["x"].dtype == frame["x"].dtype
    assert back["x"].tolist() == frame["x"].tolist()
    holes = source.parts["all"].copy()
    holes[3, 0] = np.nan
    back = as_frame(rows_of(source.schema, holes))["x"]
    assert back.isna().sum() == 1
    assert str(back.dtype).lower() in (kind, "object")


def test_all_categories_come_back_and_names_that_are_no_text(tmp_path):
    came = pd.DataFrame({0: pd.Categorical(list("abc") * 30), 1: RNG.normal(size=90)})
    came.loc[::9, 1] = np.nan
    run = fitted(came, tmp_path / "run")
    assert run.sample_frame(1)["0"].dtype == came[0].dtype
    filled = run.impute(came)
    assert list(filled.columns) == [0, 1]
    assert filled[0].tolist() == came[0].tolist()


@pytest.mark.parametrize(("unit", "seconds"), [("D", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)])
def test_times_keep_to_their_step(tmp_path, unit, seconds):
    start = pd.Timestamp("2020-01-01 05:30:10")
    moments = start + pd.to_timedelta(RNG.permutation(300)[:90], unit)
    run = fitted(pd.DataFrame({"when": moments, "w": list("ab") * 45}), tmp_path / "run")
    assert run.preparation.schema.fields[0].step == seconds
    drawn = run.sample_frame(50)["when"]
    assert not ((drawn - start).dt.total_seconds() % seconds).any()


def with_dates(count=90):
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.permutation(700)[:count], "D")
    return pd.DataFrame(
        {"date": days, "ts": days.tz_localize("Europe/Rome"), "text": days.strftime("%d/%m/%Y"), "ok": RNG.random(count) < 0.5,
         "zip": RNG.choice(["01", "7", "007"], count), "site": "north"}
    )  # fmt: skip


@pytest.mark.parametrize("name", ["date", "ts", "text", "ok", "zip"])
@pytest.mark.parametrize("nothing", [None, np.nan, pd.NaT])
def test_a_column_without_any_value_is_filled_in_its_own_type(tmp_path_factory, name, nothing):
    came = with_dates()
    run = fitted(came, tmp_path_factory.mktemp("run") / "run")
    new = came[:5].copy()
    new[name] = nothing
    found = run.impute(new)
    assert found[name].notna().all()
    kind = found[name].dtype
    assert kind == came[name].dtype or (name in ("date", "ts") and kind.kind == "M"), kind


def test_filled_dates_are_written_as_those_beside_them(tmp_path):
    came = with_dates()
    run = fitted(came, tmp_path / "run")
    new = came[:6].copy()
    new["text"] = came["date"][:6].dt.strftime("%Y-%m-%d")  # training had %d/%m/%Y
    new["date"] = came["date"][:6].dt.strftime("%Y-%m-%d")  # training had timestamps
    new.loc[[0, 2], ["text", "date"]] = None
    found = run.impute(new)
    for name in ("text", "date"):
        assert found[name].str.fullmatch(r"\d{4}-\d\d-\d\d").all()
        assert (found[name] == new[name])[[1, 3, 4, 5]].all()
    new["text"] = came["date"][:6]
    new.loc[0, "text"] = pd.NaT
    assert run.impute(new)["text"].dtype.kind == "M"


def test_words_that_come_as_numbers_stay_as_they_came(tmp_path):
    run = fitted(with_dates(), tmp_path / "run")
    new = with_dates()[:4]
    new["zip"] = [np.nan, 7.0, 1.0, 99.0]  # training had "01", "7" and "007"
    found = run.impute(new)
    assert found["zip"].dtype == float
    assert found["zip"].tolist()[1:] == [7.0, 1.0, 99.0]
    new.loc[3, "site"] = None
    said = cb.impute(run, new).notes
    assert any("not modelled keep their empty cells: site" in note for note in said)


@pytest.mark.parametrize(
    ("first", "row", "is_header"),
    [
        ("a,12.19,2.0,,18/01/2022", "b,{i}.25,3.0,7,{d:02}/03/2022", False),  # dates are rows
        ("sex,age,city", "{sex},{i},city", True),  # a word above numbers is a name
        ("sex,born", "sex,{d:02}/03/2022", True),
        ("x,2020-01-01,2020-01-02", "{sex},{i}.5,{d}", True),  # dates above numbers
    ],
)
def test_a_line_of_names_is_known_by_what_stands_below(tmp_path, first, row, is_header):
    lines = [first, *(row.format(i=i, d=1 + i % 28, sex="sex" if i == 3 else "mf"[i % 2]) for i in range(60))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    source = open_source(tmp_path / "t.csv")
    assert source.schema.is_named == is_header
    assert len(source.parts["all"]) == 61 - is_header

"""Rows in and out of a messy table, letter by letter: decimals, marks of missing cells, separators, words and dates."""

import csv
import itertools
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from command import call

import calibrae as cb
from calibrae.cli._main import main
from calibrae.data import DataOptions, load_data
from calibrae.errors import ArgumentError, DataError
from calibrae.workflows import save_imputed

COUNT = 240
MARKS = itertools.cycle(["", "?", "NA", "null", " "])
HEAD = ["Preis", "Gewicht", "Sorte", "Tag", "Rabatt", "PLZ", "Menge", "Text"]


def messy(count=COUNT, seed=0):
    """Rows of text: prices with two decimals and a comma, dates, holes marked in five ways, codes that begin with zeros."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        price = f"{rng.lognormal(3, 1):.2f}".replace(".", ",")
        weight = f"{rng.normal(60, 9):.1f}".replace(".", ",")
        day = (pd.Timestamp("2023-03-01") + pd.Timedelta(int(rng.integers(0, 500)), "D")).strftime("%d.%m.%Y")
        discount = "0,00" if rng.random() < 0.7 else f"{rng.gamma(2, 3):.2f}".replace(".", ",")
        row = [price, weight, rng.choice(["rot", "grün", "日本"]), day, discount, f"0{rng.integers(1000, 1010)}"]
        row += [str(rng.integers(1, 9)), f"Satz {i} aus {rng.integers(1e9)}" if i % 7 else "NA"]
        holes = rng.random(7) < 0.1
        rows.append([next(MARKS) if holes[j] else row[j] for j in range(7)] + row[7:])
    return rows


def write(path, rows, head=HEAD, separator=";"):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=separator, lineterminator="\n").writerows([head, *rows])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("messy")
    write(folder / "messy.csv", messy())
    how = ["--latent-dim", "2", "--hidden", "16", "--epochs", "3", "--lr", "5e-3"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as of a glyph that the font lacks
        with pytest.raises(SystemExit) as stopped:
            main(["train", str(folder / "messy.csv"), "--out", str(folder / "run"), *how])
    assert stopped.value.code == 0
    return folder


def is_hole(cell):
    return cell.strip().lower() in ("", "?", "na", "null")


def test_cells_that_were_there_keep_their_letters(place, capsys):
    call(capsys, "impute", place / "run", place / "messy.csv", "--out", place / "filled.csv", "--samples", "20")
    with (place / "filled.csv").open(encoding="utf-8", newline="") as stream:
        head, *filled = csv.reader(stream, delimiter=";")
    assert head == HEAD
    came = [row.split(";") for row in (place / "messy.csv").read_text(encoding="utf-8").splitlines()[1:]]
    for mine, own in zip(filled, came, strict=True):
        for name, new, old in zip(HEAD, mine, own, strict=True):
            if not is_hole(old) or name == "Text":  # a column that is not modelled keeps its marks too
                assert new == old, name
    new = [row[HEAD.index("Preis")] for row, old in zip(filled, came, strict=True) if is_hole(old[0])]
    assert new
    assert all(re.fullmatch(r"\d+,\d\d", cell) for cell in new)
    assert all(re.fullmatch(r"\d\d\.\d\d\.\d{4}", row[3]) for row in filled)
    assert all(re.fullmatch(r"0\d{4}", row[5]) for row in filled)


def test_the_table_itself_is_not_written_over(place, capsys):
    before = (place / "messy.csv").read_bytes()
    status, _, said = call(capsys, "impute", place / "run", place / "messy.csv", "--out", place / "messy.csv")
    assert status == 2
    assert "must be another file" in said
    assert (place / "messy.csv").read_bytes() == before


def test_drawn_numbers_have_the_decimals_of_the_table(place):
    rows = cb.open_run(place / "run").sample_frame(200)
    for name, digits in (("Preis", 2), ("Gewicht", 1), ("Rabatt", 2)):
        values = rows[name].to_numpy()
        assert (values == np.round(values, digits)).all(), name
        assert (values != np.round(values, digits - 1)).any(), name


def test_reconstructed_rows_have_words_and_dates(place, capsys):
    call(capsys, "reconstruct", place / "run", "--n", "6", "--out", place / "rebuilt.csv")
    rows = pd.read_csv(place / "rebuilt.csv", dtype=str)
    assert list(rows)[:5] == ["example", "Preis", "Gewicht", "Sorte", "Tag"]
    assert set(rows["Sorte"]) <= {"rot", "grün", "日本"}
    assert rows["Tag"].str.fullmatch(r"\d\d\.\d\d\.\d{4}").all()
    assert rows["PLZ"].str.startswith("0").all()


@pytest.mark.parametrize("given", ["Preis=-5", "Rabatt=-1"])
def test_cells_that_cannot_be_are_refused_in_a_line(place, capsys, given):
    status, _, said = call(capsys, "sample", place / "run", "--n", "3", "--given", given, "--out", place / "x.csv")
    assert status == 2
    assert f"no row of the model has {given}" in said
    assert "in training): their probability is 0" in said


def test_cells_beyond_training_are_said(place):
    found = cb.synthesise(cb.open_run(place / "run"), 3, given={"Gewicht": 500.0})
    assert any(note.startswith("outside what training had") and "Gewicht=500" in note for note in found.notes)


def test_a_column_is_given_once(place, capsys):
    how = ("--n", "3", "--given", "Menge=2", "--given", "Menge=3", "--out", place / "x.csv")
    status, _, said = call(capsys, "sample", place / "run", *how)
    assert status == 2
    assert "must name a column once; Menge came 2 times" in said


def test_dates_of_another_form_are_said(place, tmp_path):
    rows = messy(12, seed=3)
    for row in rows:
        row[3] = "2023-04-01"
    found = cb.score(place / "run", write(tmp_path / "new.csv", rows), importance_samples=2)
    assert any("Tag: dates are written as %Y-%m-%d, in training as %d.%m.%Y" in note for note in found.notes)


def test_a_time_that_is_missing_is_said(tmp_path):
    rng = np.random.default_rng(0)
    times = [f"2023-03-{rng.integers(1, 29):02d} {rng.integers(24):02d}:{rng.integers(60):02d}" for _ in range(60)]
    frame = pd.DataFrame({"at": times, "kind": rng.choice(["a", "b"], 60)})
    data = load_data(frame)
    run = cb.fit(cb.build(spec=data.spec, latent_dim=1), data, tmp_path / "run", epochs=1, quiet=True, pictures=False)
    found = run.score(pd.DataFrame({"at": ["2023-03-01", "2023-03-02"], "kind": ["a", "b"]}), importance_samples=2)
    assert any("without a time: taken as midnight" in note for note in found.notes)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([*(f"{i}.5" for i in range(40)), "12.5x"], "40 of its 41 different words are numbers, '12.5x' is not"),
        (
            [*(f"2023-01-{i:02d}" for i in range(1, 29)), "soon"],
            "28 of its 29 different words are dates, 'soon' is not",
        ),
        ([f"{i % 7}.0%" for i in range(41)], "numbers with a sign, as '0.0%'"),
        ([f"${i % 7}.00" for i in range(41)], "numbers with a sign, as '$0.00'"),
    ],
)
def test_words_that_are_nearly_numbers_are_said(cells, said):
    frame = pd.DataFrame({"odd": cells * 3, "kind": ["a", "b", "c"] * len(cells)})
    assert any(said in note for note in load_data(frame).source.notes)


def test_the_word_that_is_no_number_is_named(place, tmp_path):
    rows = messy(12, seed=4)
    rows[5][1] = "schwer"
    with pytest.raises(DataError, match="'Gewicht' held numbers in training; got words: schwer"):
        cb.score(place / "run", write(tmp_path / "new.csv", rows), importance_samples=2)


def test_a_condition_keeps_its_leading_zeros(tmp_path):
    rows = [[f"{i / 7:.3f}", f"0{i % 3}1", "ab"[i % 2]] for i in range(90)]
    data = load_data(write(tmp_path / "codes.csv", rows, ["x", "zip", "kind"], ","), DataOptions(condition="zip"))
    assert data.condition is not None
    assert data.condition.values == ("001", "011", "021")
    assert data.condition.typed("zip=001") == "001"


def test_a_condition_of_a_word_for_nearly_every_row_is_refused(tmp_path):
    rows = [[f"{i / 7:.3f}", f"word {i}", "ab"[i % 2]] for i in range(90)]
    with pytest.raises(DataError, match="has 90 different words in 90 examples: too many to be classes"):
        load_data(write(tmp_path / "words.csv", rows, ["x", "text", "kind"], ","), DataOptions(condition="text"))


def test_numbers_of_a_condition_have_a_point(tmp_path):
    rows = [[f"{i / 7:.3f}", f"{i / 11:.3f}", "ab"[i % 2]] for i in range(90)]
    data = load_data(write(tmp_path / "c.csv", rows, ["x", "c", "kind"], ","), DataOptions(condition="c"))
    with pytest.raises(ArgumentError, match="must be 1 finite number, with a point"):
        data.condition.typed("1,3")


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"huge": "ordinal"}, "few numbers at equal distances"), ({"text": "count"}, "whole numbers")],
)
def test_types_that_cannot_be_are_refused(asked, message):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"huge": rng.integers(0, 9 * 10**12, 50), "text": rng.choice(["a", "b", "c"], 50)})
    with pytest.raises(DataError, match=message):
        load_data(frame, DataOptions(columns=asked))


def test_a_type_that_a_constant_cannot_have_is_said():
    frame = pd.DataFrame({"one": [1.0] * 50, "kind": list("ab") * 25, "x": np.arange(50) / 7})
    notes = load_data(frame, DataOptions(columns={"one": "real"})).source.notes
    assert any("one (one value in all rows, so it is not real)" in note for note in notes)


def test_a_name_with_a_comma_has_a_type_on_the_line(tmp_path, capsys):
    rows = [[f"{i % 9}", f"{i / 7:.3f}", "ab"[i % 2]] for i in range(60)]
    write(tmp_path / "t.csv", rows, ["made, at", "x", "kind"], ",")
    how = ("--types", '"made, at"=categorical,kind=binary', "--latent-dim", "1", "--hidden", "8", "--epochs", "1")
    _, _, said = call(capsys, "train", tmp_path / "t.csv", "--out", tmp_path / "run", *how)
    assert re.search(r"made, at +categorical +9 +- +as asked", said)


def test_a_frame_keeps_its_types_when_it_is_filled(place):
    rows = pd.DataFrame(messy(30, seed=5), columns=HEAD)
    frame = pd.DataFrame(
        {
            "Preis": pd.to_numeric(rows["Preis"].str.replace(",", "."), errors="coerce"),
            "Gewicht": pd.to_numeric(rows["Gewicht"].str.replace(",", "."), errors="coerce"),
            "Sorte": pd.Categorical(rows["Sorte"].where(~rows["Sorte"].map(is_hole))),
            "Tag": rows["Tag"].where(~rows["Tag"].map(is_hole)),
            "Rabatt": pd.to_numeric(rows["Rabatt"].str.replace(",", "."), errors="coerce"),
            "PLZ": rows["PLZ"].where(~rows["PLZ"].map(is_hole)),
            "Menge": pd.to_numeric(rows["Menge"], errors="coerce").astype("Int64"),
        }
    )
    filled = cb.open_run(place / "run").impute(frame, samples=10)
    assert not filled.isna().any().any()
    assert filled["Sorte"].dtype == frame["Sorte"].dtype


def test_an_infinite_score_shows_its_cell(place, tmp_path, capsys):
    rows = messy(12, seed=6)
    rows[2][0] = "-3,00"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, out, _ = call(capsys, "score", place / "run", write(tmp_path / "new.csv", rows), "--out", tmp_path / "s.png")
    assert "inf  2" in out
    assert (tmp_path / "s.png").stat().st_size > 10_000


def test_numbers_that_a_narrow_type_cannot_hold_are_not_wrapped(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"w": rng.integers(100, 300, 300), "kind": rng.choice(["a", "b"], 300)})
    data = load_data(frame, DataOptions(missing=("-1",)))
    run = cb.fit(cb.build(spec=data.spec, latent_dim=1), data, tmp_path / "run", epochs=1, quiet=True, pictures=False)
    for kind in ("int8", "Int8", "int64", "UInt8"):
        cells = [100, 110, None, 120, None] if kind.startswith(("I", "U")) else [100, 110, -1, 120, -1]
        filled = run.impute(pd.DataFrame({"w": pd.array(cells, dtype=kind), "kind": list("ababa")}), samples=10)["w"]
        assert filled[[0, 1, 3]].tolist() == [100, 110, 120], kind
        assert filled[[2, 4]].between(100, 300).all(), kind


def test_labels_that_mean_nothing_are_missing_beside_leading_zeros(tmp_path):
    rows = [[f"{i / 7:.3f}", "NA" if i in (3, 40) else f"0{i % 3}", "ab"[i % 2]] for i in range(90)]
    with pytest.raises(DataError, match="must have no missing values; 2 of 90 are"):
        load_data(write(tmp_path / "c.csv", rows, ["x", "c", "kind"], ","), DataOptions(condition="c"))


def test_a_file_without_names_gets_none(tmp_path):
    rng = np.random.default_rng(0)
    rows = [[f"{rng.normal():.2f}", rng.choice(["red", "blue"]), f"{rng.normal():.1e}"] for _ in range(120)]
    for i in (4, 50, 90):
        rows[i][0] = rows[i + 1][2] = "?"
    with (tmp_path / "n.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    data = load_data(tmp_path / "n.csv")
    run = cb.fit(cb.build(spec=data.spec, latent_dim=1), data, tmp_path / "run", epochs=1, quiet=True, pictures=False)
    save_imputed(cb.impute(run, tmp_path / "n.csv", samples=10), tmp_path / "filled.csv")
    with (tmp_path / "filled.csv").open(newline="") as stream:
        filled = list(csv.reader(stream))
    assert len(filled) == 120
    assert filled[0] == rows[0]
    assert all(re.fullmatch(r"-?\d+\.\d\d", filled[i][0]) for i in (4, 50, 90))
    assert not any(re.fullmatch(r"-?\d+\.\d{5}", filled[i][2]) for i in (5, 51, 91))  # digits that nobody wrote
    assert cb.impute(run, tmp_path / "filled.csv", samples=2).filled == 0


def test_a_column_called_draw_is_not_written_twice(place, tmp_path):
    path = write(tmp_path / "new.csv", [[*row, "1"] for row in messy(12)], [*HEAD, "draw"])
    with pytest.raises(ArgumentError, match="a column `draw`, which the table has too"):
        cb.impute(cb.open_run(place / "run"), path, draws=2, samples=2)

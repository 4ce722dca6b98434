"""CSV files as instruments, spreadsheets and R write them; each is compared with the table that was written."""

from __future__ import annotations

import bz2
import gzip

import numpy as np
import pandas as pd
import pytest

from calibrae.data import open_source
from calibrae.errors import DataError

ROWS = np.round(np.random.default_rng(0).normal(size=(60, 3)), 3)


def lines(rows=ROWS, separator=",", end=""):
    return "".join(separator.join(f"{value:.3f}" for value in row) + end + "\n" for row in rows)


def read(path, text):
    path.write_text(text)
    return open_source(path)


WRITTEN = {
    "comments": ("# by hand\n# on a day, of rain\na,b,c\n" + lines() + "# the end\n", "3 lines of comments left out"),
    "comment in the middle": (
        "a,b,c\n" + lines(ROWS[:30]) + "# new sensor\n" + lines(ROWS[30:]),
        "1 line of comments left out",
    ),
    "comment with as many cells": (
        "a,b,c\n" + lines(ROWS[:30]) + "# new sensor, in rain, at noon\n" + lines(ROWS[30:]),
        "1 line of comments left out",
    ),
    "names in a comment": ("# a,b,c\n" + lines(), "names of the columns taken from the comment"),
    "separator at the end": ("a,b,c,\n" + lines(end=","), "lines end in a separator"),
    "separator at the end of numbers": ("a;b;c\n" + lines(separator=";", end=";"), "lines end in a separator"),
    "units": ("a,b,c\nm,[kg],-\n" + lines(), "the second line holds units (m, kg)"),
    "names of rows": (
        '"","a","b","c"\n' + "".join(f'"row {i}",{line}\n' for i, line in enumerate(lines().splitlines())),
        "left out as names of the rows",
    ),
    "one name less": (
        '"a" "b" "c"\n' + "".join(f'"r{i}" {line}\n' for i, line in enumerate(lines(separator=" ").splitlines())),
        "one name less than columns",
    ),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_the_table_that_was_written_is_read(tmp_path, how):
    text, said = WRITTEN[how]
    source = read(tmp_path / "t.csv", text)
    np.testing.assert_array_equal(source.parts["all"], ROWS)
    assert source.columns == ("a", "b", "c")
    assert any(said in note for note in source.notes), source.notes


def test_units_are_in_the_schema(tmp_path):
    fields = read(tmp_path / "t.csv", WRITTEN["units"][0]).schema.fields
    assert [column.unit for column in fields] == ["m", "kg", ""]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_packed_files_are_read(tmp_path, suffix, pack):
    path = tmp_path / f"t.csv{suffix}"
    path.write_bytes(pack(("a,b,c\n" + lines()).encode()))
    np.testing.assert_array_equal(open_source(path).parts["all"], ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        open_source(path)


def test_plain_text_of_numbers_is_a_table(tmp_path):
    np.savetxt(tmp_path / "t.txt", ROWS, header="a b c")
    source = open_source(tmp_path / "t.txt")
    np.testing.assert_array_equal(source.parts["all"], ROWS)
    assert source.columns == ("a", "b", "c")
    (tmp_path / "readme.txt").write_text("Of the data:\nnothing is known.\nAsk the author.\n")
    with pytest.raises(DataError, match="unknown kind of file"):
        open_source(tmp_path / "readme.txt")


def test_decimal_commas_are_found_wherever_they_begin(tmp_path):
    whole = "".join(f"{i % 7};{i % 5}\n" for i in range(150))
    source = read(tmp_path / "t.csv", "a;b\n" + whole + "3,5;2,25e-1\n")
    assert source.parts["all"][-1].tolist() == [3.5, 0.225]
    source = read(tmp_path / "t.csv", "# version 3,5\na;b\n" + whole + "3.5;2\n")  # a comma in a comment is none
    assert source.parts["all"][-1].tolist() == [3.5, 2.0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("separator", [",", " "])
def test_comments_are_left_out_in_any_encoding(tmp_path, encoding, separator):
    text = (
        f"a{separator}b{separator}c\n" + lines(separator=separator) + "# \xfcber alles\n" + lines(separator=separator)
    )
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    source = open_source(tmp_path / "t.csv")
    np.testing.assert_array_equal(source.parts["all"], np.concatenate([ROWS, ROWS]))
    assert source.columns == ("a", "b", "c")


def test_separators_of_thousands_are_named(tmp_path):
    text = "a,b\n" + "".join(f'"{i + 1},{i + 100}",{i}.5\n' for i in range(60))
    with pytest.raises(DataError, match=r"the column 'a' holds numbers with separators of thousands \(1,100\)"):
        read(tmp_path / "t.csv", text)


def test_a_value_after_the_last_separator_is_not_lost(tmp_path):
    text = "a,b,c,\n" + lines(end=",") * 3 + "1,2,3,4\n"
    with pytest.raises(DataError, match="a later one holds a value after it"):
        read(tmp_path / "t.csv", text)


def test_names_of_rows_are_left_out_by_every_door(tmp_path):
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c"])
    frame.insert(0, "", [f"row {i}" for i in range(len(ROWS))])
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for door in (frame, tmp_path / "t.csv", tmp_path / "t.parquet"):
        source = open_source(door)
        np.testing.assert_array_equal(source.parts["all"], ROWS)
        assert any("left out as names of the rows" in note for note in source.notes)

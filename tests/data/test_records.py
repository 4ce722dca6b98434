"""Rows as dicts mean the table that they are: the reader of data frames is the independent answer."""

from datetime import date

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

import calibrae as cb
from calibrae.data import load_data, open_source
from calibrae.errors import DataError

RNG = np.random.default_rng(0)
N = 80
FRAME = pd.DataFrame(
    {
        "height": np.where(RNG.random(N) < 0.1, np.nan, RNG.normal(170, 9, N)),
        "eyes": np.array(["blue", "brown", "green"])[RNG.integers(0, 3, N)],
        "smokes": RNG.random(N) < 0.3,
        "children": RNG.poisson(1.4, N),
    }
)
ROWS = [
    {k: (None if isinstance(v, float) and np.isnan(v) else v) for k, v in row.items()}
    for row in FRAME.to_dict("records")
]


def rows_of(data, split):
    view = data.view(split)
    return torch.as_tensor(view.gather(np.arange(len(view))))


def require_same(data, expected):
    assert data.source.schema == expected.source.schema
    for split in ("train", "validation", "test"):
        torch.testing.assert_close(rows_of(data, split), rows_of(expected, split), equal_nan=True)


@pytest.mark.parametrize("form", ["list", "tuple", "datasets", "numpy scalars", "by part"])
def test_rows_as_dicts_are_the_frame(form):
    expected = load_data(FRAME)
    given = {
        "list": lambda: ROWS,
        "tuple": lambda: tuple(ROWS),
        "datasets": lambda: datasets.Dataset.from_list(ROWS),
        "numpy scalars": lambda: [{k: np.str_(v) if isinstance(v, str) else v for k, v in row.items()} for row in ROWS],
        "by part": lambda: {"train": ROWS, "test": ROWS[:20]},
    }[form]()
    data = load_data(given)
    if form == "by part":
        expected = load_data({"train": FRAME, "test": FRAME[:20]})
    require_same(data, expected)


def test_dates_and_empty_cells():
    rows = [{"day": date(2024, 1, 1 + i % 28), "x": float(i)} for i in range(40)]
    fields = {field.name: field.type for field in open_source(rows).schema.fields}
    assert fields["day"] == "date"
    holes = [{"x": float(i), "y": None if i % 3 else float(-i)} for i in range(40)]
    assert open_source(holes).schema.is_mixed


def test_numpy_dates_are_dates_and_a_number_is_a_column_whatever_its_name():
    days = [{"t": np.datetime64("2024-01-01") + np.timedelta64(i, "D"), "h": float(i % 9)} for i in range(60)]
    assert {field.name: field.type for field in open_source(days).schema.fields}["t"] == "date"
    rows = [{"x": x, "y": 2.0 * x * x} for x in RNG.normal(size=60).tolist()]
    assert open_source(rows).schema.columns == ("x", "y")
    parts = {"train": [{**row, "y": None} if i % 5 == 0 else row for i, row in enumerate(rows)], "test": rows[:10]}
    assert open_source(parts).schema.columns == ("x", "y")


def test_a_condition_is_an_entry():
    data = load_data(ROWS, condition="eyes")
    assert data.condition.values == ("blue", "brown", "green")
    assert "eyes" not in data.source.schema.columns


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"a": "x", "b": 1}, {"a": "y"}],
            "every item must have the entries of the first, a, b; item 1 has others. Give None",
        ),
        ([{"a": "x"}, {"a": 3.5}, {"a": "y"}], "a column of its rows has several types"),
    ],
)
def test_rows_that_do_not_agree_are_refused(rows, said):
    with pytest.raises(DataError, match=said):
        load_data(rows * 20 if len(rows) == 3 else rows)


def test_a_dataset_of_dicts_with_words_says_what_to_do():
    class Words(torch.utils.data.Dataset):
        def __len__(self):
            return N

        def __getitem__(self, i):
            return ROWS[i]

    with pytest.raises(DataError, match="Rows with words are read from a list of dicts, a data frame or a file"):
        load_data(Words())


def test_a_run_scores_rows_as_dicts_many_and_one(tmp_path):
    data = load_data(ROWS)
    model = cb.build(spec=data.spec, latent_dim=2, options=cb.NetworkOptions(hidden=(8,)))
    run = cb.fit(model, ROWS, tmp_path / "run", epochs=1, quiet=True, pictures=False, compile="off")
    whole = run.score(FRAME).nll
    torch.testing.assert_close(run.score(ROWS).nll, whole)
    torch.testing.assert_close(run.score(ROWS[3]).nll, run.score(FRAME[3:4]).nll)
    numbers = [row for row in ROWS if row["height"] is not None][:4]
    known = [i for i, row in enumerate(ROWS) if row["height"] is not None][:4]
    torch.testing.assert_close(run.score(numbers).nll, run.score(FRAME.iloc[known]).nll)

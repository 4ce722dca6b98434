"""Several condition columns: coded alike by every door, in the order in which they were named."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from calibrae.data import Condition, DataOptions, load_data
from calibrae.errors import ArgumentError, DataError

RNG = np.random.default_rng(0)
N = 60
FRAME = pd.DataFrame(
    {
        "a": RNG.normal(size=N),
        "sex": np.array(["f", "m"])[RNG.integers(0, 2, N)],
        "b": RNG.normal(size=N),
        "age": RNG.integers(18, 80, N),
        "site": RNG.integers(0, 3, N),
    }
)
NAMES = ("age", "sex", "site")


def doors(folder):
    """The table through every door that has columns."""
    FRAME.to_csv(folder / "t.csv", index=False)
    pq.write_table(pa.Table.from_pandas(FRAME), folder / "t.parquet")
    return {
        "csv": folder / "t.csv",
        "parquet": folder / "t.parquet",
        "pandas": FRAME,
        "polars": pl.from_pandas(FRAME),
        "arrow": pa.Table.from_pandas(FRAME),
        "dicts": FRAME.to_dict("records"),
    }


def expected(rows):
    """Contexts of rows, by NumPy: age standardised on the training rows, one-hot sexes and sites."""
    age = FRAME["age"].to_numpy(float)
    sex = np.stack([FRAME["sex"] == "f", FRAME["sex"] == "m"], 1)
    return lambda train: np.column_stack([(age - age[train].mean()) / age[train].std(), sex, np.eye(3)[FRAME["site"]]])[
        rows
    ]


@pytest.mark.parametrize("door", ["csv", "parquet", "pandas", "polars", "arrow", "dicts"])
def test_every_door_gives_the_contexts_of_numpy(tmp_path, door):
    data = load_data(doors(tmp_path)[door], condition=NAMES)
    assert data.spec.data_shape == (2,)
    assert data.condition.dim == 6
    train = data.view("train").index
    for split in ("train", "validation", "test"):
        rows = data.view(split).index
        np.testing.assert_allclose(data.contexts(split).numpy(), expected(rows)(train), atol=1e-5)
        found = torch.cat([batch.context for batch in data.batches(split, 7)])
        np.testing.assert_allclose(found.numpy(), expected(rows)(train), atol=1e-5)


def test_a_list_of_columns_is_names_and_a_list_of_labels_is_labels():
    assert load_data(FRAME, condition=["age", "sex"]).condition.names == ("age", "sex")
    labels = [f"group {i % 20}" for i in range(N)]
    assert load_data(FRAME[["a", "b"]], condition=labels).condition.dim == 20


def test_a_list_of_names_is_names_of_rows_as_dicts_and_of_parts():
    for data in (FRAME.to_dict("records"), {"train": FRAME, "test": FRAME[:20]}):
        assert load_data(data, condition=["age", "sex"]).condition.names == ("age", "sex")


def test_labels_that_come_again_are_labels_beside_a_path_and_in_a_tuple(tmp_path):
    np.save(tmp_path / "x.npy", FRAME[["a", "b"]].to_numpy())
    labels = FRAME["sex"].tolist()
    assert load_data(tmp_path / "x.npy", condition=labels).condition.values == ("f", "m")
    assert load_data(FRAME[["a", "b"]].to_numpy(), condition=tuple(labels)).condition.values == ("f", "m")


def test_labels_stay_classes_where_the_data_are_rows_of_numbers(tmp_path):
    """Forty-seven classes, as of EMNIST, of flattened pictures; a label is a class by its name."""
    x, y = RNG.normal(size=(470, 5)), np.arange(470) % 47
    np.savez(tmp_path / "d.npz", X=x, y=y)
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    for data in (tmp_path / "d.npz", pairs):
        assert load_data(data, condition="label").condition.dim == 47


def test_a_data_frame_of_conditions_is_read_by_its_names():
    coding = load_data(FRAME, condition=("age", "sex")).condition
    torch.testing.assert_close(coding(FRAME[["sex", "age"]]), coding(FRAME[["age", "sex"]].to_numpy(object)))
    with pytest.raises(DataError, match="must have the entries age, sex; got age, site"):
        coding(FRAME[["age", "site"]])


def test_numbers_that_are_asked_to_be_classes_code_themselves():
    rows = FRAME.assign(dose=RNG.choice(np.array([0.1, 0.2, 0.3], np.float32), N))
    data = load_data(rows[["a", "b", "dose"]], DataOptions(columns={"dose": "categorical"}), condition="dose")
    assert data.condition.dim == 3
    assert data.contexts("train").sum(1).eq(1).all()


def test_a_list_with_one_name_is_that_name():
    assert DataOptions(condition=["age"]) == DataOptions(condition="age")
    assert load_data(FRAME, condition=["sex"]).condition.kind == "classes"


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (("age", "height"), "no column 'height' for the condition; it has a, sex, b, age, site"),
        (DataOptions(condition=("age", "height")).condition, "no column 'height' for the condition"),
    ],
)
def test_names_that_are_not_there_are_refused(condition, said):
    with pytest.raises(DataError, match=said):
        load_data(FRAME, condition=condition)


def test_a_name_that_comes_twice_is_refused():
    with pytest.raises(DataError, match="each condition must be named once; got age more than once"):
        DataOptions(condition=("age", "age"))


def test_whole_numbers_are_classes_up_to_twenty_and_types_say_otherwise():
    kinds = {c.name: c.kind for c in load_data(FRAME, condition=NAMES).condition.parts}
    assert kinds == {"age": "numbers", "sex": "classes", "site": "classes"}
    types = {"age": "categorical", "site": "real"}
    data = load_data(FRAME, DataOptions(columns=types), condition=NAMES)
    assert {c.name: c.kind for c in data.condition.parts} == {"age": "classes", "sex": "classes", "site": "numbers"}
    assert not data.source.schema.is_mixed  # types of conditions make no table of mixed columns
    with pytest.raises(DataError, match="'sex' must be numbers, as its type says"):
        load_data(FRAME, DataOptions(columns={"sex": "real"}), condition=NAMES)
    with pytest.raises(DataError, match="'age' must be of the type categorical or real; got 'date'"):
        load_data(FRAME, DataOptions(columns={"age": "date"}), condition=NAMES)


def test_a_coding_is_what_it_was_after_it_was_stored():
    coding = load_data(FRAME, condition=NAMES).condition
    again = Condition.from_dict(coding.to_dict())
    assert again == coding
    rows = FRAME[list(NAMES)].to_numpy(object)
    torch.testing.assert_close(again(rows), coding({name: FRAME[name].to_numpy() for name in NAMES}))


def test_one_value_of_a_dict_is_taken_for_all():
    coding = load_data(FRAME, condition=("age", "sex")).condition
    found = coding({"age": [20, 30, 40], "sex": "m"})
    torch.testing.assert_close(found, coding([[20, "m"], [30, "m"], [40, "m"]]))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"age": 3}, "must have the entries age, sex; got age"),
        ({"age": [3, 4], "sex": ["m", "f", "f"]}, "columns of one length; got 2, 3"),
        ([3, "m"], r"must be \[N, 2\], a column each for age, sex"),
        ([[3, "x"]], "'sex' must be one of f, m; got x"),
    ],
)
def test_cells_that_do_not_fit_are_refused(raw, said):
    with pytest.raises(DataError, match=said):
        load_data(FRAME, condition=("age", "sex")).condition(raw)


def test_typed_cells():
    coding = Condition(
        "job, age",
        "several",
        parts=(Condition("job", "classes", ("cook, chef", "smith")), Condition("age", "numbers", (), (0.0,), (1.0,))),
    )
    assert coding.typed("job=cook, chef, age=40") == {"job": "cook, chef", "age": 40.0}
    with pytest.raises(ArgumentError, match="must name its 2 columns"):
        coding.typed("job=smith, age=3, age=4")
    assert coding.typed("age = 40,job=smith") == {"job": "smith", "age": 40.0}
    with pytest.raises(ArgumentError, match=r"must name its 2 columns, as in job=\.\.\., age=\.\.\.; got 'smith'"):
        coding.typed("smith")


def test_an_array_of_several_numbers_goes_with_no_other():
    items = [{"x": RNG.normal(size=3), "speed": RNG.normal(size=2), "site": i % 2} for i in range(40)]
    with pytest.raises(DataError, match="'speed' is \\(2,\\) for each example, which goes with no other"):
        load_data(items, condition=("speed", "site"))

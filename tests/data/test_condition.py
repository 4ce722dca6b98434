"""Conditions: where they come from, how they are coded, and that every example keeps its own."""

import io
import json
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from calibrae.data import Condition, DataOptions, byte_source, in_batches, load_data, open_source
from calibrae.errors import DataError

RNG = np.random.default_rng(0)
N = 60
SPLITS = ("train", "validation", "test")


def one_hot(labels):
    """Code as NumPy does: the sorted distinct values, and a unit vector for each label."""
    values, positions = np.unique(np.asarray(labels), return_inverse=True)
    return values, np.eye(len(values), dtype=np.float32)[positions]


def require_aligned(data, contexts_of):
    """Check every way to a context against what the stored example itself says.

    Args:
        data: whose examples carry a mark from which their condition follows.
        contexts_of: from stored examples `[n, *data]`, a NumPy array, to their contexts.
    """
    for split in (*SPLITS, "all"):
        view = data.view(split)
        expected = contexts_of(view.gather(np.arange(len(view))).numpy())
        np.testing.assert_allclose(data.contexts(split).numpy(), expected, rtol=1e-5, atol=1e-6)
        for batches in (data.batches(split, 7), data.batches(split, 1000)):
            found = torch.cat([batch.context for batch in batches])
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
        few = next(iter(data.batches(split, 1000, limit=3)))
        np.testing.assert_allclose(few.context.numpy(), expected[few.index.numpy()], rtol=1e-5, atol=1e-6)
        rows = [len(view) - 1, 0]
        np.testing.assert_allclose(data.gather(split, rows).context.numpy(), expected[rows], rtol=1e-5, atol=1e-6)
    order = np.random.default_rng(1).permutation(len(data.view("train")))
    batches = data.stored_batches(in_batches(order, 7), torch.Generator().manual_seed(0), byte_source(0))
    expected = contexts_of(data.view("train").gather(order).numpy())
    np.testing.assert_allclose(torch.cat([c for _, _, c in batches]).numpy(), expected, rtol=1e-5, atol=1e-6)


def marked_pictures(n=N):
    """Pictures whose first pixel is their number, so that each can be recognised."""
    stored = RNG.integers(0, 256, (n, 1, 3, 3), dtype=np.uint8)
    stored[:, 0, 0, 0] = np.arange(n)
    return stored


def number_of(stored):
    return stored.reshape(len(stored), -1)[:, 0].astype(int)


# Where conditions come from


@pytest.mark.parametrize("given", [(), ("train", "test")])
def test_folders_of_pictures_have_classes(tmp_path, given):
    classes = np.array(["zebra", "ant", "cat"])[RNG.integers(0, 3, N)]
    for i, picture in enumerate(marked_pictures()):
        part = [given[i % len(given)]] if given else []
        folder = tmp_path.joinpath(*part, str(classes[i]), "deep" if i % 2 else "")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[0]).save(folder / f"{RNG.integers(1 << 30)}-{i}.png")
    data = load_data(tmp_path, condition="class")
    assert data.condition.values == ("ant", "cat", "zebra")
    assert (data.provenance["test"] == "given") == bool(given)
    require_aligned(data, lambda stored: one_hot(classes)[1][number_of(stored)])


def test_classes_stay_with_their_pictures_where_broken_ones_are_skipped(tmp_path):
    for i, picture in enumerate(marked_pictures(20)):
        folder = tmp_path / f"class{i % 3}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture[0]).save(folder / f"{i:02}.png")
        (folder / f"{i:02}-broken.png").write_bytes(b"not a picture")
    data = load_data(tmp_path, DataOptions(condition="class", skip_broken=True))
    require_aligned(data, lambda stored: np.eye(3)[number_of(stored) % 3])


def test_a_picture_outside_of_the_classes_is_named(tmp_path):
    for place in ("a", "b", "."):
        (tmp_path / place).mkdir(exist_ok=True)
        Image.fromarray(marked_pictures(1)[0, 0]).save(tmp_path / place / "stray.png")
    with pytest.raises(DataError, match=r"must lie in the folder of its class; stray\.png does not"):
        load_data(tmp_path, condition="class")


COLUMNS = {
    "text": np.array(["north", "south", "west"])[np.arange(N) % 3],
    "integer": np.array([3, 11, 2])[np.arange(N) % 3],
    "boolean": np.arange(N) % 2 == 0,
    "float": np.sin(np.arange(N)) * 7 + 100,
}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("column", list(COLUMNS))
def test_a_column_of_a_table_is_taken_out_of_x(tmp_path, suffix, column):
    features = {"number": np.arange(N, dtype=float), "noise": RNG.normal(size=N)}
    table = pa.table({"number": features["number"], "site": COLUMNS[column], "noise": features["noise"]})
    file = tmp_path / f"t.{suffix}"
    (pc.write_csv if suffix == "csv" else pq.write_table)(table, file)
    data = load_data(file, condition="site")
    assert data.source.columns == ("number", "noise")
    np.testing.assert_allclose(data.source.parts["all"], np.stack(list(features.values()), 1), rtol=1e-12)
    if column == "float":
        train = COLUMNS[column][number_of(data.view("train").gather(np.arange(len(data.view("train")))).numpy())]
        coded = (COLUMNS[column][:, None] - train.mean()) / train.std()
        assert (data.condition.kind, data.condition.dim) == ("numbers", 1)
    else:
        values, coded = one_hot(COLUMNS[column])
        assert data.condition.kind == "classes"
        assert list(data.condition.values) == (values.tolist() if column != "boolean" else [0, 1])
    require_aligned(data, lambda stored: coded[number_of(stored)])
    plain = load_data(file) if column not in ("text", "boolean") else None  # words and truth values: mixed columns
    assert plain is None or plain.source.columns == ("number", "site", "noise")


def test_tables_in_several_files_keep_their_parts(tmp_path):
    for part, start, n in (("train-0", 0, 20), ("train-1", 20, 15), ("test", 35, 10)):
        numbers = np.arange(start, start + n)
        table = pa.table({"number": numbers.astype(float), "other": RNG.normal(size=n), "kind": numbers % 4})
        pq.write_table(table, tmp_path / f"{part}.parquet")
    data = load_data(tmp_path, condition="kind")
    assert data.provenance["test"] == "given"
    require_aligned(data, lambda stored: np.eye(4)[number_of(stored) % 4])


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(">u1").tobytes())


def test_label_files_of_idx(tmp_path):
    images, labels = marked_pictures(), RNG.integers(0, 10, N)
    for part, rows in (("train", slice(0, 45)), ("t10k", slice(45, N))):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images[rows, 0])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels[rows])
    data = load_data(tmp_path, condition="label")
    assert data.condition.values == tuple(range(10))
    require_aligned(data, lambda stored: np.eye(10)[labels[number_of(stored)]])
    assert load_data(tmp_path).condition is None


def test_label_files_without_a_training_part_are_pooled_as_their_images_are(tmp_path):
    images, labels = marked_pictures(), RNG.integers(0, 10, N)
    # in another order than the images by name
    for part, image, label, rows in (("val", "a", "z", slice(0, 30)), ("test", "b", "y", slice(30, N))):
        write_idx(tmp_path / f"{image}-{part}-images-idx3-ubyte", images[rows, 0])
        write_idx(tmp_path / f"{label}-{part}-labels-idx1-ubyte", labels[rows])
    data = load_data(tmp_path, condition="label")
    require_aligned(data, lambda stored: np.eye(10)[labels[number_of(stored)]])


def test_too_few_labels_are_refused(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", marked_pictures()[:, 0])
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(N - 1) % 3)
    with pytest.raises(DataError, match="the part train has 60 examples and 59 labels"):
        load_data(tmp_path, condition="label")


@pytest.mark.parametrize("kind", ["integer", "text"])
def test_parquet_pictures_with_a_label(tmp_path, kind):
    names = ["seven", "one", "four"]
    for part, start, n in (("train", 0, 40), ("test", 40, 20)):
        cells = []
        for picture in marked_pictures()[start : start + n]:
            stream = io.BytesIO()
            Image.fromarray(picture[0]).save(stream, "png")
            cells.append({"bytes": stream.getvalue(), "path": None})
        labels = [i % 3 if kind == "integer" else names[i % 3] for i in range(start, start + n)]
        pq.write_table(pa.table({"image": cells, "label": labels}), tmp_path / f"{part}-00000.parquet")
    data = load_data(tmp_path, condition="label")
    coded = one_hot([i % 3 if kind == "integer" else names[i % 3] for i in range(N)])[1]
    require_aligned(data, lambda stored: coded[number_of(stored)])


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_arrays_of_labels_in_npz(tmp_path, shape):
    images, labels = marked_pictures(), RNG.integers(0, 5, shape)
    np.savez(tmp_path / "a.npz", x_train=images[:40], y_train=labels[:40], x_test=images[40:], y_test=labels[40:])
    data = load_data(tmp_path / "a.npz", condition="label")
    require_aligned(data, lambda stored: np.eye(5)[labels.reshape(-1)[number_of(stored)]])
    np.savez(tmp_path / "b.npz", images=images, labels=labels)
    data = load_data(tmp_path / "b.npz", condition="label")
    require_aligned(data, lambda stored: np.eye(5)[labels.reshape(-1)[number_of(stored)]])


class Pairs(torch.utils.data.Dataset):
    """A map-style data set of examples and labels."""

    def __init__(self, xs, ys):
        self.xs, self.ys = xs, ys

    def __len__(self):
        return len(self.xs)

    def __getitem__(self, i):
        return self.xs[i], self.ys[i]


@pytest.mark.parametrize("kind", ["dataset", "tensors", "tuples", "dicts", "stream"])
def test_data_sets_of_pairs_and_dicts(kind):
    images, labels = marked_pictures(), RNG.integers(0, 4, N)
    things = {
        "dataset": Pairs(images, labels),
        "tensors": torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels)),
        "tuples": list(zip(images, labels.tolist(), strict=True)),
        "dicts": [{"label": int(y), "image": x} for x, y in zip(images, labels, strict=True)],
        "stream": iter(zip(images, labels, strict=True)),
    }
    data = load_data(things[kind], condition="label")
    require_aligned(data, lambda stored: np.eye(4)[labels[number_of(stored)]])


def test_items_without_a_condition_are_refused():
    with pytest.raises(DataError, match=r"has no condition 'label': its items must be \(example, condition\) or dicts"):
        load_data(list(marked_pictures()), condition="label")
    with pytest.raises(DataError, match="has no condition 'age'"):
        load_data([{"image": x, "label": 1} for x in marked_pictures()], condition="age")


@pytest.mark.parametrize("column", list(COLUMNS))
def test_a_column_of_a_data_frame(column):
    frame = pd.DataFrame({"number": np.arange(N, dtype=float), "km/h": COLUMNS[column], "b": RNG.normal(size=N)})
    frame.index = frame.index[::-1]  # an index says nothing of the order
    data = load_data(frame, condition="km/h")
    assert data.source.parts["all"].shape == (N, 2)
    if column == "float":
        train = COLUMNS[column][number_of(data.view("train").gather(np.arange(len(data.view("train")))).numpy())]
        coded = (COLUMNS[column][:, None] - train.mean()) / train.std()
    else:
        coded = one_hot(COLUMNS[column])[1]
    require_aligned(data, lambda stored: coded[number_of(stored)])


@pytest.mark.parametrize("as_tensor", [False, True])
def test_an_array_and_a_dict_of_arrays(as_tensor):
    images, labels, numbers = marked_pictures(), RNG.integers(0, 6, N), RNG.normal([5, -3], [2, 40], (N, 2))

    def given(array):
        return torch.from_numpy(array) if as_tensor else array

    data = load_data(images, condition=given(labels))
    require_aligned(data, lambda stored: np.eye(6)[labels[number_of(stored)]])
    parts = {"train": images[:30], "val": images[30:40], "test": images[40:]}
    by_part = {"train": numbers[:30], "validation": numbers[30:40], "test": numbers[40:]}
    data = load_data(parts, condition={part: given(array) for part, array in by_part.items()})
    coded = (numbers - numbers[:30].mean(0)) / numbers[:30].std(0)
    require_aligned(data, lambda stored: coded[number_of(stored)])


def test_parts_of_a_condition_may_be_called_as_those_of_the_data():
    images = marked_pictures()
    parts = {"train": images[:40], "val": images[40:50], "test": images[50:]}
    data = load_data(parts, condition={part: number_of(array) % 2 for part, array in parts.items()})
    require_aligned(data, lambda stored: np.eye(2)[number_of(stored) % 2])


def test_the_bundled_digits_have_labels():
    from sklearn.datasets import load_digits

    digits = load_digits()
    data = load_data("digits", condition="label")
    coded = {image.tobytes(): label for image, label in zip(digits.images.astype(np.uint8), digits.target, strict=True)}
    require_aligned(data, lambda stored: np.eye(10)[[coded[image[0].tobytes()] for image in stored]])


# How they are coded


def test_classes_are_sorted_one_hot_vectors():
    coding = load_data(marked_pictures(), condition=np.array([7, -2, 7, 30] * 15)).condition
    assert coding.values == (-2, 7, 30)
    np.testing.assert_array_equal(coding([30, -2, 7]).numpy(), [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert coding([7]).dtype == torch.float32


def test_many_integers_and_whole_rows_are_numbers():
    many = load_data(np.arange(2000.0)[:, None] + RNG.normal(size=(2000, 2)), condition=np.arange(2000))
    assert (many.condition.kind, many.condition.dim) == ("numbers", 1)
    rows = load_data(marked_pictures(), condition=RNG.integers(0, 3, (N, 4)))
    assert (rows.condition.kind, rows.condition.dim) == ("numbers", 4)


def test_numbers_are_standardised_on_the_training_set_alone():
    numbers = RNG.normal([1e4, -3.0], [0.5, 200.0], (N, 2))
    data = load_data(marked_pictures(), condition=numbers)
    train = numbers[number_of(data.view("train").gather(np.arange(len(data.view("train")))).numpy())]
    np.testing.assert_allclose(data.condition.mean, train.mean(0), rtol=1e-12)
    np.testing.assert_allclose(data.condition.std, train.std(0), rtol=1e-12)
    contexts = data.contexts("train").double()
    np.testing.assert_allclose(contexts.mean(0), [0, 0], atol=1e-6)
    np.testing.assert_allclose(contexts.std(0, correction=0), [1, 1], rtol=1e-5)


@pytest.mark.parametrize("kind", ["text", "integers", "numbers"])
def test_the_coding_survives_json(kind):
    given = {"text": COLUMNS["text"], "integers": COLUMNS["integer"], "numbers": RNG.normal(size=(N, 3))}[kind]
    coding = load_data(marked_pictures(), condition=given).condition
    again = Condition.from_dict(json.loads(json.dumps(coding.to_dict())))
    assert again == coding
    assert torch.equal(again(given), coding(given))


def test_other_data_are_coded_as_the_training_data_were():
    first = load_data(marked_pictures(), condition=np.arange(N) % 3)
    other = load_data(
        marked_pictures(8), None, first.preparation, condition=np.array([2] * 8), coding=first.condition, split=False
    )
    np.testing.assert_array_equal(other.contexts("test").numpy(), np.tile([0, 0, 1], (8, 1)))


@pytest.mark.parametrize(
    ("values", "asked", "message"),
    [
        ([0, 1, 2], 3, "'condition' must be one of 0, 1, 2; got 3"),
        ([0, 1, 2], 1.5, "must be one of 0, 1, 2; got 1.5"),
        ([0, 1, 2], "cat", "must be one of 0, 1, 2; got cat"),
        (["a", "b", "c"], "d", "must be one of a, b, c; got d"),
        (["a", "b", "c"], 0, "must be one of a, b, c; got 0"),
    ],
)
def test_an_unknown_class_is_refused_in_one_line(values, asked, message):
    coding = load_data(marked_pictures(), condition=np.array(values)[np.arange(N) % 3]).condition
    with pytest.raises(DataError, match=message) as refused:
        coding([asked])
    assert "\n" not in str(refused.value)


def test_numbers_that_are_none_are_refused():
    coding = load_data(marked_pictures(), condition=RNG.normal(size=(N, 2))).condition
    for wrong in ([[1.0]], [[1.0, np.nan]], [["a", "b"]]):
        with pytest.raises(DataError, match="must be 2 finite numbers"):
            coding(wrong)


# What is refused


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (np.zeros(N, dtype=int), "must have two classes at least"),
        (np.array(["a"] * N), "must have two classes at least"),
        (np.full(N, 0.1), "must vary over the training examples"),
        (np.full((N, 2), 1e8 + 0.1), "must vary over the training examples"),
        (np.where(np.arange(N) == 5, np.nan, np.arange(N) * 0.5), "must be finite; got NaN or infinity"),
        (np.array(["a", None, "b"] * 20, dtype=object), "must have no missing values"),
        (np.array(["a", float("nan"), "b"] * 20, dtype=object), "must have no missing values"),
        (np.arange(N - 1), r"one entry for each of the 60 examples \(all\); got \(59,\)"),
        (np.zeros((N, 2, 2)), r"must be \[N\] or \[N, k\]"),
        ({"test": np.arange(N)}, "the condition lacks the part all; it has test"),
        ("label", "has no condition 'label'; it has none. Name a column, or pass an array"),
    ],
)
def test_unusable_conditions_say_so(condition, message):
    with pytest.raises(DataError, match=message) as refused:
        load_data(marked_pictures(), condition=condition)
    assert "\n" not in str(refused.value)


def test_a_number_that_is_missing_in_any_split_is_refused():
    numbers = RNG.normal(size=N)
    data = load_data(marked_pictures(), condition=numbers)
    for split in SPLITS:
        holed = numbers.copy()
        holed[number_of(data.view(split).gather(np.arange(1)).numpy())] = np.nan
        with pytest.raises(DataError, match="must be finite"):
            load_data(marked_pictures(), condition=holed)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("kind", ["text", "number"])
def test_missing_entries_of_a_column_are_refused(tmp_path, suffix, kind):
    column = ["a", None, "b", "a"] if kind == "text" else [1, None, 2, 1]
    table = pa.table({"x": np.arange(40.0), "site": column * 10})
    file = tmp_path / f"t.{suffix}"
    (pc.write_csv if suffix == "csv" else pq.write_table)(table, file)
    with pytest.raises(DataError, match="the condition 'site' must have no missing values; 10 of 40 are"):
        load_data(file, condition="site")


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i},{i % 3}\n" for i in range(20)))
    with pytest.raises(DataError, match=r"has no column 'c' for the condition; it has a, b\."):
        load_data(tmp_path / "t.csv", condition="c")


def test_a_table_of_nothing_but_the_condition_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a\n" + "".join(f"{i}\n" for i in range(20)))
    with pytest.raises(DataError, match="no columns are left"):
        load_data(tmp_path / "t.csv", condition="a")


def test_parts_need_a_condition_each():
    images = marked_pictures()
    with pytest.raises(DataError, match="must be a dict with an array for each"):
        load_data({"train": images[:40], "test": images[40:]}, condition=np.arange(N))
    with pytest.raises(DataError, match="lacks the part test"):
        load_data({"train": images[:40], "test": images[40:]}, condition={"train": np.arange(40)})


def test_prepared_data_take_no_further_condition():
    with pytest.raises(DataError, match="prepared already"):
        load_data(load_data(marked_pictures()), condition=np.arange(N))


# Kept in the cache


@pytest.mark.parametrize("column", list(COLUMNS))
def test_what_is_kept_comes_back_with_its_conditions(column):
    from calibrae.data import keep_source

    frame = pd.DataFrame({"number": np.arange(N, dtype=float), "km/h": COLUMNS[column], "b": RNG.normal(size=N)})
    first = load_data(frame, condition="km/h")
    again = load_data(keep_source(first.source), DataOptions(condition="km/h"))
    assert again.source.fingerprint == first.source.fingerprint
    for split in (*SPLITS, "all"):
        assert torch.equal(first.contexts(split), again.contexts(split))
        assert torch.equal(first.view(split).slice(0, 3), again.view(split).slice(0, 3))


def test_the_same_examples_with_other_conditions_are_kept_apart():
    from calibrae.data import keep_source

    images = marked_pictures()
    places = [
        keep_source(load_data(images, condition=given).source)
        for given in (np.arange(N) % 2, np.arange(N) % 3, np.arange(N) % 2)
    ]
    assert places[0] == places[2] != places[1]
    assert keep_source(open_source(images)) not in places


def test_the_same_examples_under_other_names_are_kept_apart():
    from calibrae.data import keep_source

    x = RNG.normal(size=(N, 2))
    frames = [pd.DataFrame(x, columns=names).assign(**{site: COLUMNS["text"]}) for names, site in (
        (["a", "b"], "site"), (["a", "c"], "site"), (["a", "b"], "place"),
    )]  # fmt: skip
    for frame in frames:
        name = frame.columns[2]
        again = load_data(keep_source(load_data(frame, condition=name).source), DataOptions(condition=name))
        assert again.source.columns == tuple(frame.columns[:2])

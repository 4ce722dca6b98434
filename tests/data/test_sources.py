"""Every layout that people have, and every way in which it is broken."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from calibrae.data import DataOptions, load_data, open_source
from calibrae.errors import CalibraeError, DataError

RNG = np.random.default_rng(0)


def picture(size=(6, 5), colour=True):
    shape = (*size, 3) if colour else size
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        place = tmp_path / f"class{i % 3}" / "deep"
        place.mkdir(parents=True, exist_ok=True)
        picture(colour=i > 0).save(place / f"{i}.{('png', 'jpg', 'webp', 'bmp')[i % 4]}")
    return tmp_path


def write_idx(path, array, code=8):
    body = array.astype({8: ">u1", 13: ">f4"}[code]).tobytes()
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as stream:
        stream.write(header + body)


def test_digits_have_17_levels():
    source = open_source("digits")
    assert source.levels == 17
    assert source.parts["all"].shape == (1797, 1, 8, 8)


def test_folder_in_any_nesting_and_mixed_formats(folder):
    source = open_source(folder)
    assert source.parts["all"].shape == (12, 3, 6, 5)
    assert source.levels == 256


def test_grey_folders_have_one_channel(tmp_path):
    for i in range(3):
        picture(colour=False).save(tmp_path / f"{i}.png")
    stored = open_source(tmp_path).parts["all"]
    assert stored.shape == (3, 1, 6, 5)
    np.testing.assert_array_equal(stored[0, 0], np.asarray(Image.open(tmp_path / "0.png")))


def test_given_folders_are_kept(tmp_path):
    for part, n in (("train", 8), ("test", 3)):
        (tmp_path / part / "a").mkdir(parents=True)
        for i in range(n):
            picture().save(tmp_path / part / "a" / f"{i}.png")
    data = load_data(tmp_path)
    assert {s: len(v) for s, v in data.views.items()} == {"train": 7, "validation": 1, "test": 3}
    assert data.provenance["test"] == "given"


def test_pictures_win_over_a_table_of_their_labels(folder):
    (folder / "labels.csv").write_text("id,age\n1,2\n3,4\n")
    assert open_source(folder).parts["all"].shape == (12, 3, 6, 5)


def test_orientation_depth_and_kinds_of_pictures(tmp_path):
    turned = picture((4, 6))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.jpg", exif=exif)
    assert open_source(tmp_path).parts["all"].shape == (1, 3, 6, 4)
    deep = tmp_path / "deep"
    deep.mkdir()
    Image.fromarray(np.full((3, 3), 0x8001, dtype=np.uint16)).save(deep / "a.png")
    source = open_source(deep)
    assert source.parts["all"].tolist() == [[[[0x8001] * 3] * 3]]
    assert source.levels == 1 << 16
    picture((3, 3), colour=False).save(deep / "b.png")  # beside 8 bits, the upper half is kept
    source = open_source(deep)
    assert source.parts["all"][0].tolist() == [[[0x80] * 3] * 3]
    assert "16 bits" in source.notes[0]
    floats = tmp_path / "floats"
    floats.mkdir()
    Image.fromarray(np.full((3, 3), 0.5, dtype=np.float32)).save(floats / "a.tif")
    with pytest.raises(DataError, match=r"8 or 16 bits a channel; got floats"):
        open_source(floats)


@pytest.mark.parametrize("resize", ["crop", "fit"])
def test_mixed_sizes_need_a_size(folder, resize):
    picture(size=(9, 30)).save(folder / "wide.png")
    with pytest.raises(DataError, match=r"--size H,W .*--resize crop or fit"):
        open_source(folder)
    source = open_source(folder, DataOptions(size=(4, 4), resize=resize))
    assert source.parts["all"].shape == (13, 3, 4, 4)
    assert "sizes" in source.notes[0]
    wide = [f.name for f in sorted(folder.rglob("*.*"))].index("wide.png")
    rows = source.parts["all"][wide].max(axis=(0, 2))
    assert (rows[0] == 0) == (resize == "fit")  # padded black above, or cut


def test_broken_files_are_named_counted_and_skipped_only_when_asked(folder):
    (folder / "bad.png").write_bytes(b"not a picture")
    whole = (folder / "class0" / "deep" / "0.png").read_bytes()
    (folder / "short.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"bad\.png.*--skip-broken"):
        open_source(folder)
    source = open_source(folder, DataOptions(skip_broken=True))
    assert len(source.parts["all"]) == 12
    assert "2 broken files were skipped" in source.notes[-1]


def test_the_cache_is_keyed_by_content_and_mapped_where_it_is_large(folder, monkeypatch):
    monkeypatch.setattr("calibrae.data._mapped.IN_MEMORY", 0)
    first = open_source(folder)
    (folder / "class0" / "deep" / "0.png").write_bytes((folder / "class0" / "deep" / "3.bmp").read_bytes())
    second = open_source(folder)
    assert first.fingerprint != second.fingerprint
    assert isinstance(second.parts["all"], np.memmap)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path, suffix):
    images, labels = RNG.integers(0, 256, (20, 4, 3)), RNG.integers(0, 9, 20)
    for part, rows in (("train", slice(0, 15)), ("t10k", slice(15, 20))):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{suffix}", images[rows])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{suffix}", labels[rows])
    source = open_source(tmp_path)
    np.testing.assert_array_equal(source.parts["train"][:, 0], images[:15])
    assert source.parts["test"].shape == (5, 1, 4, 3)
    single = open_source(tmp_path / f"t10k-images-idx3-ubyte{suffix}")
    assert single.parts["all"].shape == (5, 1, 4, 3)


def test_labels_are_not_data_and_parts_are_not_lost(tmp_path):
    images, labels = RNG.integers(0, 256, (8, 5, 4), dtype=np.uint8), RNG.integers(0, 9, (8, 1))
    np.savez(
        tmp_path / "medmnist.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:3],
        test_labels=labels[:3],
    )
    parts = open_source(tmp_path / "medmnist.npz").parts
    assert {name: a.shape for name, a in parts.items()} == {"train": (8, 1, 5, 4), "test": (3, 1, 5, 4)}
    np.savez(tmp_path / "two.npz", train_a=images, train_b=images)
    with pytest.raises(DataError, match="a second array for the part `train`"):
        open_source(tmp_path / "two.npz")
    (tmp_path / "emnist").mkdir()
    for part, rows in (("train", slice(0, 6)), ("test", slice(6, 8))):
        write_idx(tmp_path / "emnist" / f"emnist-letters-{part}-images-idx3-ubyte.gz", images[rows])
    assert {n: len(a) for n, a in open_source(tmp_path / "emnist").parts.items()} == {"train": 6, "test": 2}


@pytest.mark.parametrize("name", ["a-idx3-ubyte.gz", "a.npz", "a.npy"])
def test_damaged_files_are_one_sentence(tmp_path, name):
    file = tmp_path / name
    stored = RNG.integers(0, 256, (200, 5, 4))
    if name.endswith("gz"):
        write_idx(file, stored)
    else:
        (np.savez_compressed if name.endswith("npz") else np.save)(file, stored)
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 40] = bytes(40)
    if name.endswith("npy"):
        content = content[:100]
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read|cut short"):
        open_source(file)


def test_broken_idx(tmp_path):
    write_idx(tmp_path / "a-idx3-ubyte", np.zeros((4, 3, 3)))
    content = (tmp_path / "a-idx3-ubyte").read_bytes()
    (tmp_path / "a-idx3-ubyte").write_bytes(content[:-3])
    with pytest.raises(DataError, match="cut short"):
        open_source(tmp_path / "a-idx3-ubyte")
    (tmp_path / "b-idx3-ubyte").write_bytes(b"hello world")
    with pytest.raises(DataError, match="not an IDX file"):
        open_source(tmp_path / "b-idx3-ubyte")
    (tmp_path / "c-idx3-ubyte.gz").write_bytes(b"hello world")
    with pytest.raises(DataError, match="cannot be read"):
        open_source(tmp_path / "c-idx3-ubyte.gz")


def test_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", RNG.integers(0, 256, (9, 6, 4, 3), dtype=np.uint8))
    source = open_source(tmp_path / "a.npy")
    assert source.parts["all"].shape == (9, 3, 6, 4)
    assert "channels" in source.notes[0]
    np.savez(tmp_path / "b.npz", x_train=np.zeros((6, 2)), y_train=np.zeros(6), x_test=np.ones((3, 2)))
    parts = open_source(tmp_path / "b.npz").parts
    assert {name: len(a) for name, a in parts.items()} == {"train": 6, "test": 3}
    (tmp_path / "c.npy").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read as a NumPy file"):
        open_source(tmp_path / "c.npy")
    np.savez(tmp_path / "d.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2)))
    with pytest.raises(DataError, match="train, test"):
        open_source(tmp_path / "d.npz")


def test_parquet_with_images_and_given_splits(tmp_path):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    def cell():
        stream = io.BytesIO()
        picture((4, 4)).save(stream, "png")
        return {"bytes": stream.getvalue(), "path": None}

    for part, n in (("train", 7), ("test", 2)):
        table = pa.table({"label": list(range(n)), "img": [cell() for _ in range(n)]})
        pq.write_table(table, tmp_path / f"{part}-00000-of-00001.parquet")
    source = open_source(tmp_path)
    assert {name: a.shape for name, a in source.parts.items()} == {"train": (7, 3, 4, 4), "test": (2, 3, 4, 4)}


def test_parquet_and_csv_tables_agree(tmp_path):
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    table = pa.table({"a": RNG.normal(size=30), "b": RNG.integers(0, 9, 30)})
    pq.write_table(table, tmp_path / "t.parquet")
    pc.write_csv(table, tmp_path / "t.csv")
    one, two = open_source(tmp_path / "t.parquet"), open_source(tmp_path / "t.csv")
    np.testing.assert_allclose(one.parts["all"], two.parts["all"], rtol=1e-6)
    assert one.columns == ("a", "b")
    assert one.levels is None


def test_csv_without_a_header_or_with_semicolons(tmp_path):
    (tmp_path / "plain.csv").write_text("1,2\n3,4\n5,6\n7,9\n")
    assert open_source(tmp_path / "plain.csv").parts["all"].shape == (4, 2)
    (tmp_path / "semi.csv").write_text("a;b\n1;2\n3;4\n")
    assert open_source(tmp_path / "semi.csv").columns == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,inf\n2,3\n",
            "NaN or infinity|infinity in 1 of 2 examples, first in example 0 .counted from 0., column 'b'",
        ),
        ("a,b\n1,2\n3\n", "cannot be read"),
    ],
)
def test_bad_tables_say_where(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "t.csv")


def test_constant_columns_are_named(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i},7.5\n" for i in range(20)))
    with pytest.raises(DataError, match="constant ones: b"):
        load_data(tmp_path / "t.csv")


class Stream(torch.utils.data.IterableDataset):
    """An iterable data set that knows its length."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter(self.rows)


def test_data_frames_and_bf16():
    import pandas as pd

    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.5]})
    source = open_source(frame)
    np.testing.assert_array_equal(source.parts["all"], frame.to_numpy())
    assert source.columns == ("a", "b")
    assert open_source(torch.zeros(4, 3, dtype=torch.bfloat16) + 1.5).parts["all"].shape == (4, 3)


@pytest.mark.parametrize("kind", ["array", "tensor", "dataset", "tuples", "dicts", "pictures", "iterable", "stream"])
def test_python_objects(kind):
    stored = RNG.integers(0, 256, (12, 3, 4, 5), dtype=np.uint8)
    things = {
        "array": stored,
        "tensor": torch.from_numpy(stored),
        "dataset": torch.utils.data.TensorDataset(torch.from_numpy(stored)),
        "tuples": [(row, 3) for row in stored],
        "dicts": [{"image": row, "label": 1} for row in stored],
        "pictures": [Image.fromarray(row.transpose(1, 2, 0)) for row in stored],
        "iterable": iter(stored),
        "stream": Stream(stored),
    }
    source = open_source(things[kind])
    np.testing.assert_array_equal(source.parts["all"], stored)
    assert source.levels == 256


def test_a_dict_of_arrays_keeps_its_splits():
    data = load_data(
        {"train": np.zeros((5, 2)) + np.arange(5)[:, None], "val": np.ones((2, 2)), "test": np.ones((3, 2))}
    )
    assert {s: len(v) for s, v in data.views.items()} == {"train": 5, "validation": 2, "test": 3}


def test_floats_that_are_eight_bit_are_read_as_such():
    stored = RNG.integers(0, 256, (10, 1, 4, 4))
    source = open_source((stored / 255).astype(np.float32))
    assert source.levels == 256
    np.testing.assert_array_equal(source.parts["all"], stored)
    assert "k/255" in source.notes[0]


@pytest.mark.parametrize(
    ("high", "levels"), [(1, 2), (15, 16), (16, 17), (40, 256), (255, 256), (1000, 1024), (4095, 4096)]
)
def test_levels_of_integers(high, levels):
    stored = np.zeros((3, 1, 2, 2), dtype=np.int32)
    stored[0] = high
    assert open_source(stored).levels == levels
    assert open_source(stored, DataOptions(levels=5000)).levels == 5000


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.full((4, 2), np.nan), {}, "no column is left to model"),
        (np.full((4, 2, 5), np.nan), {}, "must be finite"),
        (np.zeros((4, 1, 2, 2), dtype=int) + 9, {"levels": 4}, "below levels = 4"),
        (np.zeros((4, 1, 2, 2)) + 0.123, {"levels": 4}, "for integer data"),
        (np.zeros(4), {}, r"\[N, D\]"),
        (np.array([["a"]]), {}, "must be numbers"),
        (np.zeros((0, 3)), {}, "no examples"),
        (iter([]), {}, "no examples"),
        ([np.zeros(3), np.zeros(4)], {}, "example 1"),
        (object(), {}, "data must be one of: .*an array or tensor"),
        ({"train": 3}, {}, "map train, validation or test to arrays"),
        ({"test": np.zeros((2, 2))}, {}, "must have the key train"),
        ("no/such/place", {}, "neither a path that exists nor one of digits"),
    ],
)
def test_unusable_data_say_what_to_do(data, options, message):
    with pytest.raises(DataError, match=message):
        open_source(data, DataOptions(**options))


def test_folders_without_data(tmp_path):
    with pytest.raises(DataError, match="holds no pictures"):
        open_source(tmp_path)
    picture().save(tmp_path / "one.png")
    with pytest.raises(DataError, match="Pass the folder"):
        open_source(tmp_path / "one.png")
    (tmp_path / "x.docx").write_text("")
    with pytest.raises(DataError, match="unknown kind of file"):
        open_source(tmp_path / "x.docx")


@pytest.mark.parametrize(
    "field",
    [
        {"resize": "stretch"},
        {"size": (0, 3)},
        {"levels": 1},
        {"data_range": (1.0, 0.0)},
        {"test_fraction": 0.9},
        {"levels": "many"},
    ],
)
def test_bad_options(field):
    with pytest.raises(CalibraeError, match="must"):
        DataOptions(**field)


def test_hub_names_go_through_datasets(monkeypatch, tmp_path):
    """The hub's layout on disk: what `load_dataset` returns for a name."""
    import datasets

    rows = {"image": [picture((4, 4), colour=False) for _ in range(6)], "label": list(range(6))}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict(rows, features=features)
    asked = []

    def load_dataset(path, config):
        asked.append((path, config))
        return datasets.DatasetDict({"train": table, "test": table.select(range(2))})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = open_source("mnist")
    assert asked == [("ylecun/mnist", None)]
    assert {n: a.shape for n, a in source.parts.items()} == {"train": (6, 1, 4, 4), "test": (2, 1, 4, 4)}
    np.testing.assert_array_equal(source.parts["train"][3, 0], np.asarray(rows["image"][3]))


def test_a_hub_that_cannot_be_reached(monkeypatch, tmp_path):
    import datasets

    def load_dataset(*_):
        raise ConnectionError("no route")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match="cannot be fetched from the hub: no route Go online once"):
        open_source("celeba")


def test_real_data_in_the_layouts_that_people_have(real_data):
    mnist = load_data(real_data / "mnist")
    assert {s: len(v) for s, v in mnist.views.items()} == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert mnist.spec.data_shape == (1, 28, 28)
    cifar = load_data(real_data / "cifar10")
    assert cifar.spec.data_shape == (3, 32, 32)
    assert not isinstance(cifar.view("test").array, np.memmap)  # 154 MB: in memory, where rows cost the least


def test_digits_come_from_the_cache_or_without_it(tmp_path, monkeypatch):
    expected = load_digits()
    monkeypatch.setenv("CALIBRAE_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        source = load_data("digits").source
        np.testing.assert_array_equal(source.parts["all"][:, 0], expected.images)
        np.testing.assert_array_equal(source.labels["label"]["all"], expected.target)
    stored = next((tmp_path / "cache").rglob("index.json"))
    stored.write_text("{")  # damaged
    np.testing.assert_array_equal(load_data("digits").source.parts["all"][:, 0], expected.images)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CALIBRAE_CACHE", str(tmp_path / "file" / "cache"))  # cannot be made
    np.testing.assert_array_equal(load_data("digits").source.parts["all"][:, 0], expected.images)

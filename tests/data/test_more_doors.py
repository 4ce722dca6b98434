"""What came in wrongly, or not at all, when the doors were attacked: each of these was silent, or another library's error."""

from __future__ import annotations

import struct
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch
from PIL import Image
from scipy.io import wavfile
from torch.utils.data import DataLoader, Dataset

from calibrae.data import DataOptions, load_data, open_source
from calibrae.errors import DataError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 1, 6, 6), dtype=np.uint8)


def picture(mode="L", size=(8, 8)):
    bands = {"L": (), "RGB": (3,)}[mode]
    return Image.fromarray(RNG.integers(0, 256, (*size, *bands), dtype=np.uint8))


def pictures(folder, n=4, **how):
    folder.mkdir(parents=True)
    for i in range(n):
        picture(**how).save(folder / f"{i}.png")


def test_continuous_bfloat16_stays_continuous():
    for made in (torch.rand(60, 1, 4, 4), torch.tanh(torch.randn(60, 1, 4, 4))):
        assert open_source(made.bfloat16(), DataOptions(data_range=(-1.0, 1.0))).levels is None
        assert open_source(made.bfloat16()).levels is None


def test_parts_of_two_kinds_are_refused(tmp_path):
    with pytest.raises(DataError, match="all parts must hold numbers of one kind; got train uint8, test float"):
        open_source({"train": BYTES, "test": BYTES / 255})
    with pytest.raises(DataError, match="all examples must hold numbers of one kind; example 10"):
        open_source([*BYTES[:10], *(BYTES[10:] / 255)])
    for i, row in enumerate([*BYTES[:3], *(BYTES[3:5] / 255)]):
        np.save(tmp_path / f"{i}.npy", row)
    with pytest.raises(DataError, match="numbers of one kind"):
        open_source(tmp_path)


def test_sounds_of_two_types_are_refused(tmp_path):
    wavfile.write(tmp_path / "a.wav", 8000, np.zeros(9, np.int16))
    wavfile.write(tmp_path / "b.wav", 8000, np.zeros(9, np.float32))
    with pytest.raises(DataError, match="all sounds must be of one type"):
        open_source(tmp_path)


def test_rows_as_dicts_are_read_by_their_keys():
    rows = [{"a": 1.5, "b": 200.5} if i % 2 else {"b": 200.5, "a": 1.5} for i in range(20)]
    np.testing.assert_array_equal(open_source(rows).parts["all"], [[200.5, 1.5]] * 20)
    rows[7] = {"a": 1.0, "c": 2.0}
    with pytest.raises(DataError, match="the entries of the first, b, a; item 7 has others"):
        open_source(rows)


def test_nested_lists_are_arrays():
    np.testing.assert_array_equal(open_source(BYTES[:, 0].tolist()).parts["all"][:, 0], BYTES[:, 0])
    rows = [[torch.tensor(1.5), torch.tensor(float(i))] for i in range(9)]
    assert open_source(rows).parts["all"].shape == (9, 2)


@pytest.mark.parametrize("item", ["tensor", "tuple", "picture", "with text", "with None"])
def test_batches_that_are_lists_of_examples_are_taken_apart(item):
    tensors = [torch.rand(1, 4, 6) for _ in range(60)]
    items = {
        "tensor": tensors,
        "tuple": [(x, 1) for x in tensors],
        "picture": [picture(size=(4, 6)) for _ in range(60)],
        "with text": tensors,
        "with None": tensors,
    }[item]
    collate = {
        "with text": lambda b: (torch.stack(b), "meta"),
        "with None": lambda b: (torch.stack(b), None),
    }.get(item, lambda b: b)
    assert open_source(DataLoader(items, 8, collate_fn=collate)).parts["all"].shape == (60, 1, 4, 6)


def test_an_index_is_no_column(tmp_path):
    frame = pd.DataFrame({"a": RNG.normal(size=40), "b": RNG.normal(size=40)})
    shuffled = frame.sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "t.parquet")
    shuffled.to_csv(tmp_path / "t.csv")
    for door in (shuffled, tmp_path / "t.parquet", tmp_path / "t.csv"):
        assert open_source(door).columns == ("a", "b")


def test_trained_names_of_numbers_are_a_header(tmp_path):
    frame = pd.DataFrame(RNG.normal(size=(40, 3)), columns=["1", "2", "3"])
    known = load_data(frame)
    frame[["3", "1", "2"]].to_csv(tmp_path / "t.csv", index=False)
    found = load_data(tmp_path / "t.csv", None, known.preparation, split=False)
    np.testing.assert_allclose(found.source.parts["all"], frame.to_numpy())


def test_encoded_pictures_of_another_depth_are_refused(tmp_path):
    (tmp_path / "deep").mkdir()
    for i in range(12):
        Image.fromarray(RNG.integers(0, 1 << 16, (8, 8)).astype(np.uint16)).save(tmp_path / "deep" / f"{i}.png")
    pictures(tmp_path / "flat")
    known = load_data(tmp_path / "deep")
    with pytest.raises(DataError, match="8 bits a channel"):
        load_data(tmp_path / "flat", None, known.preparation)
    bits = load_data(BYTES).preparation
    with pytest.raises(DataError, match="holds bits"):
        load_data(BYTES > 9, None, bits)
    floats = load_data(RNG.random((20, 1, 8, 8))).preparation
    with pytest.raises(DataError, match="holds integers; the model was trained on floats"):
        load_data(tmp_path / "flat", None, floats)


def test_folders_beside_the_splits_are_said(tmp_path):
    for name in ("train", "test", "holdout"):
        pictures(tmp_path / "a" / name)
    source = open_source(tmp_path / "a")
    assert {part: len(array) for part, array in source.parts.items()} == {"train": 8, "test": 4}
    assert any("4 files of other folders (holdout) were added to the training set" in note for note in source.notes)
    for name in ("bus", "crash", "train"):
        pictures(tmp_path / "vehicles" / name)
    assert any(
        "added to the training set" in note or "train" in note for note in open_source(tmp_path / "vehicles").notes
    )


@pytest.mark.parametrize("kind", ["wav", "npy"])
def test_splits_of_one_file_an_example_are_kept(tmp_path, kind):
    for part, n in (("train", 6), ("test", 3)):
        (tmp_path / part).mkdir()
        for i in range(n):
            if kind == "wav":
                wavfile.write(tmp_path / part / f"{i}.wav", 8000, RNG.integers(-9, 9, 16).astype(np.int16))
            else:
                np.save(tmp_path / part / f"{i}.npy", RNG.random((1, 4, 4)))
    assert {part: len(array) for part, array in open_source(tmp_path).parts.items()} == {"train": 6, "test": 3}


def test_identifiers_are_refused_by_every_door(tmp_path):
    frame = pd.DataFrame({"id": 9007199254740993 + np.arange(80), "x": RNG.normal(size=80)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    wrapped = pd.DataFrame({"a": np.array([2**64 - 1] * 30 + list(range(30)), dtype="uint64"), "b": range(60)})
    for door in (frame, tmp_path / "t.csv", wrapped):
        with pytest.raises(DataError, match=r"at most 2\^53"):
            open_source(door)


@pytest.mark.parametrize("mark", ["?", "NA", "-", ""])
def test_missing_marks_are_no_names(tmp_path, mark):
    (tmp_path / "t.csv").write_text(f"{mark},1.5\n" + "".join(f"{i}.5,{i % 7}.25\n" for i in range(40)))
    found = open_source(tmp_path / "t.csv").parts["all"]
    if mark == "-":  # a word like any other
        assert found.shape == (41, 1)
        return
    assert found.shape == (41, 2)
    assert np.argwhere(np.isnan(found)).tolist() == [[0, 0]]


@pytest.mark.parametrize("head", ["\n\na,b\n", "sep=;\na;b\n"])
def test_lines_before_the_header_are_skipped(tmp_path, head):
    mark = ";" if ";" in head else ","
    (tmp_path / "t.csv").write_text(head + "".join(f"{i}{mark}{i * 7 % 11}\n" for i in range(30)))
    source = open_source(tmp_path / "t.csv")
    assert source.columns == ("a", "b")
    assert source.parts["all"].shape == (30, 2)


def test_names_that_come_twice_are_refused():
    class Annotated:
        X, shape, var_names = RNG.normal(size=(9, 3)), (9, 3), ["a", "a", "b"]

    with pytest.raises(DataError, match="a name of its own; got a"):
        open_source(Annotated())


def test_float32_tables_mean_the_same_in_a_frame_and_an_array():
    values = (RNG.integers(0, 50, (400, 2)) / 10 + 9000).astype(np.float32)
    kinds = [[c.kind for c in open_source(d).schema.fields] for d in (values, pd.DataFrame(values, columns=["a", "b"]))]
    assert kinds[0] == kinds[1]


def test_pictures_of_a_dataset_are_brought_to_a_size():
    assert open_source([picture()] * 8, DataOptions(size=(4, 4))).parts["all"].shape == (8, 1, 4, 4)
    known = load_data([picture() for _ in range(20)])
    found = load_data([picture("RGB", (9, 12))] * 3, None, known.preparation, split=False)
    assert found.source.parts["all"].shape == (3, 1, 8, 8)
    with pytest.raises(DataError, match="the first picture is grey, and picture 1 has colours"):
        open_source([picture(), picture("RGB")])


def test_what_items_hold_beside_their_example_is_said():
    assert "left out: y" in " ".join(open_source([{"x": np.zeros(3) + i, "y": 1} for i in range(9)]).notes)
    assert "what follows it was left out" in " ".join(open_source([(row, row) for row in BYTES]).notes)
    with pytest.raises(DataError, match="the part test holds no examples"):
        open_source({"train": BYTES, "test": BYTES[:0]})


def test_masked_conditions_are_refused():
    mask = np.arange(20) == 3
    with pytest.raises(DataError, match="no masked entries"):
        load_data(BYTES, condition=np.ma.array(np.arange(20.0), mask=mask))


class Broken(Dataset):
    """A Dataset with a corrupt record, or too long."""

    def __init__(self, real):
        self.real = real

    def __len__(self):
        return 10

    def __getitem__(self, i):
        if i >= self.real:
            raise IndexError("beyond the end") if self.real == 9 else RuntimeError(f"corrupt record {i}")
        return np.zeros(3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.float64(3.0), "a single number"),
        (torch.tensor(3.0), "a single number"),
        (torch.zeros(4, 3, device="meta"), "cannot be read"),
        (
            torch.nested.nested_tensor([torch.rand(2), torch.rand(3)], layout=torch.jagged),
            "cannot be read|several shapes",
        ),
        (Broken(7), "item 7 of Broken cannot be read: corrupt record 7"),
        (Broken(9), "item 9 of Broken cannot be read"),
        (pd.DataFrame({"a": [2**70, 1, 2]}), "cannot be read"),
        (pd.DataFrame({"a": [1, 1, 2], "b": [1, 2, 3]}).groupby("a"), "must|cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_no_other_librarys_error_comes_through(data, words):
    with pytest.raises(DataError, match=words):
        open_source(data)


def test_dok_matrices_are_sparse_ones():
    matrix = sp.dok_matrix((30, 4))
    matrix[3, 2] = 1.5
    assert open_source(matrix).parts["all"].sum() == 1.5


def test_signals_of_integers_and_pictures_without_a_channel_fit_a_trained_model():
    signals = load_data(RNG.random((20, 1, 32)) * 2 - 1, DataOptions(standardise=True))
    assert signals.spec.data_shape == (1, 32)
    grey = load_data(RNG.random((20, 1, 8, 8)))
    found = load_data(RNG.random((5, 8, 8)), None, grey.preparation, split=False)
    assert found.source.parts["all"].shape == (5, 1, 8, 8)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_dict_of_one_part_is_new_data(part):
    known = load_data(BYTES)
    found = load_data({part: BYTES[:7]}, None, known.preparation, split=False)
    assert len(found.view("test")) == 7
    assert found.names("test") == [str(i) for i in range(7)]


def test_one_row_or_picture_of_any_kind():
    frame = pd.DataFrame({"a": RNG.normal(size=40), "b": RNG.normal(size=40)})
    known = load_data(frame)
    want = load_data(frame.iloc[:1], None, known.preparation, split=False).source.parts["all"]
    for one in (frame.iloc[0], frame.iloc[0].to_dict(), frame.iloc[0].tolist(), frame.to_numpy()[0]):
        np.testing.assert_array_equal(load_data(one, None, known.preparation, split=False).source.parts["all"], want)
    pictures_known = load_data([picture() for _ in range(20)])
    assert load_data(picture(), None, pictures_known.preparation, split=False).source.parts["all"].shape == (1, 1, 8, 8)
    with pytest.raises(DataError, match="a model needs many"):
        open_source(picture())


def test_a_series_without_a_name_is_the_only_column():
    values = pd.Series(RNG.normal(size=40))
    known = load_data(values)
    found = load_data(values.rename("h"), None, known.preparation, split=False)
    assert any("only column" in note for note in found.source.notes)


def test_labels_beside_one_array(tmp_path):
    np.save(tmp_path / "data.npy", BYTES)
    np.save(tmp_path / "labels.npy", np.arange(20) % 3)
    assert open_source(tmp_path).parts["all"].shape == BYTES.shape
    assert load_data(tmp_path, condition="label").condition.values == (0, 1, 2)


def test_labels_of_broken_pictures_are_left_out(tmp_path):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = []
    for i in range(12):
        stream = io.BytesIO()
        picture().save(stream, "png")
        cells.append({"bytes": b"broken" if i == 3 else stream.getvalue(), "path": None})
    pq.write_table(pa.table({"img": cells, "label": list(range(12))}), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", DataOptions(skip_broken=True, condition="label"))
    assert source.labels["label"]["all"].tolist() == [i for i in range(12) if i != 3]


def test_an_empty_path_is_no_folder():
    with pytest.raises(DataError, match="is empty"):
        open_source("")


def test_sounds_of_another_rate_are_refused(tmp_path):
    for rate in (8000, 16000):
        (tmp_path / str(rate)).mkdir()
        for i in range(6):
            wavfile.write(tmp_path / str(rate) / f"{i}.wav", rate, RNG.integers(-9, 9, 16).astype(np.int16))
    trained = open_source(tmp_path / "8000")
    assert trained.schema.rate == 8000
    assert type(trained.schema).from_dict(trained.schema.to_dict()) == trained.schema
    assert len(open_source(tmp_path / "8000", schema=trained.schema).parts["all"]) == 6
    with pytest.raises(DataError, match="16000 samples a second; the model was trained on 8000"):
        open_source(tmp_path / "16000", schema=trained.schema)
    with pytest.raises(DataError, match="all sounds must have one rate"):
        open_source({"train": tmp_path / "8000", "test": tmp_path / "16000"})


def deep_png(pixels):
    """A PNG of 16 bits a channel, which Pillow reads and does not write."""
    height, width, _ = pixels.shape
    scanlines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(scanlines)) + chunk(b"IEND", b"")
    )


def deep_ppm(pixels):
    height, width, _ = pixels.shape
    return f"P6\n{width} {height}\n65535\n".encode() + pixels.astype(">u2").tobytes()


@pytest.mark.parametrize("write", [deep_png, deep_ppm])
def test_colours_of_16_bits_are_said_to_be_cut(tmp_path, write):
    for i in range(4):
        (tmp_path / f"{i}.{write.__name__[-3:]}").write_bytes(write(RNG.integers(0, 1 << 16, (8, 8, 3))))
    files = sorted(tmp_path.iterdir())
    for door in (tmp_path, [Image.open(file) for file in files]):
        assert "4 pictures of more than 8 bits a channel, of which colours keep the upper 8" in open_source(door).notes


def test_colours_of_8_bits_are_not(tmp_path):
    pictures(tmp_path / "png", mode="RGB")
    assert not any("bits a channel" in note for note in open_source(tmp_path / "png").notes)


def test_structured_arrays_are_tables(tmp_path):
    frame = pd.DataFrame({"a": RNG.normal(size=60), "b": RNG.integers(0, 9, 60)})
    array = frame.to_records(index=False)
    (tmp_path / "parts").mkdir()
    for path in (tmp_path / "t.npy", tmp_path / "parts" / "train.npy", tmp_path / "parts" / "test.npy"):
        np.save(path, array)
    np.savez(tmp_path / "t.npz", array)
    swapped = np.asarray(array).astype([("a", ">f8"), ("b", ">i4")])
    expected = open_source(frame)
    doors = (
        array,
        swapped,
        *(tmp_path / name for name in ("t.npy", "t.npz", "parts")),
        {"train": array, "test": array},
    )
    for door in doors:
        source = open_source(door)
        assert source.schema == expected.schema
        for part in source.parts.values():
            np.testing.assert_array_equal(part, expected.parts["all"])
    np.testing.assert_array_equal(
        open_source(array[3], schema=expected.schema).parts["all"], expected.parts["all"][3:4]
    )


def test_masked_and_complex_fields_are_refused():
    array = np.zeros(60, [("a", "f8"), ("b", "c16")])
    with pytest.raises(DataError, match="Drop those fields"):
        open_source(array)
    with pytest.raises(DataError, match="1 masked entries"):
        open_source(np.ma.array(array[["a"]], mask=[(i == 3,) for i in range(60)]))


def test_arrays_side_by_side_say_which_is_which():
    tables = RNG.normal(size=(80, 5)), RNG.normal(size=(80, 5))
    labelled = (BYTES, np.arange(20)), (BYTES, np.arange(20))
    for door in (tables, list(tables), (tables[0], np.arange(80)), labelled):
        with pytest.raises(DataError, match="says not which is which"):
            open_source(door)


def test_numbers_in_dicts_keep_their_digits():
    narrow = [{"a": np.float32(k / 10), "b": np.float32(k % 7 / 10)} for k in range(60)]
    assert open_source(narrow).parts["all"].dtype == np.float32
    mixed = [{"a": torch.tensor(2**24 + 1 + k), "b": torch.tensor(k + 0.5)} for k in range(60)]
    np.testing.assert_array_equal(open_source(mixed).parts["all"][:, 0], 2**24 + 1 + np.arange(60))


def test_a_first_column_of_lists_is_named():
    with pytest.raises(DataError, match="lists in ''"):
        open_source(pd.DataFrame({"": [[1, 2]] * 60, "b": range(60)}))


def test_numbers_in_text_beside_examples_are_no_examples(tmp_path):
    for i in range(8):
        np.save(tmp_path / f"{i}.npy", RNG.random((1, 4, 4)))
    (tmp_path / "labels.txt").write_text("".join(f"{i}\n" for i in range(8)))
    source = open_source(tmp_path)
    assert source.parts["all"].shape == (8, 1, 4, 4)
    assert any("1 file of plain-text tables left out (labels.txt)" in note for note in source.notes)


@pytest.mark.parametrize("shown", ["numpy", "torch", "pandas", "arrow"])
def test_the_format_of_datasets_changes_nothing(shown):
    datasets = pytest.importorskip("datasets")
    plain = datasets.Dataset.from_dict({"a": RNG.normal(size=60), "b": RNG.normal(size=60)})
    first, second = open_source(plain), open_source(plain.with_format(shown))
    assert first.schema == second.schema
    np.testing.assert_array_equal(first.parts["all"], second.parts["all"])


def test_the_columns_of_a_format_are_kept():
    datasets = pytest.importorskip("datasets")
    plain = datasets.Dataset.from_dict({"a": RNG.normal(size=60), "b": RNG.normal(size=60), "c": ["x"] * 60})
    assert open_source(plain.with_format("torch", columns=["a", "b"])).columns == ("a", "b")


def test_archives_of_other_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
    with pytest.raises(DataError, match="must hold arrays alone; got other files: x"):
        open_source(tmp_path / "a.npz")


def test_damaged_bytes_in_parquet_are_refused(tmp_path):
    table = pa.table({"image": [b"\x89PNG" * 50] * 200})
    pq.write_table(table, tmp_path / "whole.parquet", compression="none")
    whole = (tmp_path / "whole.parquet").read_bytes()
    for i in range(4, 60):  # the headers of its pages
        damaged = bytearray(whole)
        damaged[i] ^= 0xFF
        (tmp_path / "damaged.parquet").write_bytes(damaged)
        with pytest.raises(DataError):
            open_source(tmp_path / "damaged.parquet")

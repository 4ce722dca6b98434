"""Nothing is silent: whatever is assumed, converted, left out or chosen gives a note, by every reader."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from torch.utils.data import DataLoader, Dataset, TensorDataset

from calibrae.data import DataOptions, load_data, open_source
from calibrae.errors import DataError

RNG = np.random.default_rng(0)


def picture(size=(8, 8), mode="L"):
    bands = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    return Image.fromarray(RNG.integers(0, 256, (*size, *bands), dtype=np.uint8))


def pictures(folder, n=6, suffix="png", mode="L"):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        picture(mode=mode).save(folder / f"{i}.{suffix}")
    return folder


def notes(data, **options):
    return " | ".join(open_source(data, DataOptions(**options)).notes)


def alpha(folder):
    pictures(folder)
    picture(mode="RGBA").save(folder / "clear.png")
    return folder


def frames(folder):
    pictures(folder)
    picture().save(folder / "moving.gif", save_all=True, append_images=[picture(), picture()])
    return folder


def exif(folder):
    pictures(folder, suffix="webp", mode="RGB")
    tagged = Image.Exif()
    tagged[0x112] = 1
    picture(mode="RGB").save(folder / "x.webp", exif=tagged)
    content = (folder / "x.webp").read_bytes()
    at = max(content.find(b"MM\x00\x2a"), content.find(b"II\x2a\x00"))
    (folder / "x.webp").write_bytes(content[:at] + b"XX" + content[at + 2 :])
    return folder


def others(folder):
    pictures(folder)
    (folder / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "README.md").write_text("hello")
    return folder


def links(folder):
    pictures(folder / "here")
    (folder / "dead.png").symlink_to(folder / "nowhere.png")
    return folder


def parts(folder):
    pictures(folder / "train")
    pictures(folder / "test")
    return folder


def hidden_parts(folder):
    pictures(folder / "cats" / "train")
    pictures(folder / "dogs" / "train")
    return folder


def table_beside_pictures(folder):
    pictures(folder)
    pq.write_table(pa.table({"quality": [1.0, 2.0]}), folder / "metadata.parquet")
    return folder


def text(folder, content, **how):
    (folder / "t.csv").write_text(content, **how)
    return folder / "t.csv"


ROWS = "\n".join(f"{i},{i * 7 % 11}" for i in range(30)) + "\n"


class Changing(Dataset):
    """A Dataset with a random transform."""

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return np.random.default_rng().random(4)


def deep(folder, top=4095, n=6):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(RNG.integers(0, top + 1, (8, 8)).astype(np.uint16)).save(folder / f"{i}.png")
    return folder


def npz(folder, **more):
    np.savez(
        folder / "t.npz",
        x_train=RNG.normal(size=(9, 3)),
        x_test=RNG.normal(size=(5, 3)),
        y_train=np.arange(9),
        extra=np.zeros((2, 2)),
        **more,
    )
    return folder / "t.npz"


def sounds(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(5):
        wavfile.write(folder / f"{i}.wav", 8000, RNG.integers(-3000, 3000, 64).astype(np.int16))
    return folder


SAID = {
    "alpha": (alpha, "1 picture with transparency: shown on white"),
    "frames": (frames, "1 file with several frames or pages: the first was taken"),
    "damaged EXIF": (exif, "1 file with a damaged EXIF block"),
    "other suffixes": (others, "2 other files left out: .heic (1), .md (1)"),
    "dead links": (links, "1 dead link left out: dead.png"),
    "given splits": (parts, "splits as given by the folders test, train"),
    "splits not taken": (hidden_parts, "folders called train were not taken as splits"),
    "tables beside pictures": (table_beside_pictures, "pictures were read; 1 file of Parquet files left out (metadata.parquet)"),
    "16 bits": (deep, "integers up to 40"),
    "labels of a part": (npz, "labels are left out: there is not one for each example"),
    "labels": (lambda f: npz(f, y_test=np.arange(5)), "labels are not modelled (--condition label conditions on them)"),
    "arrays left out": (npz, "arrays that were left out: extra"),
    "sounds": (sounds, "sounds of 5 files at 8000 Hz"),
    "negative integers": (sounds, "read as 8192 levels from -4096"),
    "semicolons": (lambda f: text(f, "a;b\n" + ROWS.replace(",", ";")), "columns parted by semicolons"),
    "blanks": (lambda f: text(f, "a   b\n" + ROWS.replace(",", "   ")), "columns parted by blanks"),
    "bars": (lambda f: text(f, "a|b\n" + ROWS.replace(",", "|")), "columns parted by bars"),
    "decimal commas": (lambda f: text(f, "a;b\n" + ROWS.replace(",", ",5;")), "numbers with a decimal comma"),
    "UTF-16": (lambda f: text(f, "a,b\n" + ROWS, encoding="utf-16"), "text in UTF-16"),
    "Latin-1": (lambda f: text(f, "größe,b\n" + ROWS, encoding="latin-1"), "read as Latin-1"),
    "no header": (lambda f: text(f, ROWS), "the first line holds numbers (0, 0): read as an example"),
    "a header that counts": (lambda f: text(f, "2019,2020,2021\n" + ROWS.replace("\n", ",1\n")), "read as names (--no-header"),
    "an index": (lambda f: text(f, ",b\n" + ROWS), "left out as an index"),
    "a label column": (lambda f: text(f, "a,label\n" + ROWS), "--condition label"),
    "whole numbers": (lambda f: text(f, "a,b\n" + ROWS), "whole numbers in 2 columns of 2 (a, b): dequantised"),
    "channels last": (lambda _: np.zeros((9, 6, 6, 3)) + RNG.random((9, 6, 6, 3)), "taken as the channels"),
    "grey pictures": (lambda _: RNG.integers(0, 256, (9, 6, 5)), "taken as grey pictures"),
    "rows of bytes": (lambda _: RNG.integers(0, 256, (9, 12), dtype=np.uint8), "rows of bytes: read as 8-bit data"),
    "flattened pictures": (lambda _: RNG.integers(0, 256, (9, 64)) / 255, "all values are k/255"),
    "long doubles": (lambda _: RNG.normal(size=(9, 2)).astype(np.longdouble), "was read as float64"),
    "a loader": (lambda _: DataLoader(TensorDataset(torch.rand(9, 3)), 4), "the dataset of a DataLoader was read"),
    "random transforms": (lambda _: Changing(), "the items change from read to read"),
}  # fmt: skip


@pytest.mark.parametrize("what", SAID)
def test_whatever_is_assumed_is_said(tmp_path, what):
    make, words = SAID[what]
    assert words in notes(make(tmp_path))


def test_copies_of_training_examples_in_the_test_set_are_said():
    x = np.repeat(RNG.normal(size=(50, 3)), 4, axis=0)
    said = [note for note in load_data(x).source.notes if "equal training examples" in note]
    assert len(said) == 2
    assert "of the test set (" in said[0]
    assert not [n for n in load_data(RNG.normal(size=(200, 3))).source.notes if "equal" in n]


def test_notes_are_short_and_counted(tmp_path):
    frame = pd.DataFrame(RNG.integers(0, 9, (50, 300)), columns=[f"measurement number {i}" for i in range(300)])
    assert all(len(note) < 300 for note in open_source(frame).notes)
    folder = others(tmp_path / "d")
    for i in range(50):
        (folder / f"{i}.xyz{i}").write_text("")
    assert all(len(note) < 300 for note in open_source(folder).notes)


def test_links_are_followed_once(tmp_path):
    pictures(tmp_path / "real")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(tmp_path / "real")
    pictures(tmp_path / "data" / "test", 3)
    (tmp_path / "data" / "test" / "loop").symlink_to(tmp_path / "data")
    assert {part: len(array) for part, array in open_source(tmp_path / "data").parts.items()} == {"train": 6, "test": 3}


@pytest.mark.parametrize("names", [("train_images", "test_images"), ("Train", "Test"), ("training", "testing")])
@pytest.mark.parametrize("above", ["", "ds", "ds/inner"])
def test_splits_are_found_where_they_lie(tmp_path, names, above):
    for i, name in enumerate(names):
        pictures(tmp_path / above / name, 6 - i)
    assert {part: len(array) for part, array in open_source(tmp_path).parts.items()} == {"train": 6, "test": 5}


def test_hidden_colours_do_not_reach_the_model(tmp_path):
    for k, hidden in enumerate((0, 255)):
        (tmp_path / str(k)).mkdir()
        a = np.full((8, 8, 4), 128, np.uint8)
        a[:4] = (hidden, hidden, hidden, 0)
        a[4:, :, 3] = 255
        Image.fromarray(a).save(tmp_path / str(k) / "a.png")
    one, two = (open_source(tmp_path / str(k)).parts["all"] for k in range(2))
    np.testing.assert_array_equal(one, two)
    assert one[0, :, 0, 0].tolist() == [255] * 3
    assert one[0, :, 5, 0].tolist() == [128] * 3


def test_palettes_are_colours_by_every_door(tmp_path):
    p = Image.fromarray(RNG.integers(0, 4, (8, 8)).astype(np.uint8), mode="P")
    p.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    (tmp_path / "d").mkdir()
    for i in range(3):
        p.save(tmp_path / "d" / f"{i}.png")
    stream = io.BytesIO()
    p.save(stream, "png")
    pq.write_table(pa.table({"img": [{"bytes": stream.getvalue(), "path": None}] * 3}), tmp_path / "t.parquet")
    want = np.asarray(p.convert("RGB")).transpose(2, 0, 1)
    for door in (tmp_path / "d", [p] * 3, tmp_path / "t.parquet"):
        np.testing.assert_array_equal(open_source(door).parts["all"][0], want)


@pytest.mark.parametrize(("top", "levels"), [(255, 256), (4095, 4096), (65535, 65536)])
def test_sixteen_bits_are_kept_whole(tmp_path, top, levels):
    source = open_source(deep(tmp_path, top))
    assert source.levels == levels
    assert source.parts["all"].max() > 0.9 * top
    x = next(iter(load_data(deep(tmp_path, top), DataOptions()).batches("all", 9))).x
    assert 0.0 <= x.min() <= x.max() < 1.0


def test_file_names_of_any_bytes_are_read_and_shown(tmp_path):
    pictures(tmp_path)
    os.rename(tmp_path / "3.png", os.fsencode(tmp_path) + b"/caf\xe9.png")  # noqa: PTH104
    data = load_data(tmp_path)
    assert "caf\\xe9.png" in data.names("all")


def test_volumes_and_signals_one_file_each(tmp_path):
    for i in range(8):
        np.save(tmp_path / f"{i}.npy", RNG.random((1, 4, 5, 6)))
    source = open_source(tmp_path)
    assert source.schema.layout == "volumes"
    assert source.parts["all"].shape == (8, 1, 4, 5, 6)
    np.save(tmp_path / "9.npy", np.zeros((1, 4, 5, 7)))
    with pytest.raises(DataError, match=r"0\.npy has .*9\.npy has .*Stack"):
        open_source(tmp_path)


def test_sounds_of_two_lengths_are_refused_in_one_line(tmp_path):
    sounds(tmp_path)
    wavfile.write(tmp_path / "9.wav", 8000, np.zeros(65, dtype=np.int16))
    with pytest.raises(DataError, match="one length"):
        open_source(tmp_path)


def test_a_late_decimal_and_a_late_blank_do_not_matter(tmp_path):
    n = (1 << 24) // 4 + 1000
    with (tmp_path / "t.csv").open("w") as stream:
        stream.write("a,b\n" + "0,1\n" * n + "0.5,2\n")
    source = open_source(tmp_path / "t.csv")
    assert source.parts["all"].shape == (n + 1, 2)
    assert source.parts["all"][-1].tolist() == [0.5, 2.0]


def test_text_late_in_a_column_is_named(tmp_path):
    n = (1 << 24) // 4 + 1000
    with (tmp_path / "t.csv").open("w") as stream:
        stream.write("a,b\n" + "0,1\n" * n + "zero,2\n")
    with pytest.raises(DataError, match=r"cannot be read .*zero"):
        open_source(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("column", "words"),
    [([[1.0, 2.0]] * 5, "lists in 'x'"), ([b"a"] * 5, "bytes in 'x'")],
)  # fmt: skip
def test_columns_that_are_no_numbers_are_called_what_they_are(tmp_path, column, words):
    table = pa.table({"x": column, "y": np.arange(5.0)})
    pq.write_table(table, tmp_path / "t.parquet")
    for door in (tmp_path / "t.parquet", table):
        with pytest.raises(DataError, match=words):
            open_source(door)


def test_masked_entries_are_refused_where_they_are():
    x = np.ma.masked_equal(np.array([[1.0, 2.0], [-9999.0, 3.0]]), -9999.0)
    with pytest.raises(DataError, match=r"1 masked entries, the first at \(1, 0\)"):
        open_source(x)


def test_the_same_bytes_of_another_shape_or_type_are_other_data():
    class Rows:
        def __init__(self, a):
            self.a = a

        def __len__(self):
            return len(self.a)

        def __getitem__(self, i):
            return self.a[i]

    a = RNG.random((50, 16)).astype(np.float32)
    assert open_source(Rows(a)).parts["all"].shape == (50, 16)
    assert open_source(Rows(a.reshape(50, 1, 4, 4))).parts["all"].shape == (50, 1, 4, 4)
    whole = np.eye(3, dtype=np.int64)[np.arange(60) % 3]
    assert open_source(Rows(whole)).parts["all"].dtype.kind in "iu"
    assert open_source(Rows(whole.view(np.float64))).parts["all"].dtype == np.float64


def test_a_dataset_whose_type_changes_is_widened():
    items = [np.array([5, 3])] * 5000 + [np.array([0.5, 0.25])] * 10
    stored = open_source(items).parts["all"]
    assert stored.dtype == np.float64
    assert stored[0].tolist() == [5.0, 3.0]
    assert stored[-1].tolist() == [0.5, 0.25]


@pytest.mark.parametrize("how", ["cut", "gone", "json"])
def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch, how):
    monkeypatch.setenv("CALIBRAE_CACHE", str(tmp_path / "cache"))
    folder = pictures(tmp_path / "d")
    before = np.array(open_source(folder).parts["all"])
    for file in (tmp_path / "cache").rglob("*"):
        if how == "cut" and file.suffix == ".bin":
            file.write_bytes(file.read_bytes()[:50])
        elif how == "gone" and file.suffix == ".bin":
            file.unlink()
        elif how == "json" and file.name == "index.json":
            file.write_text("{")
    np.testing.assert_array_equal(open_source(folder).parts["all"], before)


def test_a_cache_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CALIBRAE_CACHE", str(tmp_path / "file" / "cache"))
    folder = pictures(tmp_path / "d")
    with pytest.raises(DataError, match=r"the cache .* cannot be written: .*CALIBRAE_CACHE"):
        open_source(folder)


def test_a_damaged_idx_header_is_one_sentence(tmp_path):
    (tmp_path / "a-idx3-ubyte").write_bytes(struct.pack(">HBBIII", 0, 8, 3, 1 << 31, 1 << 31, 1 << 31) + b"1234")
    with pytest.raises(DataError, match="cut short"):
        open_source(tmp_path / "a-idx3-ubyte")


def test_a_word_in_a_name_does_not_make_a_file_idx(tmp_path):
    pictures(tmp_path)
    (tmp_path / "class-idx.json").write_text("{}")
    assert open_source(tmp_path).parts["all"].shape == (6, 1, 8, 8)
    assert open_source(text(tmp_path, "a,b\n" + ROWS).rename(tmp_path / "my-idx.csv")).parts["all"].shape == (30, 2)


# -- what spreadsheets and data frames bring


NUMBERS = "\n".join(f"{i}.25,{i % 7},{i % 3}" for i in range(40))


@pytest.mark.parametrize(
    ("head", "note"),
    [
        ("Report 2021\n\nx,y,z\n", "1 line of a title left out: Report 2021"),
        ("Report 2021,,\nthird quarter,,\nx,y,z\n", "2 lines of a title left out: Report 2021, third quarter"),
        ("Report 2021\nx,y,z\n[m],[s],\n", "1 line of a title left out: Report 2021"),
        ("x,y,z\n", None),
    ],
)
def test_a_title_above_the_names_is_left_out(tmp_path, head, note):
    (tmp_path / "t.csv").write_text(head + NUMBERS)
    source = open_source(tmp_path / "t.csv")
    assert source.schema.columns == ("x", "y", "z")
    assert len(source.parts["all"]) == 40
    assert [said for said in source.notes if "title" in said] == ([note] if note else [])


def test_names_of_rows_without_a_name_are_no_title(tmp_path):
    (tmp_path / "t.csv").write_text("x\n" + "\n".join(f"r{i},{i}.5" for i in range(40)))
    assert open_source(tmp_path / "t.csv").schema.columns == ("x",)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (pd.RangeIndex(40), None),
        (np.random.default_rng(0).permutation(40), None),
        (pd.Index(range(40), name="place"), "the index (place) left out: `reset_index()` makes it a column"),
        (pd.date_range("2020", periods=40), "the index left out: `reset_index()` makes it a column"),
        (
            pd.MultiIndex.from_product([list("ab"), range(20)], names=["a", "b"]),
            "the index (a, b) left out: `reset_index()` makes it a column",
        ),
    ],
)
def test_an_index_that_tells_something_is_named(index, said):
    frame = pd.DataFrame({"x": np.linspace(0, 1, 40) ** 2}, index=index)
    assert [note for note in open_source(frame).notes if "index" in note] == ([said] if said else [])


def test_dates_of_several_forms_are_named():
    days = [f"2021-03-{1 + i % 28:02d}" if i % 2 else f"{1 + i % 28:02d}.03.2021" for i in range(60)]
    notes = open_source(pd.DataFrame({"day": days, "x": np.linspace(0, 1, 60) ** 2})).notes
    assert (
        "day: its dates have several forms, as 01.03.2021 and 2021-03-02: taken for words. Write them in one form"
        in notes
    )


def test_a_table_of_which_nothing_is_left_says_why():
    frame = pd.DataFrame({"w": [f"{i} kg" for i in range(60)], "h": [f"{i}cm" for i in range(60)]})
    with pytest.raises(DataError, match=r"no column is left to model \(2 columns left out: w \(a word of its own"):
        open_source(frame)


def stored_as(mode, i, size=(6, 6)):
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(i).integers(0, 256, (*size, bands)).astype(np.uint8)
    return Image.frombytes(mode, size[::-1], values.tobytes())


@pytest.mark.parametrize(
    ("odd", "note"),
    [
        ("CMYK", "3 pictures in CMYK: converted to red, green and blue"),
        ("L", "3 grey pictures: red, green and blue are equal there"),
        ("turned", "3 pictures turned or mirrored as the EXIF block says"),
        ("RGB", None),
    ],
)
def test_pictures_that_were_converted_or_turned_are_counted(tmp_path, odd, note):
    for i in range(9):
        exif = Image.Exif()
        exif[0x0112] = 6 if odd == "turned" and i < 3 else 1
        stored_as("RGB" if odd == "turned" or i >= 3 else odd, i).save(tmp_path / f"{i}.jpg", exif=exif)
    assert list(open_source(tmp_path).notes) == ([note] if note else [])


def test_bfloat16_is_named():
    assert "bfloat16 was read as float32" in open_source(torch.rand(20, 3).bfloat16()).notes

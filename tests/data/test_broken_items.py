"""Items of a Dataset that raise, left out where that was asked for; and folders of classes of any files."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from calibrae.data import DataOptions, load_data, open_source
from calibrae.errors import DataError


class Breaking(torch.utils.data.Dataset):
    def __init__(self, broken, count=40):
        self.broken, self.count = broken, count
        self.x = np.random.default_rng(0).integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if i in self.broken:
            raise OSError("truncated")
        return torch.from_numpy(self.x[i]), i % 2


@pytest.mark.parametrize("broken", [{0}, {7, 9}, {39}])
def test_items_that_raise_are_left_out_and_counted(broken):
    data = Breaking(broken)
    source = open_source(data, DataOptions(skip_broken=True))
    kept = [i for i in range(40) if i not in broken]
    np.testing.assert_array_equal(np.asarray(source.parts["all"]), data.x[kept])
    one = "1 item that" if len(broken) == 1 else "2 items that"
    assert list(source.names["all"]) == [str(i) for i in kept]
    assert f"{one} could not be read left out: {', '.join(map(str, sorted(broken)))}" in source.notes


def test_their_conditions_are_left_out_with_them():
    data = load_data(Breaking({1, 3, 5}), DataOptions(skip_broken=True), condition="label")
    every = data.source.labels["label"]["all"]
    assert every.tolist() == [i % 2 for i in range(40) if i not in {1, 3, 5}]


def test_without_the_option_the_item_is_named():
    with pytest.raises(
        DataError, match=r"item 7 of Breaking cannot be read: truncated.*leave such items out with skip_broken"
    ):
        open_source(Breaking({7}))
    with pytest.raises(DataError, match="none of the 40 items of Breaking can be read: truncated"):
        open_source(Breaking(set(range(40))), DataOptions(skip_broken=True))


class Pictures(torch.utils.data.Dataset):
    """Files that Pillow opens, the seventh of which is cut: it raises where its pixels are first asked for."""

    def __init__(self, folder):
        self.files = []
        for i in range(12):
            self.files.append(folder / f"{i}.png")
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32), dtype=np.uint8)).save(self.files[-1])
        self.files[7].write_bytes(self.files[7].read_bytes()[:-200])

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return Image.open(self.files[i])


def test_a_cut_picture_is_named_or_left_out(tmp_path):
    data = Pictures(tmp_path)
    with pytest.raises(DataError, match="item 7 of Pictures cannot be read"):
        open_source(data)
    assert len(open_source(data, DataOptions(skip_broken=True)).parts["all"]) == 11
    with pytest.raises(DataError, match=r"item 7 of generator cannot be read.*Mend or leave out that item"):
        open_source(data[i] for i in range(12))


def test_an_item_that_fails_on_its_second_reading_is_the_one_that_was_read():
    class Once(Breaking):
        def __getitem__(self, i):
            self.broken = self.broken | {i}
            return torch.from_numpy(self.x[i])

    class Flaky(Once):
        def __getitem__(self, i):
            if i in self.broken:
                raise OSError("gone")
            return super().__getitem__(i)

    data = Flaky(frozenset())
    np.testing.assert_array_equal(np.asarray(open_source(data).parts["all"]), data.x)


def write_classes(folder, suffix):
    rng, marks = np.random.default_rng(0), {}
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(15):
            file = folder / name / f"{i}{suffix}"
            if suffix == ".npy":
                np.save(file, np.full((1, 3, 3), rng.random()))
            else:
                wavfile.write(file, 8000, rng.integers(-999, 999, 50).astype(np.int16))
            marks[f"{name}/{i}{suffix}"] = name
    return marks


@pytest.mark.parametrize("suffix", [".npy", ".wav"])
def test_folders_of_classes_are_read_whatever_their_files(tmp_path, suffix):
    marks = write_classes(tmp_path, suffix)
    data = load_data(tmp_path, condition="class")
    assert len(data.view("all")) == 30
    assert data.condition.values == ("cat", "dog")
    assert data.source.labels["class"]["all"].tolist() == [marks[name] for name in data.source.names["all"]]


def test_a_file_outside_the_folders_of_classes_is_named(tmp_path):
    write_classes(tmp_path, ".wav")
    wavfile.write(tmp_path / "stray.wav", 8000, np.arange(50, dtype=np.int16))
    with pytest.raises(DataError, match=r"every file must lie in the folder of its class; stray\.wav does not"):
        load_data(tmp_path, condition="class")


def test_a_folder_below_joins_nothing_where_there_are_files_beside_it(tmp_path):
    (tmp_path / "masks").mkdir()
    for i in range(20):
        np.save(tmp_path / f"{i}.npy", np.full((1, 3, 3), i / 7))
        np.save(tmp_path / "masks" / f"{i}.npy", np.zeros((1, 3, 3)))
    source = open_source(tmp_path)
    assert len(source.parts["all"]) == 20
    assert "20 other files left out: .npy (20)" in source.notes


def test_named_parts_in_the_only_folder_are_parts(tmp_path):
    (tmp_path / "arrays").mkdir()
    for part, count in (("train", 60), ("test", 20)):
        np.save(tmp_path / "arrays" / f"{part}.npy", np.random.default_rng(count).random((count, 1, 4, 4)))
    data = load_data(tmp_path)
    assert {split: len(view) for split, view in data.views.items()} == {"train": 54, "validation": 6, "test": 20}

"""Items of a Dataset that raise, left out where that was asked for; and folders of classes of any files."""

import numpy as np
import pytest
import torch
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
    with pytest.raises(DataError, match="yields no examples"):
        open_source(Breaking(set(range(40))), DataOptions(skip_broken=True))


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
    write_classes(tmp_path, ".npy")
    np.save(tmp_path / "stray.npy", np.zeros((1, 3, 3)))
    with pytest.raises(DataError, match=r"every file must lie in the folder of its class; stray\.npy does not"):
        load_data(tmp_path, condition="class")


def test_named_parts_in_the_only_folder_are_parts(tmp_path):
    (tmp_path / "arrays").mkdir()
    for part, count in (("train", 60), ("test", 20)):
        np.save(tmp_path / "arrays" / f"{part}.npy", np.random.default_rng(count).random((count, 1, 4, 4)))
    data = load_data(tmp_path)
    assert {split: len(view) for split, view in data.views.items()} == {"train": 54, "validation": 6, "test": 20}

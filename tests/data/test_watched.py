"""Readings that somebody watches."""

import numpy as np
import torch
from PIL import Image

from calibrae._progress import watched
from calibrae.data import DataOptions, load_data

SIZE = 300


def write_pictures(folder):
    for i in range(SIZE):
        Image.fromarray(np.full((4, 4), i % 256, np.uint8)).save(folder / f"{i}.png")


class Items(torch.utils.data.Dataset):
    def __len__(self):
        return SIZE

    def __getitem__(self, i):
        return torch.full((1, 3, 3), float(i % 7))


def test_pictures_and_items_are_counted_to_their_end(tmp_path):
    write_pictures(tmp_path)
    for data in (tmp_path, Items()):
        found = []
        with watched(lambda *told, found=found: found.append(told[1:])):
            load_data(data)
        assert found[-1] == (SIZE, SIZE)
        assert [done for done, _ in found] == sorted(done for done, _ in found)


def test_parts_are_counted_on(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        write_pictures(tmp_path / part)
    found = []
    with watched(lambda *told: found.append(told[1:])):
        load_data(tmp_path)
    assert found[-1] == (2 * SIZE, 2 * SIZE)


def test_what_lies_in_the_cache_is_not_read_again(tmp_path):
    write_pictures(tmp_path)
    load_data(tmp_path)
    found = []
    with watched(lambda *told: found.append(told)):
        load_data(tmp_path)
    assert not found


def test_nobody_looks_on_after_the_context():
    found = []
    with watched(lambda *told: found.append(told)):
        pass
    load_data(Items(), DataOptions(split_seed=5))
    assert not found

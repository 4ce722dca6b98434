"""Readings that somebody watches, and the bar that people see."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from calibrae.data import DataOptions, load_data, watched
from calibrae.workflows._reading import reading_bar

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
        with watched(lambda done, total, found=found: found.append((done, total))):
            load_data(data)
        assert found[-1] == (SIZE, SIZE)
        assert [done for done, _ in found] == sorted(done for done, _ in found)


def test_parts_are_counted_on(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        write_pictures(tmp_path / part)
    found = []
    with watched(lambda done, total: found.append((done, total))):
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


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "show", "is_seen"), [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)]
)
def test_a_terminal_shows_how_far_the_reading_is(monkeypatch, stream, show, is_seen):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setenv("TERM", "xterm")
    with reading_bar(show=show):
        load_data(Items())
    said = sys.stderr.getvalue()
    assert (f"{SIZE}/{SIZE}" in said) == is_seen
    assert bool(said) == is_seen

"""What a server leaves behind, and what it does about it."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import calibrae as cb
from calibrae.app._bench import Deadline
from calibrae.app._server import PREFIX, _take_place_of
from calibrae.errors import ArgumentError


@pytest.fixture
def note(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "note"


def test_the_folder_of_a_server_that_was_killed_is_removed(note):
    first, second = tempfile.mkdtemp(prefix=PREFIX), tempfile.mkdtemp(prefix=PREFIX)
    (Path(first) / "sent.csv").write_text("1,2")
    _take_place_of(note, first)
    assert Path(first).exists()
    _take_place_of(note, second)
    assert not Path(first).exists()
    assert note.read_text() == second


@pytest.mark.parametrize("name", ["elsewhere", "temporary/other", "temporary/../elsewhere", ""])
def test_no_other_folder_is_removed_whatever_the_note_says(note, tmp_path, name):
    other = tmp_path / name
    other.mkdir(parents=True, exist_ok=True)
    (other / "kept").write_text("kept")
    note.write_text(str(other))
    _take_place_of(note, "new")
    assert (other / "kept").exists()


def test_a_reading_beyond_its_time_is_ended_and_leaves_nothing_half_read(tmp_path):
    for i in range(8):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
    with cb.watched(Deadline(minutes=-1.0)), pytest.raises(ArgumentError, match="reading takes longer"):
        cb.load_data(tmp_path)
    assert len(cb.load_data(tmp_path).view("all")) == 8

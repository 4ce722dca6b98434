"""The cache: what is damaged is made again, it has a limit, and nothing outside it is touched."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import calibrae as cb
from calibrae.cli._main import main
from calibrae.data import _cache, _cache_arrays, cache_entries, cached_arrays, empty_cache
from calibrae.data._cache_room import make_room
from calibrae.errors import ArgumentError, DataError

ROWS = np.random.default_rng(0).integers(0, 255, (50, 4), dtype=np.uint8)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CALIBRAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(rows: np.ndarray = ROWS, **extra: object) -> str:
    return _cache.write(None, {"all": [rows[:20], rows[20:]]}, lambda: dict(extra))


def files_of(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["bit", "cut", "empty", "noise", "other"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_entry_is_made_again(place: Path, kind: str, number: int) -> None:
    """One flipped bit in decoded data used to be believed."""
    key = written(name="x")
    file = files_of(place)[number]
    content = bytearray(file.read_bytes())
    if kind == "bit":
        content[len(content) // 2] ^= 16
    damaged = {
        "bit": content,
        "cut": content[: len(content) // 2],
        "empty": b"",
        "noise": os.urandom(len(content)),
        "other": b"[]",
    }
    file.write_bytes(damaged[kind])
    _cache._CHECKED.clear()
    assert not _cache.has(key)
    assert not (place / key).exists()
    assert written(name="x") == key
    np.testing.assert_array_equal(_cache.read(key)[0]["all"], ROWS)


def test_a_sample_of_a_large_entry_is_checked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cache, "BLOCK", 16)
    monkeypatch.setattr(_cache, "MOST_CHECKED", 0)
    monkeypatch.setattr(_cache, "SAMPLED", 6)
    key = written()
    file = next(path for path in files_of(place) if path.suffix == ".bin")
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    found = []
    for _ in range(40):
        _cache._CHECKED.clear()
        found.append(_cache._is_whole(place / key))
    assert {True, False} == set(found)


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-9], lambda c: c[:60] + bytes([c[60] ^ 8]) + c[61:], lambda _: b"PK\x03\x04", lambda _: b""]
)
def test_damaged_results_are_computed_again(place: Path, damage) -> None:
    made: list[int] = []

    def compute() -> dict[str, np.ndarray]:
        made.append(1)
        return {"a": np.arange(5.0)}

    for _ in range(2):
        np.testing.assert_array_equal(cached_arrays(("x",), compute)["a"], np.arange(5.0))
    assert len(made) == 1
    (file,) = files_of(place)
    file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(cached_arrays(("x",), compute)["a"], np.arange(5.0))
    assert len(made) == 2


def test_results_with_another_name_inside_are_not_believed(place: Path) -> None:
    file = _cache_arrays.cache_file(("x",), ".npz")
    place.mkdir()
    np.savez(file, a=np.ones(3))
    assert cached_arrays(("x",), lambda: {"a": np.zeros(3)})["a"].sum() == 0


@pytest.mark.parametrize("key", ["../victim", "/", "..", "", "a/../../victim", "ABCDEF"])
def test_a_key_cannot_name_a_place_outside(place: Path, key: str) -> None:
    """A damaged entry is removed: with such a key that was any folder."""
    place.mkdir()
    victim = place.parent / "victim"
    victim.mkdir()
    (victim / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="no longer in the cache"):
        cb.load_data(f"cache:{key}")
    assert (victim / "thesis.tex").exists()
    assert place.exists()


def test_the_longest_unused_goes_when_the_limit_is_reached(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for number in range(4):
        keys.append(written(np.full((1000, 10), number, dtype=np.float64)))
        os.utime(place / keys[-1] / "index.json", (number + 1, number + 1))
    kept = written(
        np.full((1000, 10), 8.0), fingerprint="f", schema={}
    )  # data of a run, of which there is no other copy
    os.utime(place / kept / "index.json", (0, 0))
    _cache.read(keys[0])  # used again
    monkeypatch.setenv("CALIBRAE_CACHE_LIMIT", "330KB")
    new = written(np.full((1000, 10), 9, dtype=np.float64))
    assert {entry.path.name for entry in cache_entries()} == {keys[0], keys[3], kept, new}
    monkeypatch.setenv("CALIBRAE_CACHE_LIMIT", "1KB")
    make_room(spared=new)
    assert {entry.path.name for entry in cache_entries()} == {kept, new}


def test_half_written_entries_of_killed_processes_go(place: Path) -> None:
    """C4."""
    written()
    left = place / ".writing-abc"
    left.mkdir()
    (left / "all.bin").write_bytes(bytes(1000))
    written(ROWS + 1)
    assert left.exists()  # it may be being written just now
    for path in (left / "all.bin", left):
        os.utime(path, (time.time() - 7200,) * 2)
    written(ROWS + 2)
    assert not left.exists()


@pytest.mark.parametrize("limit", ["much", "-1", "5 parsecs", ""])
def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("CALIBRAE_CACHE_LIMIT", limit)
    with pytest.raises(ArgumentError, match="CALIBRAE_CACHE_LIMIT must be a size, such as 500MB or 20GB"):
        written()


def test_the_command_shows_and_empties(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written()
    kept = written(ROWS + 1, fingerprint="f", schema={})
    (place / "yours.txt").write_text("mine")

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["cache", *arguments])
        assert not ended.value.code
        return capsys.readouterr().out

    assert "2 entries, 0.000 of 20 GB in" in said()
    assert [entry["kind"] for entry in json.loads(said("--json"))["entries"]] == ["data", "data of runs"]
    assert "removed 1 entries" in said("--empty")
    assert [entry.path.name for entry in cache_entries()] == [kept]
    said("--empty", "--runs-too")
    assert not cache_entries()
    assert (place / "yours.txt").exists()
    assert empty_cache() == []


def test_two_first_readers_at_once() -> None:
    """C5: one of them used to raise `Directory not empty`."""
    failed: list[BaseException] = []

    def write() -> None:
        try:
            for number in range(30):
                _cache.write("0" * 31 + "123456789abcdef"[number % 15], {"all": [ROWS + number % 15]}, dict)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(cache_entries()) == 15


def test_parts_are_told_apart(tmp_path: Path) -> None:
    """C11: a name and a content could run into each other."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    (one / "a.csv").write_bytes(b"1")
    (one / "b.csv").write_bytes(b"2")
    (two / "a.csv").write_bytes(b"1b.csv\x002")
    keys = {_cache.hash_files(sorted(folder.iterdir()), folder) for folder in (one, two)}
    assert len(keys) == 2

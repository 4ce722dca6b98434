"""Data larger than memory: what is mapped does not stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from calibrae.data import _mapped, byte_noise, byte_source, load_data
from calibrae.data._mapped import RELEASE_AFTER, RELEASE_ROWS, release, releasing, take
from calibrae.data.readers._numpy_files import load_numpy

PASS = """
import sys
import numpy as np, torch
from calibrae.data import byte_source, in_batches, load_data
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
data = load_data(sys.argv[1])
order = np.random.default_rng(0).permutation(len(data.view("train")))
generator = torch.Generator().manual_seed(0)
rows = sum(len(x) for x, _, _ in data.stored_batches(in_batches(order, 128), generator, byte_source(0)))
rows += sum(len(batch) for batch in data.batches("test", 512))
print(rows, peak() - before)
"""


@pytest.mark.whole
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_pass_over_mapped_data_stays_within_bounded_memory(tmp_path: Path) -> None:
    path, gigabytes = tmp_path / "large.npy", 2
    stored = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(gigabytes * (1 << 30) // 12288, 3, 64, 64)
    )
    stored[::1000] = np.random.default_rng(0).integers(0, 256, stored[::1000].shape)  # the rest is sparse
    stored.flush()
    out = subprocess.run([sys.executable, "-c", PASS, str(path)], capture_output=True, text=True, check=True)
    rows, kibibytes = map(int, out.stdout.split())
    assert rows > 0.9 * len(stored)
    assert kibibytes < 500 * 1024  # of 2 GiB


def test_released_pages_read_the_same(tmp_path: Path) -> None:
    values = np.arange(4096 * 64, dtype=np.uint8).reshape(-1, 64)
    np.save(tmp_path / "a.npy", values)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    release(mapped[:, None].transpose(0, 2, 1))
    np.testing.assert_array_equal(mapped, values)


def test_changes_to_a_private_map_survive(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((512, 64), dtype=np.uint8))
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private[:] = 7
    release(private)
    assert int(private.sum()) == 7 * private.size


def test_blocks_pass_unchanged_and_in_order() -> None:
    blocks = [np.full(RELEASE_AFTER // 8, i) for i in range(3)]
    assert [int(block[0]) for block in releasing(np.zeros(3), iter(blocks))] == [0, 1, 2]


@pytest.fixture
def everything_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mapped, "IN_MEMORY", 0)


def test_small_files_are_read_whole_and_large_ones_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.zeros((300, 1, 4, 4), dtype=np.uint8))
    assert not isinstance(load_numpy(tmp_path / "a.npy"), np.memmap)
    monkeypatch.setattr(_mapped, "IN_MEMORY", 300 * 16 - 1)
    assert isinstance(load_numpy(tmp_path / "a.npy"), np.memmap)


@pytest.mark.usefixtures("everything_is_mapped")
def test_rows_of_a_map_are_those_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3000).reshape(1000, 3))
    rows = np.random.default_rng(0).integers(0, 1000, 2 * RELEASE_ROWS + 5)
    np.testing.assert_array_equal(take(load_numpy(tmp_path / "a.npy"), rows), np.arange(3000).reshape(1000, 3)[rows])


@pytest.mark.usefixtures("everything_is_mapped")
@pytest.mark.parametrize(("divisor", "levels"), [(255.0, 256), (1.0, 2)])
def test_floats_of_a_map_that_are_bytes_become_bytes_on_disk(tmp_path: Path, divisor: float, levels: int) -> None:
    integers = np.random.default_rng(0).integers(0, levels, (300, 1, 4, 4))
    np.save(tmp_path / "a.npy", (integers / divisor).astype(np.float32))
    for _ in range(2):  # written, then found
        data = load_data(str(tmp_path / "a.npy"))
        stored = data.source.parts["all"]
        assert isinstance(stored, np.memmap)
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, integers)
        assert data.spec.levels == levels


@pytest.mark.usefixtures("everything_is_mapped")
def test_batches_of_a_map_are_those_of_memory(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (300, 1, 4, 4)).astype(np.uint8)
    np.save(tmp_path / "a.npy", values)
    mapped, held = load_data(str(tmp_path / "a.npy")), load_data(values)
    for one, other in zip(mapped.batches("train", 64), held.batches("train", 64), strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.x, other.x)


def test_rows_of_a_transposed_array_are_not_copied_as_a_whole() -> None:
    """`ndarray.take` would make all of it contiguous first."""
    channels_last = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    array = channels_last.transpose(0, 3, 1, 2)
    rows = np.array([3, 1, 49])
    large = np.broadcast_to(np.uint8(7), (1 << 30, 1 << 12))  # four terabytes, were they copied
    assert np.array_equal(take(array, rows), array[rows])
    assert np.array_equal(take(large, rows), np.full((3, 1 << 12), 7))


def test_bytes_of_noise_are_those_of_whole_words() -> None:
    words = byte_source(3).integers(0, 1 << 64, 1000, dtype=np.uint64)
    assert np.array_equal(byte_noise((7999,), byte_source(3)).numpy(), words.view(np.uint8)[:7999])

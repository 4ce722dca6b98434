"""Streams: shards that are read where they lie, against the ordinary reading of the files and counts by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import ROWS, number_of, picture, png, write_table, write_tar

import calibrae as cb
from calibrae._types import World
from calibrae.data import DataOptions, load_data, open_source
from calibrae.data.streams import Stream
from calibrae.data.streams._keys import HashSplit, digests_of, digests_of_rows, hashes_of, share
from calibrae.data.streams._order import BUFFER, HELD, Lanes
from calibrae.errors import ArgumentError, DataError, RunError
from calibrae.training import Stopped

STREAM = DataOptions(stream=True)


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tars")
    for shard in range(5):
        write_tar(folder / f"shard-{shard}.tar", range(shard * 300, (shard + 1) * 300))
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("tables") / "t")


# -- splits by hash


def test_hashes_are_uniform_and_other_for_another_seed():
    names = [f"example {i}" for i in range(20_000)]
    for digests in (digests_of(names), digests_of_rows("part-0.parquet", 5, 20_000)):
        places = hashes_of(digests, 0) / 2.0**64
        counts = np.histogram(places, 20, (0, 1))[0]
        assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 45  # chi-square, 19 degrees of freedom: exceeded once in 1,000
        assert abs(np.corrcoef(places, hashes_of(digests, 1) / 2.0**64)[0, 1]) < 0.03
        assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.03


@given(st.floats(0.001, 0.499), st.integers(1, 10_000), st.integers(4, 10**9))
def test_the_share_is_the_fraction_or_a_power_of_two_under_the_limit(fraction, most, count):
    found = share(fraction, most, count)
    assert found * count <= most + 1e-6
    assert found <= fraction
    if found != fraction:
        assert Fraction(found).numerator == 1
        assert bin(Fraction(found).denominator).count("1") == 1
        assert 2 * found * count > most


def test_a_smaller_share_is_part_of_a_greater_one_and_nothing_moves_between_validation_and_test():
    hashes = hashes_of(digests_of_rows("f", 0, 50_000), 3)
    large, small = HashSplit(0.25, 0.125).of(hashes), HashSplit(0.125, 0.0625).of(hashes)
    for part in (1, 2):
        assert ((small != part) | (large == part)).all()
        assert (small == part).sum() == pytest.approx((large == part).sum() / 2, rel=0.1)


def test_examples_stay_in_their_split_when_shards_are_added(tmp_path):
    folder = tmp_path / "t"
    chosen = DataOptions(stream=True, validation_fraction=0.2, test_fraction=0.2)
    write_table(folder, ROWS[:600], 2)
    before = {part: {tuple(row) for row in array[:]} for part, array in open_source(folder, chosen).parts.items()}
    write_table(folder, ROWS[600:], 2, first=2)
    after = {part: {tuple(row) for row in array[:]} for part, array in open_source(folder, chosen).parts.items()}
    assert all(before[part] <= after[part] for part in before)
    assert sum(map(len, after.values())) == len(ROWS)
    assert len(after["test"]) == pytest.approx(240, abs=60)


def test_an_example_keeps_its_split_in_another_tar_file(tars, tmp_path):
    moved = tmp_path / "moved"
    for shard, numbers in enumerate(np.random.default_rng(1).permutation(1500).reshape(3, 500)):
        write_tar(moved / f"other-{shard}.tar", numbers.tolist())
    for part in ("train", "validation", "test"):
        one, other = (sorted(map(number_of, open_source(place, STREAM).parts[part][:])) for place in (tars, moved))
        assert one == other


# -- content


def test_a_streamed_table_holds_what_the_files_hold(table):
    source = open_source(table, STREAM)
    rows = np.concatenate([array[:] for array in source.parts.values()])
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 2])], ROWS[np.argsort(ROWS[:, 2])])
    whole = open_source(table)
    assert source.schema == whole.schema
    assert any("understood from 1,200 of 1,200 rows" in note for note in source.notes)


def test_a_table_is_standardised_as_it_would_be_whole(table):
    streamed = load_data(table, STREAM)
    train = streamed.view("train").array[:]
    expected = (train - train.mean(0)) / train.std(0)
    found = torch.cat([batch.x for batch in streamed.batches("train", 100)])
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


def test_streamed_pictures_are_those_of_the_tar_files(tars):
    source = open_source(tars, STREAM)
    everything = [x for array in source.parts.values() for x in array[:]]
    assert sorted(map(number_of, everything)) == list(range(1500))
    assert all((x == picture(number_of(x))).all() for x in everything)
    assert source.schema.shape == (1, 4, 4)
    assert source.levels == 256
    assert any("1,500 other files" in note for note in source.notes)


def test_parquet_pictures_are_read_as_they_would_be_whole(tmp_path):
    cells = [{"bytes": png(np.stack([picture(i)] * 3, -1)), "path": None} for i in range(400)]
    for shard in range(2):
        part = cells[200 * shard : 200 * shard + 200]
        table = pa.table({"image": part, "label": list(range(200))})
        pq.write_table(table, tmp_path / f"train-{shard}.parquet", row_group_size=64)
    streamed, whole = open_source(tmp_path, STREAM), open_source(tmp_path)
    found = np.concatenate([array[:] for array in streamed.parts.values()])
    assert streamed.schema == whole.schema
    one, other = (sorted(x.tobytes() for x in rows) for rows in (found, whole.parts["train"]))
    assert one == other


def test_given_parts_stay_and_validation_is_held_out_of_the_training_part(tmp_path):
    for part, rows in (("train", ROWS[:1000]), ("test", ROWS[1000:])):
        pq.write_table(
            pa.table(dict(zip("abc", rows.T, strict=True))), tmp_path / f"{part}.parquet", row_group_size=100
        )
    data = load_data(tmp_path, STREAM)
    np.testing.assert_array_equal(data.view("test").array[:], ROWS[1000:])
    assert len(data.view("train")) + len(data.view("validation")) == 1000
    assert data.provenance["test"] == "given"
    assert "hashes" in data.provenance["validation"]


def test_reading_at_positions_equals_reading_all(tars, table):
    rng = np.random.default_rng(0)
    for place in (tars, table):
        stream = open_source(place, STREAM).parts["train"]
        rows = rng.integers(0, len(stream), 200)
        np.testing.assert_array_equal(stream[rows], stream[:][rows])
        np.testing.assert_array_equal(stream[5:9], stream[:][5:9])
        assert stream[np.array([], dtype=int)].shape == (0, *stream.shape[1:])


# -- order


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 400), min_size=1, max_size=40).filter(lambda counts: sum(counts) >= 200),
    batch=st.sampled_from([1, 6, 64, 96, 100]),
    size=st.sampled_from([0, 1 << 12, 1 << 25, 1 << 28]),
    seed=st.integers(0, 99),
)
def test_an_epoch_takes_each_example_once_at_most_and_can_be_entered_anywhere(counts, batch, size, seed):
    counts = np.array(counts)
    lanes = Lanes.suited(batch, max(1.0, counts.mean()), size)
    assert batch % lanes.count == 0
    assert lanes.window % (batch // lanes.count) == 0
    order = list(lanes.batches(counts, batch, seed, 0))
    assert len(order) == counts.sum() // batch
    assert all(len(rows) == batch for rows in order)
    seen = np.concatenate(order)
    assert len(np.unique(seen)) == len(seen)
    assert seen.min() >= 0
    assert seen.max() < counts.sum()
    done = len(order) // 2
    for one, other in zip(lanes.batches(counts, batch, seed, done), order[done:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_epochs_differ_and_batches_are_mixed():
    counts = np.full(100, 1000)
    lanes = Lanes.suited(64, 1000, 1 << 16)
    first, second = (np.concatenate(list(lanes.batches(counts, 64, seed, 0))) for seed in (0, 1))
    assert (first != second).mean() > 0.99
    blocks = [len(np.unique(rows // 1000)) for rows in first.reshape(-1, 64)]
    assert np.mean(blocks) > 60  # nearly as many blocks as a batch has examples, each lane its own


def test_a_batch_reads_few_blocks_again(tars, monkeypatch):
    stream = open_source(tars, STREAM).parts["train"]
    assert Lanes.suited(96, 1000, 1 << 26).count < 96
    for block_bytes in (1 << 20, 1 << 24, 1 << 26):
        lanes = Lanes.suited(64, 1000, block_bytes)
        assert lanes.count * (lanes.window / 1000 + 2) * block_bytes <= HELD
        assert lanes.count * lanes.window <= BUFFER
    loads = Counter()
    for shard in stream.shards:
        monkeypatch.setattr(shard, "load", lambda block, path=shard.path: loads.update([(path, block)]))
    for rows in stream.batches(50, 0, 0):
        stream[rows]
    assert set(loads.values()) == {1}


def counted(loads, path, load, block):
    """Load a block, and note that it was."""
    loads.update([(path, block)])
    return load(block)


@pytest.mark.parametrize("size", [2, 4])
def test_processes_together_take_the_batches_of_one_and_read_their_own_lanes(tmp_path, size):
    rows = np.arange(64_000.0)[:, None] + np.array([0.0, 0.5, 0.25])
    folder = write_table(tmp_path / "t", rows, 8, 250)
    shares = []
    for rank in range(size):
        stream = open_source(folder, STREAM).parts["train"]
        loads = Counter()
        for shard in stream.shards:
            shard.load = partial(counted, loads, shard.path, shard.load)
        world = World(rank, size, lambda x: x, lambda make: make())
        mine = [stream[rows[world.part(len(rows))]] for rows in stream.batches(64, 0, 0)]
        shares.append((mine, set(loads)))
    together = [np.concatenate(parts) for parts in zip(*(mine for mine, _ in shares), strict=True)]
    stream = open_source(folder, STREAM).parts["train"]
    for one, rows in zip(together, stream.batches(64, 0, 0), strict=True):
        np.testing.assert_array_equal(one, stream[rows])
    every = set().union(*(loads for _, loads in shares))
    assert sum(len(loads) for _, loads in shares) < 1.3 * len(every)  # a block at the end of a lane is read by two


# -- training


@pytest.fixture(scope="module")
def run(tars, tmp_path_factory):
    model = cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2, network="linear")
    return cb.fit(
        model, str(tars), tmp_path_factory.mktemp("runs") / "r", epochs=2, options=STREAM, quiet=True, pictures=False
    )


def test_a_run_on_a_stream_is_evaluated_and_opened_again(run):
    opened = cb.open_run(run.path)
    assert opened.evaluate().n == len(opened.data.view("test")) > 50
    assert isinstance(opened.data.view("train").array, Stream)
    assert opened.data.options.stream
    notes = json.loads((run.path / "run.json").read_text())["data"]["notes"]
    assert any(note.startswith("streamed") for note in notes)
    assert len(opened.score(picture(3)[None, None]).nll) == 1  # new data need not be a stream


def test_new_data_for_a_streamed_run_keep_their_order_and_few_will_do(table, tmp_path):
    model = cb.build("sigma-vae", data_shape=(3,), latent_dim=1, network="linear")
    run = cb.fit(model, str(table), tmp_path / "r", epochs=1, options=STREAM, quiet=True, pictures=False)
    new = write_table(tmp_path / "new", ROWS[:50], 1) / "part-000.parquet"
    np.testing.assert_allclose(run.encode(str(new)), run.encode(ROWS[:50]), rtol=1e-5, atol=1e-5)
    assert len(run.encode(str(table))) == len(ROWS)  # the run's own place: a stream again


@pytest.mark.parametrize("limit", [1, 15, 16, 100, 200, 1000])
def test_a_sample_of_a_stream_has_as_many_examples_as_asked(tars, limit):
    stream = open_source(tars, STREAM).parts["train"]
    found = stream.spread(limit)
    assert len(np.unique(found)) == limit
    assert found.min() >= 0
    assert found.max() < len(stream)


def test_a_training_set_over_its_sample_is_named_and_not_encoded_whole(tars, tmp_path, monkeypatch):
    monkeypatch.setattr("calibrae.data.streams._open.SAMPLE", 300)
    model = cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2, network="linear")
    run = cb.fit(model, str(tars), tmp_path / "r", epochs=1, options=STREAM, quiet=True, pictures=False)
    assert run.evaluate(split="train").n == 300
    assert run.report(tmp_path / "x.html", split="train").exists()
    with pytest.raises(ArgumentError, match="not encoded whole"):
        run.encode(split="train")


def test_another_split_seed_is_another_data_set(tars):
    one, other = (open_source(tars, DataOptions(stream=True, split_seed=seed)) for seed in (0, 1))
    assert one.fingerprint != other.fingerprint


def test_a_stream_that_was_changed_is_refused(tmp_path):
    folder = write_table(tmp_path / "t")
    model = cb.build("sigma-vae", data_shape=(3,), latent_dim=1, network="linear")
    cb.fit(model, str(folder), tmp_path / "r", epochs=1, options=STREAM, quiet=True, pictures=False)
    write_table(folder, ROWS[600:], 2)
    with pytest.raises(RunError, match="have changed since"):
        cb.open_run(tmp_path / "r").evaluate()


def test_an_epoch_that_was_stopped_goes_on_to_the_same_weights(tars, tmp_path):
    def fresh():
        torch.manual_seed(0)
        return cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2, network="linear")

    how = {"epochs": 2, "options": STREAM, "quiet": True, "pictures": False, "compile": "off", "batch_size": 32}
    whole = cb.fit(fresh(), str(tars), tmp_path / "a", **how)
    stops = 0
    for limit in (1e-6, 1e-6, 1e-6, None):  # the first parts end after a step
        try:
            run = cb.fit(fresh(), str(tars), tmp_path / "b", max_minutes=limit, resume=stops > 0, **how)
        except Stopped:
            stops += 1
    assert stops == 3
    for one, other in zip(whole.model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(one, other)


MEMORY = """
import sys, numpy as np
import calibrae as cb
from calibrae.data import DataOptions, byte_source, load_data
import torch
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
load_data(np.zeros((100, 2)) + np.random.default_rng(0).normal(size=(100, 2)))
import pyarrow.parquet
from calibrae.data.streams import _order, _stream
_order.HELD = _stream.HELD = 1 << 24
before = peak()
data = load_data(sys.argv[1], DataOptions(stream=True))
batches = data.view("train").batches(64, 0, 0)
rows = sum(len(x) for x, _, _ in data.stored_batches(batches, torch.Generator(), byte_source(0)))
print(rows, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_data(tmp_path):
    rng, found = np.random.default_rng(0), []
    for shards in (2, 10):
        folder = tmp_path / str(shards)
        folder.mkdir()
        for i in range(shards):
            columns = {f"c{j}": rng.normal(size=25_000) for j in range(40)}
            pq.write_table(pa.table(columns), folder / f"{i}.parquet", row_group_size=2_000, compression="none")
        ran = subprocess.run([sys.executable, "-c", MEMORY, str(folder)], capture_output=True, text=True, check=True)
        found.append(list(map(int, ran.stdout.split())))
    assert found[1][0] > 4.5 * found[0][0]
    assert found[1][1] < found[0][1] + 60_000  # KiB; the second holds 128 MB more


# -- refusals


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: (folder / "a.csv").write_text("1,2\n"), "holds no Parquet or tar files"),
        (lambda folder: write_tar(folder / "a.tar", range(3)), "at least 100 examples"),
        (lambda folder: (folder / "a.tar").write_bytes(b"no tar file" * 100), "cannot be read as a tar file"),
        (lambda folder: (folder / "a.parquet").write_bytes(b"no parquet"), "cannot be read"),
        (lambda folder: (write_tar(folder / "a.tar", range(200)), write_table(folder)), "one kind"),
        (lambda folder: write_tar(folder / "a.tar", [0] * 200), "a key of its own"),
        (lambda folder: write_tar(folder / "a.tar", range(200), lambda _: b"no picture"), "can be read"),
        (
            lambda folder: write_tar(folder / "a.tar", range(200), lambda i: png(np.zeros((4 + i % 2, 4), np.uint8))),
            "one size",
        ),
        (lambda folder: pq.write_table(pa.table({"a": ["x"] * 200}), folder / "a.parquet"), "must be numbers"),
        (
            lambda folder: pq.write_table(pa.table({"a": np.arange(200.0), "b": [None] * 200}), folder / "a.parquet"),
            "finite",
        ),
    ],
)
def test_what_cannot_be_streamed_is_refused_in_one_line(tmp_path, make, said):
    make(tmp_path)
    with pytest.raises(DataError, match=said) as caught:
        load_data(tmp_path, STREAM)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"condition": "row"}, {"data_range": (0.0, 1.0)}, {"levels": 4}, {"standardise": False}],
)
def test_options_that_need_all_of_the_data_are_refused(table, options):
    with pytest.raises(DataError, match="all of the data at once"):
        load_data(table, DataOptions(stream=True, **options))
    with pytest.raises(DataError, match="path of Parquet or tar files"):
        load_data(ROWS, STREAM)


def test_later_examples_of_another_kind_are_refused_when_they_come(tmp_path):
    odd = lambda i: png(np.zeros((4, 4, 3), np.uint8)) if i == 77 else png(picture(i))  # noqa: E731
    write_tar(tmp_path / "a.tar", range(5000), odd)
    source = open_source(tmp_path, STREAM) if number_is_held_out(tmp_path, 77) else None
    stream = (source or open_source(tmp_path, STREAM)).parts["train"]
    with pytest.raises(DataError, match="of the kind of its first ones"):
        stream[:]


def number_is_held_out(folder, number):
    del folder
    return HashSplit(0.1, 0.1).of(hashes_of(digests_of([f"{number:06d}"]), 0))[0] != 0


def test_transparent_pictures_are_shown_on_white_and_said(tmp_path):
    clear = np.zeros((4, 4, 4), dtype=np.uint8)
    clear[0, 0] = 255
    write_tar(tmp_path / "a.tar", range(200), lambda _: png(clear))
    source = open_source(tmp_path, STREAM)
    assert any("transparency (64 of the first 64): shown on white" in note for note in source.notes)
    assert (source.parts["train"][:2] == 255).all()


def test_values_off_the_lattice_that_the_sample_showed_are_refused_when_they_come(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40_000, 2))
    rows[:, 1] = np.random.default_rng(1).integers(0, 9, 40_000)
    rows[13_345, 1] = 0.25
    pq.write_table(pa.table({"x": rows[:, 0], "count": rows[:, 1]}), tmp_path / "a.parquet", row_group_size=1000)
    with pytest.raises(DataError, match=r"rows 13000 to 13999.*between two steps"):
        open_source(tmp_path, STREAM).parts["train"][:]


def test_the_neighbour_takes_the_place_of_a_broken_picture_if_asked(tmp_path):
    write_tar(tmp_path / "a.tar", range(1000), lambda i: b"broken" if i in (300, 301) else png(picture(i)))
    with pytest.raises(DataError, match=r"a.tar picture 30[01] cannot be read as a picture"):
        open_source(tmp_path, STREAM).parts["train"][:]
    with pytest.warns(UserWarning, match="picture 302 was taken in its place"):
        stream = open_source(tmp_path, DataOptions(stream=True, skip_broken=True)).parts["train"][:]
    assert Counter(map(number_of, stream))[302] >= 2

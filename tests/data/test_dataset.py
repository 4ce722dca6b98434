"""Splits, preparation and noise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibrae._noise import ExampleNoise
from calibrae.data import DataOptions, Preparation, byte_source, in_batches, load_data
from calibrae.errors import DataError

INTEGERS = np.random.default_rng(0).integers(0, 256, (50, 1, 4, 4), dtype=np.uint8)


def all_rows(data, split, **kwargs):
    return torch.cat([batch.x for batch in data.batches(split, 7, **kwargs)])


def prepared(data, order, batch_size, seed, **kwargs):
    """Training batches as a step sees them, joined."""
    generator, source = torch.Generator().manual_seed(seed), byte_source(seed)
    parts = data.stored_batches(in_batches(order, batch_size), generator, source, **kwargs)
    return torch.cat([data.preparation(values, bits) if bits is not None else values for values, bits, _ in parts])


def test_splits_are_disjoint_complete_and_seeded():
    stored = np.arange(200, dtype=np.int64).reshape(200, 1, 1, 1)
    data = load_data(stored)
    rows = {s: set(v.gather(np.arange(len(v))).flatten().tolist()) for s, v in data.views.items()}
    assert sum(map(len, rows.values())) == len(set.union(*rows.values())) == 200
    again = load_data(stored)
    assert np.array_equal(data.views["test"].index, again.views["test"].index)
    other = load_data(stored, DataOptions(split_seed=1))
    assert not np.array_equal(data.views["test"].index, other.views["test"].index)
    assert "split seed 0" in data.provenance["test"]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_examples(n):
    with pytest.raises(DataError, match="at least 4 examples"):
        load_data(INTEGERS[:n])


def test_four_examples_are_enough():
    assert {s: len(v) for s, v in load_data(INTEGERS[:4]).views.items()} == {"train": 2, "validation": 1, "test": 1}


def test_dequantisation_inverts_by_floor_and_is_uniform():
    data = load_data(INTEGERS)
    x = all_rows(data, "train")
    raw = data.view("train").gather(np.arange(len(x)))
    assert torch.equal((x * 256).floor().to(torch.uint8), raw)
    assert x.min() >= 0.0
    assert x.max() < 1.0
    noise = x * 256 - raw
    assert noise.mean().item() == pytest.approx(0.5, abs=0.05)
    assert noise.var().item() == pytest.approx(1 / 12, abs=0.01)


def test_the_largest_value_stays_below_one():
    preparation = load_data(INTEGERS).preparation
    x = preparation(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8), torch.full((1, 1, 4, 4), 1 - 2**-24))
    assert x.max().item() < 1.0


def test_binarised_data_are_bits_with_the_values_as_means():
    stored = np.full((4000, 1, 2, 2), 51, dtype=np.uint8)
    stored[0] = 255
    x = all_rows(load_data(stored, DataOptions(binarise=True)), "train")
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert x.mean().item() == pytest.approx(0.2, abs=0.02)


def test_tables_are_standardised_on_the_training_set_and_the_shift_is_counted():
    stored = np.random.default_rng(0).normal([3.0, -5.0], [10.0, 0.1], (1000, 2))
    data = load_data(stored)
    x = all_rows(data, "train")
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    assert data.spec.log_scale == pytest.approx(math.log(10.0) + math.log(0.1), abs=0.1)
    raw = data.view("train").gather(np.arange(len(x))).double()
    normal = torch.distributions.Normal(raw.mean(0), raw.std(0, correction=0))
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(x.double()).sum(1)
    torch.testing.assert_close(standard - data.spec.log_scale, normal.log_prob(raw).sum(1), atol=1e-3, rtol=1e-4)


def test_a_large_offset_does_not_eat_the_digits():
    stored = 5e7 + np.random.default_rng(0).normal(size=(500, 1))
    x = all_rows(load_data(stored), "train")
    assert len(x.unique()) == len(x)
    assert x.std().item() == pytest.approx(1.0, rel=0.01)


def test_restoring_is_the_inverse_of_preparing():
    stored = np.random.default_rng(0).normal(100.0, 3.0, (50, 2))
    data = load_data(stored)
    torch.testing.assert_close(
        data.preparation.restore(all_rows(data, "test")),
        data.view("test").gather(np.arange(5)),
        rtol=1e-5,
        atol=0,
    )


def test_float_pictures_must_lie_on_the_stated_range():
    stored = np.random.default_rng(0).uniform(-1, 1, (40, 1, 4, 4))
    with pytest.raises(DataError, match=r"\[0, 1\]; got values from -0\.99.*--data-range"):
        load_data(stored)
    data = load_data(stored, DataOptions(data_range=(-1.0, 1.0)))
    x = all_rows(data, "train")
    assert 0.0 <= x.min() <= x.max() <= 1.0
    assert data.spec.log_scale == pytest.approx(16 * math.log(2.0))
    with pytest.raises(DataError, match="stated range"):
        load_data(stored * 3, DataOptions(data_range=(-1.0, 1.0)))
    with pytest.raises(DataError, match="only integer data can be binarised"):
        load_data(stored, DataOptions(binarise=True))


def test_preparation_survives_json():
    import json

    stored = np.random.default_rng(0).normal(size=(40, 3))
    preparation = load_data(stored).preparation
    again = Preparation.from_dict(json.loads(json.dumps(preparation.to_dict())))
    assert again.spec == preparation.spec
    x = torch.randn(4, 3)
    assert torch.equal(again(x), preparation(x))


def test_new_data_must_fit_a_trained_preparation():
    preparation = load_data(INTEGERS).preparation
    with pytest.raises(DataError, match="examples of shape"):
        load_data(INTEGERS[:, :, :3], preparation=preparation)
    with pytest.raises(DataError, match="trained on 256 levels"):
        load_data(INTEGERS.astype(np.int64) + 1, preparation=preparation)
    assert load_data(INTEGERS // 16, preparation=preparation).spec.levels == 256
    whole = load_data(INTEGERS, preparation=preparation, split=False)
    assert len(whole.view("test")) == 50


@given(st.integers(0, 700), st.integers(1, 300), st.sampled_from(["uniform", "normal"]))
def test_noise_belongs_to_the_example(start, length, kind):
    noise = ExampleNoise(kind, (3,), seed=5)
    whole = noise.rows(torch.arange(1000))
    piece = torch.arange(start, start + length)
    assert torch.equal(ExampleNoise(kind, (3,), seed=5).rows(piece), whole[piece])
    shuffled = piece[torch.randperm(length)]
    assert torch.equal(ExampleNoise(kind, (3,), seed=5).rows(shuffled), whole[shuffled])
    assert not torch.equal(ExampleNoise(kind, (3,), seed=6).rows(torch.arange(10)), whole[:10])


def test_batches_do_not_depend_on_the_batch_size():
    data = load_data(INTEGERS)
    whole = next(iter(data.batches("train", 1000)))
    pieces = list(data.batches("train", 3))
    assert torch.equal(whole.x, torch.cat([batch.x for batch in pieces]))
    assert torch.equal(whole.index, torch.cat([batch.index for batch in pieces]))
    assert whole.index.tolist() == list(range(len(data.view("train"))))
    assert whole.context is None
    assert not torch.equal(whole.x, next(iter(data.batches("train", 1000, seed=1))).x)


def test_spaced_and_gathered_examples_keep_the_noise_of_their_position():
    data = load_data(INTEGERS)
    whole = next(iter(data.batches("train", 1000, seed=3)))
    few = next(iter(data.batches("train", 1000, seed=3, limit=7)))
    assert few.index.tolist() == np.linspace(0, len(whole) - 1, 7).round().astype(int).tolist()
    assert torch.equal(few.x, whole.x[few.index])
    assert torch.equal(data.gather("train", [9, 2], seed=3).x, whole.x[[9, 2]])


def test_all_is_everything_and_unknown_splits_are_refused():
    data = load_data(INTEGERS)
    assert len(data.view("all")) == 50
    with pytest.raises(DataError, match="one of train, validation, test or all"):
        data.view("dev")


def test_training_noise_is_uniform_within_the_step_and_fresh():
    data = load_data(INTEGERS)
    order = np.arange(len(data.view("train")))
    generator = torch.Generator().manual_seed(0)
    source = byte_source(0)
    first, second = (
        torch.cat(
            [data.preparation(x, bits) for x, bits, _ in data.stored_batches(in_batches(order, 16), generator, source)]
        )
        for _ in range(2)
    )
    raw = data.view("train").gather(order)
    noise = torch.cat([first, second]) * 256 - torch.cat([raw, raw])
    assert 0.0 < noise.min() < 0.02 < 0.98 < noise.max() < 1.0
    quantiles = (torch.arange(noise.numel()) + 0.5) / noise.numel()
    assert (noise.flatten().sort().values - quantiles).abs().max() < 1.6 / noise.numel() ** 0.5  # Kolmogorov, 1 %
    assert not torch.equal(first, second)


def test_only_data_of_at_most_256_levels_take_bytes_of_noise():
    assert load_data(INTEGERS).preparation.takes_bytes
    assert not load_data(INTEGERS.astype(np.uint16) * 100).preparation.takes_bytes
    assert not load_data(INTEGERS, DataOptions(binarise=True)).preparation.takes_bytes


def test_training_batches_follow_the_generator():
    data = load_data(INTEGERS)
    order = np.arange(10)
    runs = [prepared(data, order, 4, seed) for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("options", [{"binarise": True}, {}])
def test_what_takes_no_bytes_follows_the_generator_too(options):
    stored = INTEGERS if options else INTEGERS.astype(np.uint16) * 100
    data, order = load_data(stored, DataOptions(**options)), np.arange(10)
    assert not data.preparation.takes_bytes
    runs = [prepared(data, order, 4, seed) for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_mirrored_batches_are_mirrored_whole():
    stored = np.random.default_rng(1).integers(0, 256, (50, 1, 4, 4), dtype=np.uint8)
    data, order = load_data(stored), np.arange(40)
    raw = data.view("train").gather(order)
    seen = (prepared(data, order, 16, 0, flip=True) * 256).floor().to(torch.uint8)
    mirrored = [bool((x == y.flip(-1)).all()) for x, y in zip(seen, raw, strict=True)]
    assert all(m or bool((x == y).all()) for m, x, y in zip(mirrored, seen, raw, strict=True))
    assert 8 < sum(mirrored) < 32


def test_other_data_of_another_kind_are_refused_in_those_words():
    preparation = load_data(INTEGERS).preparation
    with pytest.raises(DataError, match="holds floats; the model was trained on integers"):
        load_data(np.random.default_rng(0).random(INTEGERS.shape), preparation=preparation)


def test_examples_are_called_by_their_file_or_their_position(tmp_path):
    from PIL import Image

    for i in range(12):
        Image.fromarray(np.full((4, 4), 20 * i, dtype=np.uint8)).save(tmp_path / f"p{i:02}.png")
    data = load_data(tmp_path)
    everything = data.names("train") + data.names("validation") + data.names("test")
    assert sorted(everything) == data.names("all") == [f"p{i:02}.png" for i in range(12)]
    shown = data.view("train").gather(np.arange(3))[:, 0, 0, 0] // 20
    assert data.names("train")[:3] == [f"p{i:02}.png" for i in shown.tolist()]
    table = load_data(np.random.default_rng(0).normal(size=(40, 3)))
    assert table.names("test") == [str(i) for i in table.views["test"].index]


def test_a_size_for_numbers_is_noted():
    assert any("--size" in note for note in load_data(INTEGERS, DataOptions(size=(8, 8))).source.notes)


def test_other_floats_must_lie_on_the_range_that_was_trained_on():
    inside = np.random.default_rng(0).random((40, 1, 4, 4))
    preparation = load_data(inside).preparation
    with pytest.raises(DataError, match="must lie on the stated range"):
        load_data(inside * 255, preparation=preparation)

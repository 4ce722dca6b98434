"""What numbers are taken for: whole numbers, few values at equal distances, continuous; and that each is dequantised and counted rightly."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import calibrae as cb
from calibrae.data import DataOptions, load_data, open_source
from calibrae.data._lattice import find_lattice
from calibrae.errors import DataError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 3, 6, 6))
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def bf16(values):
    return torch.from_numpy(values).bfloat16()


@pytest.mark.parametrize(
    ("made", "low", "step"),
    [
        (lambda k: (k / 255).astype(np.float32), 0.0, 1 / 255),
        (lambda k: k / 255, 0.0, 1 / 255),
        (lambda k: (k / 256).astype(np.float32), 0.0, 1 / 256),
        (lambda k: (k / 127.5 - 1).astype(np.float32), -1.0, 2 / 255),
        (lambda k: ((k / 255 - 0.5) / 0.5).astype(np.float32), -1.0, 2 / 255),
        (lambda k: (k / 255).astype(np.float16), 0.0, 1 / 255),
        (lambda k: bf16(k / 255), 0.0, 1 / 255),
        (lambda k: k.astype(np.float32), 0.0, 1.0),
    ],
)
def test_eight_bit_pictures_are_recognised_on_every_scale(made, low, step):
    source = open_source(made(BYTES))
    assert source.levels == 256
    np.testing.assert_array_equal(source.parts["all"], BYTES)
    assert all((c.low, c.step) == (low, pytest.approx(step, rel=1e-6)) for c in source.schema.fields)
    assert any("levels" in note or "8-bit" in note for note in source.notes)


def test_pictures_normalised_by_channel_are_recognised_channel_by_channel():
    source = open_source(((BYTES / 255 - MEAN[:, None, None]) / STD[:, None, None]).astype(np.float32))
    assert source.levels == 256
    np.testing.assert_array_equal(source.parts["all"], BYTES)
    steps = [column.step for column in source.schema.fields]
    np.testing.assert_allclose(steps, 1 / 255 / STD, rtol=1e-5)


def test_continuous_pictures_stay_continuous():
    x = RNG.random((40, 1, 6, 6)).astype(np.float32)
    assert open_source(x).levels is None
    assert open_source(x.astype(np.float16)).levels is None


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.25, 3.0)])
def test_two_values_are_bits(low, high):
    bits = RNG.random((40, 1, 4, 4)) > 0.5
    source = open_source(np.where(bits, high, low))
    assert source.levels == 2
    np.testing.assert_array_equal(source.parts["all"], bits)
    assert "read as bits" in " ".join(source.notes)


def test_a_stated_range_leaves_few_values_continuous_with_a_floor():
    """The user said that they are continuous: sigma's floor follows from their distance, so the density stays bounded."""
    x = (BYTES / 127.5 - 1).astype(np.float32)
    data = load_data(x, DataOptions(data_range=(-1.0, 1.0)))
    assert data.spec.levels is None
    assert data.spec.step == pytest.approx(1 / 255, rel=1e-6)
    assert any("no bound" in note for note in data.source.notes)
    model = cb.build("sigma-vae", data_shape=(3, 6, 6), latent_dim=2)
    model.initialise_from_data(data.spec, torch.zeros(3, 6, 6), torch.ones(()))
    assert model.likelihood.scale.floor == pytest.approx(1 / 255 / math.sqrt(12), rel=1e-6)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.lists(st.integers(0, 300), min_size=3, max_size=40, unique=True))
def test_a_lattice_is_found_whatever_its_place_and_step(low, step, points):
    values = np.sort(low + step * np.array([*points, -1, -2], dtype=np.float64))  # two neighbours at least
    found = find_lattice(values, np.finfo(np.float64).eps)
    assert found is not None
    assert (np.abs(found.position(values) - np.rint(found.position(values))) < 1e-2).all()
    assert found.step == pytest.approx(step, rel=1e-6)


@given(st.integers(0, 10_000))
def test_normal_values_lie_on_no_lattice(seed):
    values = np.sort(np.random.default_rng(seed).normal(size=12))
    assert find_lattice(values, np.finfo(np.float64).eps) is None


def coins(n=2000):
    coin = RNG.integers(0, 2, n).astype(float)
    return np.stack([coin, coin, RNG.normal(size=n)], axis=1)


def test_columns_are_told_apart():
    n = 400
    table = np.stack([
        RNG.integers(18, 90, n), RNG.integers(0, 2, n), np.round(RNG.normal(5, 1, n), 1), RNG.normal(size=n),
        np.where(RNG.random(n) < 0.6, 0.0, RNG.normal(size=n)), 1.7e9 + RNG.integers(0, 1000, n), RNG.integers(-10, 10, n) * 1e9,
    ], axis=1)  # fmt: skip
    kinds = [column.kind for column in open_source(table).schema.fields]
    assert kinds == ["whole", "whole", "lattice", "continuous", "continuous", "whole", "whole"]
    assert [column.step > 0 for column in open_source(table).schema.fields] == [
        True,
        True,
        True,
        False,
        False,
        True,
        False,
    ]
    notes = " ".join(open_source(table).notes)
    assert "column 3 in steps of 0.1" in notes
    assert "column 5 is 0 in " in notes  # an atom: about 60 %


def test_whole_columns_are_dequantised_with_their_own_step():
    """The mean of the noise is half a step and its variance a twelfth; the density of a row is a mass over all cells."""
    n = 4000
    table = np.stack([RNG.poisson(4.0, n), RNG.integers(0, 2, n) * 7], axis=1)
    data = load_data(table)
    x = torch.cat([batch.x for batch in data.batches("train", 512)]).double()
    raw = data.view("train").slice(0, len(x)).double()
    noise = x * data.preparation.scale + data.preparation.shift - raw
    assert noise.min() >= -1e-6
    assert noise.max() <= 1 + 1e-6
    torch.testing.assert_close(x.mean(0), torch.zeros(2, dtype=torch.float64), atol=0.05, rtol=0)
    torch.testing.assert_close(x.var(0, correction=0), torch.ones(2, dtype=torch.float64), atol=0.05, rtol=0)
    assert data.spec.log_cells == pytest.approx(float(data.preparation.scale.log().sum()))


def test_bits_of_a_table_of_whole_numbers_are_at_least_its_entropy():
    """Independent coins of 7 or 0 and dice: the best density of the dequantised rows cannot cost less than their entropy."""
    n = 3000
    table = np.stack([RNG.integers(0, 2, n), RNG.integers(1, 7, n)], axis=1)
    model = cb.build("sigma-vae", data_shape=(2,), latent_dim=1, sigma_shared="element")
    run = cb.fit(model, table, epochs=3, quiet=True, pictures=False, compile="off", threads=1)
    entropy = (1.0 + math.log2(6)) / 2
    assert entropy < run.evaluate().bits_per_dim < entropy + 1.5


def test_coins_have_a_bounded_density():
    """Copies of one coin: without noise the ELBO would grow without end as sigma falls."""
    data = load_data(coins())
    x = torch.cat([batch.x for batch in data.batches("train", 512)])
    assert len(x[:, 0].unique()) > 100
    assert (x[:, 0] - x[:, 1]).std() > 0.1  # each copy has noise of its own


def test_constants_have_no_density_but_whole_ones_have_noise():
    constant = pd.DataFrame({"a": np.arange(20.0) ** 1.5, "b": np.full(20, 7.5)})
    with pytest.raises(DataError, match="constant ones: b"):
        load_data(constant)
    data = load_data(np.stack([RNG.normal(size=40), np.full(40, 3.0)], axis=1))
    assert data.source.schema.fields[1].kind == "whole"


def test_integers_that_float64_cannot_hold_are_refused():
    with pytest.raises(DataError, match=r"at most 2\^53"):
        open_source(np.array([[1 << 60], [2]]).repeat(10, axis=0))


@pytest.mark.parametrize(("low", "levels", "shift"), [(-5, 16, -8), (-128, 256, -128), (-30_000, 1 << 16, -(1 << 15))])
def test_negative_integers_count_from_the_smallest_their_kind_has(low, levels, shift):
    stored = RNG.integers(low, -low, (20, 1, 4, 4)).astype(np.int16)
    stored[0, 0, 0, 0] = low
    source = open_source(stored)
    assert source.levels == levels
    assert source.schema.fields[0].low == shift
    data = load_data(stored)
    batch = next(iter(data.batches("all", 100)))
    np.testing.assert_array_equal(data.preparation.in_units(batch.x), stored)


def test_values_come_back_in_their_units():
    for made in (BYTES.astype(np.uint8), (BYTES / 255).astype(np.float32), (BYTES / 127.5 - 1)):
        data = load_data(made)
        batch = next(iter(data.batches("all", 100)))
        np.testing.assert_allclose(data.preparation.in_units(batch.x), made, atol=1e-6)
    table = np.stack([RNG.integers(18, 80, 400), np.round(RNG.normal(size=400), 1), 5e7 + RNG.normal(size=400)], axis=1)
    data = load_data(table)
    back = data.preparation.in_units(next(iter(data.batches("all", 400))).x)
    np.testing.assert_allclose(back[:, :2], table[:, :2], rtol=1e-12, atol=1e-12)  # on their steps, exactly
    np.testing.assert_allclose(
        back[:, 2], table[:, 2], rtol=0, atol=1e-6
    )  # float32's digits of the spread, not of the offset


def test_wide_whole_numbers_come_back_whole():
    """Identifiers and weights of surveys: a step of 1 is too fine to dequantise, and they are integers all the same."""
    table = np.stack([RNG.integers(10_000, 5_000_000, 400), RNG.integers(0, 9, 400)], axis=1)
    data = load_data(table)
    back = data.preparation.in_units(next(iter(data.batches("all", 400))).x)
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back[:, 1], table[:, 1])
    np.testing.assert_allclose(back[:, 0], table[:, 0], atol=2)
    assert "taken as continuous" in " ".join(data.source.notes)


@pytest.mark.usefixtures("pictures")
def test_volumes_train_with_an_mlp(tmp_path):
    volumes = RNG.random((60, 1, 4, 5, 6)).astype(np.float32)
    model = cb.build("sigma-vae", data_shape=(1, 4, 5, 6), latent_dim=2)
    run = cb.fit(model, volumes, tmp_path / "r", epochs=1, quiet=True, compile="off", threads=1)
    assert run.sample(3).shape == (3, 1, 4, 5, 6)
    assert (run.path / "reconstructions.png").stat().st_size > 500
    with pytest.raises(cb.errors.ArgumentError, match="conv network needs"):
        cb.build("sigma-vae", data_shape=(1, 4, 5, 6), network="conv")


def test_pictures_of_whole_numbers_are_centred_on_them():
    """Half a step of noise was added on average: a picture of ages must not show each half a year too high."""
    table = np.stack([RNG.integers(18, 80, 2000), RNG.integers(0, 2, 2000)], axis=1)
    data = load_data(table)
    shown = data.preparation.restore(next(iter(data.batches("all", 2000))).x)
    np.testing.assert_allclose(shown.mean(0), table.mean(0), atol=0.05)

"""Conformal alarms: the rate of false alarms is kept, whatever the score."""

import math
import zlib

import numpy as np
import pytest
import torch

import calibrae as cb
from calibrae.errors import ArgumentError
from calibrae.evaluation import Typical, alarm_threshold, compressed_nats, conformal_p_values

REPEATS = 1000


@pytest.mark.parametrize("rate", [0.1, 0.01])
@pytest.mark.parametrize("n", [99, 150, 999])
@pytest.mark.parametrize("tails", ["normal", "cauchy", "skewed"])
def test_the_rate_of_false_alarms_is_within_its_bound(rate, n, tails):
    """1,000 repeats, each with calibration rows and new rows of its own; P(alarm) = floor(rate (n + 1)) / (n + 1)."""
    generator = torch.Generator().manual_seed(n)
    draws = torch.randn(REPEATS, n + 400, generator=generator, dtype=torch.float64)
    draws = {"normal": draws, "cauchy": torch.tan(math.pi * (torch.special.ndtr(draws) - 0.5)), "skewed": draws.exp()}[
        tails
    ]
    typical = Typical.of(draws[0, :40])
    shares = []
    for row in draws:
        strange = typical.strangeness(row)
        p = conformal_p_values(strange[:n], strange[n:])
        assert bool(((p <= rate) == (strange[n:] > alarm_threshold(strange[:n], rate))).all())
        shares.append(float((p <= rate).double().mean()))
    exact = math.floor(rate * (n + 1) + 1e-9) / (n + 1)
    error = np.std(shares, ddof=1) / REPEATS**0.5
    assert abs(np.mean(shares) - exact) < 4 * error + 1e-12
    assert exact <= rate + 1e-12
    assert exact >= rate - 1 / (n + 1)


def test_p_values_are_the_counts():
    calibration, scores = torch.tensor([3.0, 1.0, 2.0, 2.0]), torch.tensor([0.0, 2.0, 2.5, 3.0, 4.0])
    known = [(1 + int((calibration >= s).sum())) / 5 for s in scores]
    assert conformal_p_values(calibration, scores).tolist() == pytest.approx(known)


def test_too_likely_is_strange_too():
    typical = Typical.of(torch.linspace(0, 100, 1001))
    assert typical.middle == pytest.approx(50)
    assert typical.strangeness(torch.tensor([-500.0, 50.0, 600.0])).tolist() == pytest.approx([13.75, 0.0, 13.75])


def test_rates_and_counts_without_a_meaning_are_refused():
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        alarm_threshold(torch.zeros(9), 1.0)
    with pytest.raises(ArgumentError, match="at least 4 rows"):
        Typical.of(torch.zeros(3))
    assert alarm_threshold(torch.zeros(50), 0.01) == math.inf


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model = cb.build(data_shape=(1, 8, 8), latent_dim=4, options=cb.NetworkOptions(hidden=(64,)), seed=0)
    place = tmp_path_factory.mktemp("alarm") / "run"
    return cb.fit(model, "digits", place, epochs=15, quiet=True, pictures=False, compile="off")


def test_ordinary_rows_rarely_raise_it_and_blank_ones_do(run):
    """Blank pictures and noise."""
    digits = run.data.source.parts["all"]
    ordinary = cb.watch(run, digits[run.data.views["validation"].index], false_alarm_rate=0.1, importance_samples=10)
    assert float(ordinary.alarms.double().mean()) < 0.25
    strange = np.concatenate([np.zeros((20, 1, 8, 8)), np.random.default_rng(0).integers(0, 17, (20, 1, 8, 8))]).astype(
        np.uint8
    )
    found = cb.watch(run, strange, false_alarm_rate=0.1, importance_samples=10)
    assert found.alarms[:20].all()
    assert found.alarms[20:].all()
    assert "differs" in found.drift


def test_the_calibration_is_stored_and_read_again(run):
    rows = run.data.source.parts["all"][:30]
    first = cb.watch(run, rows, false_alarm_rate=0.1, importance_samples=10)
    assert (run.path / "alarm.safetensors").is_file()
    again = cb.watch(run.path, rows, false_alarm_rate=0.1, importance_samples=10)
    assert torch.equal(first.p_values, again.p_values)
    assert first.calibrated_on == len(run.data.view("test"))


def test_an_alarm_that_cannot_keep_its_rate_is_refused(run):
    with pytest.raises(ArgumentError, match=r"needs at least 1000 calibration rows; the test split has 180"):
        cb.watch(run, run.data.source.parts["all"][:3], false_alarm_rate=0.001, importance_samples=10)
    with pytest.raises(ArgumentError, match="calibrate the alarm"):
        cb.watch(run, split="test")


def test_complexity_is_the_length_of_the_shortest_file():
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.integers(0, 256, (3, 1, 32, 32)))
    entropy = 1024 * math.log(256)
    assert ((compressed_nats(noise) / entropy - 1).abs() < 0.03).all()
    blank = torch.full((2, 1, 32, 32), 7)
    assert (compressed_nats(blank) < 60 * 8 * math.log(2)).all()
    assert (compressed_nats(torch.zeros(2, 5)) <= len(zlib.compress(bytes(5), 9)) * 8 * math.log(2)).all()
    many = torch.from_numpy(rng.integers(0, 60_000, (2, 50)))
    assert (compressed_nats(many) > 50 * math.log(30_000)).all()


def test_an_alarm_may_be_corrected_for_complexity(run):
    digits = run.data.source.parts["all"][run.data.views["validation"].index]
    found = cb.score(run, digits, importance_samples=5)
    bits = found.bits_per_dim.double() * 64 * math.log(2)
    torch.testing.assert_close(found.corrected, bits - found.complexity, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found.complexity, compressed_nats(torch.from_numpy(digits)))
    assert found.ordered(corrected=True) == found.corrected.argsort(descending=True).tolist()
    seen = cb.watch(run, digits, false_alarm_rate=0.1, importance_samples=5, corrected=True)
    plain = cb.watch(run, digits, false_alarm_rate=0.1, importance_samples=5)
    assert (seen.p_values != plain.p_values).any()
    assert float(seen.alarms.float().mean()) < 0.25  # .1 and four errors of so few rows


def test_complexity_needs_whole_numbers(tmp_path):
    rows = np.random.default_rng(0).normal(size=(80, 3))
    model = cb.build("sigma-vae", data_shape=(3,), latent_dim=1, network="linear")
    run = cb.fit(model, rows, tmp_path / "run", epochs=1, quiet=True, pictures=False)
    with pytest.raises(ArgumentError, match="the data must be whole numbers"):
        cb.watch(run, rows, false_alarm_rate=0.2, corrected=True)

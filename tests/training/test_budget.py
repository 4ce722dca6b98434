"""Length of a run without a number of epochs: rounds until it has settled, and the same numbers when it is broken off and goes on."""

import numpy as np
import pytest
import torch
from torch import nn

import calibrae as cb
from calibrae.training import _budget
from calibrae.training._average import Averaged, decay_at
from calibrae.training._budget import Budget

PLAIN = {
    "quiet": True,
    "pictures": False,
    "compile": "off",
    "precision": "fp32",
    "acceleration": "off",
    "batch_size": 16,
}
ROWS = np.random.default_rng(0).normal(size=(100, 2)) @ np.random.default_rng(1).normal(size=(2, 6))


def model():
    return cb.build("sigma-vae", data_shape=(6,), latent_dim=2, network="linear")


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(_budget, "STEPS", 150)
    monkeypatch.setattr(_budget, "FIRST_EPOCHS", 4)


@pytest.mark.usefixtures("short")
def test_a_run_goes_on_while_rounds_help_and_steps_are_left(tmp_path):
    run = cb.fit(model(), ROWS, tmp_path / "r", **PLAIN)
    rates = [row["lr"] for row in run.history]
    ends = [i for i in range(1, len(rates)) if rates[i] > rates[i - 1]]  # a new round starts high
    assert ends == [4, 12]
    assert run.history[-1]["step"] == 20 + 40 + 80  # five steps an epoch; too few are left for a longer round
    assert run.folder.read_run()["finished"] is True


@pytest.mark.usefixtures("short")
def test_a_round_that_brings_nothing_is_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(_budget, "PROGRESS", 10.0)  # more than the whole fall
    run = cb.fit(model(), ROWS, tmp_path / "r", **PLAIN)
    assert len(run.history) == 12
    assert run.folder.read_run()["finished"] is True


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("stop", [2, 4, 7])
def test_a_broken_off_run_ends_where_an_unbroken_one_does(tmp_path, stop):
    whole = cb.fit(model(), ROWS, tmp_path / "whole", **PLAIN)
    part = cb.fit(model(), ROWS, tmp_path / "part", stop_after=stop, **PLAIN)
    assert len(part.history) == stop
    assert part.folder.read_run()["finished"] is False
    resumed = cb.fit(model(), ROWS, tmp_path / "part", resume=True, quiet=True, pictures=False)
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


def test_a_number_of_epochs_is_one_round():
    budget = Budget(7, 10)
    assert budget.first == budget.most == 70
    assert budget.next_round(0, 70) is None


def test_large_data_take_no_more_steps_than_the_budget():
    assert Budget(None, 100_000).most == 100_000  # one epoch at least
    assert Budget(None, 859).first == 17_180
    assert Budget(None, 859).next_round(0, 17_180) is None


def test_an_average_of_a_short_run_leaves_its_start_behind():
    net = torch.nn.Linear(1, 1, bias=False)
    kept = Averaged(net, 0.999)
    for step in range(100):
        net.weight.data.fill_(float(step))
        kept.update_parameters(net)
    expected, steps = 0.0, range(1, 100)
    for step in steps:
        expected = decay_at(step, 0.999) * expected + (1 - decay_at(step, 0.999)) * step
    assert kept.module.weight.item() == pytest.approx(expected, rel=1e-4)
    assert expected > 80  # a fixed decay of .999 would stand near 5


def test_running_statistics_are_averaged_as_the_weights_are():
    net = nn.BatchNorm1d(2)
    net.register_buffer("mask", torch.tensor([-torch.inf, 0.0]))
    kept = Averaged(net, 0.9)
    expected = net.running_mean.clone()
    for step in range(60):
        net(torch.randn(8, 2) + 5.0)
        kept.update_parameters(net)
        weight = 1.0 if step == 0 else 1.0 - decay_at(step, 0.9)
        expected = expected + weight * (net.running_mean - expected)
    torch.testing.assert_close(kept.module.running_mean, expected)
    assert not torch.equal(kept.module.running_var, net.running_var)
    assert kept.module.mask.tolist() == [-torch.inf, 0.0]

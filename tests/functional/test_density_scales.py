"""Likelihoods on every scale, against densities of torch's transformed distributions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibrae.errors import ArgumentError
from calibrae.functional.density_scales import CATALOGUE, convert_likelihood

LEVELS, D = 256, 5


def on_scale(name, y, alpha=0.05):
    """What a model sees of dequantised integers `y` in [0, 256), as an invertible function of `y`."""
    return {
        "[0,256)": lambda: y,
        "/256": lambda: y / 256,
        "/255": lambda: y / 255,
        "[-.5,.5]": lambda: y / 256 - 0.5,
        "[-1,1]": lambda: 2 * y / 255 - 1,
        "[-1,1)": lambda: 2 * y / 256 - 1,
        "logit": lambda: torch.logit(alpha + (1 - 2 * alpha) * y / 256),
    }[name]()


@pytest.mark.parametrize("name", [name for name, scale in CATALOGUE.items() if not scale.is_mass])
def test_densities_on_every_scale_give_the_levels_nats(name):
    """The density of the levels is a Beta's; on another scale it changes by the Jacobian, which autograd gives."""
    y = torch.distributions.Beta(2.0, 3.0).sample((40, D)).double() * 256
    y.requires_grad_()
    x = on_scale(name, y)
    (slope,) = torch.autograd.grad(x.sum(), y)
    of_levels = torch.distributions.Beta(2.0, 3.0).log_prob(y / 256) - math.log(256)
    nll = -(of_levels - slope.log()).sum(1).mean().item()
    p = 0.05 + 0.9 * y.detach() / 256
    extra = {"alpha": 0.05, "logit_term": (p * (1 - p)).log().mean().item()} if name == "logit" else {}
    found = convert_likelihood(nll, name, data_dim=D, **extra)
    assert found.levels_nats == pytest.approx(-of_levels.sum(1).mean().item(), rel=1e-9)
    assert found.bits_per_dim == pytest.approx(found.levels_nats / D / math.log(2))


@given(st.floats(-50, 50), st.sampled_from([n for n, s in CATALOGUE.items() if not s.is_logit]), st.integers(2, 4096))
def test_there_and_back(value, name, levels):
    found = convert_likelihood(value, name, data_dim=D, levels=levels)
    for other, nats in found.nats.items():
        again = convert_likelihood(nats, other, data_dim=D, levels=levels)
        assert again.nats[name] == pytest.approx(value, abs=1e-9)


@given(st.floats(-9, 9))
def test_units_are_multiples(value):
    nats = convert_likelihood(value * D, "/256", data_dim=D)
    for unit, number in (
        ("nats-per-dim", value),
        ("bits", value * D / math.log(2)),
        ("bits-per-dim", value / math.log(2)),
    ):
        assert convert_likelihood(number, "/256", data_dim=D, unit=unit).levels_nats == pytest.approx(nats.levels_nats)


def test_published_pairs_agree():
    """Glow's 3.35 bits on CIFAR-10 are -9,901 nats on [0, 1]; the uniform density costs 8 bits."""
    assert convert_likelihood(3.35, "integers", data_dim=3072, unit="bits-per-dim").nats["/256"] == pytest.approx(
        -9901, abs=1
    )
    uniform = convert_likelihood(0.0, "/256", data_dim=3072)
    assert uniform.bits_per_dim == pytest.approx(8.0)


def test_densities_without_noise_have_no_bits():
    found = convert_likelihood(1.0, "/255", data_dim=D, dequantised=False)
    assert found.bits_per_dim is None
    assert "integers" not in found.nats
    assert "not be compared" in found.sentence


def test_impossible_numbers_are_named():
    assert "not possible" in convert_likelihood(-100.0, "/256", data_dim=2).sentence


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": "nowhere"},
        {"unit": "decibels"},
        {"data_dim": 0},
        {"levels": 1},
        {"scale": "logit"},
        {"scale": "logit", "alpha": 0.5},
    ],
)
def test_what_has_no_meaning_is_refused(wrong):
    with pytest.raises(ArgumentError, match=r"must|needed"):
        convert_likelihood(1.0, **{"scale": "/256", "data_dim": D, **wrong})

"""Is sigma true: residuals against what they were drawn from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import calibrae as cb
from calibrae.errors import ArgumentError, UnfrozenSigmaError
from calibrae.evaluation import calibration


class Still(nn.Module):
    """A decoder that says zero, so that the data are the residuals."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.nothing * torch.ones(len(z), *self.shape)


class Encoder(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), 2)


def still(shape: tuple[int, ...], likelihood: cb.GaussianLikelihood) -> cb.VAE:
    likelihood.bind(shape, None)
    return cb.VAE(Encoder(), Still(shape), likelihood, cb.StandardNormalPrior(1)).eval()


def noise(start: int, stop: int) -> torch.Tensor:
    return torch.zeros(stop - start, 1)


def found(model: cb.VAE, x: torch.Tensor, batch: int = 1000):
    return calibration(model, [(i, x[i : i + batch]) for i in range(0, len(x), batch)], noise)


def test_a_true_sigma_is_told_so():
    x = 0.2 * torch.randn(4000, 3, 8, generator=torch.Generator().manual_seed(0))
    result = found(still((3, 8), cb.GaussianLikelihood(0.2)), x)
    assert result.overall.spread == pytest.approx(1.0, abs=0.01)
    assert result.overall.kurtosis == pytest.approx(3.0, abs=0.05)
    assert result.overall.coverage == pytest.approx({"0.5": 0.5, "0.9": 0.9, "0.95": 0.95}, abs=0.005)
    assert result.overall.pit == pytest.approx([0.1] * 10, abs=0.005)
    assert "Sigma is true" in result.sentence
    assert "Gaussian" not in result.sentence
    assert [r.name for r in result.by_channel] == ["channel 0", "channel 1", "channel 2"]


@pytest.mark.parametrize(("sigma", "says"), [(0.1, "too small"), (0.4, "too large")])
def test_a_false_sigma_is_told_so(sigma, says):
    x = 0.2 * torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    result = found(still((16,), cb.GaussianLikelihood(sigma)), x)
    assert says in result.sentence
    assert result.overall.spread == pytest.approx(0.2 / sigma, rel=0.02)
    expected = stats.norm.cdf(1.6449 * sigma / 0.2) * 2 - 1
    assert result.overall.coverage["0.9"] == pytest.approx(expected, abs=0.01)
    assert result.by_channel == []


def test_the_ks_distance_and_moments_are_scipys():
    x = torch.from_numpy(np.random.default_rng(0).laplace(size=(2000, 5))).float()
    result = found(still((5,), cb.GaussianLikelihood(math.sqrt(2.0))), x).overall
    standard = (x / math.sqrt(2.0)).double().numpy().ravel()
    assert result.ks == pytest.approx(stats.kstest(standard, "norm").statistic, abs=1.5e-3)
    assert result.kurtosis == pytest.approx(
        stats.kurtosis(standard, fisher=False) * standard.var() ** 2 / (standard**2).mean() ** 2, rel=0.01
    )
    assert "not Gaussian" in found(still((5,), cb.GaussianLikelihood(math.sqrt(2.0))), x).sentence


def test_standard_errors_are_those_of_independent_residuals():
    """All residuals independent: the errors have closed forms."""
    n, d = 4000, 24
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    errors = found(still((d,), cb.GaussianLikelihood(1.0)), x).overall.standard_errors
    count = n * d
    assert errors["mean"] == pytest.approx(1 / math.sqrt(count), rel=0.3)
    assert errors["spread"] == pytest.approx(1 / math.sqrt(2 * count), rel=0.3)
    assert errors["kurtosis"] == pytest.approx(math.sqrt(24 / count), rel=0.3)
    assert errors["coverage"]["0.9"] == pytest.approx(math.sqrt(0.09 / count), rel=0.3)
    assert errors["pit"] == pytest.approx([math.sqrt(0.09 / count)] * 10, rel=0.5)


def test_standard_errors_hold_where_the_residuals_of_an_example_go_together():
    """Each example has a scale of its own, so that a hundred residuals tell little more than one: against repeated data."""
    model = still((100,), cb.GaussianLikelihood(1.0))

    def repeated(seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(200, 1, generator=generator).add(0.3) * torch.randn(200, 100, generator=generator)

    results = [found(model, repeated(seed)).overall for seed in range(200)]
    for name, values in {
        "spread": [r.spread for r in results],
        "kurtosis": [r.kurtosis for r in results],
        "ks": [r.ks for r in results],
    }.items():
        claimed = np.sqrt(np.mean([r.standard_errors[name] ** 2 for r in results]))
        assert claimed == pytest.approx(np.std(values), rel=0.2), name
    covered = [r.coverage["0.5"] for r in results]
    claimed = np.sqrt(np.mean([r.standard_errors["coverage"]["0.5"] ** 2 for r in results]))
    assert claimed == pytest.approx(np.std(covered), rel=0.2)
    assert found(model, repeated(0)[:1]).overall.standard_errors == {}


def test_many_channels_are_not_told_one_by_one():
    x = torch.randn(60, 40, 2, generator=torch.Generator().manual_seed(0))
    assert found(still((40, 2), cb.GaussianLikelihood(1.0)), x).by_channel == []


def test_deciles_of_sigma_find_where_it_is_wrong():
    scale = torch.linspace(0.1, 1.0, 40)
    x = scale * torch.randn(3000, 40, generator=torch.Generator().manual_seed(0))
    likelihood = cb.GaussianLikelihood("optimal", "element")
    model = still((40,), likelihood)
    wrong = scale.clone()
    wrong[:4] *= 2.0  # the smallest tenth: 0.1 to 0.17 becomes 0.2 to 0.34
    likelihood.sigma.freeze(wrong)
    result = found(model, x)
    assert len(result.by_sigma) == 10
    assert sum(r.count for r in result.by_sigma) == result.overall.count
    spreads = [r.spread for r in result.by_sigma]
    assert min(spreads[:4]) < 0.9
    assert spreads[5:] == pytest.approx([1.0] * 5, abs=0.03)
    torch.testing.assert_close(result.element_spread[:4], torch.full((4,), 0.5, dtype=torch.float64), rtol=0.05, atol=0)


def test_it_does_not_depend_on_batches_and_refuses_what_has_no_sigma():
    x = torch.randn(100, 6, generator=torch.Generator().manual_seed(0))
    model = still((6,), cb.GaussianLikelihood(1.0))
    one, two = found(model, x, 100).to_dict(), found(model, x, 7).to_dict()
    assert one["overall"]["pit"] == two["overall"]["pit"]
    assert one["overall"]["spread"] == pytest.approx(two["overall"]["spread"], rel=1e-12)
    bernoulli = cb.VAE(Encoder(), Still((6,)), cb.BernoulliLikelihood(), cb.StandardNormalPrior(1))
    with pytest.raises(ArgumentError, match="a Bernoulli likelihood has none"):
        calibration(bernoulli, [(0, x)], noise)
    with pytest.raises(UnfrozenSigmaError):
        found(still((6,), cb.GaussianLikelihood("optimal")), x)
    with pytest.raises(ArgumentError, match="needs examples"):
        calibration(model, [], noise)

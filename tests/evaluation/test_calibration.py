"""Calibration of a scale: residuals against what they were drawn from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import calibrae as cb
from calibrae.errors import ArgumentError, ScaleNotFixedError
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


def still(shape: tuple[int, ...], likelihood: cb.Likelihood) -> cb.VAE:
    likelihood.set_data_shape(shape)
    posterior = cb.GaussianPosterior("log_std")
    return cb.VAE(Encoder(), Still(shape), likelihood, cb.StandardNormalPrior(1), posterior=posterior).eval()


def noise(index: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(index), 1)


def batches(x: torch.Tensor, size: int = 1000) -> list[cb.Batch]:
    index = torch.arange(len(x))
    return [cb.Batch(x[i : i + size], index=index[i : i + size]) for i in range(0, len(x), size)]


def found(model: cb.VAE, x: torch.Tensor, size: int = 1000):
    return calibration(model, batches(x, size), noise)


def test_a_right_sigma_is_told_so():
    x = 0.2 * torch.randn(4000, 3, 8, generator=torch.Generator().manual_seed(0))
    result = found(still((3, 8), cb.GaussianLikelihood(0.2)), x)
    assert result.overall.spread == pytest.approx(1.0, abs=0.01)
    assert result.overall.kurtosis == pytest.approx(3.0, abs=0.05)
    assert result.overall.coverage == pytest.approx({"0.5": 0.5, "0.9": 0.9, "0.95": 0.95}, abs=0.005)
    assert result.overall.pit == pytest.approx([0.1] * 10, abs=0.005)
    assert "Sigma is right" in result.sentence
    assert "Gaussian" not in result.sentence
    assert [r.name for r in result.by_channel] == ["channel 0", "channel 1", "channel 2"]


@pytest.mark.parametrize(("sigma", "says"), [(0.1, "too small"), (0.4, "too large")])
def test_a_wrong_sigma_is_told_so(sigma, says):
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
    likelihood.scale.fix(wrong)
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
    with pytest.raises(ArgumentError, match="this likelihood gives probabilities") as refused:
        found(still((6,), cb.BernoulliLikelihood()), x)
    assert "\n" not in str(refused.value)
    with pytest.raises(ScaleNotFixedError):
        found(still((6,), cb.GaussianLikelihood("optimal")), x)
    with pytest.raises(ArgumentError, match="needs examples"):
        calibration(model, [], noise)


# other densities, on examples that the model itself makes


class Spread(nn.Module):
    """A decoder of means that bend with z, and perhaps of log sigmas that differ from element to element and example to example."""

    def __init__(self, shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.output_shape = shape, output_shape
        self.weight = nn.Parameter(torch.linspace(-1.0, 1.0, math.prod(output_shape)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(z[:, :1] * self.weight).reshape(len(z), *self.output_shape)


class Knows(nn.Module):
    """An encoder that is told z, which stands beside the data: so `z ~ q(z|x)` is the z that each example was made of."""

    def __init__(self) -> None:
        super().__init__()
        self.z: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z, self.z = self.z[: len(x)], self.z[len(x) :]
        return torch.cat([z, torch.full_like(z, -30.0)], 1)


def simulated(likelihood: cb.Likelihood, shape: tuple[int, ...], n: int) -> tuple[cb.VAE, torch.Tensor]:
    """A model, and examples drawn from it with the latents that its encoder will give back."""
    likelihood.set_data_shape(shape)
    decoder, posterior = Spread(shape, likelihood.output_shape(shape)), cb.GaussianPosterior("log_std")
    model = cb.VAE(Knows(), decoder, likelihood, cb.StandardNormalPrior(1), posterior=posterior).eval()
    torch.manual_seed(0)
    z = torch.randn(n, 1)
    with torch.no_grad():
        x = model.decode(z).sample()
    model.encoder.z = z
    return model, x


def within_errors(found) -> None:
    """Spread 1, a flat PIT and right coverage, each within five standard errors that are small."""
    errors = found.standard_errors
    assert errors["spread"] < 0.01
    assert abs(found.spread - 1.0) < 5 * errors["spread"]
    assert abs(found.mean) < 5 * errors["mean"]
    for level, covered in found.coverage.items():
        assert errors["coverage"][level] < 0.01
        assert abs(covered - float(level)) < 5 * errors["coverage"][level]
    assert max(errors["pit"]) < 0.005
    assert all(abs(share - 0.1) < 5 * error for share, error in zip(found.pit, errors["pit"], strict=True))
    assert found.ks < 0.01
    assert found.is_right
    assert found.has_right_shape


def channel_scales() -> cb.LaplaceLikelihood:
    likelihood = cb.LaplaceLikelihood("optimal", "channel")
    likelihood.set_data_shape((2, 6))
    likelihood.scale.fix(torch.tensor([0.1, 0.7]))
    return likelihood


DENSITIES = {
    "laplace": (lambda: cb.LaplaceLikelihood(0.3), 6.0, "Laplace"),
    "laplace by channel": (channel_scales, 6.0, "Laplace"),
    "gaussian-per-example": (cb.HeteroscedasticGaussianLikelihood, 3.0, "Normal"),
    "gaussian": (lambda: cb.GaussianLikelihood(0.3), 3.0, "Normal"),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_is_calibrated_on_what_it_makes(name):
    make, kurtosis, density = DENSITIES[name]
    model, x = simulated(make(), (2, 6), 3000)
    result = found(model, x)
    within_errors(result.overall)
    assert [r.name for r in result.by_channel] == ["channel 0", "channel 1"]
    for part in result.by_channel:
        assert abs(part.spread - 1.0) < 5 * part.standard_errors["spread"]
    assert abs(result.overall.kurtosis - kurtosis) < 5 * result.overall.standard_errors["kurtosis"]
    assert result.density == density
    assert result.sentence.startswith("Sigma is right")
    assert "They are not" not in result.sentence


def test_a_laplace_scale_that_is_wrong_is_told_so():
    _, x = simulated(cb.LaplaceLikelihood(0.3), (12,), 2000)
    model = still((12,), cb.LaplaceLikelihood(0.1))
    result = found(model, x - x.mean(0))
    assert "too small" in result.sentence
    expected = (
        stats.laplace.cdf(0.1 * math.log(20.0), scale=0.3) * 2 - 1
    )  # that covers 95 % of a Laplace density with scale .1
    alone = found(model, torch.from_numpy(np.random.default_rng(0).laplace(scale=0.3, size=(4000, 12))).float()).overall
    assert alone.spread == pytest.approx(3.0, rel=0.02)
    assert alone.coverage["0.95"] == pytest.approx(expected, abs=0.01)


def test_sigmas_of_each_example_have_no_deciles():
    """Deciles are of sigmas that all examples share; the first example's would be anybody's."""
    model, x = simulated(cb.HeteroscedasticGaussianLikelihood(), (20,), 200)
    assert found(model, x).by_sigma == []


class Choice(cb.Likelihood):
    """Another density in place of the Gaussian, given as a function of the mean."""

    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, output: torch.Tensor) -> torch.distributions.Distribution:
        return self.make(output)


def student(mean: torch.Tensor) -> torch.distributions.Distribution:
    return torch.distributions.Independent(torch.distributions.StudentT(torch.full_like(mean, 5.0), mean, 1.0), 1)


def dependent(mean: torch.Tensor) -> torch.distributions.Distribution:
    return torch.distributions.MultivariateNormal(mean, torch.eye(mean.shape[-1]))


@pytest.mark.parametrize(
    ("make", "says"),
    [(student, "a StudentT has none"), (dependent, "independent elements given z; got a MultivariateNormal")],
)
def test_densities_that_cannot_be_calibrated_are_refused_in_one_line(make, says):
    with pytest.raises(ArgumentError, match=says) as refused:
        found(still((6,), Choice(make)), torch.randn(20, 6))
    assert "\n" not in str(refused.value)

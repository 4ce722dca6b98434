"""What the latents hold, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import calibrae as cb
from calibrae.errors import ArgumentError, NoDensityError
from calibrae.evaluation import diagnose_latents


class Given(nn.Module):
    """An encoder whose input is the posterior's mean, with one width."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.tensor(math.log(std)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.log_std.expand_as(x)], 1)


def model(std: float, latent_dim: int) -> cb.VAE:
    return cb.VAE(Given(std), nn.Linear(latent_dim, 2), cb.GaussianLikelihood(1.0), cb.StandardNormalPrior(latent_dim))


def means(n: int, scale: list[float]) -> torch.Tensor:
    return torch.tensor(scale) * torch.randn(n, len(scale), generator=torch.Generator().manual_seed(0))


def test_a_gaussian_aggregate_is_its_closed_form():
    """mu ~ N(0, 1 - s^2), std s: q(z) is the prior, and x and z share -ln s nats per latent."""
    std = 0.5
    x = means(8000, [math.sqrt(1 - std**2)])
    found = diagnose_latents(model(std, 1), [(0, x)])
    assert found.mutual_information == pytest.approx(-math.log(std), abs=4 * found.mutual_information_error + 0.02)
    assert found.aggregate_kl == pytest.approx(0.0, abs=0.02)
    assert found.dimensionwise_kl == pytest.approx(0.0, abs=0.02)
    assert found.hole_share == pytest.approx(0.01, abs=0.01)
    assert found.collapse == "none"


def test_the_error_bars_are_those_of_repeated_data():
    """200 data sets: what is claimed is the spread that is seen, for a given aggregate posterior of many examples."""
    vae, n = model(0.5, 2), 400
    x = torch.tensor([0.9, 0.4]) * torch.randn(200, n, 2, generator=torch.Generator().manual_seed(1))
    results = [diagnose_latents(vae, [(0, part)], seed=i) for i, part in enumerate(x)]
    for name in ("kl_per_dim", "posterior_mean_variance"):
        seen = torch.stack([getattr(r, name) for r in results]).std(0)
        claimed = torch.tensor([r.standard_errors[name] for r in results]).square().mean(0).sqrt()
        torch.testing.assert_close(claimed.double(), seen.double(), rtol=0.2, atol=0)
    seen = torch.tensor([r.mutual_information for r in results]).std()
    claimed = torch.tensor([r.mutual_information_error for r in results]).square().mean().sqrt()
    assert float(claimed / seen) == pytest.approx(1.0, abs=0.25)


def test_the_error_of_the_hole_share_counts_the_threshold_too():
    """Posteriors that are narrower than the prior: 60 data sets."""
    vae = model(0.3, 2)
    x = 0.7 * torch.randn(60, 400, 2, generator=torch.Generator().manual_seed(2))
    results = [diagnose_latents(vae, [(0, part)], seed=i) for i, part in enumerate(x)]
    seen = torch.tensor([r.hole_share for r in results]).std()
    claimed = torch.tensor([r.standard_errors["hole_share"] for r in results]).square().mean().sqrt()
    assert float(claimed / seen) == pytest.approx(1.0, abs=0.35)


def test_the_parts_sum_to_the_kl():
    x = means(3000, [0.9, 0.5, 0.0])
    found = diagnose_latents(model(0.3, 3), [(0, x)])
    parts = found.mutual_information + found.total_correlation + found.dimensionwise_kl
    assert found.aggregate_kl == pytest.approx(found.total_correlation + found.dimensionwise_kl, abs=1e-9)
    # the parts are estimated at one sample of each of 1000 examples, the KL is exact over all
    assert parts == pytest.approx(float(found.kl_per_dim.sum()), abs=0.15)


def test_total_correlation_of_dependent_latents():
    """Two latents that repeat one another: correlation r of the aggregate, TC = -ln(1 - r^2) / 2."""
    common = means(6000, [0.9])
    found = diagnose_latents(model(0.4, 2), [(0, common.expand(-1, 2))])
    r = 0.81 / (0.81 + 0.16)
    assert found.total_correlation == pytest.approx(-0.5 * math.log(1 - r**2), abs=0.05)


def test_mutual_information_is_capped_and_says_so():
    x = means(500, [1.0] * 20)
    found = diagnose_latents(model(0.01, 20), [(0, x)])
    assert found.cap == pytest.approx(math.log(500))
    assert found.mutual_information == pytest.approx(found.cap, abs=1e-6)
    assert "at its estimator's cap" in found.sentence


def test_collapse_is_named():
    full = diagnose_latents(model(1.0, 4), [(0, means(200, [0.0] * 4))])
    assert (full.collapse, full.active_units) == ("full", 0)
    assert full.sentence.startswith("Posterior collapse: no latent is active")
    partial = diagnose_latents(model(1.0, 4), [(0, means(200, [1.0, 0.0, 0.0, 0.0]))])
    assert (partial.collapse, partial.active_units) == ("partial", 1)
    assert "3 latents are unused" in partial.sentence


def test_holes_are_found():
    """Codes on two far islands: most prior samples fall between or around them."""
    islands = torch.where(torch.arange(2000)[:, None] % 2 == 0, -2.0, 2.0).expand(-1, 2)
    found = diagnose_latents(model(0.2, 2), [(0, islands + 0.1 * means(2000, [1.0, 1.0]))])
    assert found.hole_share > 0.8
    assert "fall into holes" in found.sentence


def test_it_does_not_depend_on_batches_and_is_plain():
    x = means(300, [1.0, 0.3])
    vae = model(0.5, 2)
    one = diagnose_latents(vae, [(0, x)], seed=4).to_dict()
    two = diagnose_latents(vae, [(i, x[i : i + 7]) for i in range(0, 300, 7)], seed=4).to_dict()
    assert one["mutual_information"] == pytest.approx(two["mutual_information"], rel=1e-9)
    assert one["active_units"] == 2
    assert one != diagnose_latents(vae, [(0, x)], seed=5).to_dict()


def test_what_has_no_density_and_too_few_examples_are_refused():
    with pytest.raises(NoDensityError):
        diagnose_latents(cb.build("autoencoder", data_shape=(2,), latent_dim=1), [(0, torch.zeros(3, 2))])
    with pytest.raises(ArgumentError, match="at least two examples; got 1"):
        diagnose_latents(model(0.5, 2), [(0, torch.zeros(1, 2))])

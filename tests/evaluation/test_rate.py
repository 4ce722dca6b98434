"""Rate, distortion and what is recommended, against closed forms."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

import calibrae as cb
from calibrae.errors import ArgumentError
from calibrae.evaluation import (
    RatePoint,
    data_spectrum,
    exact_linear_elbo,
    linear_curve,
    linear_vae_at_ppca,
    recommend,
    sample_ppca,
)
from calibrae.functional import Spectrum, ppca
from calibrae.latents import exact_kl

VARIANCES = torch.tensor([9.0, 4.0, 1.0, 0.25, 0.25, 0.25], dtype=torch.float64)
SPECTRUM = Spectrum(torch.zeros(6).double(), VARIANCES, torch.eye(6).double(), float(VARIANCES.sum()), 1000, True)


def point(
    name: str, mean: float, *, kl: float = 10.0, latent_dim: int = 3, active: int | None = None, **axes: float
) -> RatePoint:
    """A point whose examples all differ from those of another point by the same amount, but for a little noise."""
    shared = 30.0 * torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = torch.randn(400, generator=torch.Generator().manual_seed(len(name)), dtype=torch.float64)
    elbos = shared - shared.mean() + own - own.mean() + mean
    return RatePoint(name, axes, 1.0, 0.5, latent_dim, elbos, kl, 20.0, 1.5, latent_dim if active is None else active)


def test_the_linear_curve_goes_through_probabilistic_pca():
    """At its own sigma the best linear VAE is probabilistic PCA: the KL and squared error of the one lie on the curve of the other."""
    source = ppca(SPECTRUM.mean, VARIANCES, SPECTRUM.eigenvectors, SPECTRUM.total_variance, 3)
    x = sample_ppca(source, 5000, torch.Generator().manual_seed(0)).double()
    spectrum = data_spectrum(lambda: [x], 3)
    found = spectrum.ppca(3)
    model = linear_vae_at_ppca(found, (6,)).double().eval()
    with torch.no_grad():
        kl = float(exact_kl(model.encode(x), model.prior()).mean())
    nll = -float(exact_linear_elbo(model, x).detach().mean()) - kl
    sse = 2 * found.sigma**2 * (nll - 6 * (math.log(found.sigma) + 0.5 * math.log(2 * math.pi)))
    before, after = next(pair for pair in itertools.pairwise(linear_curve(spectrum, 3, 20.0)) if pair[1].kl >= kl)
    share = (kl - before.kl) / (after.kl - before.kl)
    assert before.sse + share * (after.sse - before.sse) == pytest.approx(sse, rel=2e-3)


def test_the_linear_curve_falls_from_the_total_variance():
    codes = linear_curve(SPECTRUM, 6, 12.0)
    assert codes[0].kl == pytest.approx(0.0, abs=1e-12)
    assert codes[0].sse == pytest.approx(float(VARIANCES.sum()))
    assert all(a.kl <= b.kl <= 12.0 and a.sse >= b.sse for a, b in itertools.pairwise(codes))


def test_fewer_latents_are_taken_where_the_examples_cannot_tell():
    """Paired: 0.02 nats between points are nothing, 1 nat is much, though each mean has an error of 1.5."""
    best, equal, worse = (
        point("best", 100.0, latent_dim=8), point("equal", 99.98, latent_dim=4), point("small", 99.0, latent_dim=2),
    )  # fmt: skip
    assert best.standard_error > 1.0
    found = recommend([worse, best, equal])
    assert found.name == "equal"
    assert found.latent_dim == 4
    assert "with fewer latents" in found.reason


def test_the_cheaper_code_is_taken_of_two_alike():
    found = recommend([point("dear", 50.0, kl=30.0), point("cheap", 49.99, kl=20.0)])
    assert (found.name, found.capacity) == ("cheap", 20.0)


def test_unused_latents_are_not_recommended():
    found = recommend([point("one", 50.0, latent_dim=8, active=5)])
    assert found.latent_dim == 5
    assert "5 would do" in found.reason


def test_more_latents_are_advised_where_a_linear_model_would_code_more():
    full = replace(point("one", 50.0, latent_dim=2), sigma=0.3)
    linear = int((VARIANCES > 0.3**2).sum())
    assert f"{linear} useful directions" in recommend([full], SPECTRUM).reason
    assert "try a larger" not in recommend([replace(full, sigma=1.9)], SPECTRUM).reason


def test_the_end_of_a_sweep_is_named():
    ends = [point("a", 1.0, beta=0.5), point("bb", 5.0, beta=1.0), point("ccc", 9.0, beta=2.0)]
    assert "largest beta" in recommend(ends).reason
    assert "of the sweep" not in recommend([*ends, point("dddd", 3.0, beta=4.0)]).reason


def test_points_of_different_examples_are_refused():
    one = point("one", 1.0)
    with pytest.raises(ArgumentError, match="example by example"):
        recommend([one, replace(one, elbos=one.elbos[:10])])
    with pytest.raises(ArgumentError, match="got none"):
        recommend([])


def test_differences_of_models_are_paired_by_example():
    """Two models of the same latent size see the same noise: the spread of the differences is that of the models alone."""
    from calibrae.data import load_data
    from calibrae.evaluation import summarise_split

    data = load_data("digits")
    model = cb.build("vae", data_shape=(1, 8, 8), latent_dim=2, network="mlp", sigma=0.3).eval()
    first, again = (summarise_split(model, data, "validation", batch_size=size).elbos for size in (7, 64))
    torch.testing.assert_close(first, again, rtol=1e-5, atol=1e-4)

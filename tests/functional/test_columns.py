"""Log-probabilities of columns, trees and factor analysis: against torch.distributions, enumeration, and the multivariate normal."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, NegativeBinomial, Poisson, StudentT

from calibrae import functional
from calibrae.errors import ArgumentError, ShapeError

pytestmark = pytest.mark.usefixtures("double")


def test_counts_are_those_of_torch():
    x, log_mean = torch.arange(12.0), torch.linspace(-2, 3, 12)
    assert torch.allclose(functional.poisson_nll(x, log_mean), -Poisson(log_mean.exp()).log_prob(x))
    log_size = torch.tensor(0.7)
    odds = log_mean - log_size
    known = NegativeBinomial(log_size.exp(), logits=odds)
    assert torch.allclose(known.mean, log_mean.exp())
    assert torch.allclose(functional.negative_binomial_nll(x, log_mean, log_size), -known.log_prob(x))


def test_students_t_is_that_of_torch():
    x, location = torch.linspace(-30, 30, 13), torch.linspace(-1, 1, 13)
    found = functional.student_t_nll(x, location, torch.tensor(-0.4), torch.tensor(3.5))
    assert torch.allclose(found, -StudentT(3.5, location, math.exp(-0.4)).log_prob(x))


@given(st.lists(st.floats(0.01, 4.0), min_size=0, max_size=6), st.floats(-5, 5), st.floats(-5, 5), st.floats(-2, 2))
def test_ordinal_probabilities_are_differences_and_sum_to_one(gaps, first, location, log_precision):
    edges = torch.tensor([first, *gaps]).cumsum(0)
    levels = torch.arange(len(edges) + 1)
    at = torch.full(levels.shape, location), torch.full(levels.shape, log_precision)
    found = -functional.ordinal_nll(levels, *at, edges)
    below = torch.cat([torch.zeros(1), torch.sigmoid(math.exp(log_precision) * (edges - location)), torch.ones(1)])
    assert torch.allclose(found.exp(), below.diff(), atol=1e-12)
    assert abs(float(found.exp().sum()) - 1.0) < 1e-12


def test_ordinal_probabilities_stay_finite_and_have_gradients_far_away():
    location = torch.tensor([-400.0, 400.0, 0.0], requires_grad=True)
    found = functional.ordinal_nll(torch.tensor([2, 1, 1]), location, torch.zeros(3), torch.tensor([-1.0, -1.0 + 1e-9]))
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(location.grad).all()


@given(st.integers(2, 7), st.integers(0, 2**16))
def test_a_broken_line_and_its_inverse(count, seed):
    generator = torch.Generator().manual_seed(seed)
    knots = torch.rand(3, count, generator=generator).add(0.05).cumsum(1)
    values = torch.rand(3, count, generator=generator).add(0.05).cumsum(1)
    x = (4 * torch.randn(50, 3, generator=generator)).requires_grad_()
    y, log_slope = functional.piecewise_linear(x, knots, values)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(slope.log(), log_slope)
    assert torch.allclose(functional.piecewise_linear(y, values, knots)[0], x, atol=1e-9)
    for j in range(3):
        inside = knots[j]
        assert torch.allclose(
            functional.piecewise_linear(inside[:, None].expand(-1, 3), knots, values)[0][:, j], values[j]
        )


def test_a_broken_line_needs_as_many_values_as_knots():
    with pytest.raises(ShapeError, match="same shape"):
        functional.piecewise_linear(torch.zeros(1, 1), torch.zeros(1, 3), torch.zeros(1, 2))


def _chained(count, seed=0):
    """Rows of three columns, each of which follows the one before."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, count)
    b = np.where(rng.random(count) < 0.8, a, rng.integers(0, 3, count))
    c = np.where(rng.random(count) < 0.8, b, rng.integers(0, 3, count))
    return torch.from_numpy(np.stack([a, b, c], 1))


def test_a_tree_finds_the_chain_and_sums_to_one():
    levels, counts = _chained(4000), (2, 3, 3)
    tree = functional.chow_liu(levels, counts)
    edges = {frozenset((i, parent)) for i, parent in enumerate(tree.parents) if parent >= 0}
    assert edges == {frozenset((0, 1)), frozenset((1, 2))}
    every = torch.tensor(list(itertools.product(*map(range, counts))))
    assert abs(float(tree.log_prob(every).exp().sum()) - 1.0) < 1e-12


def test_a_missing_cell_of_a_tree_is_summed_over():
    levels, counts = _chained(500), (2, 3, 3)
    tree = functional.chow_liu(levels, counts)
    every = torch.tensor(list(itertools.product(*map(range, counts))))
    known = tree.log_prob(every)
    for row in itertools.product(*(range(-1, n) for n in counts)):
        matching = ((every == torch.tensor(row)) | (torch.tensor(row) < 0)).all(1)
        assert torch.allclose(tree.log_prob(torch.tensor([row]))[0], known[matching].logsumexp(0))


def test_columns_without_dependence_have_no_edge():
    levels = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (1000, 4)))
    assert functional.chow_liu(levels, (4,) * 4).parents == (-1,) * 4


def test_a_tree_of_nothing_is_refused():
    with pytest.raises(ArgumentError, match="rows"):
        functional.chow_liu(torch.zeros(0, 2, dtype=torch.long), (2, 2))


def test_the_tree_of_adult_has_the_published_value(real_data):
    """Held-out nats a row of the nine categorical columns, `?` a value of its own: 8.876 (data/README.md)."""
    pd = pytest.importorskip("pandas")
    frame = pd.read_csv(real_data / "adult" / "adult.csv", skipinitialspace=True)
    words = frame.select_dtypes(include=["object", "string"])
    codes = np.stack([pd.factorize(words[name], sort=True)[0] for name in words.columns], 1)
    order = np.random.default_rng(0).permutation(len(codes))
    held_out = order[-(len(codes) // 5) :]
    train = order[: -(len(codes) // 5)]
    counts = (codes.max(0) + 1).tolist()
    tree = functional.chow_liu(torch.from_numpy(codes[train]), counts)
    assert (
        abs(float(tree.log_prob(torch.from_numpy(codes[held_out])).mean()) + 8.876) < 0.03
    )  # less than its standard error: the root is a matter of choice


def _factor_rows(count=400, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(width, 2, generator=generator)
    z, noise = torch.randn(count, 2, generator=generator), torch.randn(count, width, generator=generator)
    return z @ weight.T + 0.3 * noise + torch.arange(float(width)), generator


def test_factor_analysis_of_whole_rows_is_the_closed_form():
    x, _ = _factor_rows()
    found = functional.factor_with_missing(x, 2, equal_noise=True, iterations=5000)
    centred = x - x.mean(0)
    covariance = centred.T @ centred / len(x)
    values, vectors = functional.spectrum(covariance)
    known = functional.ppca(x.mean(0), values, vectors, float(covariance.trace()), 2)
    assert torch.allclose(found.log_prob(x).mean(), functional.ppca_log_likelihood(known, x).mean(), atol=1e-4)


def test_the_density_of_observed_cells_is_the_marginal_normal():
    x, generator = _factor_rows()
    holes = torch.rand(x.shape, generator=generator) < 0.4
    model = functional.factor_with_missing(x.masked_fill(holes, math.nan), 2)
    covariance = model.weight @ model.weight.T + torch.diag(model.noise)
    filled = model.fill(x.masked_fill(holes, math.nan))
    for row, hole, whole in zip(x[:40], holes[:40], filled[:40], strict=True):
        seen = ~hole
        if seen.any():
            known = MultivariateNormal(model.mean[seen], covariance[seen][:, seen])
            assert torch.allclose(model.log_prob(row.masked_fill(hole, math.nan)[None])[0], known.log_prob(row[seen]))
        if seen.any() and hole.any():
            gain = covariance[hole][:, seen] @ torch.linalg.inv(covariance[seen][:, seen])
            assert torch.allclose(whole[hole], model.mean[hole] + gain @ (row[seen] - model.mean[seen]))


@pytest.mark.parametrize(("latents", "error", "nats"), [(2, 0.4734, -16.37), (5, 0.3296, -13.44), (10, 0.2812, -10.71)])
def test_the_published_imputation_of_breast_cancer(latents, error, nats):
    """Half of the cells removed by the protocol of the MIWAE demonstration (data/README.md has the figures)."""
    rows = pytest.importorskip("sklearn.datasets").load_breast_cancer(return_X_y=True)[0].astype(np.float32)
    rows = (rows - rows.mean(0)) / rows.std(0)
    state = np.random.RandomState(1234)
    gone = state.choice(rows.size, rows.size // 2, replace=False)
    holed = rows.flatten()
    holed[gone] = np.nan
    x = torch.from_numpy(holed.reshape(rows.shape).astype(np.float64))
    model = functional.factor_with_missing(x, latents, equal_noise=True, iterations=500)
    hole = x.isnan().numpy()
    assert abs(float(((model.fill(x).numpy() - rows)[hole] ** 2).mean()) - error) < 0.001
    assert abs(float(model.log_prob(x).mean()) - nats) < 0.01


def test_factors_must_be_fewer_than_columns():
    with pytest.raises(ArgumentError, match="fewer than columns"):
        functional.factor_with_missing(torch.randn(9, 3), 3)


@pytest.mark.parametrize("count", [0.0, 3.0, 40.0, 1e4, 1e6])
def test_large_counts_keep_their_digits_in_float32(count):
    x, log_mean, log_size = torch.tensor([count]), torch.tensor([math.log(count + 2.0)]), torch.tensor([0.3])
    wide = [t.double() for t in (x, log_mean.float(), log_size)]
    known = NegativeBinomial(wide[2].exp(), logits=wide[1] - wide[2]).log_prob(wide[0])
    found = functional.negative_binomial_nll(x, log_mean.float(), log_size)
    torch.testing.assert_close(found.double(), -known, rtol=2e-6, atol=2e-4)
    known = Poisson(wide[1].exp()).log_prob(wide[0])
    torch.testing.assert_close(functional.poisson_nll(x, log_mean.float()).double(), -known, rtol=1e-5, atol=3e-3)


@pytest.mark.parametrize("log_size", [-3.0, 0.3, 2.7, 2.9, 6.0, 10.0, 14.0, 20.0])
@pytest.mark.parametrize("count", [0.0, 1.0, 3.0, 15.0, 16.0, 200.0, 1e5])
@pytest.mark.parametrize("log_mean", [-2.0, 0.0, 1.0, 5.0, 11.0])
def test_counts_of_every_size_keep_value_and_gradient_in_float32(count, log_mean, log_size):
    found = [torch.tensor(v, requires_grad=True) for v in (log_mean, log_size)]
    value = functional.negative_binomial_nll(torch.tensor(count), *found)
    value.backward()
    known = [v.detach().double().requires_grad_() for v in found]
    exact = negative_binomial(torch.tensor(count, dtype=torch.float64), *known)
    exact.backward()
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-4)
    for own, other in zip(found, known, strict=True):
        torch.testing.assert_close(own.grad.double(), other.grad, rtol=2e-3, atol=2e-3)


def negative_binomial(x, log_mean, log_size):
    """By the sum over log(r + k), k < x, which cancels nothing."""
    r, mean = log_size.exp(), log_mean.exp()
    steps = torch.arange(int(x), dtype=torch.float64)
    rising = torch.log1p(steps / r).sum()  # log of Gamma(x + r) / (Gamma(r) r^x)
    return torch.lgamma(x + 1) - rising - x * log_mean + (x + r) * torch.log1p(mean / r)

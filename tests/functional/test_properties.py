"""Inequalities and symmetries that hold for every input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibrae import functional as F

reals = st.floats(-50, 50, allow_subnormal=False)
logs = st.floats(-15, 15, allow_subnormal=False)
matrices = st.integers(0, 10_000)


def data(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(*shape, generator=generator, dtype=torch.float64),
        torch.randn(*shape, generator=generator, dtype=torch.float64),
    )


@given(reals, logs)
def test_kl_is_never_negative_and_zero_only_at_the_prior(mean, log_std):
    for dtype in (torch.float32, torch.float64):
        m, ls = torch.tensor([[mean]], dtype=dtype), torch.tensor([[log_std]], dtype=dtype)
        kl = F.kl_standard_normal(m, ls).item()
        assert kl >= 0.0
        if abs(mean) > 1e-6 or abs(log_std) > 1e-6:
            assert kl > 0.0
    assert F.kl_standard_normal(torch.zeros(1, 1), torch.zeros(1, 1)).item() == 0.0


@given(reals, logs, reals, logs)
def test_general_kl_is_never_negative(mean_q, log_q, mean_p, log_p):
    values = [torch.tensor([[v]], dtype=torch.float64) for v in (mean_q, log_q, mean_p, log_p)]
    assert F.kl_diagonal_gaussian(*values).item() >= 0.0


@given(st.floats(1e-12, 1e-2))
def test_kl_near_the_prior_keeps_its_relative_precision(log_std):
    exact = log_std**2 + 2 / 3 * log_std**3 + log_std**4 / 3 + 2 / 15 * log_std**5
    got = F.kl_standard_normal(torch.zeros(1, 1), torch.tensor([[log_std]], dtype=torch.float32)).item()
    assert got == pytest.approx(exact, rel=1e-5)


@given(matrices, st.floats(0.05, 20.0), st.sampled_from(["all", "channel", "element"]))
def test_no_sigma_beats_the_optimal_one(seed, factor, shared):
    x, x_hat = data(seed, 6, 3, 4)
    star = F.optimal_sigma(x, x_hat, shared)
    spread = star[:, None] if shared == "channel" else star
    at_star = F.gaussian_nll(x, x_hat, spread.log()).sum()
    elsewhere = F.gaussian_nll(x, x_hat, (spread * factor).log()).sum()
    assert at_star <= elsewhere + 1e-9


@given(matrices)
def test_finer_sharing_never_raises_the_nll(seed):
    x, x_hat = data(seed, 6, 3, 4)
    totals = []
    for shared in ("all", "channel", "element"):
        star = F.optimal_sigma(x, x_hat, shared)
        spread = star[:, None] if shared == "channel" else star
        totals.append(F.gaussian_nll(x, x_hat, spread.log()).sum().item())
    assert totals[0] >= totals[1] - 1e-9 >= totals[2] - 2e-9


@given(matrices, st.floats(1e-3, 1e3), logs)
def test_rescaling_shifts_the_nll_by_d_log_c(seed, c, log_sigma):
    x, mean = data(seed, 3, 7)
    plain = F.gaussian_nll(x, mean, log_sigma).sum(1)
    scaled = F.gaussian_nll(c * x, c * mean, log_sigma + math.log(c)).sum(1)
    torch.testing.assert_close(scaled, plain + 7 * math.log(c), rtol=1e-9, atol=1e-8)
    star, star_c = F.optimal_sigma(x, mean), F.optimal_sigma(c * x, c * mean)
    torch.testing.assert_close(star_c, c * star)


@given(st.lists(st.floats(-500, 500), min_size=1, max_size=20))
def test_importance_bound_lies_between_mean_and_maximum(log_weights):
    w = torch.tensor(log_weights, dtype=torch.float64)
    bound = F.importance_bound(w)
    assert w.mean() - 1e-9 <= bound <= w.max() + 1e-9


@given(matrices, st.floats(0.05, 20.0), st.sampled_from(["all", "channel", "element"]))
def test_no_laplace_scale_beats_the_optimal_one(seed, factor, shared):
    x, x_hat = data(seed, 6, 3, 4)
    star = F.optimal_scale(x, x_hat, shared, 1)
    spread = star[:, None] if shared == "channel" else star
    at_star = F.laplace_nll(x, x_hat, spread.log()).sum()
    elsewhere = F.laplace_nll(x, x_hat, (spread * factor).log()).sum()
    assert at_star <= elsewhere + 1e-9


@given(matrices, st.floats(1e-3, 1e3), logs)
def test_rescaling_shifts_the_laplace_nll_by_d_log_c(seed, c, log_scale):
    x, location = data(seed, 3, 7)
    plain = F.laplace_nll(x, location, log_scale).sum(1)
    scaled = F.laplace_nll(c * x, c * location, log_scale + math.log(c)).sum(1)
    torch.testing.assert_close(scaled, plain + 7 * math.log(c), rtol=1e-9, atol=1e-8)

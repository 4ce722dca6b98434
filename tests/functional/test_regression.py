"""Regressions on a condition against NumPy and scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from calibrae.errors import ShapeError
from calibrae.functional import level_log_prob, multinomial_regress, regress


def simulated(seed, n=400):
    rng = np.random.default_rng(seed)
    context = np.concatenate([rng.normal(size=(n, 2)), np.eye(3)[rng.integers(0, 3, n)]], 1)
    x = context @ rng.normal(size=(5, 4)) + rng.normal(size=(n, 4)) + 7.0
    return torch.from_numpy(context), torch.from_numpy(x)


def fitted(context, x):
    """Predictions of NumPy's least squares with an intercept."""
    wide = np.column_stack([context.numpy(), np.ones(len(context))])
    return wide @ np.linalg.lstsq(wide, x.numpy(), rcond=None)[0]


@given(st.integers(0, 1000), st.integers(1, 400))
def test_batches_give_the_predictions_of_least_squares(seed, size):
    context, x = simulated(seed)
    slope = regress(lambda: zip(context.split(size), x.split(size), strict=True))
    rest = x - context @ slope
    np.testing.assert_allclose((rest - rest.mean(0)).numpy(), x.numpy() - fitted(context, x), atol=1e-8)


def test_each_column_is_fitted_on_its_observed_cells():
    context, x = simulated(3)
    holes = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    x = x.masked_fill(holes, torch.nan)
    x[:60] = torch.where(holes[:60], 0.0, x[:60]).nan_to_num(0.0)  # a batch without holes among others
    slope = regress(lambda: zip(context.split(60), x.split(60), strict=True))
    for column in range(4):
        seen = ~x[:, column].isnan()
        expected = x[seen, column].numpy() - fitted(context[seen], x[seen, column])
        rest = x[seen, column] - context[seen] @ slope[:, column]
        np.testing.assert_allclose((rest - rest.mean()).numpy(), expected, atol=1e-8)


def test_rows_that_do_not_belong_together_are_refused():
    with pytest.raises(ShapeError, match=r"of the same rows; got \(2, 1\) and \(3, 1\)"):
        regress(lambda: [(torch.zeros(2, 1), torch.zeros(3, 1))])


def test_levels_have_the_probabilities_of_scikit_learn():
    """Its penalty is ours: half the squared weights, and none on the intercepts (a thousandth here)."""
    context, x = simulated(5, 2000)
    levels = torch.bucketize(x[:, 0].contiguous(), torch.tensor([5.5, 7.0, 9.0], dtype=x.dtype))
    other = LogisticRegression(C=1.0, tol=1e-10, max_iter=2000).fit(context.numpy(), levels.numpy())
    weights = multinomial_regress(context, levels, 4)
    expected = other.predict_log_proba(context.numpy())
    for level in range(4):
        found = level_log_prob(weights, context, torch.full_like(levels, level))
        np.testing.assert_allclose(found.numpy(), expected[:, level], atol=5e-3)


def test_missing_levels_count_nothing():
    context, x = simulated(7)
    levels = (x[:, 0] > 7).long()
    holes = levels.masked_fill(torch.arange(len(levels)) % 3 == 0, -1)
    kept = holes >= 0
    weights = multinomial_regress(context, holes, 2)
    torch.testing.assert_close(weights, multinomial_regress(context[kept], levels[kept], 2))
    assert (level_log_prob(weights, context, holes)[~kept] == 0).all()


def test_a_level_that_never_occurs_and_a_column_without_cells_have_finite_probabilities():
    context, _ = simulated(1)
    for levels in (torch.zeros(400, dtype=torch.long), torch.full((400,), -1)):
        weights = multinomial_regress(context, levels, 3)
        assert level_log_prob(weights, context, torch.full((400,), 2)).isfinite().all()

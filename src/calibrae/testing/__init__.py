"""Checks for components of one's own, to be called from one's tests."""

from ._components import check_likelihood as check_likelihood
from ._components import check_objective as check_objective
from ._components import check_posterior as check_posterior
from ._components import check_prior as check_prior
from ._step import assert_step_follows_objective as assert_step_follows_objective

"""Damaged files: no other library's error reaches the user."""

import numpy as np
import pytest
from fuzz import WHOLE, mutated, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_read(name, tmp_path):
    assert outcome(name, WHOLE[name], tmp_path) == "read"


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_damaged_files_are_read_or_refused_in_one_sentence(name, tmp_path, seed):
    assert outcome(name, mutated(WHOLE[name], np.random.default_rng(seed)), tmp_path) in ("read", "refused")


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=64))
def test_other_content_under_a_known_name(name, tmp_path, content):
    assert outcome(name, content, tmp_path) in ("read", "refused")

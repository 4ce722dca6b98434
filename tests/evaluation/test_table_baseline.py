"""Marginals of the columns of a table against the density that they were drawn from."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from calibrae.data import load_data
from calibrae.evaluation._table_baseline import table_baseline


def test_the_density_of_a_column_with_several_modes_is_near_the_truth():
    """Three normals far apart: with many rows the broken line to normal scores has knots enough for the gaps between them."""
    rng = np.random.default_rng(0)

    def modes(count):
        return rng.integers(0, 3, count) * 3.0 + 0.5 * rng.normal(size=count)

    held_out = modes(20_000)
    truth = np.log(np.mean([stats.norm(centre, 0.5).pdf(held_out) for centre in (0, 3, 6)], 0)).mean()
    short = {}
    for count in (1000, 10_000):
        frames = {
            part: pd.DataFrame({"x": x, "word": "a"}) for part, x in (("train", modes(count)), ("test", held_out))
        }
        for frame in frames.values():
            frame.loc[::2, "word"] = "b"
        data = load_data(frames)
        cells = table_baseline(data, 1).marginals(torch.cat([batch.x for batch in data.batches("test", 5000)]))
        short[count] = truth - float(cells[:, 0].mean())
    assert short[10_000] == pytest.approx(0.04, abs=0.015)
    assert 0.06 < short[1000] < 0.13

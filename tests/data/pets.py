"""A table with a column of each type, for the tests."""

import numpy as np
import pandas as pd

N = 400


def table(count=N, seed=0):
    """A column of each type."""
    rng = np.random.default_rng(seed)
    income = np.exp(rng.normal(10, 1, count))
    frame = pd.DataFrame(
        {
            "id": [f"row {i}" for i in range(count)],
            "kind": rng.choice(["cat", "dog", "eel"], count),
            "alive": rng.random(count) < 0.7,
            "rating": rng.integers(1, 6, count),
            "visits": rng.negative_binomial(1, 0.01, count),
            "height": rng.normal(170, 10, count),
            "income": income,
            "gain": np.where(rng.random(count) < 0.8, 0.0, income / 7),
            "day": pd.to_datetime("2021-03-01") + pd.to_timedelta(rng.integers(0, 900, count), "D"),
            "site": "north",
            "zip": [f"0{v}" for v in rng.integers(1000, 1020, count)],
            "price": np.round(rng.normal(9, 2, count), 1),
        }
    )
    frame["day"] = frame["day"].dt.strftime("%Y-%m-%d")
    frame.loc[rng.random(count) < 0.1, "height"] = np.nan
    frame.loc[rng.random(count) < 0.1, "kind"] = None
    return frame

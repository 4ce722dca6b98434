"""Bad data and bad settings end in a model whose numbers are finite, or in one sentence; never in a NaN that goes on or is saved."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import calibrae as cb
from calibrae.errors import CalibraeError

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(120, 4))
PICTURES = RNG.integers(0, 256, (120, 1, 4, 4)).astype(np.uint8)

BAD_DATA: dict[str, np.ndarray] = {
    "nan": np.where(RNG.random((120, 4)) < 0.01, np.nan, ROWS),
    "inf": np.where(RNG.random((120, 4)) < 0.01, np.inf, ROWS),
    "constant": np.full((120, 4), 3.3),
    "a constant column": np.c_[ROWS[:, :3], np.ones(120)],
    "one colour": np.full((120, 1, 4, 4), 7, np.uint8),
    "one example": ROWS[:1],
    "two examples": ROWS[:2],
    "three examples": ROWS[:3],
    "ten examples": ROWS[:10],
    "no example": ROWS[:0],
    "one pixel": RNG.integers(0, 256, (120, 1, 1, 1)).astype(np.uint8),
    "one column": ROWS[:, :1],
    "huge": ROWS * 1e30,
    "too huge for squares": ROWS * 1e200,
    "tiny": ROWS * 1e-30,
    "denormal": ROWS * 1e-310,
    "far from zero": ROWS * 1e-6 + 1e9,
    "scales far apart": ROWS * np.array([1e-20, 1.0, 1e20, 1.0]),
    "an outlier": np.r_[ROWS, [[1e15] * 4]],
    "zeros": np.zeros((120, 4)),
    "booleans": RNG.random((120, 4)) < 0.5,
    "two values": (RNG.random((120, 1, 4, 4)) < 0.5).astype(np.uint8) * 255,
    "huge integers": RNG.integers(0, 2**62, (120, 4)),
    "negative integers": RNG.integers(-5, 5, (120, 4)),
    "more columns than rows": RNG.normal(size=(30, 500)),
    "complex": ROWS + 1j,
    "a long tail": np.exp(RNG.normal(size=(120, 4)) * 20),
}
BAD_SETTINGS: list[dict[str, Any]] = [
    {"lr": 1e3},
    {"lr": 1e3, "grad_clip_norm": 0.0},
    {"lr": 1e30, "grad_clip_norm": 0.0},
    {"lr": 1e-12},
    {"lr": math.nan},
    {"lr": "fast"},
    {"batch_size": 1},
    {"batch_size": 10**9},
    {"epochs": True},
    {"ema_decay": 0.9999},
    {"weight_decay": 1e6},
    {"weight_decay": math.inf},
    {"lr_warmup": 0.99},
    {"beta": 1e12},
    {"beta": 1e-12},
    {"beta": 0.0},
    {"grad_clip_norm": 1e-30},
    {"precision": "bf16"},
]
BAD_PARTS: list[dict[str, Any]] = [
    {"sigma": 1e-30},
    {"sigma": 1e30},
    {"sigma": "learned"},
    {"likelihood": "laplace"},
    {"sigma_shared": "element"},
    {"prior": "mixture:components=3"},
    {"likelihood": "gaussian-per-example"},
    {"likelihood": "bernoulli"},
    {"latent_dim": 1},
    {"latent_dim": 300},
    {"network": "linear"},
]


def end_well_or_say_why(data: np.ndarray, parts: dict[str, Any], settings: dict[str, Any]) -> None:
    """Train, evaluate and draw; all numbers are finite, unless one sentence says why there are none."""
    made: dict[str, Any] = {"data_shape": data.shape[1:], "latent_dim": 2, "options": cb.NetworkOptions(hidden=(8,))}
    given = {"epochs": 2, "precision": "fp32", "compile": "off", "quiet": True, "pictures": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = cb.build("sigma-vae", **made | parts)
            run = cb.fit(model, data, **given | settings)
            record, drawn = run.evaluate(), run.sample(3)
    except CalibraeError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert "\n" not in said
        assert len(said.split()) > 3
        return
    weights = [value for value in model.state_dict().values() if value.is_floating_point()]
    assert all(bool(torch.isfinite(value).all()) for value in weights)
    assert all(math.isfinite(value) for row in run.history for value in row.values())
    assert record.elbo_nats is None or math.isfinite(record.elbo_nats)
    assert np.isfinite(np.asarray(drawn, dtype=float)).all()


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(name) -> None:
    end_well_or_say_why(BAD_DATA[name], {}, {})


@pytest.mark.parametrize("settings", BAD_SETTINGS, ids=str)
def test_bad_settings(settings) -> None:
    for data in (ROWS, PICTURES):
        end_well_or_say_why(data, {}, settings)


@pytest.mark.parametrize("parts", BAD_PARTS, ids=str)
def test_parts_on_data_that_are_hard(parts) -> None:
    for name in ("huge", "tiny", "an outlier", "a long tail", "one pixel", "one column", "two values"):
        end_well_or_say_why(BAD_DATA[name], parts, {})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nan", "NaN"),
        ("constant", "same|vary"),
        ("one example", "example"),
        ("too huge for squares", "below 1e150"),
        ("complex", "complex"),
        ("no example", "example"),
    ],
)
def test_what_cannot_be_is_refused(name, says) -> None:
    data = BAD_DATA[name]
    model = cb.build("sigma-vae", data_shape=data.shape[1:], latent_dim=2, network="linear")
    with pytest.raises(CalibraeError, match=says):
        cb.fit(model, data, epochs=1, quiet=True, pictures=False)

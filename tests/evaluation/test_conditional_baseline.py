"""Baselines of conditional models against the distribution that the data were drawn from, and against SciPy."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import calibrae as cb
from calibrae.data import load_data
from calibrae.errors import ArgumentError
from calibrae.evaluation import evaluate_model, log_likelihoods, training_baseline
from calibrae.functional import level_log_prob
from calibrae.models import levels_in, scores_in
from calibrae.runs import RunFolder, load_baseline, save_baseline

N = 4000
RNG = np.random.default_rng(0)
SITES = np.array(["east", "north", "west"])[RNG.integers(0, 3, N)]
SPEED = RNG.normal(50.0, 20.0, N)
SHIFT = {"east": [0.0, 5.0, -2.0, 1.0], "north": [3.0, 0.0, 0.0, -4.0], "west": [-3.0, 1.0, 8.0, 0.0]}
MEAN = np.array([SHIFT[site] for site in SITES]) + 0.1 * SPEED[:, None] * np.array([1.0, -1.0, 0.5, 0.0])
WEIGHT = RNG.normal(size=(4, 2)) * 2
X = MEAN + RNG.normal(size=(N, 2)) @ WEIGHT.T + 0.5 * RNG.normal(size=(N, 4))
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(site=SITES, speed=SPEED)


def model_of(data, latent_dim=2, **parts):
    torch.manual_seed(0)
    return cb.build(spec=data.spec, latent_dim=latent_dim, network="linear", context_dim=data.condition.dim, **parts)


def truth(rows):
    return stats.multivariate_normal(cov=WEIGHT @ WEIGHT.T + 0.25 * np.eye(4)).logpdf(X[rows] - MEAN[rows])


@pytest.mark.parametrize("shared", ["all", "element"])
def test_numbers_given_a_class_and_a_number_reach_the_density_that_they_were_drawn_from(shared):
    data = load_data(FRAME, condition=("site", "speed"))
    found, notes = training_baseline(model_of(data, sigma_shared=shared), data)
    assert found.name.endswith("after regression on the condition")
    assert not notes
    mine = log_likelihoods(found, data, "test")[0].numpy()
    expected = truth(data.view("test").index) + data.spec.log_scale  # on the standardised scale
    assert np.mean(mine - expected) == pytest.approx(0.0, abs=0.04)


@pytest.mark.parametrize("kind", ["numbers", "mixed"])
def test_a_condition_that_tells_nothing_is_not_regressed_on(kind):
    """A hundred classes of a few rows each: their means are noise, and the baseline is that without them."""
    frame = pd.DataFrame(X[:500], columns=list("abcd"))
    frame = frame if kind == "numbers" else frame.assign(word=np.where(RNG.random(500) < 0.5, "yes", "no"))
    useless = frame.assign(person=[f"p{i}" for i in RNG.permutation(np.arange(500) % 100)])
    data, alone = load_data(useless, condition="person"), load_data(frame)
    given = training_baseline(model_of(data), data)[0]
    without = training_baseline(cb.build(spec=alone.spec, latent_dim=2, network="linear"), alone)[0]
    assert given.name == without.name
    expected = log_likelihoods(without, alone, "test")[0]
    torch.testing.assert_close(log_likelihoods(given, data, "test")[0], expected)


def test_the_condition_is_worth_what_a_model_without_it_lacks():
    data = load_data(FRAME, condition=("site", "speed"))
    given = training_baseline(model_of(data), data)[0]
    alone = load_data(FRAME.drop(columns=["site", "speed"]))
    torch.manual_seed(0)
    without = training_baseline(cb.build(spec=alone.spec, latent_dim=2, network="linear"), alone)[0]
    difference = log_likelihoods(given, data, "test")[0].mean() - log_likelihoods(without, alone, "test")[0].mean()
    assert float(difference) > 1.0


def test_an_example_without_its_condition_is_refused():
    data = load_data(FRAME, condition="speed")
    found, _ = training_baseline(model_of(data), data)
    with pytest.raises(ArgumentError, match="this baseline depends on the condition"):
        found.log_likelihood(torch.zeros(1, 4, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["numbers", "mixed"])
def test_a_stored_baseline_is_the_baseline(tmp_path, kind):
    frame = FRAME if kind == "numbers" else mixed_frame()
    data = load_data(frame, condition=("site", "speed"))
    found, _ = training_baseline(model_of(data), data)
    folder = RunFolder.create(tmp_path / "run", overwrite=False)
    save_baseline(found, folder)
    again = load_baseline(tmp_path / "run")
    assert again.name == found.name
    torch.testing.assert_close(log_likelihoods(again, data, "test")[0], log_likelihoods(found, data, "test")[0])


LARGE = 1 / (1 + np.exp(-(SPEED - 50.0) / 5.0))


def mixed_frame():
    """Two words that depend on the site and on nothing else, so that a tree of the two misses it; holes in the numbers."""
    rng = np.random.default_rng(1)
    colour = np.where(rng.random(N) < 0.9, np.where(SITES == "east", "red", "blue"), "green")
    size = np.where(rng.random(N) < LARGE, "large", "small")
    holes = rng.random((N, 4)) < 0.2
    return pd.DataFrame(np.where(holes, np.nan, X), columns=list("abcd")).assign(
        site=SITES, speed=SPEED, colour=colour, size=size
    )


def test_one_number_beside_words_is_regressed_on_the_condition():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {"height": 170 + 12 * (SITES == "east") + 5 * rng.normal(size=N), "word": rng.choice(["yes", "no"], N)}
    )
    data = load_data(frame.assign(site=SITES), condition="site")
    found, _ = training_baseline(model_of(data), data)
    assert "regression of 1 column on the condition" in found.name
    own, other = (torch.cat([batch.x for batch in data.batches(split, 5000)]) for split in ("train", "test"))
    sites, asked = data.contexts("train").argmax(1), data.contexts("test").argmax(1)
    columns, number = data.spec.columns, found.numeric
    scores, new = (scores_in(x, columns, number)[:, 0].numpy() for x in (own, other))
    means = np.array([scores[sites == site].mean() for site in range(3)])
    spread = (scores - means[sites]).std()
    bend = found.marginals(other)[:, number[0]].numpy() - stats.norm.logpdf(new)
    word = found.marginals(other)[:, found.discrete[0]]
    if found.weights:
        word = level_log_prob(found.weights[0], data.contexts("test"), levels_in(other, found.discrete)[:, 0])
    expected = stats.norm.logpdf(new, means[asked], spread) + bend + word.numpy()
    np.testing.assert_allclose(found.log_likelihood(other, data.contexts("test")).numpy(), expected, atol=1e-4)
    mine = float(expected.mean())
    alone = load_data(frame)
    without = training_baseline(cb.build(spec=alone.spec, latent_dim=2, network="linear"), alone)[0]
    assert without.factor is None
    assert mine > float(log_likelihoods(without, alone, "test")[0].mean()) + 0.2


def test_words_given_a_condition_have_the_entropy_that_is_left():
    data = load_data(mixed_frame(), condition=("site", "speed"))
    found, _ = training_baseline(model_of(data), data)
    assert "logistic regressions of 2 columns on the condition" in found.name
    assert "factor analysis of 4 columns" in found.name
    record = evaluate_model(model_of(data), data)
    assert record.baseline == found.name
    words = load_data(mixed_frame()[["site", "speed", "colour", "size"]], condition=("site", "speed"))
    mine = log_likelihoods(training_baseline(model_of(words), words)[0], words, "test")[0].mean()
    entropy = stats.entropy([0.9, 0.1]) + stats.entropy(np.stack([LARGE, 1 - LARGE])).mean()
    assert -float(mine) == pytest.approx(entropy, abs=0.08)  # 400 rows

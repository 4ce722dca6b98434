"""Estimators of scikit-learn: its own contract, tables with words and holes, densities, alarms, imputation."""

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from pets import table
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from calibrae import functional
from calibrae.sklearn import CalibratedVAE, Detector, Imputer

SMALL = {"n_components": 2, "hidden": (16,), "max_steps": 30, "importance_samples": 5}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([CalibratedVAE(**SMALL), Detector(**SMALL, false_alarm_rate=0.1), Imputer(**SMALL)])
def test_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def vae():
    return CalibratedVAE(**{**SMALL, "max_steps": 300}).fit(table())


def test_a_frame_with_words_and_holes(vae):
    frame = table(50, seed=1)
    assert vae.transform(frame).shape == (50, 2)
    assert np.isfinite(vae.score_samples(frame)).all()
    assert vae.score(frame) == pytest.approx(vae.score_samples(frame).mean())
    assert vae.get_feature_names_out().tolist() == ["calibratedvae0", "calibratedvae1"]
    assert any("left out: id" in note for note in vae.notes_)


def test_a_row_scores_alone_as_among_others(vae):
    frame = table(30, seed=1)
    together = vae.score_samples(frame)
    alone = np.concatenate([vae.score_samples(frame[i : i + 1]) for i in range(30)])
    np.testing.assert_allclose(together, alone, rtol=1e-9)
    np.testing.assert_allclose(vae.score_samples(frame[::-1]), together[::-1], rtol=1e-9)


def test_rows_are_drawn_and_decoded_as_they_came(vae):
    frame = table()
    for rows in (vae.sample(40, random_state=1), vae.inverse_transform(vae.transform(frame[:40]))):
        assert list(rows) == list(frame)
        assert rows["id"].isna().all()  # an identifier cannot be drawn
        assert set(rows["kind"]) <= {"cat", "dog", "eel"}
        assert set(rows["site"]) == {"north"}
    assert vae.sample(5, random_state=1).equals(vae.sample(5, random_state=1))
    array = CalibratedVAE(**SMALL).fit(np.random.default_rng(0).normal(size=(60, 3)))
    assert array.sample(7).shape == (7, 3)
    assert array.inverse_transform(np.zeros((4, 2))).shape == (4, 3)


def test_it_is_cloned_pickled_and_refuses_before_it_is_fitted(vae):
    assert clone(vae).get_params() == vae.get_params()
    again = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(again.score_samples(table(20)), vae.score_samples(table(20)))
    for call in (
        lambda m: m.sample(2),
        lambda m: m.transform(table(3)),
        lambda m: m.inverse_transform(np.zeros((1, 2))),
    ):
        with pytest.raises(NotFittedError):
            call(clone(vae))
    with pytest.raises(ValueError, match="must be one of real"):
        CalibratedVAE(**SMALL, columns={"kind": "noun"}).fit(table())


def test_pipelines_column_transformers_and_searches():
    frame = table()
    target = frame["alive"].astype(int)
    both = ColumnTransformer([("vae", CalibratedVAE(**SMALL), ["kind", "height", "income", "gain"])], remainder="drop")
    pipe = make_pipeline(both, LogisticRegression()).fit(frame, target)
    assert pipe.predict(frame).shape == (len(frame),)
    framed = CalibratedVAE(**SMALL).set_output(transform="pandas").fit(frame).transform(frame)
    assert list(framed) == ["calibratedvae0", "calibratedvae1"]
    search = GridSearchCV(CalibratedVAE(**SMALL), {"n_components": [1, 2]}, cv=2).fit(frame)
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])


def test_the_density_is_near_the_truth():
    """Two normals that depend on one another, and a word that says the sign: log p is known."""
    rng = np.random.default_rng(0)

    def rows(count):
        a = rng.normal(size=count)
        return pd.DataFrame(
            {"a": a, "b": 0.8 * a + 0.6 * rng.normal(size=count), "sign": np.where(a > 0, "plus", "minus")}
        )

    def truth(frame):
        a, b = frame["a"].to_numpy(), frame["b"].to_numpy()
        return -math.log(2 * math.pi * 0.6) - a**2 / 2 - ((b - 0.8 * a) / 0.6) ** 2 / 2

    model = CalibratedVAE(
        2, hidden=(64,), max_steps=6000, batch_size=128, importance_samples=200, learning_rate=3e-3
    ).fit(rows(8000))
    test = rows(2000)
    gap = truth(test).mean() - model.score(test)
    assert -0.02 < gap < 0.2


def test_the_alarm_keeps_its_rate_and_finds_what_is_strange():
    rng = np.random.default_rng(0)

    def make(count):
        kinds = rng.choice(["a", "b", "c"], count, p=[0.6, 0.3, 0.1])
        return pd.DataFrame({"x": rng.normal(size=count), "kind": kinds})

    alarms = []
    for seed in range(4):
        model = Detector(**{**SMALL, "max_steps": 100}, false_alarm_rate=0.1, random_state=seed).fit(make(500))
        alarms.append((model.predict(make(3000)) == -1).mean())
        assert model.labels_.mean() < 0.25
        assert ((model.p_values(make(100)) <= 0.1) == (model.predict(make(100)) == -1)).shape == (100,)
    assert np.mean(alarms) < 0.1 + 3 * math.sqrt(0.1 * 0.9 / 100 / 4)
    strange = pd.DataFrame({"x": [60.0, -60.0], "kind": ["a", "c"]})
    assert model.predict(strange).tolist() == [-1, -1]
    rows = make(200)
    assert ((model.decision_function(rows) < 0) == (model.predict(rows) == -1)).all()
    assert ((model.p_values(rows) <= 0.1) == (model.predict(rows) == -1)).all()


def test_contamination_is_a_share_of_the_training_rows():
    model = Detector(**SMALL, contamination=0.2).fit(np.random.default_rng(0).normal(size=(200, 2)))
    assert model.labels_.mean() == pytest.approx(0.2)


def test_holes_are_filled_and_nothing_else_changes():
    frame = table()
    filled = Imputer(**{**SMALL, "max_steps": 100}).fit_transform(frame)
    assert not filled[["height", "kind"]].isna().any().any()
    for name in frame:
        there = frame[name].notna()
        assert filled.loc[there, name].tolist() == frame.loc[there, name].tolist(), name
    assert set(filled["kind"]) == {"cat", "dog", "eel"}


def test_imputation_uses_what_the_columns_tell():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 1)) + 0.2 * rng.normal(size=(2000, 3))
    holed = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    filled = Imputer(1, hidden=(32,), max_steps=1500, importance_samples=50).fit_transform(holed)
    hole = np.isnan(holed)
    rows = torch.from_numpy(holed)
    known = functional.factor_with_missing(rows, 1).fill(rows).numpy()
    error, best = ((filled - x)[hole] ** 2).mean(), ((known - x)[hole] ** 2).mean()
    assert error < 1.7 * best  # the exact model of these rows
    assert error < 0.2 * x.var()


def test_pca_of_scikit_learn_is_the_linear_baseline():
    """`PCA.score_samples` is probabilistic PCA, but for variances divided by n - 1 instead of n."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 6)) + 0.5 * rng.normal(size=(300, 6))
    rows, ratio = torch.from_numpy(x), 300 / 299
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred / len(x) * ratio
    values, vectors = functional.spectrum(covariance)
    known = functional.ppca(rows.mean(0), values, vectors, float(covariance.trace()), 2)
    found = PCA(2).fit(x).score_samples(x)
    np.testing.assert_allclose(functional.ppca_log_likelihood(known, rows).numpy(), found, rtol=1e-9)


def test_rows_come_back_as_they_were_fitted():
    words = np.array([["a", 1.0], ["b", 2.5], ["a", None]] * 20, dtype=object)
    model = CalibratedVAE(n_components=1, hidden=(8,), max_steps=5).fit(words)
    back = model.inverse_transform(model.transform(words))
    assert back.shape == words.shape
    assert set(back[:, 0]) <= {"a", "b"}
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(60)], "k": list("abc") * 20, "x": np.arange(60) / 7})
    model = CalibratedVAE(n_components=1, hidden=(8,), max_steps=5).fit(frame)
    rows = model.sample(5)
    assert list(rows.columns) == list(frame.columns)
    assert np.isfinite(model.score_samples(rows)).all()


def test_names_of_columns_need_not_be_text():
    frame = pd.DataFrame({1: list("abc") * 20, 2: np.arange(60) / 7})
    frame.loc[3, 2], frame.loc[4, 1] = np.nan, None
    filled = Imputer(n_components=1, hidden=(8,), max_steps=5).fit_transform(frame)
    assert not filled.isna().any().any()
    assert filled.drop(index=[3, 4]).equals(frame.drop(index=[3, 4]))

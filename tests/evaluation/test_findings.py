"""What a diagnosis says, from evidence made for it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import calibrae as cb
from calibrae.data import View, load_data
from calibrae.evaluation import (
    Calibration,
    Evaluation,
    Evidence,
    LatentDiagnosis,
    Outside,
    Residuals,
    findings,
    linear_vae_at_ppca,
    training_spectrum,
)
from calibrae.evaluation._advice import errors_that_tell, is_below


def evaluation(**changes) -> Evaluation:
    plain = {
        "n": 1000, "data_dim": 100, "latent_dim": 4, "split": "test", "seed": 0, "elbo_nats": 50.0, "elbo_standard_error": 0.1,
        "reconstruction_nats": -60.0, "kl_nats": 10.0, "kl_per_dim": [2.5] * 4, "mse": 0.01, "sigma": 0.1, "sigma_shared": "all",
        "bits_per_dim": 7.0, "active_units": 4, "ppca_log_likelihood_nats": 20.0, "ppca_sigma": 0.2, "scale": "[0, 1]",
        "baseline": "probabilistic PCA with 4 latents", "baseline_log_likelihood_nats": 20.0,
        "standard_errors": {"elbo_minus_baseline_nats": 1.0},
        "log_scale": 0.0, "elbo_nats_original_units": None,
    }  # fmt: skip
    return Evaluation(**(plain | changes))


def residuals(spread: float, ks: float) -> Residuals:
    return Residuals("all", 1000, 0.0, spread, 3.0, {"0.5": 0.5, "0.9": 0.9, "0.95": 0.95}, [0.1] * 10, ks)


def calibrated(spread: float = 1.0, ks: float = 0.01) -> Calibration:
    return Calibration(residuals(spread, ks), [], [], torch.ones(100, dtype=torch.float64))


def latents(**changes) -> LatentDiagnosis:
    plain = {
        "kl": 10.0, "kl_per_dim": torch.full((4,), 2.5), "posterior_mean_variance": torch.ones(4), "active": torch.ones(4, dtype=torch.bool),
        "mutual_information": 6.0, "standard_errors": {}, "total_correlation": 0.5, "dimensionwise_kl": 0.5,
        "aggregate_kl": 1.0, "hole_share": 0.01, "components": 1000, "queries": 1000, "collapse": "none", "sentence": "",
    }  # fmt: skip
    return LatentDiagnosis(**(plain | changes))


def history(*elbos: float) -> list[dict[str, float]]:
    return [{"epoch": i + 1, "validation_loss": -e} for i, e in enumerate(elbos)]


SETTLED = history(0, 30, 40, 45, 48, 49, 49.5, 49.8, 49.9, 50)
WELL = Evidence(evaluation(), evaluation(elbo_nats=50.2), SETTLED, calibrated(), latents(), 0.001, None)

CASES = {
    "data-outside-range": {"outside": Outside(0.2, 50, 1000)},
    "posterior-collapse": {"latents": latents(collapse="full", active=torch.zeros(4, dtype=torch.bool), sentence="Posterior collapse: ...")},
    "sigma-at-floor": {"min_sigma": 0.0999},
    "below-baseline": {"test": evaluation(baseline_log_likelihood_nats=60.0)},
    "still-falling": {"history": history(0, 10, 20, 30, 40, 50)},
    "one-epoch": {"history": history(10)},
    "over-fitted": {"train": evaluation(elbo_nats=60.0)},
    "miscalibrated": {"calibration": calibrated(spread=1.3)},
    "holes": {"latents": latents(hole_share=0.6)},
    "unused-latents": {"latents": latents(collapse="partial", active=torch.tensor([True, True, False, False]))},
    "residuals-of-another-shape": {"calibration": calibrated(ks=0.2)},
}  # fmt: skip


def test_nothing_is_said_of_a_good_model():
    assert findings(WELL) == []


@pytest.mark.parametrize("code", CASES)
def test_each_fault_is_found_alone(code):
    found = findings(replace(WELL, **CASES[code]))
    assert [f.code for f in found] == [code]
    assert found[0].message.endswith((".", "..."))
    assert found[0].remedy.endswith((".", ")."))


def test_the_worst_comes_first():
    everything = {
        key: value for code in ("unused-latents", "over-fitted", "below-baseline") for key, value in CASES[code].items()
    }
    found = findings(replace(WELL, **everything))
    assert [f.severity for f in found] == ["error", "warning", "note"]


def test_an_autoencoder_has_fewer_things_to_go_wrong():
    plain = evaluation(elbo_nats=None, baseline_log_likelihood_nats=None, kl_nats=None)
    assert findings(Evidence(plain, plain, SETTLED, None, None, None, None)) == []


def test_a_model_without_a_history_is_judged_by_its_numbers_alone():
    """Nobody knows how long a model was trained that has no run: nothing is said of its epochs, and the rest is."""
    assert findings(replace(WELL, history=[])) == []
    found = findings(replace(WELL, history=[], **CASES["over-fitted"]))
    assert [f.code for f in found] == ["over-fitted"]
    assert "epoch" not in found[0].message


def test_what_a_prior_does_not_allow_is_no_finding():
    """Without a KL per latent and without one prior there are still active latents, and nothing is guessed of the rest."""
    unknown = latents(kl_per_dim=None, dimensionwise_kl=None, aggregate_kl=None, hole_share=None)
    assert findings(replace(WELL, latents=unknown)) == []


@pytest.mark.parametrize(("choice", "advised"), [("fixed", True), ("optimal", False), ("learned", False)])
def test_a_collapsed_model_is_told_to_calibrate_sigma_only_if_it_did_not(choice, advised):
    collapsed = replace(WELL, scale_choice=choice, **CASES["posterior-collapse"])
    (found,) = [finding for finding in findings(collapsed) if finding.code == "posterior-collapse"]
    assert ("--sigma optimal" in found.remedy) is advised


def sound(seed: int, n: int = 1500):
    """Data of a linear Gaussian model, and the linear VAE that is their closed-form optimum."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(2, 8))
    weight /= np.linalg.norm(weight, axis=0)
    data = load_data(rng.normal(size=(n, 2)) @ weight + 0.5 * rng.normal(size=(n, 8)))
    return data, linear_vae_at_ppca(training_spectrum(data, 2).ppca(2), (8,)).float()


@pytest.mark.parametrize("n", [60, 400, 1500])
def test_nothing_is_found_in_sound_data(n):
    """In a hundred draws at most one finding: benchmarks/false_alarms.py counts a thousand."""
    alarms = [f.code for seed in range(33) for f in cb.diagnose(*reversed(sound(seed, n)), seed=seed)]
    assert len(alarms) <= 1, alarms


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (lambda data, model: (data, scaled(model, 0.7)), "miscalibrated"),
        (lambda data, model: (data, scaled(model, 1.4)), "miscalibrated"),
        (lambda data, model: (shifted(data), model), "data-outside-range"),
    ],
)
def test_planted_faults_are_found(fault, code):
    for seed in range(5):
        data, model = fault(*sound(seed))
        assert code in [finding.code for finding in cb.diagnose(model, data, seed=seed)]


def scaled(model, factor):
    """The model with another sigma."""
    model.likelihood.scale._log_scale.add_(math.log(factor))
    return model


def shifted(data):
    """The data with a test split in other units."""
    view = data.views["test"]
    rows = view.slice(0, len(view)).numpy() * 100
    return replace(data, views={**data.views, "test": View(rows)})


@pytest.mark.parametrize(("n", "near"), [(5, 0.05), (8, 0.01), (12, 3e-3), (30, 1e-3), (200, 1e-3), (100_000, 1e-3)])
def test_the_errors_that_tell_are_students(n, near):
    expected = stats.t.ppf(0.999, n - 1)
    assert errors_that_tell(n) == pytest.approx(expected, rel=near)


def test_a_model_is_seldom_below_its_baseline_by_chance():
    """Means of 12 differences whose truth is 0, each with the error that is estimated from them."""
    rng = np.random.default_rng(0)
    gaps = rng.normal(size=(20_000, 12))
    means, errors = gaps.mean(1), gaps.std(1, ddof=1) / np.sqrt(12)
    found = [
        is_below(evaluation(n=12, elbo_nats=mean, baseline_log_likelihood_nats=0.0, standard_errors={"elbo_minus_baseline_nats": error}))
        for mean, error in zip(means, errors, strict=True)
    ]  # fmt: skip
    assert 0.0 < np.mean(found) < 0.002

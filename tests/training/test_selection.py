"""The epoch that is kept is the best by what was asked for, and the ELBO at beta 1 stands beside it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch

import calibrae as cb
from calibrae.models import summarise
from calibrae.training._validation import VALIDATION_STREAM, Validator

DATA = np.random.default_rng(0).normal(size=(300, 3)) @ np.random.default_rng(1).normal(size=(3, 8))
SETTINGS = {"epochs": 6, "batch_size": 16, "precision": "fp32", "compile": "off", "pictures": False, "lr": 0.02}


def trained(beta: float, **settings: Any) -> cb.Run:
    torch.manual_seed(0)
    options = cb.NetworkOptions(hidden=(32,))
    likelihood = cb.GaussianLikelihood(1.0)
    model = cb.build("vae", data_shape=(8,), latent_dim=3, network="mlp", likelihood=likelihood, options=options)
    return cb.fit(model, DATA, beta=beta, **SETTINGS | settings)


def test_a_small_beta_selects_by_its_own_loss_and_not_by_the_elbo(capsys) -> None:
    """The KL costs next to nothing, so the codes sharpen without end: the loss falls on long after the ELBO has turned."""
    run = trained(0.0001)
    said = capsys.readouterr().err
    losses = [row["validation_loss"] for row in run.history]
    elbos = [row["validation_elbo"] for row in run.history]
    best = 1 + int(np.argmin(losses))
    assert best != 1 + int(np.argmax(elbos))
    known = json.loads((run.path / "run.json").read_text())
    assert (known["selected_epoch"], known["selected_by"]) == (best, "validation_loss")
    message = f"kept epoch {best} of 6: lowest validation loss {min(losses):.2f} nats, ELBO {elbos[best - 1]:.2f}"
    assert message in said
    marked = [int(number) for number in re.findall(r"^ +(\d+) .* best$", said, re.MULTILINE)]
    assert marked[-1] == best
    head, first = said.splitlines()[[line.startswith("epoch ") for line in said.splitlines()].index(True) :][:2]
    assert first.split()[head.split().index("loss") + 1] == f"{losses[0]:.2f}"  # "0 s" are two words


def test_the_columns_are_the_objective_and_the_elbo_at_the_same_scale() -> None:
    for row in trained(0.25, quiet=True, epochs=2).history:
        nll, kl = row["validation_nll"], row["validation_kl"]
        assert row["validation_loss"] == pytest.approx(nll + 0.25 * kl, rel=1e-6)
        assert row["validation_elbo"] == pytest.approx(-(nll + kl), rel=1e-6)
        assert row["sigma"] == pytest.approx(1.0)
        assert row["beta"] == 0.25


def test_the_kept_weights_are_those_of_the_selected_epoch() -> None:
    """Scored anew with the same noise, the model has the lowest loss of the history, not the last one."""
    run = trained(0.0001, quiet=True, lr=0.2, lr_warmup=0.95)  # a rate that rises until it does harm
    losses = [row["validation_loss"] for row in run.history]
    validator = Validator(run.model, run.data, cb.BetaELBO(0.0001), 0, 512, 0)
    noise = validator.noise(VALIDATION_STREAM, 1)
    found = summarise(run.model, run.data.batches("validation", 512, 0), noise.rows)
    assert found.nll + 0.0001 * found.kl == pytest.approx(min(losses), rel=1e-5)
    assert min(losses) < losses[-1] - 1e-3 * abs(losses[-1])


def test_a_warm_up_is_judged_at_its_final_weight() -> None:
    """Or the first epochs, whose beta is 0, would always be the best."""
    run = trained(2.0, quiet=True, epochs=3, kl_warmup=0.9)
    for row in run.history:
        expected = row["validation_nll"] + 2.0 * row["validation_kl"]
        assert row["validation_loss"] == pytest.approx(expected, rel=1e-6)
    assert run.history[0]["beta"] < 1.0


def test_patience_counts_epochs_without_a_better_loss() -> None:
    """With a small beta the ELBO falls from early on; that is no reason to stop."""
    run = trained(0.0001, quiet=True, patience=1)
    losses = [row["validation_loss"] for row in run.history]
    elbos = [row["validation_elbo"] for row in run.history]
    stop = next((i for i in range(1, len(losses)) if losses[i] >= min(losses[:i])), 5)
    assert len(losses) == stop + 1
    assert stop > next(i for i in range(1, len(elbos)) if elbos[i] < max(elbos[:i]))


def test_importance_weighted_training_selects_by_its_own_bound() -> None:
    torch.manual_seed(0)
    model = cb.build("vae", data_shape=(8,), latent_dim=3, network="mlp", objective="iwae:samples=8", sigma=0.5)
    run = cb.fit(model, DATA, quiet=True, **SETTINGS | {"epochs": 3})
    losses = [row["validation_loss"] for row in run.history]
    assert json.loads((run.path / "run.json").read_text())["selected_epoch"] == 1 + int(np.argmin(losses))
    for row in run.history:
        assert -row["validation_loss"] > row["validation_elbo"]  # eight samples tighten the bound

"""`evaluate --full`, `diagnose` and `score`, as a user types them."""

import csv
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from command import call

import calibrae as cb
from calibrae.data import RowCache, load_data
from calibrae.workflows import run_data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    model = cb.build(
        "sigma-vae", data_shape=(1, 8, 8), latent_dim=3, network="mlp", options=cb.NetworkOptions(hidden=(32,))
    )
    folder = tmp_path_factory.mktemp("assess") / "run"
    cb.fit(model, "digits", folder, epochs=3, quiet=True, pictures=False)
    return folder


@pytest.fixture
def few(monkeypatch):
    """Less work of the same kind."""
    from calibrae.evaluation import AnnealedSettings, FullSettings
    from calibrae.workflows import _assess

    small = FullSettings(20, (1, 5, 40), 4, AnnealedSettings(chains=4, temperatures=8, leapfrog=2))
    monkeypatch.setattr(_assess, "FullSettings", lambda: small)
    return small


@pytest.mark.usefixtures("few")
def test_full_brings_all_into_one_json(run, capsys):
    code, out, _ = call(capsys, "evaluate", run, "--full", "--json", "--seed", 3)
    record = json.loads(out)
    assert code == 0
    assert [(e["estimator"], e["samples"]) for e in record["estimates"]] == [
        ("elbo", 1),
        ("elbo", 1), ("importance-weighted", 1), ("importance-weighted", 5), ("importance-weighted", 40),
        ("elbo", 1), ("importance-weighted", 40), ("annealed", 4),
    ]  # fmt: skip
    assert [e["n"] for e in record["estimates"]] == [180, 20, 20, 20, 20, 4, 4, 4]
    for estimate in record["estimates"]:
        assert set(estimate) >= {"nats", "standard_error", "n", "split", "seed", "bits_per_dim"}
        assert (estimate["seed"], estimate["split"]) == (3, "test")
    bounds = [e["nats"] for e in record["estimates"][2:5]]
    assert bounds == sorted(bounds)
    assert record["calibration"]["overall"]["coverage"].keys() == {"0.5", "0.9", "0.95"}
    assert len(record["latents"]["kl_per_dim"]) == 3
    for part, n, split in (("calibration", 180, "test"), ("latents", 180, "test"), ("bidirectional", 4, "simulated")):
        assert {key: record[part][key] for key in ("n", "split", "seed")} == {"n": n, "split": split, "seed": 3}
        assert record[part]["estimator"]
    both = record["bidirectional"]
    assert len(both["lower_nats"]) == len(both["upper_standard_errors"]) == 4
    gaps = [upper - lower for lower, upper in zip(both["lower_nats"], both["upper_nats"], strict=True)]
    assert sum(gaps) / 4 == pytest.approx(record["bidirectional_gap_nats"])
    errors = record["calibration"]["overall"]["standard_errors"]
    assert errors.keys() == {"mean", "spread", "kurtosis", "coverage", "pit", "ks"}
    assert all(error > 0 for error in record["latents"]["standard_errors"]["kl_per_dim"])
    assert record["standard_errors"].keys() == {
        "reconstruction_nats", "kl_nats", "mse", "kl_per_dim", "bits_per_dim", "ppca_log_likelihood_nats",
        "baseline_log_likelihood_nats", "elbo_minus_baseline_nats",
    }  # fmt: skip
    bits_error = record["elbo_standard_error"] / (64 * math.log(2))
    assert record["standard_errors"]["bits_per_dim"] == pytest.approx(bits_error)
    assert record["elbo_nats"] == cb.evaluate(run, seed=3).elbo_nats
    assert (run / "calibration.png").stat().st_size > 1000
    assert (run / "latents.png").stat().st_size > 1000


@pytest.mark.usefixtures("few")
def test_what_has_no_value_is_null_in_json(run, capsys):
    """One annealed example has no spread, so its mean has no error."""
    code, out, _ = call(capsys, "evaluate", run, "--full", "--json", "--annealed-examples", 1)
    assert code == 0
    assert json.loads(out)["bidirectional_gap_standard_error"] is None
    code, out, _ = call(capsys, "evaluate", run, "--full", "--annealed-examples", 1)
    assert code == 0
    assert re.search(r"annealed, K = 4 +[-\d.]+ +- +", out)


@pytest.mark.usefixtures("few")
def test_sizes_of_full(run, capsys):
    code, out, _ = call(capsys, "evaluate", run, "--full", "--json", "--annealed-examples", 3, "--temperatures", 5)
    last = json.loads(out)["estimates"][-1]
    assert code == 0
    assert (last["n"], last["remark"].split(",")[0]) == (3, "5 temperatures")
    code, _, err = call(capsys, "evaluate", run, "--temperatures", 5)
    assert code == 2
    assert "--full" in err
    code, _, err = call(capsys, "evaluate", run, "--full", "--temperatures", 0)
    assert code == 2
    assert "temperatures" in err
    code, _, err = call(capsys, "evaluate", run, "--full", "--annealed-examples", -1)
    assert code == 2
    assert "annealed_examples" in err


@pytest.mark.usefixtures("few")
def test_full_as_a_table(run, capsys):
    code, out, _ = call(capsys, "evaluate", run, "--full")
    assert code == 0
    assert "importance-weighted, K = 40" in out
    assert "bidirectional Monte Carlo" in out
    assert "Sigma is" in out


def test_full_refuses_what_it_cannot_do(run, tmp_path, capsys):
    code, _, err = call(capsys, "evaluate", run, "--full", "--importance-samples", 5)
    assert (code, err.count("\n")) == (2, 1)
    assert "Drop one of them" in err
    model = cb.build("autoencoder", data_shape=(1, 8, 8), latent_dim=2)
    cb.fit(model, "digits", tmp_path / "ae", epochs=1, quiet=True, pictures=False)
    code, _, err = call(capsys, "evaluate", tmp_path / "ae", "--full")
    assert code == 2
    assert "a plain autoencoder has no density" in err
    code, out, _ = call(capsys, "diagnose", tmp_path / "ae")
    assert code == 0
    assert "one-epoch" in out


def test_diagnose_in_words_and_json(run, capsys):
    code, out, _ = call(capsys, "diagnose", run)
    assert code == 0
    assert "try: " in out
    code, out, _ = call(capsys, "diagnose", run, "--json")
    found = json.loads(out)["findings"]
    assert {"code", "severity", "message", "remedy"} == set(found[0])


def test_diagnose_sees_data_outside_the_range(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.standard_normal((400, 6)).astype(np.float32))
    np.save(tmp_path / "far.npy", (5 + 9 * rng.standard_normal((100, 6))).astype(np.float32))
    model = cb.build("sigma-vae", data_shape=(6,), latent_dim=2, options=cb.NetworkOptions(hidden=(16,)))
    run = cb.fit(model, str(tmp_path / "a.npy"), tmp_path / "run", epochs=2, quiet=True, pictures=False)
    assert "data-outside-range" not in {f.code for f in cb.diagnose(run)}
    ready = run_data(run.path)
    stretched = replace(
        ready, views=dict(ready.views) | {"test": type(ready.view("test"))(np.load(tmp_path / "far.npy"))}
    )
    assert cb.diagnose(run, stretched)[0].code == "data-outside-range"


def test_score_orders_examples_by_how_unusual_they_are(run, tmp_path, capsys):
    digits = load_data("digits").view("test").slice(0, 50).numpy()
    odd = digits.copy()
    odd[::10] = np.random.default_rng(0).integers(0, 17, odd[::10].shape)
    np.save(tmp_path / "odd.npy", odd)
    code, out, _ = call(
        capsys, "score", run, tmp_path / "odd.npy", "--csv", tmp_path / "s.csv", "--out", tmp_path / "s.png", "--arrays", tmp_path / "a.npy",
    )  # fmt: skip
    assert code == 0
    assert "50 examples" in out
    with (tmp_path / "s.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {int(row["example"]) for row in rows[:5]} == {0, 10, 20, 30, 40}
    values = [float(row["nll_nats"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert (tmp_path / "s.png").stat().st_size > 1000
    attribution = np.load(tmp_path / "a.npy")
    assert attribution.shape == odd.shape


def test_scores_are_seeded_and_their_parts_add_up(run):
    one, two = (cb.score(run, importance_samples=5, seed=1, limit=20) for _ in range(2))
    assert torch.equal(one.nll, two.nll)
    assert not torch.equal(one.nll, cb.score(run, importance_samples=5, seed=2, limit=20).nll)
    model = cb.load(run)
    x = one.attribution.x
    with torch.no_grad():
        nll = -model.decode(model.encode(x).mean).log_prob(x)
    torch.testing.assert_close(one.attribution.per_element.flatten(1).sum(1), nll, rtol=1e-4, atol=1e-2)


def test_score_refuses_in_one_line(run, capsys):
    code, _, err = call(capsys, "score", run, "nowhere.npy")
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = call(capsys, "score", run, "--limit", 0)
    assert (code, err.count("\n")) == (2, 1)


def test_finished_blocks_are_kept_and_not_computed_again(tmp_path, monkeypatch):
    from calibrae.data import _row_cache
    from calibrae.evaluation import _importance, importance_weighted

    monkeypatch.setenv("CALIBRAE_CACHE", str(tmp_path))
    monkeypatch.setattr(_row_cache, "WRITE_EVERY", 0.0)
    model = cb.build("vae", data_shape=(4,), latent_dim=2).eval()
    x = torch.randn(100, 4)
    whole = importance_weighted(model, [cb.Batch(x)], 20)

    def interrupted():
        with RowCache(("run",)) as kept:

            def interrupt(_count):
                if len(kept) >= 2:
                    raise KeyboardInterrupt

            importance_weighted(model, [cb.Batch(x)], 20, step=interrupt, kept=kept)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    computed = []
    inner = _importance._block_bounds

    def counted(*arguments, **how):
        computed.append(arguments)
        return inner(*arguments, **how)

    monkeypatch.setattr(_importance, "_block_bounds", counted)
    with RowCache(("run",)) as kept:
        again = importance_weighted(model, [cb.Batch(x)], 20, kept=kept)
    assert len(computed) == 2  # of four blocks
    assert torch.equal(again.log_likelihood, whole.log_likelihood)
    kept.file.write_bytes(b"cut short")
    assert len(RowCache(("run",))) == 0

"""Numbers that can be trusted: against exact answers, and whatever the batch size."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

import calibrae as cb
from calibrae import functional as F
from calibrae._noise import ExampleNoise, mixed_seed
from calibrae.data import load_data
from calibrae.errors import ArgumentError, CalibraeError, DataError, NoDensityError, RunError, ScaleNotFixedError
from calibrae.evaluation import (
    cubature_noise,
    data_spectrum,
    evaluate_model,
    exact_linear_elbo,
    importance_weighted,
    linear_vae_at_ppca,
    training_baseline,
    training_spectrum,
)
from calibrae.evaluation._advice import verdict
from calibrae.evaluation._evaluate import LATENT_STREAM
from calibrae.functional import ppca_log_likelihood

DIGITS = load_data("digits")
KEYS = {
    "n", "data_dim", "latent_dim", "elbo_nats", "elbo_standard_error", "reconstruction_nats", "kl_nats", "mse", "sigma",
    "bits_per_dim", "active_units", "ppca_log_likelihood_nats",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=4)
    return cb.fit(model, "digits", tmp_path_factory.mktemp("run") / "r", epochs=4, quiet=True, pictures=False)


@pytest.fixture(scope="module")
def ppca_model():
    ppca = training_spectrum(DIGITS, 10).ppca(10)
    return ppca, linear_vae_at_ppca(ppca, (1, 8, 8))


def test_at_the_analytic_parameters_the_elbo_is_log_p(ppca_model):
    ppca, model = ppca_model
    x = torch.cat([batch.x for batch in DIGITS.batches("test", 512)]).double()
    difference = exact_linear_elbo(model, x) - F.ppca_log_likelihood(ppca, x.flatten(1))
    assert difference.abs().max() < 1e-9


def test_cubature_is_exact_for_quadratics():
    points = cubature_noise(5)
    torch.testing.assert_close(points.mean(0), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(points.T @ points / 10, torch.eye(5, dtype=torch.float64))


def test_the_importance_bound_is_exact_when_the_posterior_is(ppca_model):
    """With q = p(z|x) every weight is p(x): one sample suffices, the bound is log p(x), all samples count."""
    ppca, model = ppca_model
    batches = [cb.Batch(batch.x.double(), index=batch.index) for batch in DIGITS.batches("test", 50)]
    summary = importance_weighted(model, batches, samples=7)
    exact = F.ppca_log_likelihood(ppca, torch.cat([batch.x for batch in batches]).flatten(1))
    torch.testing.assert_close(summary.log_likelihood, exact, rtol=0, atol=1e-8)
    torch.testing.assert_close(summary.effective_samples, torch.full_like(exact, 7.0))


def test_the_importance_bound_against_quadrature():
    """A nonlinear decoder of a one-dimensional latent: log p(x) by the trapezoid rule."""
    torch.manual_seed(1)
    model = cb.build(
        "vae", data_shape=(3,), latent_dim=1, network="mlp", sigma=0.5, options=cb.NetworkOptions(hidden=(64, 64))
    ).eval()
    x = torch.randn(40, 3)
    z = torch.linspace(-8, 8, 20_001)[:, None]
    with torch.no_grad():
        mean = model.decoder(z).double()
        log_joint = torch.stack([Normal(mean, 0.5).log_prob(row.double()).sum(1) for row in x])
        log_joint = log_joint + Normal(0.0, 1.0).log_prob(z.double())[:, 0]
        exact = torch.logsumexp(log_joint, 1) + math.log(16 / 20_000)
    summary = importance_weighted(model, [cb.Batch(x)], samples=20_000)
    torch.testing.assert_close(summary.log_likelihood, exact, rtol=0, atol=0.05)
    seeds = [importance_weighted(model, [cb.Batch(x)], samples=2, seed=seed).mean for seed in range(40)]
    error = float(np.std(seeds)) / math.sqrt(40)
    assert float(np.mean(seeds)) < float(exact.mean()) - 2 * error  # a bound from below in expectation
    assert (summary.effective_samples > 1).all()


def test_the_importance_bound_does_not_depend_on_batches():
    model = cb.build("vae", data_shape=(1, 8, 8), latent_dim=4).eval()
    values = [importance_weighted(model, DIGITS.batches("test", b), samples=9).log_likelihood for b in (1, 7, 180)]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("batch_size", [1, 7, 128, 180])
def test_evaluation_does_not_depend_on_the_batch_size(run, batch_size):
    reference = evaluate_model(run.model, run.data, batch_size=64, importance_samples=5).to_dict()
    other = evaluate_model(run.model, run.data, batch_size=batch_size, importance_samples=5).to_dict()
    reference |= {f"error of {name}": value for name, value in reference.pop("standard_errors").items()}
    other |= {f"error of {name}": value for name, value in other.pop("standard_errors").items()}
    for key, value in reference.items():
        assert other[key] == (
            pytest.approx(value, rel=1e-5) if isinstance(value, float | list) and key != "notes" else value
        ), key


def test_evaluation_is_deterministic_for_a_seed(run):
    one, two = (cb.evaluate(run.path, seed=3).to_dict() for _ in range(2))
    assert one == two
    assert one["elbo_nats"] != cb.evaluate(run.path, seed=4).elbo_nats


def test_the_record_has_the_promised_keys(run):
    record = cb.evaluate(run.path).to_dict()
    assert set(record) >= KEYS
    json.dumps(record, allow_nan=False)
    assert set(cb.evaluate(run.path, importance_samples=2).to_dict()) >= {
        *KEYS, "log_likelihood_nats", "log_likelihood_standard_error", "importance_samples",
    }  # fmt: skip


def test_the_parts_add_up(run):
    record = cb.evaluate(run.path)
    assert record.elbo_nats == pytest.approx(-(record.reconstruction_nats + record.kl_nats), rel=1e-9)
    assert record.kl_nats == pytest.approx(sum(record.kl_per_dim), rel=1e-9)
    assert record.bits_per_dim == pytest.approx(-record.elbo_nats / (64 * math.log(2)) + math.log2(17), rel=1e-9)
    expected = 32 * math.log(2 * math.pi * record.sigma**2) + 64 * record.mse / (2 * record.sigma**2)
    assert record.reconstruction_nats == pytest.approx(expected, rel=1e-5)


def test_the_standard_error_is_that_of_the_mean(run):
    values = [cb.evaluate(run.path, seed=s, split="all", limit=400).elbo_nats for s in range(12)]
    record = cb.evaluate(run.path, split="all", limit=400)
    assert np.std(values) < 2 * record.elbo_standard_error


def test_standard_errors_are_over_examples(run):
    """Each example on its own, and scipy's standard error of the mean."""
    record, model = cb.evaluate(run.path).to_dict(), run.model
    noise = ExampleNoise("normal", (model.latent_dim,), mixed_seed(0, LATENT_STREAM))
    baseline, _ = training_baseline(model, run.data)
    rows = {"reconstruction_nats": [], "kl_nats": [], "mse": [], "elbo_minus_baseline_nats": []}
    with torch.no_grad():
        for batch in run.data.batches("test", 1):
            x, features = batch.x, model.encoder(batch.x)
            mean, std = features[:, :4], features[:, 4:].exp()
            x_hat = model.decoder(mean + std * noise.rows(batch.index))
            nll = -float(Normal(x_hat, model.likelihood.scale.value).log_prob(x).sum())
            kl = float(kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum())
            rows["reconstruction_nats"].append(nll)
            rows["kl_nats"].append(kl)
            rows["mse"].append(float((x - x_hat).square().mean()))
            rows["elbo_minus_baseline_nats"].append(
                -nll - kl - float(ppca_log_likelihood(baseline.ppca, x.flatten(1).double()))
            )
    for name, values in rows.items():
        assert record["standard_errors"][name] == pytest.approx(stats.sem(values), rel=1e-4), name
    assert record["standard_errors"]["elbo_minus_baseline_nats"] < record["elbo_standard_error"]
    assert cb.evaluate(run.path, limit=1).standard_errors == {}


def test_the_mean_is_weighted_by_example(run):
    record = evaluate_model(run.model, run.data, batch_size=100)
    (batch,) = run.data.batches("test", 1000)
    noise = ExampleNoise("normal", (4,), mixed_seed(0, LATENT_STREAM)).rows(torch.arange(180))
    with torch.no_grad():
        expected = run.model.elbo(batch.x, eps=noise).elbo.double().mean().item()
    assert record.elbo_nats == pytest.approx(expected, rel=1e-6)


def test_the_baseline_is_scikit_learns_on_the_same_examples(run):
    from sklearn.decomposition import PCA

    train = torch.cat([batch.x for batch in run.data.batches("train", 512)]).flatten(1).double().numpy()
    test = torch.cat([batch.x for batch in run.data.batches("test", 512)]).flatten(1).double().numpy()
    theirs = PCA(4, svd_solver="full").fit(train * math.sqrt(1.0)).score(test)
    assert cb.evaluate(run.path).ppca_log_likelihood_nats == pytest.approx(theirs, abs=0.05)  # N against N - 1


@pytest.mark.parametrize(("n", "dim"), [(300, 40), (60, 5000)])
def test_spectra_are_exact(n, dim):
    x = torch.randn(n, dim, dtype=torch.float64) * torch.linspace(3, 0.1, dim, dtype=torch.float64)
    found = data_spectrum(lambda: x.float().split(64), latent_dim=5)
    exact = torch.linalg.svdvals((x - x.mean(0)) / math.sqrt(n)) ** 2
    torch.testing.assert_close(found.eigenvalues[:5], exact[:5], rtol=1e-4, atol=0)
    assert found.is_exact
    assert found.total_variance == pytest.approx(exact.sum().item(), rel=1e-5)


def test_large_spectra_are_bounds_from_below(monkeypatch):
    from calibrae.evaluation import _spectrum

    monkeypatch.setattr(_spectrum, "EXACT_DIM", 50)
    x = torch.randn(400, 120, dtype=torch.float64) * torch.logspace(0.5, -1, 120, dtype=torch.float64)
    found = data_spectrum(lambda: x.split(64), latent_dim=5)
    exact = torch.linalg.svdvals((x - x.mean(0)) / 20) ** 2
    assert not found.is_exact
    torch.testing.assert_close(found.eigenvalues[:5], exact[:5], rtol=1e-3, atol=0)
    assert (found.eigenvalues[:5] <= exact[:5] * (1 + 1e-9)).all()


def test_a_vae_below_the_baseline_is_told_so():
    model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=4)
    cb.fix_scale(model, DIGITS.batches("train", 512))
    record = evaluate_model(model, DIGITS)
    assert record.elbo_nats < record.ppca_log_likelihood_nats
    assert "does not beat probabilistic PCA" in record.verdict


@pytest.mark.parametrize(
    ("margin", "error", "baseline", "said"),
    [
        (0.2381, 0.0412, "a Chow-Liu tree", "The ELBO beats a Chow-Liu tree by 0.24 +- 0.04 nats."),
        (18.81, 1.41, "a tree of 2 columns times " * 3, "The ELBO beats the baseline by 18.8 +- 1.4 nats."),
        (0.5, 0.4, "PCA", "The ELBO and PCA do not differ beyond the error (+0.5 +- 0.4 nats)."),
        (-0.5, 0.4, "PCA", "The ELBO and PCA do not differ beyond the error (-0.5 +- 0.4 nats)."),
        (-3.0, 0.04, "PCA", "The ELBO does not beat PCA, which has a closed form: it is 3.00 +- 0.04 nats short. "),
    ],
)
def test_a_verdict_names_the_baseline_and_shows_the_error(run, margin, error, baseline, said):
    found = cb.evaluate(run.path)
    errors = {"elbo_minus_baseline_nats": error}
    changed = replace(
        found, baseline=baseline, baseline_log_likelihood_nats=found.elbo_nats - margin, standard_errors=errors
    )
    assert verdict(changed).startswith(said)


def test_a_scale_that_is_not_fixed_and_a_plain_autoencoder_are_refused():
    with pytest.raises(ScaleNotFixedError):
        evaluate_model(cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=4), DIGITS)
    autoencoder = cb.build("autoencoder", data_shape=(1, 8, 8), latent_dim=4)
    record = evaluate_model(autoencoder, DIGITS)
    assert record.elbo_nats is record.kl_nats is record.bits_per_dim is None
    with pytest.raises(NoDensityError):
        evaluate_model(autoencoder, DIGITS, importance_samples=3)


def test_other_data_and_splits(run):
    images = np.concatenate(list(DIGITS.source.parts.values()))
    record = cb.evaluate(run.path, images, split="all")
    assert record.n == 1797
    own = cb.evaluate(run.path, split="all")
    assert record.elbo_nats == pytest.approx(own.elbo_nats, rel=1e-9)
    with pytest.raises(DataError, match="one of train, validation, test or all"):
        cb.evaluate(run.path, split="dev")
    with pytest.raises(DataError, match="examples of shape"):
        cb.evaluate(run.path, np.zeros((10, 1, 9, 9), dtype=np.uint8))
    with pytest.raises(ArgumentError, match="must be positive"):
        cb.evaluate(run.path, batch_size=0)


def test_the_baseline_is_that_of_the_training_set_whatever_is_evaluated(tmp_path):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(2, 6))
    a, b = (rng.normal(size=(300, 2)) @ m + 0.1 * rng.normal(size=(300, 6)) for m in (mixing, rng.normal(size=(2, 6))))
    np.save(tmp_path / "a.npy", a)
    records = []
    for i, data in enumerate((a, tmp_path / "a.npy")):
        torch.manual_seed(0)
        model = cb.build("sigma-vae", data_shape=(6,), latent_dim=2)
        run = cb.fit(model, data, tmp_path / str(i), epochs=1, quiet=True, pictures=False)
        records.append(cb.evaluate(run.path, b))
    assert records[0].n == 300
    assert records[0].ppca_log_likelihood_nats == pytest.approx(records[1].ppca_log_likelihood_nats, rel=1e-9)
    ppca = training_spectrum(run.data, 2).ppca(2)
    x = run.data.preparation(torch.from_numpy(b)).double()
    assert records[0].ppca_log_likelihood_nats == pytest.approx(F.ppca_log_likelihood(ppca, x).mean().item(), rel=1e-6)


def test_nearly_dependent_columns_keep_their_baseline():
    x = torch.randn(500, 3, dtype=torch.float64)
    x = torch.cat([x, x.sum(1, keepdim=True) + 1e-3 * torch.randn(500, 1, dtype=torch.float64)], 1)
    exact = torch.linalg.svdvals((x - x.mean(0)) / math.sqrt(500))[-1].item()
    assert data_spectrum(lambda: x.split(64), 3).ppca(3).sigma == pytest.approx(exact, rel=1e-9)


def test_changed_data_are_noticed(tmp_path):
    file = tmp_path / "t.npy"
    table = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.save(file, table)
    model = cb.build("sigma-vae", data_shape=(4,), latent_dim=2)
    cb.fit(model, file, tmp_path / "r", epochs=1, quiet=True, pictures=False)
    np.save(file, table + 1)
    with pytest.raises(RunError, match="have changed since"):
        cb.evaluate(tmp_path / "r")
    assert cb.evaluate(tmp_path / "r", file).n == 60
    file.unlink()
    with pytest.raises(CalibraeError, match="Name their new place"):
        cb.evaluate(tmp_path / "r")


def test_the_published_baseline_of_mnist(real_data):
    """Probabilistic PCA with 50 latents on MNIST: 520.6 nats, sigma 0.1118."""
    data = load_data(real_data / "mnist")
    ppca = training_spectrum(data, 50).ppca(50)
    values = [F.ppca_log_likelihood(ppca, batch.x.flatten(1).double()) for batch in data.batches("test", 2000)]
    assert torch.cat(values).mean().item() == pytest.approx(520.6, abs=0.3)
    assert ppca.sigma == pytest.approx(0.1118, abs=2e-4)

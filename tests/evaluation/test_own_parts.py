"""Evaluation of likelihoods and posteriors that no preset has, and of models that no run holds."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from command import call
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, StudentT

import calibrae as cb
from calibrae import functional as F
from calibrae._noise import ExampleNoise, mixed_seed
from calibrae.data import load_data
from calibrae.errors import ArgumentError
from calibrae.evaluation import (
    diagnose_latents,
    evaluate_model,
    importance_weighted,
    linear_vae_at_ppca,
    quadrature_log_likelihood,
    sample_ppca,
)
from calibrae.evaluation._evaluate import LATENT_STREAM
from calibrae.workflows import save_scores_csv
from calibrae.workflows._announce import beta_elsewhere, objective_sentence

SMALL = cb.NetworkOptions(hidden=(8,))
LEVELS = 17  # of digits


def table(n: int = 60, width: int = 5, seed: int = 0) -> torch.Tensor:
    """Rows on a plane with noise, float32, far from mean 0 and deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(2, width, generator=torch.Generator().manual_seed(9))
    return (
        3.0 + 2.0 * torch.randn(n, 2, generator=generator) @ mixing + 0.3 * torch.randn(n, width, generator=generator)
    )


# other densities, and probabilities


def words_of(model: cb.VAE, data: object) -> str:
    """All that is said of a model before and after training, in lower case."""
    ready = load_data(data).prepared_for(model.likelihood.support, is_density=model.likelihood.is_density)
    record = evaluate_model(model, ready, limit=20)
    return "\n".join(
        [
            objective_sentence(model, model.objective),
            beta_elsewhere(model, ready, model.objective),
            str(record),
            *record.notes,
        ]
    ).lower()


@pytest.mark.parametrize("likelihood", ["laplace:scale=0.2", "gaussian-per-example", "gaussian:sigma=0.2"])
def test_a_density_is_not_taken_for_bits(likelihood):
    model = cb.build("vae", data_shape=(1, 8, 8), latent_dim=2, network="mlp", likelihood=likelihood, options=SMALL)
    said = words_of(model, "digits")
    assert "binary" not in said
    assert "probabilities" not in said
    assert "(bits)" not in said
    assert "bernoulli" not in said
    assert likelihood.partition(":")[0].partition("-")[0] in said  # its own name
    assert "linear baseline" in said  # probabilistic PCA is a density too


def test_bits_are_called_what_they_are():
    model = cb.build("vae", data_shape=(5,), latent_dim=2, network="mlp", likelihood="bernoulli", options=SMALL)
    said = words_of(model, np.random.default_rng(0).integers(0, 2, (40, 5)))
    assert "bernoulli" in said
    assert "this likelihood gives probabilities" in said


class EvenLevels(cb.Likelihood):
    """Every level is as likely as any other, whatever z is."""

    support = "levels"
    is_density = False

    def forward(self, output: torch.Tensor) -> Independent:
        logits = (0.0 * output)[..., None].expand(*output.shape, LEVELS)
        return Independent(Categorical(logits=logits), len(self.data_shape))


class Constant(nn.Module):
    """An encoder that gives the prior."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), 4)


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1, 8, 8))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(z), 1, 8, 8)


def of_levels() -> cb.VAE:
    posterior = cb.GaussianPosterior("log_std")
    return cb.VAE(Constant(), Flat(), EvenLevels(), cb.StandardNormalPrior(2), posterior=posterior).eval()


def test_bits_per_dimension_of_probabilities_are_their_own():
    """P(u) = 1/17 for each of 17 levels: log2 17 = 4.087 bits, and not twice that."""
    record = cb.evaluate(of_levels(), "digits", importance_samples=3)
    assert record.bits_per_dim == pytest.approx(math.log2(LEVELS), rel=1e-6)
    assert record.bits_per_dim == pytest.approx(4.087, abs=5e-4)
    assert record.reconstruction_nats == pytest.approx(64 * math.log(LEVELS), rel=1e-6)
    assert record.log_likelihood_nats == pytest.approx(-64 * math.log(LEVELS), rel=1e-6)
    assert record.kl_nats == pytest.approx(0.0, abs=1e-7)
    scores = cb.score(of_levels(), "digits", importance_samples=3, limit=9)
    torch.testing.assert_close(scores.bits_per_dim, torch.full((9,), math.log2(LEVELS)).double(), rtol=1e-6, atol=0)
    json.dumps(record.to_dict(), allow_nan=False)


def test_probabilities_see_the_integers_themselves():
    data = load_data("digits").prepared_for("levels", is_density=False)
    stored = data.view("test")
    x = torch.cat([batch.x for batch in data.batches("test", 50)])
    assert torch.equal(x, stored.slice(0, len(stored)).to(x.dtype))
    assert x.max() == LEVELS - 1
    assert data.spec.step is None
    with pytest.raises(ArgumentError, match="needs integers from 0; got others"):
        cb.evaluate(of_levels(), torch.rand(5, 1, 8, 8))


# what is called nll


@pytest.fixture(scope="module")
def at_ppca():
    """A linear model at its analytic optimum, where the importance-weighted bound is log p(x) with any number of samples."""
    generator = torch.Generator().manual_seed(1)
    vectors = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator)).Q
    eigenvalues = torch.tensor([3.0, 1.5], dtype=torch.float64)
    ppca = F.PPCA(torch.ones(5, dtype=torch.float64), vectors[:, :2], eigenvalues, 0.4)
    return ppca, linear_vae_at_ppca(ppca, (5,)).float(), sample_ppca(ppca, 30, generator)


def test_nll_nats_of_scores_are_those_of_x_alone(at_ppca, tmp_path):
    ppca, model, x = at_ppca
    truth = -F.ppca_log_likelihood(ppca, x.float().double())
    scores = cb.score(model, x.float(), importance_samples=4)
    torch.testing.assert_close(scores.nll, truth, rtol=1e-4, atol=1e-4)
    with save_scores_csv(scores, tmp_path / "scores.csv").open() as file:
        rows = {row["example"]: float(row["nll_nats"]) for row in csv.DictReader(file)}
    assert [rows[str(i)] for i in range(30)] == pytest.approx(truth.tolist(), rel=1e-4, abs=1e-4)


def test_nll_nats_are_nothing_else_in_an_evaluation(at_ppca):
    """-log p(x|z) is `reconstruction_nats`: at samples of q its mean has a closed form, which is not that of -log p(x)."""
    ppca, model, x = at_ppca
    record = cb.evaluate(model, x.float(), importance_samples=4)
    assert "nll_nats" not in record.to_dict()
    assert "nll_nats" not in record.standard_errors
    assert -record.log_likelihood_nats == pytest.approx(-float(F.ppca_log_likelihood(ppca, x).mean()), rel=1e-4)
    with torch.no_grad():
        kl = float(model.elbo(x.float()).kl.mean())
    assert record.reconstruction_nats == pytest.approx(-record.elbo_nats - kl, rel=1e-5)
    assert abs(record.reconstruction_nats + record.log_likelihood_nats) > 0.5  # two different numbers


# posteriors that draw their own samples


class StudentPosterior(cb.Posterior):
    """Student's t with 5 degrees of freedom: torch draws it, and knows no map from normal noise."""

    def features_shape(self, latent_dim: int) -> tuple[int]:
        return (2 * latent_dim,)

    def forward(self, features: torch.Tensor) -> Independent:
        mean, log_std = features.chunk(2, -1)
        return Independent(StudentT(torch.full_like(mean, 5.0), mean, log_std.exp(), validate_args=False), 1)


class TwoHumps(MixtureSameFamily):
    """A mixture that can draw samples with a gradient in its means: a hump is chosen, then a Gaussian drawn."""

    has_rsample = True

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:  # noqa: B008 (torch's own default)
        parts = self.component_distribution.rsample(sample_shape)
        chosen = self.mixture_distribution.sample(sample_shape)
        return parts.gather(-2, chosen[..., None, None].expand(*chosen.shape, 1, parts.shape[-1])).squeeze(-2)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:  # noqa: B008
        with torch.no_grad():
            return self.rsample(sample_shape)


class MixturePosterior(cb.Posterior):
    def features_shape(self, latent_dim: int) -> tuple[int]:
        return (2 * latent_dim,)

    def forward(self, features: torch.Tensor) -> TwoHumps:
        mean, log_std = features.chunk(2, -1)
        means = torch.stack([mean - 0.7, mean + 0.7], -2)
        parts = Independent(Normal(means, log_std.exp()[..., None, :].expand_as(means)), 1)
        return TwoHumps(Categorical(logits=torch.zeros(*mean.shape[:-1], 2)), parts)


@pytest.fixture(scope="module", params=[StudentPosterior, MixturePosterior])
def drawing(request):
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(5, 4), nn.Linear(2, 5)
    with torch.no_grad():
        encoder.weight *= 0.3
    return cb.VAE(encoder, decoder, cb.GaussianLikelihood(1.0), cb.StandardNormalPrior(2), posterior=request.param())


@pytest.fixture(scope="module")
def rows():
    return torch.randn(30, 5, generator=torch.Generator().manual_seed(0))


def test_a_posterior_that_draws_its_own_samples_is_evaluated_with_a_note(drawing, rows):
    record = cb.evaluate(drawing, rows)
    assert any("the posterior draws its own samples" in note and "batch size" in note for note in record.notes)
    assert any("the KL has no closed form" in note for note in record.notes)
    assert record.kl_per_dim is None
    gaussian = cb.VAE(
        drawing.encoder, drawing.decoder, drawing.likelihood, drawing.prior, posterior=cb.GaussianPosterior("log_std")
    )
    assert not any("its own samples" in note or "closed form for" in note for note in cb.evaluate(gaussian, rows).notes)


def test_it_is_deterministic_for_a_seed_and_leaves_the_global_generator(drawing, rows):
    def everything(seed: int) -> tuple[object, ...]:
        record = cb.evaluate(drawing, rows, importance_samples=20, seed=seed).to_dict()
        latents = diagnose_latents(drawing, [cb.Batch(rows, index=torch.arange(30))], seed).to_dict()
        scores = cb.score(drawing, rows, importance_samples=5, seed=seed).nll.tolist()
        codes = [(f.code, f.message) for f in cb.diagnose(drawing, rows, seed=seed)]
        return record, latents, scores, codes

    torch.manual_seed(1)
    one, state = everything(3), torch.get_rng_state()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert everything(3) == one
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(state, before)
    other = everything(4)
    assert other[0]["elbo_nats"] != one[0]["elbo_nats"]
    assert other[2] != one[2]


def test_its_bounds_hold_the_truth(drawing, rows):
    exact = quadrature_log_likelihood(drawing, rows[:6])
    summary = importance_weighted(drawing, [cb.Batch(rows[:6])], samples=4000)
    assert float(summary.sample_error.max()) < 0.1
    assert (summary.log_likelihood - exact).abs().lt(5 * summary.sample_error).all()
    record = cb.evaluate(drawing, rows)
    mean = float(quadrature_log_likelihood(drawing, rows).mean())
    assert record.elbo_nats < mean + 4 * record.elbo_standard_error


# models without a run


@pytest.fixture(scope="module")
def own_loop():
    """A model that was trained in a loop of one's own, on rows as they are."""
    torch.manual_seed(0)
    x = table(400)
    model = cb.build("sigma-vae", data_shape=(5,), latent_dim=2, network="linear")
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-2)
    for _ in range(300):
        optimiser.zero_grad()
        (-model.elbo(x).elbo.mean()).backward()
        optimiser.step()
    sigma = cb.fix_scale(model, x)
    assert sigma < 1.0
    return model.eval()


def test_a_model_without_a_run_is_evaluated_on_the_rows_as_they_are(own_loop):
    x = table(60, seed=1)
    record = cb.evaluate(own_loop, x, importance_samples=200)
    noise = ExampleNoise("normal", (2,), mixed_seed(0, LATENT_STREAM)).rows(torch.arange(60))
    with torch.no_grad():
        features = own_loop.encoder(x)
        z = features[:, :2] + features[:, 2:].exp() * noise
        sigma = own_loop.likelihood.scale.value
        nll = -Normal(own_loop.decoder(z), sigma).log_prob(x).double().sum(1).mean()
    assert record.n == 60
    assert record.reconstruction_nats == pytest.approx(float(nll), rel=1e-5)
    assert record.elbo_nats_original_units == record.elbo_nats
    assert record.scale == "the model's own scale"
    weight, bias = (
        own_loop.decoder.body.output.weight.detach().double(),
        own_loop.decoder.body.output.bias.detach().double(),
    )
    restore = own_loop.decoder.restore
    assert restore.scale.eq(1.0).all()  # a loop of one's own gives no statistics of the data
    assert not restore.shift.any()
    covariance = weight @ weight.T + float(sigma) ** 2 * torch.eye(5, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(bias, covariance).log_prob(x.double()).mean()
    assert record.log_likelihood_nats == pytest.approx(float(exact), abs=0.1)
    assert record.ppca_log_likelihood_nats is None
    assert any("the data that the model was trained on are not known here" in note for note in record.notes)


def test_a_model_without_a_run_takes_what_fit_takes(own_loop, tmp_path):
    x = table(40, seed=2)
    np.save(tmp_path / "x.npy", x.numpy())
    found = [cb.evaluate(own_loop, data).elbo_nats for data in (x, x.numpy(), tmp_path / "x.npy", x.double())]
    assert found[1:] == pytest.approx(found[:1] * 3, rel=1e-6)
    scaled = cb.evaluate(own_loop, x, options=cb.DataOptions(standardise=True))
    assert scaled.elbo_nats != pytest.approx(found[0], rel=1e-3)  # on another scale, because that was asked for
    assert scaled.scale.startswith("columns standardised")
    with pytest.raises(ArgumentError, match="needs data"):
        cb.evaluate(own_loop)


def test_a_model_without_a_run_is_scored_and_diagnosed(own_loop):
    x = table(60, seed=1)
    strange = torch.cat([x, torch.full((1, 5), 40.0)])
    scores = cb.score(own_loop, strange, importance_samples=50)
    assert scores.order[0] == 60
    assert scores.bits_per_dim is None
    found = cb.diagnose(own_loop, x)
    assert not [f for f in found if "epoch" in f.message]
    assert not [f for f in found if f.code in ("posterior-collapse", "unused-latents", "sigma-at-floor", "over-fitted")]
    assert cb.evaluate_full(own_loop, x, annealed_examples=2, temperatures=4).evaluation.n == 60


@pytest.fixture(scope="module")
def run_of_own_modules(tmp_path_factory):
    torch.manual_seed(0)
    encoder, decoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4)), nn.Linear(2, 5)
    model = cb.VAE(
        encoder, decoder, cb.GaussianLikelihood(), cb.StandardNormalPrior(2), posterior=cb.GaussianPosterior("log_var")
    )
    folder = tmp_path_factory.mktemp("own") / "run"
    return cb.fit(model, table(200), folder, epochs=2, quiet=True, pictures=False, precision="fp32", compile="off")


def test_a_run_of_own_modules_judges_other_data(run_of_own_modules):
    """The run holds its model: nobody has to pass it again."""
    run, x = run_of_own_modules, table(50, seed=3)
    record = cb.evaluate(run, x)
    assert record.n == 50
    assert run.evaluate(x).to_dict() == record.to_dict()
    ready = run.data.preparation(x)
    noise = ExampleNoise("normal", (2,), mixed_seed(0, LATENT_STREAM)).rows(torch.arange(50))
    with torch.no_grad():
        assert record.elbo_nats == pytest.approx(float(run.model.elbo(ready, eps=noise).elbo.double().mean()), rel=1e-5)
    assert len(cb.score(run, x, importance_samples=5).nll) == 50
    assert isinstance(cb.diagnose(run, x), list)
    assert cb.evaluate(run, split="test").to_dict() == run.evaluate().to_dict()
    assert cb.evaluate_full(run, x, annealed_examples=2, temperatures=4, pictures=False).evaluation.n == 50


def test_scores_of_the_command_line_are_those_of_python(tmp_path, capsys):
    torch.manual_seed(0)
    np.save(tmp_path / "x.npy", table(80).numpy())
    model = cb.build("sigma-vae", data_shape=(5,), latent_dim=2, network="linear")
    run = cb.fit(model, tmp_path / "x.npy", tmp_path / "run", epochs=1, quiet=True, pictures=False)
    code, out, _ = call(capsys, "score", run.path, "--json", "--importance-samples", 30)
    assert code == 0
    told = json.loads(out)
    scores = run.score(importance_samples=30)
    assert told["mean_nll_nats"] == pytest.approx(float(scores.nll.mean()), rel=1e-5)
    assert [row["nll_nats"] for row in told["highest"]] == pytest.approx(
        sorted(scores.nll.tolist())[::-1][: len(told["highest"])], rel=1e-5
    )
    bound = run.evaluate(importance_samples=30).log_likelihood_nats
    assert told["mean_nll_nats"] == pytest.approx(-bound, rel=1e-5)
    with (run.path / "scores.csv").open() as file:
        assert [float(row["nll_nats"]) for row in csv.DictReader(file)] == pytest.approx(
            sorted(scores.nll.tolist())[::-1], rel=1e-5
        )

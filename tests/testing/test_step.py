"""A step follows the objective; planted steps that do not are found out."""

import pytest
import torch
from torch import nn

import calibrae as cb
from calibrae import testing
from calibrae.testing import _step, assert_step_follows_objective
from calibrae.training import EagerStep, PieceLoss


class SymmetricKL(cb.Objective):
    """An objective that is no weighted sum of NLL and KL, and has a schedule."""

    samples = 3

    def schedule(self, step, total):
        return {"power": 1.0 + step / total}

    def __call__(self, draw, weights):
        nll = torch.logsumexp(draw.nll, 0)
        return cb.Terms(nll + draw.kl ** weights["power"], {"nll": nll})


@pytest.fixture(scope="module")
def data():
    return cb.load_data("digits")


def digits_model(**options):
    torch.manual_seed(0)
    return cb.build(**{"name": "sigma-vae", "data_shape": (1, 8, 8), "latent_dim": 2, "network": "linear"} | options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"likelihood": "laplace", "sigma_shared": "channel"},
        {"sigma": "learned", "sigma_shared": "element"},
        {"prior": "mixture:components=3", "objective": "iwae:samples=4"},
        {"name": "autoencoder"},
    ],
    ids=str,
)
def test_the_plain_step_follows_what_is_built(data, options):
    assert_step_follows_objective(digits_model(**options), data)


def test_the_plain_step_follows_an_objective_of_ones_own(data):
    assert_step_follows_objective(digits_model(), data, SymmetricKL())


def test_the_model_is_left_as_it_was(data):
    model = digits_model().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert_step_follows_objective(model, data)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_mixes_its_examples_is_compared_as_a_whole(data):
    encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4))
    decoder = nn.Sequential(nn.Linear(2, 64), nn.Dropout(0.5), nn.Unflatten(1, (1, 8, 8)))
    posterior = cb.GaussianPosterior("log_var")
    model = cb.VAE(encoder, decoder, cb.GaussianLikelihood("optimal"), cb.StandardNormalPrior(2), posterior=posterior)
    assert_step_follows_objective(model, data)


class HalfTheKL(PieceLoss):
    """The fault that this check is for: a step that descends what it has always descended, whatever the objective says."""

    def forward(self, weights, values, dequantisation_bytes, context, mask, eps):
        loss, sums = super().forward(weights, values, dequantisation_bytes, context, mask, eps)
        draw = self.model.draw(self.prepared(values, dequantisation_bytes), self.objective.samples, eps)
        return loss - 0.5 * weights[0] * draw.kl.sum(), sums


class MeanOfPieces(EagerStep):
    """A step that weighs each piece by its own size: two pieces count twice."""

    def weights(self, pieces, step):
        weights = super().weights(pieces, step)
        weights[0] = 1.0 / (len(pieces[0].values) * pieces[0].values[0].numel())
        return weights


class ForgetsTheLatents(PieceLoss):
    """A step that cuts the gradient to the encoder."""

    def forward(self, weights, values, dequantisation_bytes, context, mask, eps):
        for parameter in self.model.encoder.parameters():
            parameter.requires_grad_(False)
        return super().forward(weights, values, dequantisation_bytes, context, mask, eps)


class AnotherScale(EagerStep):
    """A step whose loss is the mean per example, not per data dimension."""

    def weights(self, pieces, step):
        weights = super().weights(pieces, step)
        weights[0] *= 64
        return weights


class FinalWeights(EagerStep):
    """A step that leaves out the warm-up."""

    def weights(self, pieces, step):
        return super().weights(pieces, self.total_steps)


@pytest.mark.parametrize(
    ("name", "planted", "message"),
    [
        ("PieceLoss", HalfTheKL, "the plain step: the gradient of .* differs from the objective's"),
        ("PieceLoss", ForgetsTheLatents, "gives no gradient to encoder"),
        ("EagerStep", MeanOfPieces, "the plain step in two pieces: the gradient of"),
        ("EagerStep", AnotherScale, "the plain step: the gradient of"),
        ("EagerStep", FinalWeights, "the plain step: the gradient of"),
    ],
)
def test_a_step_that_does_not_follow_the_objective_is_found_out(data, monkeypatch, name, planted, message):
    model = digits_model(sigma=0.3, objective=cb.BetaELBO(2.0, kl_warmup=0.5))
    assert_step_follows_objective(model, data)
    monkeypatch.setattr(_step, name, planted)
    with pytest.raises(AssertionError, match=message):
        assert_step_follows_objective(model, data)


def test_all_checks_are_exported():
    assert {name for name in dir(testing) if name.startswith(("check", "assert"))} == {
        "assert_step_follows_objective",
        "check_likelihood",
        "check_objective",
        "check_posterior",
        "check_prior",
    }

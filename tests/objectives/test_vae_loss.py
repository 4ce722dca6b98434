"""The loss that an audit probes is the objective that training descends."""

import pytest
import torch
from torch.distributions import Laplace, Normal, kl_divergence

import calibrae as cb
from calibrae import Batch
from calibrae.errors import ArgumentError
from calibrae.latents import DiagonalGaussian
from calibrae.objectives import Draw, vae_loss

pytestmark = pytest.mark.usefixtures("double")

LIKELIHOODS = {
    "gaussian": (lambda: cb.GaussianLikelihood(0.4), lambda y: Normal(y, 0.4)),
    "laplace": (lambda: cb.LaplaceLikelihood(0.4), lambda y: Laplace(y, 0.4)),
}


def inputs(n=6):
    x, x_hat = torch.randn(n, 2, 4), torch.randn(n, 2, 4, requires_grad=True)
    mu, logvar = torch.randn(n, 3, requires_grad=True), torch.randn(n, 3, requires_grad=True)
    return x, x_hat, mu, logvar


def made(name):
    likelihood = LIKELIHOODS[name][0]().double()
    likelihood.set_data_shape((2, 4))
    return likelihood


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("objective", [cb.BetaELBO(3.0, kl_warmup=0.4), cb.ReconstructionError(), cb.IWAE(5)], ids=str)
def test_it_is_the_objective_in_value_and_gradient(name, objective):
    """At the final weights, as a mean over the batch, by torch's densities at the posterior's mean."""
    given = inputs()
    x, x_hat, mu, logvar = given
    loss = vae_loss(made(name), cb.StandardNormalPrior(3).double(), objective)(*given)
    nll = -LIKELIHOODS[name][1](x_hat).log_prob(x).sum((1, 2))
    q, p = Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros(3), torch.ones(3))
    if isinstance(objective, cb.BetaELBO):
        expected = nll + 3.0 * kl_divergence(q, p).sum(1)
    elif isinstance(objective, cb.IWAE):
        expected = nll + (q.log_prob(mu) - p.log_prob(mu)).sum(1)
    else:
        expected = nll
    torch.testing.assert_close(loss, expected.mean())
    for tensor in (x_hat, mu, logvar):
        ours, theirs = (
            torch.autograd.grad(v, tensor, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            for v in (loss, expected.mean())
        )
        torch.testing.assert_close(ours, theirs)


def test_it_is_the_very_call_that_training_makes():
    """An objective of one's own, which records what it is given."""
    seen = []

    class Recording(cb.Objective):
        samples = 2

        def schedule(self, step, total):
            return {"share": step / total}

        def __call__(self, draw, weights):
            seen.append((draw, dict(weights)))
            return cb.Terms(draw.nll.mean(0) + weights["share"] * draw.sse.mean(0) + draw.kl, {})

    likelihood, prior, objective = made("gaussian"), cb.MixturePrior(3).double(), Recording()
    x, x_hat, mu, logvar = inputs()
    loss = vae_loss(likelihood, prior, objective)(x, x_hat, mu, logvar)
    (draw, weights), z = seen.pop(), mu.expand(2, 6, 3)
    assert weights == {"share": 1.0}
    assert torch.equal(draw.z, z)
    direct = Draw(Batch(x), DiagonalGaussian(mu, 0.5 * logvar), prior(), z, likelihood(x_hat.expand(2, 6, 2, 4)))
    torch.testing.assert_close(loss, objective(direct, weights).loss.mean())


def test_a_conditional_prior_is_probed_at_one_context():
    prior = cb.ConditionalGaussianPrior(3, 2).double()
    torch.nn.init.normal_(prior.affine.weight)
    x, x_hat, mu, logvar = inputs()
    loss = vae_loss(made("gaussian"), prior, cb.BetaELBO(), torch.tensor([0.0, 1.0]))(x, x_hat, mu, logvar)
    mean, log_std = (prior.affine.weight[:, 1] + prior.affine.bias).chunk(2)
    kl = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(mean, log_std.exp())).sum(1)
    torch.testing.assert_close(loss, (kl - Normal(x_hat, 0.4).log_prob(x).sum((1, 2))).mean())


def test_a_plain_autoencoder_has_no_prior_to_probe():
    x, x_hat, mu, logvar = inputs()
    loss = vae_loss(made("gaussian"), cb.NoPrior(3), cb.ReconstructionError())(x, x_hat, mu, logvar)
    torch.testing.assert_close(loss, -Normal(x_hat, 0.4).log_prob(x).sum((1, 2)).mean())


def test_a_decoder_with_several_features_per_element_cannot_be_probed():
    likelihood = cb.HeteroscedasticGaussianLikelihood()
    likelihood.set_data_shape((2, 4))
    with pytest.raises(ArgumentError, match=r"reads \(4, 4\) for data of \(2, 4\).*check_likelihood"):
        vae_loss(likelihood, cb.StandardNormalPrior(3), cb.BetaELBO())

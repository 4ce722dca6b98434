"""One contract for every objective."""

import pytest
import torch

import calibrae as cb
from calibrae.objectives import ELBOTerms

OBJECTIVES = {
    "elbo": cb.BetaELBO(),
    "beta": cb.BetaELBO(4.0),
    "warm-up": cb.BetaELBO(2.0, warmup_steps=7),
    "converted": cb.BetaELBO.from_convention(0.01, "mean-nll", data_dim=64, latent_dim=3),
    "no-kl": cb.BetaELBO(0.0),
}


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return OBJECTIVES[request.param]


def terms(n=5):
    generator = torch.Generator().manual_seed(0)
    nll = torch.randn(n, generator=generator, dtype=torch.float64, requires_grad=True)
    kl = torch.rand(n, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    return ELBOTerms(nll, kl)


@pytest.mark.parametrize("step", [0, 3, 100])
def test_the_loss_is_a_scalar_in_nats_per_example(objective, step):
    batch = terms()
    loss = objective.loss(batch, step)
    assert loss.shape == ()
    doubled = ELBOTerms(batch.nll.repeat(2), batch.kl.repeat(2, 1))
    torch.testing.assert_close(objective.loss(doubled, step), loss)


@pytest.mark.parametrize("step", [0, 3, 100])
def test_the_loss_never_falls_with_either_term(objective, step):
    batch = terms()
    gradients = torch.autograd.grad(objective.loss(batch, step), (batch.nll, batch.kl), allow_unused=True)
    assert (gradients[0] > 0).all()
    assert gradients[1] is None or (gradients[1] >= 0).all()


def test_at_beta_one_the_loss_is_minus_the_mean_elbo():
    batch = terms()
    torch.testing.assert_close(cb.BetaELBO().loss(batch, 0), -batch.elbo.mean())

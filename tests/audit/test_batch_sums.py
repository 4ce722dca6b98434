"""Reconstructions that are summed over the batch once more than the KL."""

import pytest
import torch
import torch.nn.functional as nnf

from calibrae.audit import audit_loss

CODE = "reconstruction-times-batch"
SHAPE, LATENT = (1, 6, 6), 3


def sse(x, x_hat):
    return 0.5 * (x - x_hat).flatten(1).square().sum(1)


def kl(mu, logvar):
    return (-0.5 * (1 + logvar - mu**2 - logvar.exp())).sum(1)


def term_by_term(x, x_hat, mu, logvar):
    """A loop over examples, each of which adds the whole batch's squared error."""
    total = torch.zeros((), dtype=x.dtype)
    for n in range(len(x)):
        total = total + sse(x, x_hat).sum() + kl(mu, logvar)[n]
    return total


def blurred(x):
    """Feature of a perceptual loss."""
    return nnf.avg_pool2d(x, 2).tanh()


def optimal(x, x_hat, mu, logvar):
    """An optimal sigma's profile of the whole batch, beside one example's KL."""
    return 0.5 * x.numel() * (x - x_hat).square().mean().log() + kl(mu, logvar).mean()


SUM_BESIDE_MEAN = {
    "a sum and a mean": lambda x, v, mu, lv: sse(x, v).sum() + kl(mu, lv).mean(),
    "a sum added to each example": lambda x, v, mu, lv: (sse(x, v).sum() + kl(mu, lv)).mean(),
    "a mean over the data only": lambda x, v, mu, lv: (
        nnf.mse_loss(v, x, reduction="none").flatten(1).mean(1).sum() + kl(mu, lv).mean()
    ),
    "mean over latents too": lambda x, v, mu, lv: (
        nnf.mse_loss(v, x, reduction="sum") - 0.5 * (1 + lv - mu**2 - lv.exp()).mean()
    ),
    "absolute errors": lambda x, v, mu, lv: (x - v).abs().sum() + kl(mu, lv).mean(),
    "a weight on the KL": lambda x, v, mu, lv: sse(x, v).sum() + 0.3 * kl(mu, lv).mean(),
    "an optimal sigma": optimal,
    "Huber": lambda x, v, mu, lv: nnf.smooth_l1_loss(v, x, reduction="sum", beta=0.1) + kl(mu, lv).mean(),
    "features": lambda x, v, mu, lv: (blurred(x) - blurred(v)).square().sum() + kl(mu, lv).mean(),
    "a sigma from each example": lambda x, v, mu, lv: 18 * (2 * sse(x, v)).log().sum() + kl(mu, lv).mean(),
}
TWICE = {
    "a sum of sums": lambda x, v, mu, lv: (sse(x, v).sum() + kl(mu, lv)).sum(),
    "term by term": term_by_term,
    "features of all for each": lambda x, v, mu, lv: ((blurred(x) - blurred(v)).square().sum() + kl(mu, lv)).sum(),
    "all pairs": lambda x, v, mu, lv: sse(x, v).repeat(len(x)).sum() + kl(mu, lv).sum(),
}


def finding(record):
    return next((f for f in record.findings if f.code == CODE), None)


@pytest.mark.parametrize("batch_size", [4, 24])
@pytest.mark.parametrize(("losses", "name"), [(d, n) for d in (SUM_BESIDE_MEAN, TWICE) for n in d])
def test_the_factor_is_the_batch_size(losses, name, batch_size):
    record = audit_loss(losses[name], data_shape=SHAPE, latent_dim=LATENT, batch_size=batch_size)
    found = finding(record)
    assert found.severity == "warning"
    assert f"B = {batch_size} times" in found.message
    assert ("twice" in found.message) == (losses is TWICE)
    assert f"{batch_size}" in found.remedy
    assert {"batch-reductions-differ", "weight-depends-on-batch-size"} <= set(record.codes("warning"))


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, v, mu, lv: nnf.binary_cross_entropy(v, x, reduction="sum") + kl(mu, lv).mean(),
        lambda x, v, mu, lv: nnf.binary_cross_entropy(v, (x > 0.5).to(v), reduction="sum") + kl(mu, lv).mean(),
    ],
)
def test_a_cross_entropy(loss):
    record = audit_loss(loss, data_shape=SHAPE, latent_dim=LATENT, batch_size=8, x_hat="probs")
    assert "B = 8 times" in finding(record).message


def test_a_batch_size_that_cannot_be_varied():
    def fixed(x, x_hat, mu, logvar):
        assert len(x) == 8, "eight examples"
        return (sse(x, x_hat).sum() + kl(mu, logvar)).mean()

    record = audit_loss(fixed, data_shape=SHAPE, latent_dim=LATENT, batch_size=8)
    assert "could-not-vary" in record.codes()
    assert "B = 8 times" in finding(record).message


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, v, mu, lv: (sse(x, v) + kl(mu, lv)).mean(),
        lambda x, v, mu, lv: (sse(x, v) + kl(mu, lv)).sum(),
        lambda x, v, mu, lv: (sse(x, v)[:, None] + kl(mu, lv)).sum(),  # both counted B times
        lambda x, v, mu, lv: nnf.smooth_l1_loss(v, x, beta=0.1) + kl(mu, lv).mean(),
        lambda x, v, mu, lv: sse(x, v).mean() + kl(mu, lv).sum(),  # the KL, and not the reconstruction, is too much
        lambda x, v, mu, lv: sse(x, v).mean() + kl(mu, lv).mean() / len(x),  # the KL is divided twice
        lambda x, v, mu, lv: (18 * sse(x, v).log() + kl(mu, lv)).mean(),  # a sigma from each example
        lambda x, v, mu, lv: 18 * sse(x, v).mean().log() + kl(mu, lv).mean(),  # a sigma from the batch
        lambda x, v, mu, lv: sse(x, v).sum() / 8 + kl(mu, lv).mean(),  # right at the batch size that is written in it
    ],
)
def test_other_reductions_are_not_told_so(loss):
    record = audit_loss(loss, data_shape=SHAPE, latent_dim=LATENT, batch_size=8)
    assert record.powers["reconstruction_B"] is not None
    assert finding(record) is None


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_reduction_of_an_unknown_term(reduction):
    reduce = getattr(torch, reduction)
    record = audit_loss(
        lambda x, v, mu, lv: reduce(
            nnf.smooth_l1_loss(v, x, reduction="none", beta=0.1).flatten(1).sum(1) + kl(mu, lv)
        ),
        data_shape=SHAPE,
        latent_dim=LATENT,
        batch_size=8,
    )
    assert (record.reconstruction, record.batch_reduction) == ("unknown", reduction)
    assert record.codes("warning") == []


def test_dividing_as_the_remedy_says_mends_it():
    record = audit_loss(
        lambda x, v, mu, lv: sse(x, v).sum() / len(x) + kl(mu, lv).mean(), data_shape=SHAPE, latent_dim=LATENT
    )
    assert record.rho == pytest.approx(2.0)
    assert record.codes("warning") == []

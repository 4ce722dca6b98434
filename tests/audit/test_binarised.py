"""Losses that turn grey data into zeros and ones themselves."""

import pytest
import torch
import torch.nn.functional as nnf

from calibrae.audit import audit_loss

SIZES = {"data_shape": (1, 6, 6), "latent_dim": 3, "batch_size": 8}


def kl(mu, logvar):
    return (-0.5 * (1 + logvar - mu**2 - logvar.exp())).sum(1).mean()


def beside_kl(reconstruction):
    """A batch mean of a term that is summed over the batch, and the KL."""
    return lambda x, x_hat, mu, logvar: reconstruction(x, x_hat) / len(x) + kl(mu, logvar)


def bce(bits, x_hat):
    return nnf.binary_cross_entropy(x_hat, bits.to(x_hat), reduction="sum")


def with_logits(bits, x_hat):
    return nnf.binary_cross_entropy_with_logits(x_hat, bits.to(x_hat), reduction="sum")


def half_sse(bits, x_hat):
    return 0.5 * (bits.to(x_hat) - x_hat).square().sum()


def audit(reconstruction, **changes):
    return audit_loss(beside_kl(reconstruction), **{**SIZES, "x_hat": "probs", **changes})


def message(record, code):
    (finding,) = [f for f in record.findings if f.code == code]
    return finding.message


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.75])
@pytest.mark.parametrize(("term", "space"), [(bce, "probs"), (with_logits, "logits"), (half_sse, "data")])
def test_a_threshold_is_found_and_named(term, space, threshold):
    record = audit(lambda x, v: term(x > threshold, v), x_hat=space)
    assert record.reconstruction == ("gaussian" if term is half_sse else "bernoulli")
    assert record.reconstruction_weight == pytest.approx((0.5 if term is half_sse else 1.0) / 8)
    assert record.kl_weight == pytest.approx(1 / 8)
    assert f"of {threshold:g}:" in message(record, "data-thresholded")
    assert {"reconstruction-unknown", "bce-non-binary", "data-binarised"}.isdisjoint(record.codes())
    assert record.codes("error") == record.codes("warning") == []


@pytest.mark.parametrize(
    ("binarise", "place"),
    [
        (torch.round, "of 0.5:"),
        (lambda x: torch.where(x < 0.25, 0.0, 1.0), "of 0.25:"),
        (lambda x: torch.heaviside(x - 0.6, torch.ones((), dtype=x.dtype)), "of 0.6:"),
        (lambda x: x > 0, "of 0:"),
        (lambda x: x > 0.02, "of 0.02:"),
        (lambda x: x > 0.98, "of 0.98:"),
        (lambda x: x >= 1, "of 1:"),
        (lambda x: x > x.mean(), "that moves with the batch"),
        (lambda x: x > x.flatten(1).mean(1)[:, None, None, None], "that moves with the batch"),
    ],
)
def test_ways_of_thresholding(binarise, place):
    record = audit(lambda x, v: bce(binarise(x), v))
    assert (record.reconstruction, record.implied_beta) == ("bernoulli", pytest.approx(1.0))
    assert place in message(record, "data-thresholded")


def test_a_threshold_on_another_range():
    record = audit(lambda x, v: bce(x > 0, v), data_range=(-1.0, 1.0))
    assert record.implied_beta == pytest.approx(1.0)
    assert "of 0:" in message(record, "data-thresholded")


def test_a_sign_is_a_threshold():
    record = audit(lambda x, v: half_sse(x.sign(), v), x_hat="data", data_range=(-1.0, 1.0))
    assert (record.reconstruction, record.rho) == ("gaussian", pytest.approx(2.0))
    assert "of 0:" in message(record, "data-thresholded")


def test_a_squared_error_from_bits_on_another_range():
    record = audit(lambda x, v: half_sse(x > 127, v), data_range=(0.0, 255.0))
    assert (record.reconstruction, record.rho) == ("gaussian", pytest.approx(2.0))
    assert "of 127:" in message(record, "data-thresholded")


def test_single_precision():
    record = audit_loss(
        lambda *a: beside_kl(lambda x, v: bce(x > 0.5, v))(*(t.float() for t in a)), **SIZES, x_hat="probs"
    )
    assert record.implied_beta == pytest.approx(1.0, rel=1e-4)
    assert "of 0.5:" in message(record, "data-thresholded")


def sampled_kl(mu, logvar):
    std = (0.5 * logvar).exp()
    z = mu + std * torch.randn_like(mu)
    q, p = torch.distributions.Normal(mu, std), torch.distributions.Normal(0.0, 1.0)
    return (q.log_prob(z) - p.log_prob(z)).sum(1).mean()


@pytest.mark.parametrize(
    "draw",
    [
        torch.bernoulli,
        lambda x: x > torch.rand_like(x),
        lambda x: torch.distributions.Bernoulli(probs=x).sample(),
    ],
)
@pytest.mark.parametrize("term", [bce, half_sse])
def test_random_bits_are_told(draw, term):
    record = audit(lambda x, v: term(draw(x), v), x_hat="probs" if term is bce else "data")
    assert record.reconstruction == ("bernoulli" if term is bce else "gaussian")
    assert record.kl_kind == "exact"
    assert {"data-binarised", "random-values"} <= set(record.codes("note"))
    assert {"data-thresholded", "reconstruction-unknown"}.isdisjoint(record.codes())


def test_random_bits_beside_a_sampled_kl():
    record = audit_loss(
        lambda x, v, mu, lv: bce(torch.bernoulli(x), v) / len(x) + sampled_kl(mu, lv), **SIZES, x_hat="probs"
    )
    assert (record.reconstruction, record.kl_kind) == ("bernoulli", "monte_carlo")
    assert "data-binarised" in record.codes("note")


@pytest.mark.parametrize(
    "target",
    [
        lambda x: x.square(),
        lambda x: (4 * x).round() / 4,
        lambda x: (x + 0.1 * torch.rand_like(x)).clamp(0, 1),
        lambda x: 0.9 * x + 0.05,
    ],
)
def test_targets_that_are_no_bits_stay_unknown(target):
    record = audit(lambda x, v: bce(target(x), v))
    assert record.reconstruction == "unknown"
    assert {"data-thresholded", "data-binarised"}.isdisjoint(record.codes())


@pytest.mark.parametrize("space", ["probs", "logits"])
def test_grey_targets_are_not_taken_for_bits(space):
    record = audit(bce if space == "probs" else with_logits, x_hat=space)
    assert record.reconstruction == "bernoulli"
    assert {"data-thresholded", "data-binarised"}.isdisjoint(record.codes())


def test_a_loss_that_refuses_grey_data_thresholds_nothing():
    def refusing(x, v):
        assert bool(((x == 0) | (x == 1)).all()), "bits only"
        return bce(x, v)

    record = audit(refusing)
    assert record.reconstruction == "bernoulli"
    assert {"data-thresholded", "data-binarised"}.isdisjoint(record.codes())


def test_an_optimal_sigma_of_bits():
    def log_mse(x, v):
        return 0.5 * x.numel() * ((x > 0.5).to(v) - v).square().mean().log()

    record = audit(log_mse, x_hat="data")
    assert (record.reconstruction, record.implied_beta) == ("log_mse", pytest.approx(1.0))
    assert {"data-thresholded", "optimal-sigma"} <= set(record.codes())


def test_a_mistake_beside_thresholded_data_is_still_found():
    record = audit_loss(lambda x, v, mu, lv: bce(x > 0.5, v) / len(x) - kl(mu, lv), **SIZES, x_hat="probs")
    assert "kl-wrong-sign" in record.codes("error")
    assert "data-thresholded" in record.codes()

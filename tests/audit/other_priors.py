"""Honest divergences that are no plain KL to N(0, I): other priors, bounds of several samples, terms on the sampled code."""

from __future__ import annotations

import math

import torch
from corpus import LATENT, B, Case, bug, half_sse, kl_sum
from torch import distributions as td


def beside_half_sse(divergence):
    """A loss of half the squared error and a divergence `[B]` of mean and log-variance."""
    return lambda x, x_hat, mu, logvar: half_sse(x, x_hat).mean() + divergence(mu, logvar).mean()


def sampled(mu, logvar, count=()):
    """Draws and their log-density under the posterior."""
    std = (0.5 * logvar).exp()
    z = mu + std * torch.randn(*count, *mu.shape, dtype=mu.dtype)
    return z, td.Normal(mu, std).log_prob(z).sum(-1)


def centres(dtype):
    """Five fixed means of a mixture."""
    return torch.randn(5, LATENT, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def log_mixture(z):
    """Log-density of five Gaussians of unit variance."""
    each = td.Normal(centres(z.dtype), 1.0).log_prob(z[..., None, :]).sum(-1)
    return torch.logsumexp(each, -1) - math.log(5)


def to_mixture(mu, logvar):
    """A VampPrior's sampled KL."""
    z, log_q = sampled(mu, logvar)
    return log_q - log_mixture(z)


def to_student(mu, logvar):
    """The sampled KL to a heavy-tailed prior."""
    z, log_q = sampled(mu, logvar)
    return log_q - td.StudentT(torch.tensor(5.0, dtype=z.dtype)).log_prob(z).sum(-1)


def to_flow(mu, logvar):
    """The sampled KL to a prior whose code is bent by an invertible map."""
    z, log_q = sampled(mu, logvar)
    base = z + 0.5 * torch.sinh(z)
    log_p = td.Normal(0.0, 1.0).log_prob(base) + torch.log(1.0 + 0.5 * torch.cosh(z))
    return log_q - log_p.sum(-1)


def of_several(count):
    """The importance-weighted bound, at one reconstruction."""

    def loss(x, x_hat, mu, logvar):
        z, log_q = sampled(mu, logvar, (count,))
        weights = td.Normal(0.0, 1.0).log_prob(z).sum(-1) - log_q - half_sse(x, x_hat)
        return -(torch.logsumexp(weights, 0) - math.log(count)).mean()

    return loss


def with_discriminator(mu, logvar):
    """FactorVAE: a fixed network's logit of the sampled code beside the KL."""
    z, _ = sampled(mu, logvar)
    generator = torch.Generator().manual_seed(2)
    first, second = (torch.randn(*s, generator=generator, dtype=torch.float64).to(z.dtype) for s in ((LATENT, 16), (16, 1)))  # fmt: skip
    return kl_sum(mu, logvar) + 6.4 * (torch.nn.functional.leaky_relu(z @ first, 0.2) @ second)[:, 0] / 4


def to_gaussian(mean, std):
    """The exact KL to N(mean, std^2), each a number or one for each latent."""
    return lambda mu, lv: td.kl_divergence(td.Normal(mu, (0.5 * lv).exp()), td.Normal(mean, std)).sum(1)


def to_gaussian_sampled(mean, std, draws):
    """Average of the log ratio to N(mean, std^2) over draws."""

    def divergence(mu, logvar):
        z, log_q = sampled(mu, logvar, (draws,))
        return (log_q - td.Normal(mean, std).log_prob(z).sum(-1)).mean(0)

    return divergence


def mixture_of_draws(mu, logvar):
    """A VampPrior's KL, averaged over ten draws."""
    z, log_q = sampled(mu, logvar, (10,))
    return (log_q - log_mixture(z)).mean(0)


def to_correlated(mu, logvar):
    """The exact KL to a Gaussian whose latents are correlated."""
    lower = torch.eye(LATENT, dtype=mu.dtype) + 0.5 * torch.tril(torch.ones(LATENT, LATENT, dtype=mu.dtype), -1)
    prior = td.MultivariateNormal(torch.zeros(LATENT, dtype=mu.dtype), scale_tril=lower)
    return td.kl_divergence(td.MultivariateNormal(mu, scale_tril=torch.diag_embed((0.5 * logvar).exp())), prior)


def with_classifier(x, x_hat, mu, logvar):
    """Labels predicted from the posterior's mean."""
    weights = torch.linspace(-1.0, 1.0, LATENT * 3, dtype=mu.dtype).reshape(LATENT, 3)
    labels = torch.arange(len(mu)) % 3
    return (
        half_sse(x, x_hat).mean() + kl_sum(mu, logvar).mean() + torch.nn.functional.cross_entropy(mu @ weights, labels)
    )


def floored(x, x_hat, mu, logvar):
    """A sampled KL of which the batch has 3 nats for nothing."""
    z, log_q = sampled(mu, logvar)
    kl = (log_q - td.Normal(0.0, 1.0).log_prob(z).sum(-1)).mean()
    return half_sse(x, x_hat).mean() + kl.clamp(min=3.0)


def in_parts(order):
    """Terms, then the total."""

    def loss(x, x_hat, mu, logvar):
        terms = half_sse(x, x_hat).mean(), kl_sum(mu, logvar).mean()
        return terms[order[0]], terms[order[1]], sum(terms)

    return loss


def in_half_precision(x, x_hat, mu, logvar):
    """As under a mixed precision that forgot the loss."""
    x, x_hat, mu, logvar = (t.bfloat16() for t in (x, x_hat, mu, logvar))
    return (half_sse(x, x_hat) + kl_sum(mu, logvar)).mean().float()


def other_priors():
    """All of them."""
    truth = {"reconstruction": "gaussian", "sse_weight": 0.5 / B, "kl_weight": 1 / B}
    off = ("kl-minimum-off-prior",)
    means = torch.linspace(-1.0, 2.0, LATENT, dtype=torch.float64)
    for name, mean, std, minimum in (
        ("prior of std 2", 0.0, 2.0, 2.0),
        ("prior about 3", 3.0, 1.0, 1.0),
        ("prior about 1 of std 0.3", 1.0, 0.3, 0.3),
        ("prior of variance 2, as a missing half looks", 0.0, math.sqrt(2.0), math.sqrt(2.0)),
        ("learned means", means, 1.0, 1.0),
    ):
        exact = {**truth, "kl_kind": "exact", "kl_minimum_std": minimum, "latent_reduction": "sum"}
        yield Case(name, beside_half_sse(to_gaussian(mean, std)), exact, off)
    for name, divergence in {
        "mixture prior": to_mixture,
        "heavy-tailed prior": to_student,
        "flow prior": to_flow,
    }.items():
        yield Case(name, beside_half_sse(divergence), {**truth, "kl_kind": "monte_carlo", "kl_minimum_std": None}, off)
    for name, mean, std in (
        ("of std 2", 0.0, 2.0),
        ("of variance 2", 0.0, math.sqrt(2.0)),
        ("about 1", 1.0, 1.0),
        ("of its own means", means, 0.5),
    ):
        for draws in (1, 5):
            divergence = to_gaussian_sampled(mean, std, draws)
            truth_here = {**truth, "kl_kind": "monte_carlo", "latent_reduction": "sum"}
            yield Case(f"sampled KL to a prior {name}, {draws} draws", beside_half_sse(divergence), truth_here, off)
    for name, divergence in {
        "several draws": mixture_of_draws,
        "a floor of each example": lambda m, v: to_mixture(m, v).clamp(min=4.0),
    }.items():
        yield Case(f"mixture prior, {name}", beside_half_sse(divergence), {}, ("kl-not-recognised",))
    yield Case("correlated prior", beside_half_sse(to_correlated), {**truth, "kl_kind": "exact"}, off)
    yield Case(
        "classifier on the mean",
        with_classifier,
        {**truth, "kl_kind": "exact", "kl_minimum_std": 1.0},
        ("additional-term",),
    )
    for count in (2, 8):
        yield Case(
            f"importance-weighted, {count} samples", of_several(count), {**truth, "kl_kind": "monte_carlo"},
            ("kl-importance-weighted",),
        )  # fmt: skip
    yield Case(
        "discriminator on the sampled code", beside_half_sse(with_discriminator), {**truth, "kl_kind": "exact"},
        ("additional-term",),
    )  # fmt: skip
    yield Case("sampled KL above a floor of the batch", floored, {**truth, "kl_kind": "monte_carlo"}, ("kl-free-bits",))
    for name, order, code in (("reconstruction", (0, 1), "kl-missing"), ("KL", (1, 0), "reconstruction-missing")):
        yield Case(f"a tuple that begins with the {name}", in_parts(order), {}, (code,))
    yield Case("half precision", in_half_precision, {"kl_weight": None}, ("low-precision",))
    yield bug(
        "mixture prior, entropy of the wrong sign", lambda mu, lv: to_mixture(mu, lv) + 2 * (lv / 2).sum(1) * 2,
        ("kl-not-recognised",), kl_kind="not_a_kl",
    )  # fmt: skip
    wrong_std = beside_half_sse(lambda mu, lv: to_mixture(mu, 2 * lv) + 0.5 * lv.sum(1))
    yield Case(
        "mixture prior, a sampler of the variance",
        wrong_std,
        {"kl_kind": "not_a_kl"},
        ("kl-not-recognised",),
        honest=False,
    )

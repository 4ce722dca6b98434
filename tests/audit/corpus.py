"""Losses with the truth by construction: every reduction, half and weight, several likelihoods, and known bugs."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf

B, SHAPE, LATENT = 8, (3, 8, 8), 5
DIM = math.prod(SHAPE)


@dataclass(frozen=True)
class Case:
    """A loss and what an audit must say of it.

    Attributes:
        name: name of the loss.
        loss: `loss(x, x_hat, mu, logvar)`.
        truth: fields of the record and their values.
        codes: findings that must be there.
        honest: whether no error may be found.
        sizes: arguments of `audit_loss` other than the usual ones.
        exact: whether the weights must be within 1 % (always, where they are stated).
    """

    name: str
    loss: Any
    truth: dict[str, Any]
    codes: tuple[str, ...] = ()
    honest: bool = True
    sizes: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of `audit_loss`."""
        return {"data_shape": SHAPE, "latent_dim": LATENT, "batch_size": B} | self.sizes


def found(case, record):
    """Results of an audit, for the table of docs/audit.md: `off` are the relative errors of the weights."""
    errors = sorted(record.codes("error"))
    return {
        "reconstruction": record.reconstruction,
        "kl_kind": record.kl_kind,
        "errors": errors,
        "others": sorted(set(record.codes()) - set(errors)),
        "warned": bool(record.codes("warning")),
        "off": {
            name: float(f"{abs(getattr(record, name) / case.truth[name] - 1.0):.1e}")
            for name in ("reconstruction_weight", "sse_weight", "kl_weight")
            if isinstance(case.truth.get(name), float)
        },
    }


def kl_terms(mu, logvar):
    """`[B, d]`."""
    return -0.5 * (1 + logvar - mu**2 - logvar.exp())


def reduce(terms, over_data, over_batch):
    """Terms `[B, ...]` to a scalar: `sum` or `mean` over an example, then over the batch."""
    each = terms.flatten(1)
    each = each.sum(1) if over_data == "sum" else each.mean(1)
    return each.sum() if over_batch == "sum" else each.mean()


def coefficient(weight, over_data, over_batch, size):
    """Weight in the scalar after `reduce`."""
    return weight / (size if over_data == "mean" else 1) / (B if over_batch == "mean" else 1)


TERMS = {
    "gaussian": ("data", lambda x, v: (x - v) ** 2),
    "laplace": ("data", lambda x, v: (x - v).abs()),
    "bernoulli": ("probs", lambda x, v: nnf.binary_cross_entropy(v, x, reduction="none")),
    "bernoulli-logits": ("logits", lambda x, v: nnf.binary_cross_entropy_with_logits(v, x, reduction="none")),
    "log_cosh": ("data", lambda x, v: torch.log(torch.cosh(10 * (x - v))) / 10),
}


def regular(term, recon_weight, kl_weight, over_data, over_latents, over_batch):
    """An ordinary loss: a weighted term and a weighted KL, each reduced in its way."""
    space, each = TERMS[term]
    kind = term.removesuffix("-logits")

    def loss(x, x_hat, mu, logvar):
        rec = recon_weight * reduce(each(x, x_hat), over_data, over_batch)
        return rec + kl_weight * reduce(kl_terms(mu, logvar), over_latents, over_batch)

    a = coefficient(recon_weight, over_data, over_batch, DIM)
    b = coefficient(kl_weight, over_latents, over_batch, LATENT)
    codes = []
    if (over_data, over_latents) == ("sum", "mean"):
        codes.append("kl-mean-reconstruction-sum")
    elif (over_data, over_latents) == ("mean", "sum"):
        codes.append("reconstruction-mean-kl-sum")
    elif (over_data, over_latents) == ("mean", "mean"):
        codes.append("mean-mean-unweighted" if recon_weight == kl_weight else "mean-mean")
    truth = {
        "reconstruction": kind,
        "reconstruction_weight": a,
        "kl_weight": b,
        "batch_reduction": over_batch,
        "data_reduction": over_data,
        "latent_reduction": over_latents,
        "kl_kind": "exact",
        "kl_minimum_std": 1.0,
    }
    if kind == "gaussian":
        truth |= {"sse_weight": a, "rho": b / a, "implied_sigma": math.sqrt(b / a / 2)}
    elif kind == "laplace":
        truth |= {"implied_laplace_scale": b / a}
    elif kind == "bernoulli":
        truth |= {"implied_beta": b / a}
    name = f"{term} {recon_weight:g} {over_data}, KL {kl_weight:g} {over_latents}, batch {over_batch}"
    return Case(name, loss, truth, tuple(codes), sizes={"x_hat": space})


def regular_cases():
    """Every combination of reductions for the Gaussian, and a sample for the others."""
    for weight, beta, *how in itertools.product(
        (1.0, 0.5), (1.0, 4.0), ("sum", "mean"), ("sum", "mean"), ("sum", "mean")
    ):
        yield regular("gaussian", weight, beta, *how)
    for term in ("laplace", "bernoulli", "bernoulli-logits", "log_cosh"):
        for over_data, over_latents in (("sum", "sum"), ("mean", "sum"), ("mean", "mean")):
            yield regular(term, 1.0, 0.3, over_data, over_latents, "mean")


def sse(x, x_hat):
    """Per example."""
    return (x - x_hat).flatten(1).square().sum(1)


def half_sse(x, x_hat):
    """Batch mean."""
    return 0.5 * sse(x, x_hat).mean()


def kl_sum(mu, logvar):
    """Per example."""
    return kl_terms(mu, logvar).sum(1)


def gaussian_nll(sigma):
    """A full NLL, constants kept."""

    def loss(x, x_hat, mu, logvar):
        nll = 0.5 * sse(x, x_hat) / sigma**2 + DIM * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
        return (nll + kl_sum(mu, logvar)).mean()

    return loss


def with_wrap(wrap):
    """Half the squared error and twice a KL that something is done to."""
    return lambda x, x_hat, mu, logvar: half_sse(x, x_hat) + 2.0 * wrap(kl_terms(mu, logvar))


def monte_carlo(weight):
    """The log ratio at one sample of z."""

    def loss(x, x_hat, mu, logvar):
        std = (0.5 * logvar).exp()
        z = mu + std * torch.randn_like(mu)
        q, p = torch.distributions.Normal(mu, std), torch.distributions.Normal(0.0, 1.0)
        return half_sse(x, x_hat) + weight * (q.log_prob(z) - p.log_prob(z)).sum(1).mean()

    return loss


def log_mse(per_example):
    """The profile of an optimal sigma."""

    def loss(x, x_hat, mu, logvar):
        mse = (x - x_hat).square().flatten(1).mean(1)
        mse = mse if per_example else mse.mean()
        rec = 0.5 * DIM * (1.0 + math.log(2 * math.pi) + (mse + 1e-10).log())
        return rec.mean() + kl_sum(mu, logvar).mean()

    return loss


def one_hot(dim, view):
    """Cross-entropy over an alphabet along a dimension."""

    def loss(x, x_hat, mu, logvar):
        log_p = x_hat if view == "logp" else torch.log_softmax(x_hat, dim)
        return -(x * log_p).flatten(1).sum(1).mean() + kl_sum(mu, logvar).mean()

    return loss


def by_index(x, x_hat, mu, logvar):
    """Cross-entropy that takes the class by its index: only one-hot data mean anything."""
    ce = nnf.cross_entropy(x_hat.flatten(0, 1), x.argmax(-1).flatten(), reduction="sum") / len(x)
    return ce + kl_sum(mu, logvar).mean()


TEXT = {"data_shape": (12, 7), "x_hat": "logits"}


def honest_cases():
    """Losses that are what they say, in less usual ways."""
    truth = {
        "reconstruction": "gaussian",
        "sse_weight": 0.5 / B,
        "kl_kind": "exact",
        "latent_reduction": "sum",
        "kl_minimum_std": 1.0,
    }
    half = {**truth, "kl_weight": 2.0 / B}
    yield Case(
        "a log cosh of sharpness 100",
        lambda x, v, mu, lv: (torch.logaddexp(100 * (x - v), 100 * (v - x)) - math.log(2)).mean() / 100 + kl_sum(mu, lv).mean(),
        {"reconstruction": "log_cosh", "reconstruction_weight": 1.0 / B / DIM, "kl_weight": 1.0 / B},
    )  # fmt: skip
    for sigma in (0.05, 1.0):
        a = 0.5 / sigma**2 / B
        yield Case(
            f"full NLL, sigma {sigma}",
            gaussian_nll(sigma),
            {**truth, "sse_weight": a, "kl_weight": 1 / B, "implied_sigma": sigma},
        )
    yield Case(
        "capacity on the batch mean", with_wrap(lambda k: (k.sum(1).mean() - 7.0).abs()),
        {**half, "kl_transform": {"kind": "capacity", "constant": 7.0, "scope": "batch"}}, ("kl-capacity",),
    )  # fmt: skip
    yield Case(
        "capacity of each example", with_wrap(lambda k: (k.sum(1) - 25.0).abs().mean()),
        {**half, "kl_transform": {"kind": "capacity", "constant": 25.0, "scope": "example"}}, ("kl-capacity",),
    )  # fmt: skip
    yield Case(
        "free bits in total", with_wrap(lambda k: k.sum(1).clamp(min=2.5).mean()),
        {**half, "kl_transform": {"kind": "free_bits", "constant": 2.5, "scope": "example"}}, ("kl-free-bits",),
    )  # fmt: skip
    yield Case(
        "free bits on the batch mean", with_wrap(lambda k: k.sum(1).mean().clamp(min=2.5)),
        {**half, "kl_transform": {"kind": "free_bits", "constant": 2.5, "scope": "batch"}}, ("kl-free-bits",),
    )  # fmt: skip
    yield Case(
        "free bits of each latent", with_wrap(lambda k: k.clamp(min=0.5).sum(1).mean()),
        {**half, "kl_transform": {"kind": "free_bits", "constant": 2.5, "scope": "dimension"}}, ("kl-free-bits",),
    )  # fmt: skip
    mc = {**truth, "kl_kind": "monte_carlo", "stochastic": True}
    yield Case("Monte Carlo KL", monte_carlo(1.0), {**mc, "kl_weight": 1 / B}, ("random-values",))
    yield Case("Monte Carlo KL, weight 0.2", monte_carlo(0.2), {**mc, "kl_weight": 0.2 / B}, ("random-values",))
    optimal = {
        "reconstruction": "log_mse",
        "kl_weight": 1 / B,
        "kl_kind": "exact",
        "implied_beta": 1.0,
        "sse_weight": None,
    }
    yield Case("optimal sigma of the batch", log_mse(False), optimal, ("optimal-sigma",))
    ce = {
        "reconstruction": "categorical",
        "reconstruction_weight": 1 / B,
        "kl_weight": 1 / B,
        "implied_beta": 1.0,
        "data_reduction": "sum",
    }
    yield Case("one-hot logits, alphabet last", one_hot(2, "logits"), ce, sizes=TEXT)
    yield Case("one-hot logits, alphabet first", one_hot(1, "logits"), ce, sizes=TEXT)
    yield Case("one-hot log-probabilities", one_hot(2, "logp"), ce, sizes={**TEXT, "x_hat": "logp"})
    yield Case("classes by index", by_index, ce, sizes=TEXT)
    yield Case("dict of parts", lambda *a: {"loss": gaussian_nll(1.0)(*a), "kl": 0.0}, {**truth, "kl_weight": 1 / B})
    yield Case("tuple of parts", lambda *a: (gaussian_nll(1.0)(*a), 0.0), {**truth, "kl_weight": 1 / B})
    yield Case("float32 inside", lambda *a: gaussian_nll(1.0)(*(t.float() for t in a)), {**truth, "kl_weight": 1 / B})
    yield Case(
        "on [-1, 1]",
        gaussian_nll(0.2),
        {**truth, "sse_weight": 12.5 / B, "kl_weight": 1 / B},
        sizes={"data_range": (-1.0, 1.0)},
    )
    yield Case(
        "nats per dimension", lambda *a: gaussian_nll(1.0)(*a) / a[0][0].numel(),
        {**truth, "sse_weight": 0.5 / B / DIM, "kl_weight": 1 / B / DIM, "implied_sigma": 1.0},
    )  # fmt: skip
    yield Case(
        "sigmoid inside",
        lambda x, x_hat, mu, logvar: 0.5 * sse(x, torch.sigmoid(x_hat)).mean() + kl_sum(mu, logvar).mean(),
        {**truth, "kl_weight": 1 / B},
        sizes={"x_hat": "logits"},
    )


def square_only(x, x_hat, mu, logvar):
    """Needs square pictures."""
    assert x.shape[-1] == x.shape[-2], "square pictures only"
    return gaussian_nll(1.0)(x, x_hat, mu, logvar)


def fixed_sizes(x, x_hat, mu, logvar):
    """Reshapes to sizes that are written in the code."""
    x, x_hat, mu, logvar = x.view(-1, DIM), x_hat.view(-1, DIM), mu.view(-1, LATENT), logvar.view(-1, LATENT)
    return 0.5 * (x - x_hat).square().sum(1).mean() + kl_sum(mu, logvar).mean()


class Annealed:
    """A weight that grows with every call: hidden state that a copy restores."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, x_hat, mu, logvar):
        self.calls += 1
        return half_sse(x, x_hat) + self.calls * kl_sum(mu, logvar).mean()


def forgetful():
    """Hidden state in a closure, which nothing can restore."""
    calls = itertools.count(1)
    return lambda x, x_hat, mu, logvar: half_sse(x, x_hat) + (1 + next(calls)) * kl_sum(mu, logvar).mean()


def awkward_cases():
    """Losses that resist probing."""
    truth = {
        "reconstruction": "gaussian",
        "sse_weight": 0.5 / B,
        "kl_weight": 1 / B,
        "kl_kind": "exact",
        "data_reduction": "sum",
        "latent_reduction": "sum",
    }
    yield Case("square pictures only", square_only, truth)
    yield Case("fixed sizes", fixed_sizes, truth, ("could-not-vary",))
    yield Case("a counter in an object", Annealed(), truth)
    yield Case(
        "a counter in a closure",
        forgetful(),
        {"reconstruction": "gaussian", "sse_weight": 0.5 / B},
        ("hidden-state",),
        honest=False,
    )


def kl_with(mean=0.5, square=0.5, log=-0.5):
    """A KL-like term with coefficients of its own, per example."""
    return lambda mu, logvar: (mean * mu**2 + square * (logvar.exp() - 1) + log * logvar).sum(1)


def bug(name, kl, codes, *, recon=half_sse, minimum=None, **truth):
    """Half the squared error beside a KL-like term."""

    def loss(x, x_hat, mu, logvar):
        return recon(x, x_hat) + kl(mu, logvar).mean()

    return Case(name, loss, {"kl_minimum_std": minimum, **truth}, codes, honest=False)


def shuffled_kl(read):
    """A KL that takes `log s` for something else."""
    return lambda mu, logvar: (0.5 * (mu**2 + (2 * read(logvar)).exp() - 1) - read(logvar)).sum(1)


def broken_cases():
    """Formulas that are not what they claim to be."""
    gaussian = {"reconstruction": "gaussian", "sse_weight": 0.5 / B}
    off = "kl-minimum-off-prior"
    yield bug("no KL", lambda mu, _: 0 * mu.sum(1), ("kl-missing",), kl_kind="none", **gaussian)
    yield bug(
        "detached KL",
        lambda mu, logvar: kl_sum(mu, logvar).detach(),
        ("kl-no-gradient",),
        minimum=1.0,
        kl_kind="exact",
        **gaussian,
    )
    yield bug(
        "KL of a detached mean",
        lambda mu, logvar: kl_sum(mu.detach(), logvar),
        ("kl-no-gradient",),
        minimum=1.0,
        **gaussian,
    )
    yield bug(
        "KL subtracted", lambda mu, logvar: -kl_sum(mu, logvar), ("kl-wrong-sign",), kl_kind="not_a_kl", **gaussian
    )
    yield bug("the erratum: plus log s", kl_with(log=0.5), ("kl-log-sign",), kl_kind="not_a_kl", **gaussian)
    yield bug(
        "log-variance read as log std",
        shuffled_kl(lambda lv: lv),
        ("kl-logvar-confusion",),
        minimum=1.0,
        kl_kind="not_a_kl",
    )
    yield bug(
        "std passed as log-variance",
        lambda mu, lv: kl_sum(mu, (0.5 * lv).exp()),
        ("kl-logvar-confusion",),
        kl_kind="not_a_kl",
    )
    yield bug(
        "log std passed as log-variance",
        lambda mu, lv: kl_sum(mu, 0.5 * lv),
        ("kl-logvar-confusion",),
        minimum=1.0,
        kl_kind="not_a_kl",
    )
    yield bug(
        "half forgotten on the logarithm",
        kl_with(log=-1.0),
        ("kl-missing-half", off),
        minimum=math.sqrt(2),
        kl_kind="not_a_kl",
    )
    yield bug(
        "half forgotten on the mean",
        kl_with(mean=1.0),
        ("kl-missing-half",),
        minimum=1.0,
        kl_kind="not_a_kl",
        kl_weight=2 / B,
    )
    yield bug(
        "half forgotten on the variance",
        kl_with(square=1.0),
        ("kl-missing-half", off),
        minimum=math.sqrt(0.5),
        kl_kind="not_a_kl",
    )
    yield bug(
        "coefficients made up",
        kl_with(0.5, 0.35, -0.5),
        ("kl-not-a-kl", off),
        minimum=math.sqrt(1 / 0.7),
        kl_kind="not_a_kl",
    )
    yield bug(
        "penalty on the mean alone",
        lambda mu, _: 0.5 * (mu**2).sum(1),
        ("kl-no-variance",),
        kl_kind="not_a_kl",
        **gaussian,
    )
    exact = {"kl_kind": "exact", "minimum": 1.0}
    yield bug(
        "reconstruction subtracted", kl_sum, ("reconstruction-wrong-sign",), recon=lambda x, v: -half_sse(x, v), **exact
    )
    yield bug(
        "no reconstruction",
        kl_sum,
        ("reconstruction-missing",),
        recon=lambda x, v: 0 * half_sse(x, v),
        **exact,
        reconstruction="none",
    )
    yield bug(
        "detached output",
        kl_sum,
        ("reconstruction-no-gradient",),
        recon=lambda x, v: half_sse(x, v.detach()),
        **exact,
        **gaussian,
    )
    yield bug(
        "KL clamped to nothing",
        lambda mu, logvar: kl_sum(mu, logvar).clamp(0, 0),
        ("kl-missing",),
        kl_kind="none",
        **gaussian,
    )


def questionable_cases():
    """Reductions and behaviour that deserve a warning, and no error."""
    truth = {"reconstruction": "gaussian", "kl_kind": "exact", "kl_minimum_std": 1.0}
    differ = ("batch-reductions-differ", "weight-depends-on-batch-size")
    yield Case(
        "reconstruction summed over the batch, KL averaged", lambda x, v, mu, lv: 0.5 * sse(x, v).sum() + kl_sum(mu, lv).mean(),
        {**truth, "sse_weight": 0.5, "kl_weight": 1 / B, "batch_reduction": "mixed"}, differ,
    )  # fmt: skip
    yield Case(
        "mean of the squared error, KL summed over the batch", lambda x, v, mu, lv: nnf.mse_loss(v, x) + kl_sum(mu, lv).sum(),
        {**truth, "sse_weight": 1 / B / DIM, "kl_weight": 1.0, "batch_reduction": "mixed"}, (*differ, "reconstruction-mean-kl-sum"),
    )  # fmt: skip
    yield Case(
        "reconstruction counted once an example", lambda x, v, mu, lv: (0.5 * sse(x, v).sum() + kl_sum(mu, lv)).mean(),
        {**truth, "sse_weight": 0.5, "kl_weight": 1 / B, "batch_reduction": "mixed"}, differ,
    )  # fmt: skip
    yield Case(
        "ceiling on the KL", with_wrap(lambda k: k.sum(1).clamp(max=10.0).mean()),
        {**truth, "kl_weight": 2 / B, "kl_transform": {"kind": "clamp", "constant": 10.0, "scope": "example"}}, ("kl-clamped",),
    )  # fmt: skip
    yield Case(
        "ceiling on the batch mean", with_wrap(lambda k: k.sum(1).mean().clamp(max=10.0)),
        {**truth, "kl_weight": 2 / B, "kl_transform": {"kind": "clamp", "constant": 10.0, "scope": "batch"}}, ("kl-clamped",),
    )  # fmt: skip
    yield Case(
        "sigma from the data", lambda x, v, mu, lv: (0.5 * sse(x, v) / x.var(correction=0)).mean() + kl_sum(mu, lv).mean(),
        {**truth, "kl_weight": 1 / B}, ("sigma-from-data",),
    )  # fmt: skip
    yield Case(
        "sigma from each example", log_mse(True),
        {"reconstruction": "log_mse", "kl_weight": 1 / B, "implied_beta": 1.0, "batch_reduction": "mean"}, ("sigma-from-example",),
    )  # fmt: skip
    yield Case(
        "logarithm of probabilities without a clamp",
        lambda x, v, mu, lv: -(x * v.log() + (1 - x) * (1 - v).log()).flatten(1).sum(1).mean() + kl_sum(mu, lv).mean(),
        {"reconstruction": "bernoulli", "reconstruction_weight": 1 / B, "kl_weight": 1 / B}, ("not-finite", "bce-non-binary"),
        sizes={"x_hat": "probs"},
    )  # fmt: skip
    yield Case(
        "noise on the output", lambda x, v, mu, lv: half_sse(x, v + 0.01 * torch.randn_like(v)) + kl_sum(mu, lv).mean(),
        {"kl_weight": 1 / B}, ("random-values",),
    )  # fmt: skip


class Parts(NamedTuple):
    """Named tuple of terms, as some losses return."""

    reconstruction: torch.Tensor
    loss: torch.Tensor


def whole(x, x_hat, mu, logvar):
    """Half the squared error and the KL, batch means."""
    return half_sse(x, x_hat) + kl_sum(mu, logvar).mean()


def with_own_gradient(x, x_hat, mu, logvar):
    """A loss that differentiates inside."""
    (slope,) = torch.autograd.grad(half_sse(x, x_hat), x_hat, create_graph=True)
    return whole(x, x_hat, mu, logvar) + 0.0 * slope.square().sum()


def guarded(x, x_hat, mu, logvar):
    """A loss that refuses a KL that has exploded."""
    assert float(kl_sum(mu, logvar).max()) < 1000, "the KL has exploded"
    return whole(x, x_hat, mu, logvar)


def sampled_wrap(wrap):
    """Something done to a sampled KL."""

    def loss(x, x_hat, mu, logvar):
        std = (0.5 * logvar).exp()
        z = mu + std * torch.randn_like(mu)
        q, p = torch.distributions.Normal(mu, std), torch.distributions.Normal(0.0, 1.0)
        return half_sse(x, x_hat) + wrap((q.log_prob(z) - p.log_prob(z)).sum(1))

    return loss


def single(loss):
    """Run a loss in float32."""
    return lambda *tensors: loss(*(t.float() for t in tensors))


def harder_honest_cases():
    """Honest losses that an earlier version took for broken."""
    half = {"reconstruction": "gaussian", "sse_weight": 0.5 / B, "kl_kind": "exact", "kl_minimum_std": 1.0}
    one = {**half, "kl_weight": 1 / B, "latent_reduction": "sum", "batch_reduction": "mean"}
    for constant in (0.003, 300.0, 3000.0):
        wrap = {"kind": "capacity", "constant": constant, "scope": "batch"}
        yield Case(
            f"capacity {constant:g}", with_wrap(lambda k, c=constant: (k.sum(1).mean() - c).abs()), {**half, "kl_weight": 2 / B, "kl_transform": wrap}
        )  # fmt: skip
    wrap = {"kind": "capacity", "constant": 0.5, "scope": "batch"}
    yield Case(
        "capacity 0.5 in float32",
        single(with_wrap(lambda k: (k.sum(1).mean() - 0.5).abs())),
        {**half, "kl_weight": 2 / B, "kl_transform": wrap},
    )
    floor = {"kind": "free_bits", "constant": 512.0, "scope": "dimension"}
    yield Case(
        "free bits of 8 nats a latent", with_wrap(lambda k: k.clamp(min=8.0).sum(1).mean()), {**half, "kl_weight": 2 / B, "kl_transform": floor},
        sizes={"latent_dim": 64},
    )  # fmt: skip
    ceiling = {"kind": "clamp", "constant": 25.0, "scope": "dimension"}
    yield Case(
        "ceiling on each latent", with_wrap(lambda k: k.clamp(max=5.0).sum(1).mean()), {**half, "kl_weight": 2 / B, "kl_transform": ceiling},
        ("kl-clamped",),
    )  # fmt: skip
    yield Case(
        "clamped on both sides",
        with_wrap(lambda k: k.sum(1).clamp(1.0, 100.0).mean()),
        {**half, "kl_weight": 2 / B},
        ("kl-clamped",),
    )
    yield Case(
        "softplus of the KL", with_wrap(lambda k: nnf.softplus(k.sum(1) - 5.0).mean()), {**half, "kl_weight": 2 / B}
    )
    yield Case(
        "squared distance",
        with_wrap(lambda k: (k.sum(1).mean() - 20.0) ** 2),
        {**half, "kl_weight": None},
        ("kl-not-linear",),
    )
    sampled = {**one, "kl_kind": "monte_carlo"}
    yield Case(
        "capacity on a sampled KL", sampled_wrap(lambda k: (k.mean() - 25.0).abs()),
        {**sampled, "kl_transform": {"kind": "capacity", "constant": 25.0, "scope": "batch"}},
    )  # fmt: skip
    yield Case(
        "log-variance clamped to [-5, 2]",
        lambda x, v, mu, lv: whole(x, v, mu, lv.clamp(-5.0, 2.0)),
        one,
        ("kl-std-clamped",),
    )
    yield Case(
        "log-variance clamped to [-20, 0]",
        lambda x, v, mu, lv: whole(x, v, mu, lv.clamp(-20.0, 0.0)),
        one,
        ("kl-std-clamped",),
    )
    yield Case("epsilon in the logarithm", lambda x, v, mu, lv: whole(x, v, mu, (lv.exp() + 1e-3).log()), one)
    yield Case("random bits of the data", lambda x, v, mu, lv: (
        nnf.binary_cross_entropy(v, torch.bernoulli(x), reduction="sum") / len(x) + kl_sum(mu, lv).mean()
    ), {"kl_kind": "exact", "kl_weight": 1 / B, "reconstruction": "bernoulli", "reconstruction_weight": 1 / B, "implied_beta": 1.0},
        ("random-values", "data-binarised"), sizes={"x_hat": "probs"})  # fmt: skip
    yield Case("covariance penalty", lambda x, v, mu, lv: (
        whole(x, v, mu, lv) + 10 * (torch.cov(mu.T) - torch.diag(torch.cov(mu.T).diag())).square().sum()
    ), {**half, "kl_weight": 1 / B}, ("additional-term",))  # fmt: skip
    yield Case("named tuple", lambda *a: Parts(half_sse(*a[:2]), whole(*a)), one)
    yield Case("NumPy number", lambda *a: np.float64(whole(*a).item()), one, ("no-gradient-seen",))
    yield Case("gradient inside", with_own_gradient, one)
    yield Case("guarded", guarded, one, ("raises",))
    yield Case(
        "buffers of a fixed batch",
        lambda *a: whole(*a) + 0.0 * (torch.ones(B) * a[2].sum(1)).sum(),
        one,
        ("could-not-vary",),
    )
    tokens = {
        "reconstruction": "categorical",
        "reconstruction_weight": 1 / B / 12,
        "data_reduction": "mean",
        "convention": "mean-ce",
    }
    yield Case("cross-entropy per token", lambda x, v, mu, lv: (
        nnf.cross_entropy(v.flatten(0, 1), x.argmax(-1).flatten()) + 0.05 * kl_sum(mu, lv).mean()
    ), {**tokens, "convention_value": 0.05}, ("reconstruction-mean-kl-sum",), sizes=TEXT)  # fmt: skip
    yield Case("mean in float32", single(lambda x, v, mu, lv: nnf.mse_loss(v, x) + 1e-8 * kl_sum(mu, lv).mean()), {
        "sse_weight": 1 / B / DIM, "kl_weight": 1e-8 / B, "kl_kind": "exact",
    })  # fmt: skip
    student = torch.distributions.StudentT(4.0)
    yield Case("Student t", lambda x, v, mu, lv: (
        -student.log_prob((x - v) / 0.1).flatten(1).sum(1).mean() + kl_sum(mu, lv).mean()
    ), {"reconstruction": "unknown", "kl_weight": 1 / B, "kl_kind": "exact"})  # fmt: skip
    yield Case("weighted pixels", lambda x, v, mu, lv: (
        ((1 + 9 * (x > 0.5)) * (x - v) ** 2).flatten(1).sum(1).mean() + kl_sum(mu, lv).mean()
    ), {"reconstruction": "unknown", "sse_weight": None, "kl_weight": 1 / B}, sizes={"data_shape": (1, 8, 8)})  # fmt: skip


def harder_broken_cases():
    """Bugs that an earlier version did not see."""
    shape = {"reconstruction": "gaussian", "sse_weight": 0.5 / B}
    yield bug(
        "KL of the batch's average",
        lambda mu, lv: kl_terms(mu.mean(0, keepdim=True), lv.mean(0, keepdim=True)).sum(1),
        ("kl-not-a-kl",),
        minimum=1.0,
        **shape,
    )
    yield bug("KL of the first example", lambda mu, lv: kl_sum(mu, lv)[:1], ("kl-uneven-examples",), minimum=1.0)
    yield bug(
        "KL of half of the latents", lambda mu, lv: kl_sum(mu[:, :2], lv[:, :2]), ("kl-uneven-latents",), minimum=1.0
    )
    yield bug(
        "mean times variance",
        lambda mu, lv: (0.5 * (mu**2 * lv.exp() + lv.exp() - 1 - lv)).sum(1),
        ("kl-not-a-kl",),
        minimum=1.0,
    )
    yield bug(
        "variance detached",
        lambda mu, lv: (0.5 * (mu**2 + lv.exp().detach() - 1 - lv)).sum(1),
        ("kl-no-gradient",),
        minimum=1.0,
    )
    yield bug(
        "half of the latents detached", lambda mu, lv: kl_sum(torch.cat([mu[:, :2], mu[:, 2:].detach()], 1), lv), ("kl-no-gradient",), minimum=1.0
    )  # fmt: skip
    for name, residual in {
        "targets of other examples": lambda x, v: half_sse(x.flip(0), v),
        "signed residuals": lambda x, v: (x - v).sum() / len(x),
        "shifted targets": lambda x, v: half_sse(2 * x - 1, v),
    }.items():
        yield bug(
            name,
            kl_sum,
            ("reconstruction-minimum-off-data",),
            recon=residual,
            minimum=1.0,
            reconstruction="unknown",
            sse_weight=None,
        )
    yield bug(
        "rounded output",
        kl_sum,
        ("reconstruction-no-gradient",),
        recon=lambda x, v: half_sse(x, v.round()),
        minimum=1.0,
    )
    yield bug(
        "one channel only",
        kl_sum,
        ("reconstruction-partial",),
        recon=lambda x, v: half_sse(x[:, :1], v[:, :1]),
        minimum=1.0,
    )
    double = Case(
        "squashed twice", lambda x, v, mu, lv: nnf.binary_cross_entropy_with_logits(v, x, reduction="sum") / B + kl_sum(mu, lv).mean(),
        {"reconstruction": "bernoulli"}, ("x-hat-space",), honest=False, sizes={"x_hat": "probs"},
    )  # fmt: skip
    yield double


def all_cases():
    """The whole corpus."""
    from binarised_and_summed import binarised, summed_too_often
    from other_priors import other_priors

    return [
        *other_priors(),
        *harder_honest_cases(),
        *harder_broken_cases(),
        *regular_cases(),
        *honest_cases(),
        *awkward_cases(),
        *questionable_cases(),
        *broken_cases(),
        *binarised(),
        *summed_too_often(),
    ]

"""Rules about how the two terms are put together, and about the behaviour of the whole loss."""

from __future__ import annotations

import math

from ._evidence import Evidence
from ._kl_term import NoKL
from ._rule import Facts, Rule, if_true
from ._tolerances import Tolerances


def is_balanced(a: float, b: float) -> bool:
    """Tell whether constants in the code already make up for an average: both terms weigh as in an ELBO."""
    return min(abs(a / b - 1.0), abs(2.0 * a / b - 1.0)) < Tolerances.balanced.value


def _reductions(e: Evidence) -> tuple[str | None, str | None, Facts]:
    """Reductions over data and latents, as far as they unbalance the terms, and the numbers to tell of."""
    a, b = e.per_example()
    if isinstance(e.kl, NoKL) or not e.reconstruction.is_known or e.reconstruction.kind == "log_mse":
        return None, None, {}
    if not a or not b or is_balanced(a, b):
        return None, None, {}
    data, latent, big, small = e.data_reduction, e.latent_reduction, e.positions, e.sizes.latent_dim
    if data == "mean" and e.kl_powers.data == -1.0:
        data = None  # both are averaged over the data: nats per dimension
    facts = {"D": big, "d": small, "D/d": big / small, "d/D": small / big, "weight": b * small / (a * big)}
    return data, latent, facts


def _kl_mean(e: Evidence) -> Facts | None:
    data, latent, facts = _reductions(e)
    return facts if (data, latent) == ("sum", "mean") else None


def _reconstruction_mean(e: Evidence) -> Facts | None:
    data, latent, facts = _reductions(e)
    return facts if (data, latent) == ("mean", "sum") else None


def _both_means(e: Evidence, *, weighted: bool) -> Facts | None:
    data, latent, facts = _reductions(e)
    if (data, latent) != ("mean", "mean"):
        return None
    plain = abs(1.0 / facts["weight"] - 1.0) < Tolerances.known_factor.value
    return facts if plain != weighted else None


def _batch_powers(e: Evidence) -> tuple[float, float] | None:
    """Exponents of the batch size in the weights of the reconstruction and of the KL, if both are known."""
    reconstruction, kl = e.reconstruction_powers.batch, e.kl_powers.batch
    if isinstance(e.kl, NoKL) or reconstruction is None or kl is None or e.reconstruction.kind == "none":
        return None
    return reconstruction, kl


def _batch_differs(e: Evidence) -> Facts | None:
    powers = _batch_powers(e)
    if powers is None or abs(powers[0] - powers[1]) <= Tolerances.same_power.value:
        return None
    return {"reconstruction": powers[0], "kl": powers[1], "times": 2.0 ** (powers[1] - powers[0])}


def _times_batch(e: Evidence, *, twice: bool) -> Facts | None:
    """Facts where the reconstruction is summed over the batch once more than the KL: over all examples, or over sums."""
    a, b = e.reconstruction.weight, e.kl.weight.value
    if _batch_powers(e) != ((1.0, 0.0) if twice else (0.0, -1.0)):
        return None
    if e.reconstruction.kind != "log_mse" and a and b and is_balanced(a, b):
        return None  # the batch size is written in the code, and is this one
    return {"B": e.sizes.batch_size}


def _batch_unusual(e: Evidence) -> Facts | None:
    powers = _batch_powers(e)
    if powers is None or _batch_differs(e) is not None or powers[0] in (0.0, -1.0):
        return None
    return {"power": powers[0]}


def _unusual_sigma(e: Evidence) -> Facts | None:
    a, b = e.reconstruction.weight, e.kl.weight.value
    if e.reconstruction.kind != "gaussian" or not a or not b:
        return None
    smallest, largest = Tolerances.smallest_sigma.value, Tolerances.largest_sigma.value
    ratio = 0.5 * b / a
    sigma = math.sqrt(ratio) / e.width if ratio > 0 else smallest
    if smallest <= sigma <= largest:
        return None
    side = "wider than the data's whole range: few latents will be used" if sigma > 1 else "far below their noise"
    return {"sigma": sigma, "side": side}


def _random(e: Evidence, *, sampled: bool) -> Facts | None:
    error = e.kl.weight.error
    if not e.seed_spread or bool(error) != sampled:
        return None
    kind = " of a Monte Carlo KL" if e.kl.kind == "monte_carlo" else ""
    return {"kind": kind, "percent": 100 * e.seed_spread, "error": 100 * error}


BALANCE_RULES: tuple[Rule, ...] = (
    Rule(
        "kl-mean-reconstruction-sum",
        "warning",
        _kl_mean,
        "the KL is averaged over the {d} latents and the reconstruction summed over the {D} data dimensions",
        "Sum the KL, or count a weight {d} times smaller than it reads.",
        "`sse + w * kl.mean()`: the KL weighs d times less than `w` reads",
    ),
    Rule(
        "reconstruction-mean-kl-sum",
        "warning",
        _reconstruction_mean,
        "the reconstruction is averaged over the {D} data dimensions and the KL summed over the {d} latents",
        "Sum the reconstruction, or count a weight {D} times larger than it reads.",
        "`mse_loss(x_hat, x) + w * kl.sum(1).mean()`: the KL weighs D times more than `w` reads",
    ),
    Rule(
        "mean-mean-unweighted",
        "warning",
        lambda e: _both_means(e, weighted=False),
        "both terms are averaged, over {D} data dimensions and {d} latents, without a weight",
        "The KL then weighs {D/d:.4g} times what it should: sum both, or weigh it by {d/D:.3g}.",
        "`mse_loss(x_hat, x) + kl.mean()`: the KL weighs D/d times too much",
    ),
    Rule(
        "reconstruction-times-batch",
        "warning",
        lambda e: _times_batch(e, twice=False),
        "the reconstruction is summed over the batch and the KL averaged: beside the KL it counts B = {B} times",
        "Average the reconstruction over the batch as well: divide it by {B}.",
        "`(sse.sum() + kl).mean()`, or `sse.sum() + kl.mean()`: B copies of the reconstruction",
    ),
    Rule(
        "reconstruction-times-batch",
        "warning",
        lambda e: _times_batch(e, twice=True),
        "the reconstruction is summed over the batch twice, once for each example: beside the KL it counts B = {B} times",
        "Add the batch's sum once, not once for each example: divide it by {B}.",
        "`(sse.sum() + kl).sum()`, or a loop over examples that adds the batch's sum each time",
    ),
    Rule(
        "batch-reductions-differ",
        "warning",
        _batch_differs,
        "the reconstruction's weight goes as B^{reconstruction:.2g} and the KL's as B^{kl:.2g}",
        "Reduce both over the batch in the same way.",
        "one term is summed over the batch and the other averaged; average both",
    ),
    Rule(
        "weight-depends-on-batch-size",
        "warning",
        _batch_differs,
        "doubling the batch changes the weight of the KL beside the reconstruction {times:.3g} times",
        "A beta found at one batch size means another one at the next.",
        "follows from the former: another batch size is another beta",
    ),
    Rule(
        "not-finite",
        "warning",
        lambda e: {"where": "; ".join(e.not_finite)} if e.not_finite else None,
        "in float32 at {where}",
        "Clamp inside the logarithm, or work with logits and log_std.",
        "NaN or infinite at legal inputs, such as a probability of 0 or a log-variance of 20",
    ),
    Rule(
        "hidden-state",
        "warning",
        lambda e: {"percent": 100 * e.drift} if e.drift else None,
        "two identical calls differ by {percent:.2g} %: the loss remembers, or draws from a generator of its own; nothing is said of its KL",
        "Audit it at a fixed step, with the global generator.",
        "a step counter, a running mean, a random generator of its own",
    ),
    Rule(
        "not-additive",
        "warning",
        lambda e: if_true(not e.additive),
        "the KL's part moves with the reconstruction",
        "The weight of the KL is that at one reconstruction only.",
        "the terms multiply, or one gates the other",
    ),
    Rule(
        "mean-mean",
        "note",
        lambda e: _both_means(e, weighted=True),
        "both terms are averaged, with a weight of {weight:.4g} on the KL",
        "The balance moves with the size of the data and of the latents.",
        "`mse_loss(x_hat, x) + w * kl.mean()`",
    ),
    Rule(
        "batch-reduction-unusual",
        "note",
        _batch_unusual,
        "both weights go as B^{power:.2g}",
        "Neither a sum nor a mean over the batch.",
        "both terms are multiplied or divided by the batch size once more",
    ),
    Rule(
        "no-gradient-seen",
        "note",
        lambda e: if_true(not e.differentiable),
        "the loss returns a number without a graph",
        "Its gradients were not checked.",
        "a float or a NumPy number, as from `.item()`",
    ),
    Rule(
        "raises",
        "note",
        lambda e: {"where": "; ".join(e.refused)} if e.refused else None,
        "it raises at {where}",
        "Those were left out.",
        "legal inputs that it refuses",
    ),
    Rule(
        "weight-unusual",
        "note",
        _unusual_sigma,
        "the implied sigma is {sigma:.3g} of the range, {side}",
        "Compare with the optimal sigma.",
        "the implied sigma is wider than the data's range, or a thousandth of it",
    ),
    Rule(
        "random-values",
        "note",
        lambda e: _random(e, sampled=True),
        "the value{kind} varies by {percent:.2g} % from seed to seed",
        "The weight on the variance is sure to {error:.2g} %; all others were measured on common random numbers.",
        "a sampled KL; the record says how sure its weight is (`weight_error`)",
    ),
    Rule(
        "random-values",
        "note",
        lambda e: _random(e, sampled=False),
        "the value{kind} varies by {percent:.2g} % from seed to seed",
        "The randomness is outside of the KL.",
        "noise on the data or on the output",
    ),
    Rule(
        "could-not-vary",
        "note",
        lambda e: {"sizes": ", ".join(e.could_not_vary)} if e.could_not_vary else None,
        "the loss accepts no other {sizes}",
        "What follows from varying it was judged by its size, or left open.",
        "fixed sizes: whichever reading leaves the plainer weight was taken",
    ),
)
PRECISION_RULE = Rule(
    "low-precision",
    "warning",
    lambda e: if_true(e.half_precision),
    "the loss does not see a change of the posterior's mean by one part in 8192: it works in half precision",
    "Nothing else is said of it. Audit it in float32, and compute both terms in float32 under mixed precision too.",
    "bfloat16 or half precision inside: nothing can be measured, and little trained",
)

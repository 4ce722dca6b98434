"""From what was measured to what a reader should know."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ._evidence import Evidence
from ._finding import SEVERITIES, Finding
from ._findings_of_kl import first_of_several, of_divergence, of_wrap

SAME = 0.01
ROUND = 5e-3
UNUSUAL = (1e-3, 1.001)  # implied sigma in widths of the data's range


def find(evidence: Evidence) -> tuple[Finding, ...]:
    """All findings, the worst first."""
    if evidence.coarse:
        return (_of_precision(),)
    parts = (
        of_divergence,
        of_wrap,
        _of_reconstruction,
        _of_sigma,
        _of_reductions,
        _of_batch,
        _of_gradients,
        _of_values,
        _of_behaviour,
    )
    found = [finding for part in parts for finding in part(evidence)]
    return tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity)))


def _of_precision() -> Finding:
    return Finding(
        "low-precision",
        "warning",
        "the loss does not see a change of the posterior's mean by one part in 8192: it works in half precision",
        "Nothing else is said of it. Audit it in float32, and compute both terms in float32 under mixed precision too.",
    )


def _of_reconstruction(e: Evidence) -> Iterator[Finding]:
    found = e.reconstruction
    if found.kind == "none" and e.several:
        yield first_of_several("reconstruction-missing", "output")
        return
    if found.kind == "none":
        yield Finding(
            "reconstruction-missing", "error", "the loss does not change with x_hat", "Add the reconstruction term."
        )
        return
    if found.weight is not None and found.weight < 0:
        yield Finding(
            "reconstruction-wrong-sign",
            "error",
            f"its weight is {found.weight:.4g}",
            "The loss must fall as x_hat nears x.",
        )
    if found.kind == "unknown":
        yield Finding(
            "reconstruction-unknown",
            "note",
            "the term is none of: squared, absolute, log cosh, cross-entropy, log of the mean squared error",
            "Its weight, rho and sigma could not be read.",
        )
    yield from _of_output(e)
    if found.kind == "bernoulli" and found.inputs.kind == "continuous":
        yield Finding(
            "bce-non-binary",
            "note",
            "the cross-entropy accepts data between 0 and 1",
            "On such data it is no likelihood and its least value is not 0: binarise them, or take a Gaussian.",
        )
    if found.kind == "gaussian" and found.weight is not None and found.weight > 0:
        yield from _of_halves(e)


def _of_output(e: Evidence) -> Iterator[Finding]:
    """How the output is used."""
    found = e.reconstruction
    if e.idle:
        yield Finding(
            "reconstruction-partial",
            "warning",
            f"{100 * e.idle:.0f} % of x_hat have no effect on the loss",
            "Look for an index, a mask or a broadcast that leaves a part out.",
        )
    if not e.stationary:
        yield Finding(
            "reconstruction-minimum-off-data",
            "warning",
            "an output near the data gives a smaller loss than the data themselves",
            "Look for shuffled, shifted or signed residuals, unless the term compares something else than x with x_hat.",
        )
    if found.treats is not None:
        twice = found.inputs.space == "probs" and found.treats == "logits"
        yield Finding(
            "x-hat-space",
            "warning" if twice else "note",
            f"x_hat fits as {found.treats}, not as {found.inputs.space}",
            "If the decoder ends in a sigmoid or softmax, it is applied twice: take one away."
            if twice
            else f"If that is meant, pass --x-hat {found.treats}.",
        )


def _of_sigma(e: Evidence) -> Iterator[Finding]:
    """Weights that are computed from the data or from the residuals."""
    found = e.reconstruction
    if found.per_variance:
        yield Finding(
            "sigma-from-data",
            "warning",
            "the weight of the squared error is inversely proportional to the variance of the batch's data",
            "That sigma is the data's, not the decoder's: take the root mean square residual instead.",
        )
    elif e.weighs_by_data:
        yield Finding(
            "weight-depends-on-data",
            "warning",
            f"the weight of the reconstruction moves by {100 * found.spread:.0f} % with the contrast of the data",
            "Losses of different batches are then not comparable.",
        )
    if found.kind == "log_mse":
        if found.scope == "example":
            yield Finding(
                "sigma-from-example",
                "warning",
                "the loss grows with the logarithm of each example's own squared error: sigma is computed from the example that is scored",
                "That is not a density of x. Take sigma from the batch in training, and fix it for evaluation.",
            )
        else:
            yield Finding(
                "optimal-sigma",
                "note",
                "the loss grows with the logarithm of the mean squared error: sigma is the batch's optimum",
                "Fine for training. Fix it to its value over the training set before anything is evaluated.",
            )


def _of_halves(e: Evidence) -> Iterator[Finding]:
    a, _ = e.per_example()
    if a is not None and e.data_reduction == "sum" and abs(a - 1.0) < ROUND:
        yield Finding(
            "missing-half",
            "note",
            "the squared error has weight 1; in a unit-variance Gaussian it has 1/2",
            "A beta here is twice that beside 1/2 SSE.",
        )


def _of_reductions(e: Evidence) -> Iterator[Finding]:
    if e.divergence.kind == "none" or e.reconstruction.kind in ("none", "unknown", "log_mse"):
        return
    data, latent = e.data_reduction, e.latent_reduction
    a, b = e.per_example()
    d, big_d = e.sizes.latent_dim, e.positions
    if not a or not b or _is_balanced(a, b):
        return
    both = data == "mean" and (e.theirs.data or 0.0) != -1.0
    if latent == "mean" and data == "sum":
        yield Finding(
            "kl-mean-reconstruction-sum",
            "warning",
            f"the KL is averaged over the {d} latents and the reconstruction summed over the {big_d} data dimensions",
            f"Sum the KL, or count a weight {d} times smaller than it reads.",
        )
    elif both and latent == "sum":
        yield Finding(
            "reconstruction-mean-kl-sum",
            "warning",
            f"the reconstruction is averaged over the {big_d} data dimensions and the KL summed over the {d} latents",
            f"Sum the reconstruction, or count a weight {big_d} times larger than it reads.",
        )
    elif both and latent == "mean":
        if abs(a * big_d / (b * d) - 1.0) < SAME:
            yield Finding(
                "mean-mean-unweighted",
                "warning",
                f"both terms are averaged, over {big_d} data dimensions and {d} latents, without a weight",
                f"The KL then weighs D/d = {big_d / d:.4g} times what it should: sum both, or weigh it by {d / big_d:.3g}.",
            )
        else:
            yield Finding(
                "mean-mean",
                "note",
                f"both terms are averaged, with a weight of {b * d / (a * big_d):.4g} on the KL",
                "The balance moves with the size of the data and of the latents.",
            )


def _is_balanced(a: float, b: float) -> bool:
    """Whether constants in the code already make up for what is averaged: both terms weigh as in an ELBO."""
    return min(abs(a / b - 1.0), abs(2.0 * a / b - 1.0)) < 1e-6


def _of_batch(e: Evidence) -> Iterator[Finding]:
    ours, theirs = e.ours.batch, e.theirs.batch
    if e.divergence.kind == "none" or ours is None or theirs is None or e.reconstruction.kind in ("none", "unknown"):
        return
    if abs(ours - theirs) > 0.1:
        yield Finding(
            "batch-reductions-differ",
            "warning",
            f"the reconstruction's weight goes as B^{ours:.2g} and the KL's as B^{theirs:.2g}",
            "Reduce both over the batch in the same way.",
        )
        yield Finding(
            "weight-depends-on-batch-size",
            "warning",
            f"doubling the batch changes the weight of the KL beside the reconstruction {2.0 ** (theirs - ours):.3g} times",
            "A beta found at one batch size means another one at the next.",
        )
    elif ours not in (0.0, -1.0):
        yield Finding(
            "batch-reduction-unusual",
            "note",
            f"both weights go as B^{ours:.2g}",
            "Neither a sum nor a mean over the batch.",
        )


def _of_gradients(e: Evidence) -> Iterator[Finding]:
    if not e.differentiable:
        yield Finding(
            "no-gradient-seen", "note", "the loss returns a number without a graph", "Its gradients were not checked."
        )
    told = set()
    for check in sorted(e.gradients, key=lambda c: not c.is_missing):
        name = "reconstruction" if check.part == "x_hat" else "kl"
        if check.agrees or name in told:
            continue
        told.add(name)
        what = {"x_hat": "x_hat", "mu": "the posterior's mean", "log_std": "the posterior's standard deviation"}[
            check.part
        ]
        measured = (
            f"along {what} the value changes by {check.difference:.4g} a unit and autograd says {check.autograd:.4g}"
        )
        if check.is_missing and not (e.divergence.kind == "monte_carlo" and check.autograd):
            yield Finding(
                f"{name}-no-gradient",
                "error",
                measured,
                "Something is detached, or computed under no_grad, or rounded.",
            )
        else:
            yield Finding(
                f"{name}-gradient-differs",
                "warning",
                measured,
                "A part is detached or clamped: training does not descend the value.",
            )


def _of_values(e: Evidence) -> Iterator[Finding]:
    if e.extremes:
        yield Finding(
            "not-finite",
            "warning",
            f"in float32 at {'; '.join(e.extremes)}",
            "Clamp inside the logarithm, or work with logits and log_std.",
        )
    if e.raising:
        yield Finding("raises", "note", f"it raises at {'; '.join(e.raising)}", "Those were left out.")
    if e.at_rest is not None and e.reconstruction.kind in ("gaussian", "laplace", "log_cosh"):
        a, b = e.per_example()
        if a and b and b > 0 and abs(e.at_rest) < 1e-9 * max(1.0, a * e.sizes.data_dim):
            yield Finding(
                "constants-dropped",
                "note",
                "the loss is 0 at a perfect reconstruction and the prior, so it is no -ELBO in nats",
                "To compare values, add D ln sigma + D/2 ln 2 pi; training is not affected.",
            )
    a, b = e.per_example()
    if e.reconstruction.kind == "gaussian" and e.reconstruction.weight and e.divergence.weight:
        ratio = 0.5 * e.divergence.weight / e.reconstruction.weight
        sigma = math.sqrt(ratio) / e.width if ratio > 0 else UNUSUAL[0]
        if not UNUSUAL[0] <= sigma <= UNUSUAL[1]:
            side = (
                "wider than the data's whole range: few latents will be used" if sigma > 1 else "far below their noise"
            )
            yield Finding(
                "weight-unusual",
                "note",
                f"the implied sigma is {sigma:.3g} of the range, {side}",
                "Compare with the optimal sigma.",
            )


def _of_behaviour(e: Evidence) -> Iterator[Finding]:
    if e.drift:
        yield Finding(
            "hidden-state",
            "warning",
            f"two identical calls differ by {100 * e.drift:.2g} %: the loss remembers, or draws from a generator of its own; nothing is said of its KL",
            "Audit it at a fixed step, with the global generator.",
        )
    if e.spread:
        kind = " of a Monte Carlo KL" if e.divergence.kind == "monte_carlo" else ""
        yield Finding(
            "random-values",
            "note",
            f"the value{kind} varies by {100 * e.spread:.2g} % from seed to seed",
            f"The weight on the variance is sure to {100 * e.divergence.error:.2g} %; all others were measured on common random numbers."
            if e.divergence.error
            else "The randomness is outside of the KL.",
        )
    if not e.additive:
        yield Finding(
            "not-additive",
            "warning",
            "the KL's part moves with the reconstruction",
            "The weight of the KL is that at one reconstruction only.",
        )
    if e.could_not_vary:
        yield Finding(
            "could-not-vary",
            "note",
            f"the loss accepts no other {', '.join(e.could_not_vary)}",
            "What follows from varying it was judged by its size, or left open.",
        )

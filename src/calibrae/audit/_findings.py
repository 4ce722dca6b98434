"""From what was measured to what a reader should know."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ._checks import GradientCheck
from ._divergence import Divergence
from ._inputs import Sizes
from ._reconstruction import Reconstruction
from ._record import SEVERITIES, Finding
from ._scaling import Powers

SAME = 0.01
ROUND = 5e-3
UNUSUAL = (1e-3, 1.0)  # implied sigma in widths of the data's range


@dataclass(frozen=True)
class Evidence:
    """All that was measured.

    Attributes:
        reconstruction: the term.
        divergence: the other.
        ours: powers of the reconstruction's weight.
        theirs: of the KL's.
        sizes: at which the weights hold.
        width: of the data's range.
        gradients: autograd beside differences.
        extremes: legal inputs at which it is not finite.
        additive: whether the terms are independent.
        drift: relative change between identical calls.
        spread: relative standard deviation over seeds.
        at_rest: the loss at a perfect reconstruction and the prior; `None` if there is no such point.
        could_not_vary: sizes.
    """

    reconstruction: Reconstruction
    divergence: Divergence
    ours: Powers
    theirs: Powers
    sizes: Sizes
    width: float
    gradients: tuple[GradientCheck, ...] = ()
    extremes: tuple[str, ...] = ()
    additive: bool = True
    drift: float = 0.0
    spread: float = 0.0
    at_rest: float | None = None
    could_not_vary: tuple[str, ...] = ()

    @property
    def data_reduction(self) -> str | None:
        """`sum` or `mean` of the reconstruction over the data dimensions."""
        return _reduction(self.ours.data)

    @property
    def latent_reduction(self) -> str | None:
        """`sum` or `mean` of the KL over the latents."""
        return _reduction(self.theirs.latent)

    @property
    def batch_reduction(self) -> str | None:
        """`mean`, `sum`, or `mixed`."""
        ours, theirs = _reduction(self.ours.batch), _reduction(self.theirs.batch)
        if self.divergence.kind == "none" or theirs is None:
            return ours
        if self.reconstruction.kind in ("unknown", "none") or ours is None:
            return theirs
        return ours if ours == theirs else "mixed"

    def per_example(self) -> tuple[float | None, float]:
        """Both weights with the 1/B of a batch mean taken out."""
        batch = float(self.sizes.batch_size)
        a = self.reconstruction.weight
        ours = None if a is None else a * (batch if self.ours.batch == -1 else 1.0)
        return ours, self.divergence.weight * (batch if self.theirs.batch == -1 else 1.0)


def _reduction(power: float | None) -> str | None:
    return None if power is None else {0.0: "sum", -1.0: "mean"}.get(power, "mixed")


def find(evidence: Evidence) -> tuple[Finding, ...]:
    """All findings, the worst first."""
    parts = (
        _of_divergence,
        _of_wrap,
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


def _of_divergence(e: Evidence) -> Iterator[Finding]:
    found = e.divergence
    if found.kind == "none":
        yield Finding(
            "kl-missing",
            "error",
            "the loss does not change with the posterior",
            "Add the KL, or if a clamp hides it, raise its upper bound: without it nothing ties the codes to the prior.",
        )
        return
    if found.kind != "not_a_kl":
        return
    b, square, log = found.weight, found.square, found.log
    if found.reading is not None:
        yield Finding(
            "kl-logvar-confusion",
            "error",
            f"the sweep of the standard deviation fits a KL in which {found.reading}",
            "Use log_var = 2 log_std in 1/2 (mu^2 + exp(log_var) - 1 - log_var).",
        )
    elif square is None or log is None:
        yield Finding(
            "kl-not-a-kl",
            "error",
            "the term follows no KL of Gaussians in the standard deviation",
            "Compare with sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        )
    elif b < 0 and square <= 0 and log <= 0:
        yield Finding(
            "kl-wrong-sign", "error", f"the weight of the KL is {b:.4g}", "Add the KL instead of subtracting it."
        )
    elif square > 0 and log < 0:
        yield Finding(
            "kl-log-sign",
            "error",
            f"the variance is weighted {square:.4g} and the logarithm of s +{-log:.4g}: the term falls without bound as s goes to 0",
            "The KL has minus ln s: sum(1/2 (mu^2 + s^2 - 1) - ln s).",
        )
    elif square == 0.0 and log == 0.0:
        yield Finding(
            "kl-no-variance",
            "error",
            "the term depends on the posterior's mean alone",
            "Add 1/2 (s^2 - 1) - ln s for each latent: without it the posterior's noise vanishes.",
        )
    else:
        yield from _of_coefficients(b, square, log)
    if found.minimum_std is not None and abs(found.minimum_std - 1.0) > SAME:
        yield Finding(
            "kl-minimum-off-prior",
            "error",
            f"the term is least at a posterior standard deviation of {found.minimum_std:.4g}, not 1",
            "A KL to N(0, I) is least at the prior.",
        )


def _of_coefficients(b: float, square: float, log: float) -> Iterator[Finding]:
    ratios = [x / y for x, y in ((square, b), (log, b), (square, log)) if y]
    halves = any(abs(abs(r) - h) <= SAME * h for r in ratios for h in (2.0, 0.5))
    measured = f"mu^2/2 is weighted {b:.4g}, s^2/2 {square:.4g} and -ln s {log:.4g}; in a KL the three are one"
    if halves:
        yield Finding("kl-missing-half", "error", measured, "Check that the 1/2 stands before the whole bracket.")
    else:
        yield Finding("kl-not-a-kl", "error", measured, "Compare with sum(1/2 (mu^2 + s^2 - 1) - ln s).")


def _of_wrap(e: Evidence) -> Iterator[Finding]:
    wrap = e.divergence.wrap
    if wrap is None:
        return
    scope = {"example": " of each example", "batch": " of the batch's mean", "dimension": " of each latent"}.get(
        wrap.scope or "", ""
    )
    value = "" if wrap.constant is None else f" at {wrap.constant:.4g} nats of the summed KL"
    if wrap.kind == "clamp":
        yield Finding(
            "kl-clamped",
            "warning",
            f"the KL{scope} has no gradient above a ceiling{value}",
            "A ceiling does not pull the KL to it: once above, nothing holds the codes. For a capacity use abs(KL - C).",
        )
    elif wrap.kind == "capacity":
        yield Finding(
            "kl-capacity",
            "note",
            f"the distance of the KL{scope} from a capacity{value}",
            "Beta is the slope on either side.",
        )
    elif wrap.kind == "free_bits":
        yield Finding(
            "kl-free-bits", "note", f"the KL{scope} is free up to a floor{value}", "Above it the weight is as stated."
        )
    else:
        low, high = e.divergence.curvatures[0], e.divergence.curvatures[-1]
        yield Finding(
            "kl-not-linear",
            "warning",
            f"the weight of the KL moves with it, from {low:.4g} at little to {high:.4g} at much",
            "No single beta describes this loss.",
        )


def _of_reconstruction(e: Evidence) -> Iterator[Finding]:
    found = e.reconstruction
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
    if found.treats is not None:
        yield Finding(
            "x-hat-space",
            "note",
            f"x_hat fits as {found.treats}, not as {found.inputs.space}",
            f"If that is meant, pass --x-hat {found.treats}.",
        )
    if found.kind == "bernoulli" and found.inputs.kind == "continuous":
        yield Finding(
            "bce-non-binary",
            "note",
            "the cross-entropy accepts data between 0 and 1",
            "On such data it is no likelihood and its least value is not 0: binarise them, or take a Gaussian.",
        )
    if found.kind == "gaussian" and found.weight is not None and found.weight > 0:
        yield from _of_halves(e)


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
    elif found.spread > 0.02:
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
    both = data == "mean" and (e.theirs.data or 0.0) != -1.0
    a, b = e.per_example()
    d, big_d = e.sizes.latent_dim, e.sizes.data_dim
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
    elif both and latent == "mean" and a is not None:
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


def _of_batch(e: Evidence) -> Iterator[Finding]:
    ours, theirs = e.ours.batch, e.theirs.batch
    if e.divergence.kind == "none" or ours is None or theirs is None or e.reconstruction.kind in ("none", "unknown"):
        return
    if abs(ours - theirs) > SAME:
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
    for check in e.gradients:
        if check.agrees:
            continue
        name = "reconstruction" if check.part == "x_hat" else "kl"
        what = {"x_hat": "x_hat", "mu": "the posterior's mean", "log_std": "the posterior's standard deviation"}[
            check.part
        ]
        measured = (
            f"along {what} the value changes by {check.difference:.4g} a unit and autograd says {check.autograd:.4g}"
        )
        if check.is_detached:
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
    if e.at_rest is not None and e.reconstruction.kind in ("gaussian", "laplace", "log_cosh"):
        a, b = e.per_example()
        if a and b > 0 and abs(e.at_rest) < 1e-9 * max(1.0, a * e.sizes.data_dim):
            yield Finding(
                "constants-dropped",
                "note",
                "the loss is 0 at a perfect reconstruction and the prior, so it is no -ELBO in nats",
                "To compare values, add D ln sigma + D/2 ln 2 pi; training is not affected.",
            )
    a, b = e.per_example()
    if e.reconstruction.kind == "gaussian" and a and a > 0 and b > 0:
        sigma = (
            math.sqrt(0.5 * e.divergence.weight / e.reconstruction.weight) / e.width if e.reconstruction.weight else 0.0
        )
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
            f"two identical calls differ by {100 * e.drift:.2g} %: the loss remembers, and the numbers here are of its first calls",
            "A schedule or a counter is at work: audit it at a fixed step.",
        )
    if e.spread:
        kind = " of a Monte Carlo KL" if e.divergence.kind == "monte_carlo" else ""
        yield Finding(
            "random-values",
            "note",
            f"the value{kind} varies by {100 * e.spread:.2g} % from seed to seed",
            f"The weight on the variance is sure to {100 * e.divergence.error:.2g} %; all others were measured on common random numbers.",
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

"""Rules about the reconstruction: its kind, how it uses the output, and its sigma."""

from __future__ import annotations

from ._evidence import Evidence
from ._rule import Facts, Rule, if_true
from ._rules_kl import DERIVATIVES, gradient
from ._tolerances import Tolerances

SQUASHED_TWICE = ("probs", "logits")  # stated and used


def _kind(e: Evidence, *kinds: str) -> bool:
    return e.reconstruction.kind in kinds


def _wrong_sign(e: Evidence) -> Facts | None:
    weight = e.reconstruction.weight
    return {"weight": weight} if weight is not None and weight < 0 else None


def _space(e: Evidence) -> Facts | None:
    """Facts where `x_hat` is used in another space than the stated one."""
    treats = e.reconstruction.treats
    return None if treats is None else {"space": treats, "stated": e.reconstruction.inputs.space}


def _squashed_twice(e: Evidence) -> Facts | None:
    return _space(e) if (e.reconstruction.inputs.space, e.reconstruction.treats) == SQUASHED_TWICE else None


def _other_space(e: Evidence) -> Facts | None:
    return None if _squashed_twice(e) else _space(e)


def _missing_half(e: Evidence) -> Facts | None:
    a, _ = e.per_example()
    is_sum = _kind(e, "gaussian") and e.data_reduction == "sum"
    return if_true(a is not None and is_sum and abs(a - 1.0) < Tolerances.unit_weight.value)


def _constants_dropped(e: Evidence) -> Facts | None:
    a, b = e.per_example()
    if e.value_at_optimum is None or not _kind(e, "gaussian", "laplace", "log_cosh"):
        return None
    if not a or not b or b <= 0:
        return None
    largest = Tolerances.zero_constant.value * max(1.0, a * e.sizes.data_dim)
    return if_true(abs(e.value_at_optimum) < largest)


def _follows_data(e: Evidence) -> Facts | None:
    follows = e.weight_follows_data and not e.reconstruction.per_variance
    return {"percent": 100 * e.reconstruction.spread} if follows else None


def _thresholded(e: Evidence) -> Facts | None:
    bits = e.reconstruction.binarisation
    if bits is None or bits.drawn:
        return None
    return {"place": "that moves with the batch" if bits.threshold is None else f"of {bits.threshold + 0.0:.4g}"}


def _drawn(e: Evidence) -> Facts | None:
    bits = e.reconstruction.binarisation
    return if_true(bits is not None and bits.drawn)


RECONSTRUCTION_RULES: tuple[Rule, ...] = (
    Rule(
        "reconstruction-missing",
        "error",
        lambda e: if_true(_kind(e, "none") and not e.returns_several),
        "the loss does not change with x_hat",
        "Add the reconstruction term.",
        "the loss does not change with `x_hat`",
    ),
    Rule(
        "reconstruction-missing",
        "warning",
        lambda e: if_true(_kind(e, "none") and e.returns_several),
        "the first of the numbers that the loss returns does not change with the output",
        "Only the first was audited. If another is the total, pick it: lambda *a: loss(*a)[-1].",
        "the loss returns several numbers, and the first has no reconstruction",
    ),
    Rule(
        "reconstruction-no-gradient",
        "error",
        gradient("reconstruction", missing=True),
        DERIVATIVES,
        "Something is detached, or computed under no_grad, or rounded.",
        "detached or rounded, as in `x_hat.round()`",
    ),
    Rule(
        "reconstruction-wrong-sign",
        "error",
        _wrong_sign,
        "its weight is {weight:.4g}",
        "The loss must fall as x_hat nears x.",
        "the log-likelihood is added to the KL instead of subtracted; write `-log_prob + kl`",
    ),
    Rule(
        "reconstruction-minimum-off-data",
        "warning",
        lambda e: if_true(not e.stationary),
        "an output near the data gives a smaller loss than the data themselves",
        "Look for shuffled, shifted or signed residuals, unless the term compares something else than x with x_hat.",
        "shuffled targets, residuals without a square, data on another range than the output",
    ),
    Rule(
        "reconstruction-partial",
        "warning",
        lambda e: {"percent": 100 * e.unused_output} if e.unused_output else None,
        "{percent:.0f} % of x_hat have no effect on the loss",
        "Look for an index, a mask or a broadcast that leaves a part out.",
        "an index, a mask, a broadcast of `[B]` against `[B, 1]`",
    ),
    Rule(
        "reconstruction-gradient-differs",
        "warning",
        gradient("reconstruction", missing=False),
        DERIVATIVES,
        "A part is detached or clamped: training does not descend the value.",
        "a part is detached or clamped: the value that is printed is not the one that is trained",
    ),
    Rule(
        "x-hat-space",
        "warning",
        _squashed_twice,
        "x_hat fits as {space}, not as {stated}",
        "If the decoder ends in a sigmoid or softmax, it is applied twice: take one away.",
        "the term takes logits and is given probabilities; use `binary_cross_entropy_with_logits` on the layer before the sigmoid",
    ),
    Rule(
        "sigma-from-data",
        "warning",
        lambda e: if_true(e.reconstruction.per_variance),
        "the weight of the squared error is inversely proportional to the variance of the batch's data",
        "That sigma is the data's, not the decoder's: take the root mean square residual instead.",
        "the squared error is divided by the data's variance",
    ),
    Rule(
        "sigma-from-example",
        "warning",
        lambda e: if_true(_kind(e, "log_mse") and e.reconstruction.scope == "example"),
        "the loss grows with the logarithm of each example's own squared error: sigma is computed from the example that is scored",
        "That is not a density of x. Take sigma from the batch in training, and fix it for evaluation.",
        "`D/2 ln MSE` of each example: no density, as its integral is infinite",
    ),
    Rule(
        "weight-depends-on-data",
        "warning",
        _follows_data,
        "the weight of the reconstruction moves by {percent:.0f} % with the contrast of the data",
        "Losses of different batches are then not comparable.",
        "the weight is computed from the batch; make it a constant",
    ),
    Rule(
        "reconstruction-unknown",
        "note",
        lambda e: if_true(_kind(e, "unknown")),
        "the term is none of: squared, absolute, log cosh, cross-entropy, log of the mean squared error",
        "Its weight, rho and sigma could not be read.",
        "a perceptual loss, SSIM, Huber: its weight is not guessed",
    ),
    Rule(
        "x-hat-space",
        "note",
        _other_space,
        "x_hat fits as {space}, not as {stated}",
        "If that is meant, pass --x-hat {space}.",
        "the term uses its second argument in another space than was stated",
    ),
    Rule(
        "bce-non-binary",
        "note",
        lambda e: if_true(_kind(e, "bernoulli") and e.reconstruction.inputs.kind == "continuous"),
        "the cross-entropy accepts data between 0 and 1",
        "On such data it is no likelihood and its least value is not 0: binarise them, or take a Gaussian.",
        "a cross-entropy on grey values; `--binarise`, or a Gaussian",
    ),
    Rule(
        "data-thresholded",
        "note",
        _thresholded,
        "the loss turns its data into 0 and 1, at a threshold {place}: the term is that of such bits",
        "What is scored are the bits, not the data: binarise the data before the encoder sees them, or model their values.",
        "`(x > 0.5).float()` or `x.round()` inside the loss: the term was recognised on zeros and ones",
    ),
    Rule(
        "data-binarised",
        "note",
        _drawn,
        "the loss draws zeros and ones with its data as probabilities: the term is that of such bits",
        "Fine for training. Score bits that were drawn once for all models that are compared.",
        "`torch.bernoulli(x)` inside the loss: the term was recognised on zeros and ones",
    ),
    Rule(
        "missing-half",
        "note",
        _missing_half,
        "the squared error has weight 1; in a unit-variance Gaussian it has 1/2",
        "A beta here is twice that beside 1/2 SSE.",
        "`SSE + KL` is a Gaussian of variance 1/2",
    ),
    Rule(
        "optimal-sigma",
        "note",
        lambda e: if_true(_kind(e, "log_mse") and e.reconstruction.scope != "example"),
        "the loss grows with the logarithm of the mean squared error: sigma is the batch's optimum",
        "Fine for training. Fix it to its value over the training set before anything is evaluated.",
        "`D/2 ln MSE` over the batch: sigma is estimated from it",
    ),
    Rule(
        "constants-dropped",
        "note",
        _constants_dropped,
        "the loss is 0 at a perfect reconstruction and the prior, so it is no -ELBO in nats",
        "To compare values, add D ln sigma + D/2 ln 2 pi; training is not affected.",
        "0 at perfection: fine for training, not a -ELBO in nats",
    ),
)

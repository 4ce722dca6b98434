"""The reconstruction term and its weight: fits of known terms to differences of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from ._binarisation import Binarisation, find_binarisation
from ._inputs import Inputs, Kind, Sizes, Space
from ._log_mse import find_log_mse, log_mse_weight
from ._probe import Probe, ProbeError
from ._terms import Candidate, Term, candidates
from ._tolerances import Tolerances

PULLS = (0.0, 0.0, 0.5, 0.9, 0.99)
CONTRASTS = (1.0, 0.4)
FAR = (100.0, 20.0, 4.0, 1.0)


@final
@dataclass(frozen=True)
class Reconstruction:
    """Fitted reconstruction term.

    Attributes:
        kind: `gaussian`, `laplace`, `bernoulli`, `categorical`, `log_cosh`, `log_mse`, `unknown` or `none`.
        weight: coefficient, in the scalar, of each example's sum; of `ln MSE` for `log_mse`.
        term: sum over the batch of that kind, from `x` and `x_hat`.
        inputs: kind of data and space of `x_hat` that the loss accepted.
        spread: largest relative difference of the weight between data of different contrast.
        treats: space in which `x_hat` is used, if not the stated one.
        alpha: sharpness of a `log_cosh`.
        scope: average inside a `log_mse`: over the `batch` or an `example`.
        per_variance: whether the weight is inversely proportional to the variance of the data.
        inside: whether a `log_mse` was seen on outputs inside the range only.
        binarisation: bits that the loss makes of its data, if it does.
    """

    kind: str
    weight: float | None
    term: Term | None
    inputs: Inputs
    spread: float = 0.0
    treats: str | None = None
    alpha: float | None = None
    scope: str | None = None
    per_variance: bool = False
    inside: bool = False
    binarisation: Binarisation | None = None

    @property
    def is_known(self) -> bool:
        """Tell whether there is a term, and it is one of the known ones."""
        return self.kind not in ("unknown", "none")


def _kinds(space: Space, sizes: Sizes) -> list[Kind]:
    """Kinds of data to try; one-hot along an axis that can be an alphabet: of tokens, or the channels of a picture."""
    shape = sizes.data_shape
    kinds: list[Kind] = []
    if shape[-1] > 1 and len(shape) <= 2:
        kinds.append("one-hot-last")
    if shape[0] > 1 and len(shape) > 1:
        kinds.append("one-hot-first")
    return [*kinds, "continuous"] if space == "logp" else ["continuous", "binary", *kinds]


def find_reconstruction(probe: Probe, sizes: Sizes, data_range: tuple[float, float], space: Space) -> Reconstruction:
    """Classify the term by the first kind of data on which a known one fits.

    A term that is known on zeros and ones alone counts if the loss makes such bits of its data.

    Raises:
        ProbeError: if the loss fails on every kind of data.
    """
    failures: list[str] = []
    fallback: Reconstruction | None = None
    for kind in _kinds(space, sizes):
        inputs = Inputs(data_range, space, kind)
        try:
            result = _classify(probe, sizes, inputs)
        except ProbeError as error:
            failures.append(str(error))
            continue
        if result.kind == "categorical" or (result.is_known and result.kind != "log_mse" and fallback is None):
            return result
        if kind == "binary" and result.is_known and fallback is not None:
            bits = find_binarisation(probe, sizes, inputs)
            if bits is not None:
                return replace(result, binarisation=bits)
        fallback = fallback or result
    if fallback is None:
        raise ProbeError(failures[0])
    return fallback


def _classify(probe: Probe, sizes: Sizes, inputs: Inputs) -> Reconstruction:
    """Fit every known term on data of two contrasts."""
    zero = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)
    fits: dict[int, list[tuple[float, float]]] = {}
    alpha = _estimate_alpha(probe, sizes, inputs, zero)
    known = list(candidates(inputs, alpha))
    moved = 0.0
    for number, contrast in enumerate(CONTRASTS):
        x = inputs.x(sizes, seed=number, contrast=contrast)
        guesses = [inputs.guess(x, seed=10 * number + i, pull=pull) for i, pull in enumerate(PULLS)]
        losses = torch.tensor([probe.value(x, g, zero, zero) for g in guesses], dtype=torch.float64)
        if not bool(torch.isfinite(losses).all()):
            raise ProbeError(
                f"the loss is not finite at the prior on {inputs.kind} data. If its fourth argument is no log-variance, pass --posterior."
            )
        moved = max(moved, float((losses - losses[0]).abs().max() / losses.abs().max().clamp_min(1e-300)))
        for index, (_, term, _) in enumerate(known):
            terms = torch.stack([term(x, g) for g in guesses])
            fits.setdefault(index, []).append(_fit(losses, terms))
    if moved < Tolerances.no_effect.value:
        return Reconstruction("none", 0.0, None, inputs)
    for index, candidate in enumerate(known):
        if max(misfit for _, misfit in fits[index]) < Tolerances.reconstruction_misfit.at(probe.dtype):
            return _weighed(candidate, inputs, sizes, [weight for weight, _ in fits[index]], alpha)
    log_mse = find_log_mse(probe, sizes, inputs)
    if log_mse is None:
        return Reconstruction("unknown", None, None, inputs)
    return Reconstruction("log_mse", log_mse.weight, None, inputs, scope=log_mse.scope, inside=log_mse.inside)


def _fit(losses: Tensor, terms: Tensor) -> tuple[float, float]:
    """Weight of a term in the differences of the loss, and the largest relative misfit."""
    change, steps = losses - losses[0], terms - terms[0]
    if not bool(torch.isfinite(steps).all()) or not bool(steps.abs().max() > 0):
        return math.nan, math.inf
    weight = float((change * steps).sum() / steps.square().sum())
    return weight, float((change - weight * steps).abs().max() / change.abs().max().clamp_min(1e-300))


def _weighed(
    candidate: Candidate, inputs: Inputs, sizes: Sizes, weights: list[float], alpha: float | None
) -> Reconstruction:
    """Compare the weights on data of both contrasts."""
    kind, term, treats = candidate
    spread = abs(weights[1] / weights[0] - 1.0) if weights[0] else 0.0
    variances = [float(inputs.x(sizes, i, c).var(correction=0)) for i, c in enumerate(CONTRASTS)]
    inverse = weights[0] * variances[0] / (weights[1] * variances[1] or math.nan)
    is_inverse = abs(inverse - 1.0) < Tolerances.inverse_variance.value
    per_variance = spread > Tolerances.data_dependence.value and is_inverse
    sharpness = alpha if kind == "log_cosh" else None
    return Reconstruction(kind, weights[0], term, inputs, spread, treats, sharpness, per_variance=per_variance)


def _estimate_alpha(probe: Probe, sizes: Sizes, inputs: Inputs, zero: Tensor) -> float | None:
    """Sharpness of a term that is quadratic near zero and linear far out; `None` if this one is not."""
    if inputs.space != "data" or inputs.kind != "continuous":
        return None
    x, width = inputs.x(sizes, seed=0), inputs.width

    def at(t: float) -> float:
        return probe.value(x, x + t * width, zero, zero)

    def bend_at(t: float) -> float:
        return 2.0 * (at(t) - here) / (t * width) ** 2

    try:
        here = at(0.0)
        if not math.isfinite(here):  # a logarithm of the squared error without an epsilon
            return None
        bend = bend_at(1e-3)
        for t in FAR:  # the farthest at which it does not overflow
            far, farther = at(t), at(2.0 * t)
            if math.isfinite(farther):
                break
        slope = (farther - far) / (t * width)
        # the bend once more, where even a sharp log cosh is within 2e-5 of its parabola
        finer = bend_at(min(1e-3, 0.01 * slope / (bend * width))) if slope > 0 and bend > 0 else bend
    except ProbeError:
        return None
    if not (slope > 0 and bend > 0 and math.isfinite(bend + slope)):
        return None
    is_linear = abs((farther - here) / (far - here) - 2.0) <= Tolerances.linear_far_out.value
    return finer / slope if is_linear else None


def batch_power_of_unknown(probe: Probe, inputs: Inputs, sizes: Sizes) -> float | None:
    """Exponent of the batch size in the weight of an example of an unknown term: by giving every example twice."""
    x = inputs.x(sizes, seed=0)
    changes = []
    for copies in (1, 2):
        batch = x.repeat(copies, *(1,) * (x.ndim - 1))
        zero = torch.zeros(len(batch), sizes.latent_dim, dtype=torch.float64)
        guesses = (
            inputs.guess(x, seed, pull).repeat(copies, *(1,) * (x.ndim - 1)) for seed, pull in ((0, 0.0), (1, 0.9))
        )
        try:
            values = [probe.value(batch, guess, zero, zero) for guess in guesses]
        except ProbeError:
            return None
        changes.append(values[1] - values[0])
    ratio = changes[1] / changes[0] if changes[0] else math.nan
    if not (math.isfinite(ratio) and ratio > 0):
        return None
    power = math.log2(ratio) - 1.0
    whole = Tolerances.whole_power.at(probe.dtype)
    return float(round(power)) if abs(power - round(power)) < whole else None


def measure_weight(probe: Probe, sizes: Sizes, reconstruction: Reconstruction) -> float:
    """Measure the weight of a known term at other sizes."""
    inputs = reconstruction.inputs
    if reconstruction.kind == "log_mse":
        return log_mse_weight(probe, sizes, inputs, inside=reconstruction.inside)
    assert reconstruction.term is not None
    zero = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)
    x = inputs.x(sizes, seed=0)
    one, two = inputs.guess(x, 0, 0.0), inputs.guess(x, 1, 0.9)
    change = probe.value(x, two, zero, zero) - probe.value(x, one, zero, zero)
    return change / float(reconstruction.term(x, two) - reconstruction.term(x, one))

"""What the reconstruction term is, and its weight: fits of known terms to differences of the loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from .. import functional
from ._inputs import Inputs, Kind, Sizes, Space
from ._probe import Probe, ProbeError

Term: TypeAlias = Callable[[Tensor, Tensor], Tensor]
PULLS = (0.0, 0.0, 0.5, 0.9, 0.99)
CONTRASTS = (1.0, 0.4)
EXACT = {torch.float64: 1e-5, torch.float32: 3e-4}
LADDER = (4.0, 8.0, 16.0, 32.0)  # residuals in units of the range, for terms that grow as a logarithm
MORE = 1.6  # squared residuals of every other element, in units of their mean
BY_ELEMENT = 0.5 * math.log(MORE * (2.0 - MORE)) / math.log(4.0)
POOLED = 0.02
FAR = (100.0, 20.0, 4.0, 1.0)
LADDER_INSIDE = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Reconstruction:
    """What was found.

    Attributes:
        kind: `gaussian`, `laplace`, `bernoulli`, `categorical`, `log_cosh`, `log_mse`, `unknown` or `none`.
        weight: coefficient, in the scalar, of each example's sum; of `ln MSE` for `log_mse`.
        term: the sum over the batch of that kind, from `x` and `x_hat`.
        inputs: that the loss accepted.
        spread: largest relative difference of the weight between data of different contrast.
        treats: what `x_hat` was found to be, if not what was said.
        alpha: sharpness of a `log_cosh`.
        scope: of a `log_mse`: `batch` or `example`.
        per_variance: whether the weight is inversely proportional to the variance of the data.
        inside: whether a `log_mse` was seen on outputs inside the range only.
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


def _sse(x: Tensor, v: Tensor) -> Tensor:
    return (x - v).square().sum()


def _sae(x: Tensor, v: Tensor) -> Tensor:
    return (x - v).abs().sum()


def _log_cosh(alpha: float) -> Term:
    def term(x: Tensor, v: Tensor) -> Tensor:
        t = alpha * (x - v).abs()
        return ((t + torch.log1p(torch.exp(-2.0 * t)) - math.log(2.0)) / alpha).sum()

    return term


def _bernoulli(inputs: Inputs, logits: bool, unit: bool) -> Term:
    def term(x: Tensor, v: Tensor) -> Tensor:
        bits = inputs.to_unit(x) if unit else x
        log_odds = v if logits else torch.logit(inputs.to_unit(v) if unit and inputs.space == "data" else v)
        return functional.bernoulli_nll(bits, log_odds).sum()

    return term


def _categorical(dim: int, view: str) -> Term:
    def term(x: Tensor, v: Tensor) -> Tensor:
        log_p = {"logits": lambda: torch.log_softmax(v, dim), "logp": lambda: v, "probs": v.log}[view]()
        return -(x * log_p).sum()

    return term


def candidates(
    inputs: Inputs, alphabets: tuple[int, ...], alpha: float | None
) -> Iterator[tuple[str, Term, str | None]]:
    """Known terms in the order of preference: kind, sum over the batch, and how `x_hat` is read if not as stated."""
    space = inputs.space
    if space in ("data", "probs"):
        yield "gaussian", _sse, None
        yield "laplace", _sae, None
        if alpha:
            yield "log_cosh", _log_cosh(alpha), None
        yield "bernoulli", _bernoulli(inputs, logits=False, unit=True), None if space == "probs" else "probs"
        yield "bernoulli", _bernoulli(inputs, logits=True, unit=True), "logits"
        yield "gaussian", lambda x, v: _sse(x, torch.sigmoid(v)), "logits"
        for dim in alphabets:
            yield "categorical", _categorical(dim, "probs"), None if space == "probs" else "probs"
            yield "categorical", _categorical(dim, "logits"), "logits"
    elif space == "logits":
        yield "bernoulli", _bernoulli(inputs, logits=True, unit=True), None
        yield "gaussian", lambda x, v: _sse(inputs.to_unit(x), torch.sigmoid(v)), None
        yield "laplace", lambda x, v: _sae(inputs.to_unit(x), torch.sigmoid(v)), None
        for dim in alphabets:
            yield "categorical", _categorical(dim, "logits"), None
        yield "gaussian", _sse, "data"
        yield "laplace", _sae, "data"
        yield "gaussian", lambda x, v: _sse(x, torch.tanh(v)), None
    else:
        yield from (("categorical", _categorical(dim, "logp"), None) for dim in alphabets)
        for dim in alphabets:
            yield "categorical", _categorical(dim, "logits"), "logits"
        yield "gaussian", lambda x, v: _sse(x, v.exp()), None
        yield "gaussian", _sse, "data"


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

    Raises:
        ProbeError: if the loss fails on every kind of data.
    """
    failures: list[str] = []
    fallback: Reconstruction | None = None
    for kind in _kinds(space, sizes):
        inputs = Inputs(data_range, space, kind)
        try:
            found = _classify(probe, sizes, inputs)
        except ProbeError as error:
            failures.append(str(error))
            continue
        if found.kind == "categorical" or (found.kind not in ("unknown", "none") and fallback is None):
            return found
        fallback = fallback or found
    if fallback is None:
        raise ProbeError(failures[0])
    return fallback


def _classify(probe: Probe, sizes: Sizes, inputs: Inputs) -> Reconstruction:
    zero = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)
    fits: dict[int, list[tuple[float, float]]] = {}
    alpha = _estimate_alpha(probe, sizes, inputs, zero)
    known = list(candidates(inputs, inputs.alphabets, alpha))
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
    if moved < 1e-12:
        return Reconstruction("none", 0.0, None, inputs)
    exact = EXACT[probe.dtype]
    for index, (kind, term, treats) in enumerate(known):
        residual = max(r for _, r in fits[index])
        if residual < exact:
            return _weighed(kind, term, treats, inputs, sizes, [w for w, _ in fits[index]], alpha)
    return _logarithmic(probe, sizes, inputs, zero) or Reconstruction("unknown", None, None, inputs)


def _fit(losses: Tensor, terms: Tensor) -> tuple[float, float]:
    """Weight of a term in the differences of the loss, and the largest relative misfit."""
    change, steps = losses - losses[0], terms - terms[0]
    if not bool(torch.isfinite(steps).all()) or not bool(steps.abs().max() > 0):
        return math.nan, math.inf
    weight = float((change * steps).sum() / steps.square().sum())
    return weight, float((change - weight * steps).abs().max() / change.abs().max().clamp_min(1e-300))


def _weighed(
    kind: str,
    term: Term,
    treats: str | None,
    inputs: Inputs,
    sizes: Sizes,
    weights: list[float],
    alpha: float | None,
) -> Reconstruction:
    spread = abs(weights[1] / weights[0] - 1.0) if weights[0] else 0.0
    variances = [float(inputs.x(sizes, i, c).var(correction=0)) for i, c in enumerate(CONTRASTS)]
    inverse = weights[0] * variances[0] / (weights[1] * variances[1] or math.nan)
    per_variance = spread > 0.02 and abs(inverse - 1.0) < 0.02
    used = alpha if kind == "log_cosh" else None
    return Reconstruction(kind, weights[0], term, inputs, spread, treats, used, per_variance=per_variance)


def _estimate_alpha(probe: Probe, sizes: Sizes, inputs: Inputs, zero: Tensor) -> float | None:
    """Sharpness of a term that is quadratic near zero and linear far out; `None` if this one is not."""
    if inputs.space != "data" or inputs.kind != "continuous":
        return None
    x = inputs.x(sizes, seed=0)
    width = inputs.data_range[1] - inputs.data_range[0]

    def at(t: float) -> float:
        return probe.value(x, x + t * width, zero, zero)

    def bend_at(t: float) -> float:
        return 2.0 * (at(t) - here) / (t * width) ** 2

    try:
        here = at(0.0)
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
    if not (slope > 0 and bend > 0 and math.isfinite(bend + slope)) or abs((farther - here) / (far - here) - 2.0) > 0.1:
        return None
    return finer / slope


def _ladder(
    probe: Probe, x: Tensor, inputs: Inputs, zero: Tensor, parts: Tensor, steps: tuple[float, ...]
) -> list[float]:
    """The loss at growing residuals: `steps` times the part that each example takes."""
    width = inputs.data_range[1] - inputs.data_range[0]
    scale = parts.reshape(-1, *(1,) * (x.ndim - 1))
    if inputs.space == "data" and steps[-1] > 1.0:
        return [probe.value(x, x + t * width * scale, zero, zero) for t in steps]
    unit = inputs.to_unit(x)
    signs = torch.where(unit > 0.5, -1.0, 1.0)
    return [
        probe.value(x, inputs.from_unit((unit + signs * t * scale).clamp(1e-3, 1 - 1e-3)), zero, zero) for t in steps
    ]


def _logarithmic(probe: Probe, sizes: Sizes, inputs: Inputs, zero: Tensor) -> Reconstruction | None:
    """A term that grows by the same amount whenever all residuals double: `c ln MSE`."""
    if inputs.kind != "continuous":
        return None
    ones = torch.ones(sizes.batch_size, dtype=torch.float64)
    for inside in (False, True) if inputs.space == "data" else (True,):
        x = inputs.x(sizes, seed=0, contrast=0.1 if inside else 1.0)
        steps = LADDER_INSIDE if inside else LADDER
        try:
            values = _ladder(probe, x, inputs, zero, ones, steps)
            pooling = _pooling(probe, x, inputs, zero, steps[2]) if inputs.space == "data" else 0.0
        except ProbeError:
            continue
        gains = [b - a for a, b in itertools.pairwise(values)]
        tolerance = 0.1 if inside else 0.005
        if not all(map(math.isfinite, values)) or min(map(abs, gains)) == 0:
            continue
        if max(abs(g / gains[-1] - 1.0) for g in gains) <= tolerance:
            weight = gains[-1] / (2.0 * math.log(2.0))
            scope = _scope_of_logarithm(probe, x, inputs, zero, weight, steps, values[1])
            by_element = scope == "batch" and abs(pooling - BY_ELEMENT) < POOLED
            if abs(pooling) < POOLED or by_element:  # else each residual has a logarithm of its own, as in a Student t
                return Reconstruction("log_mse", weight, None, inputs, scope=scope, inside=inside)
    return None


def _pooling(probe: Probe, x: Tensor, inputs: Inputs, zero: Tensor, step: float) -> float:
    """How the loss changes when squared residuals are spread unevenly over an example, in units of doubling them all.

    0 where only their mean counts, `BY_ELEMENT` where each element has a logarithm of its own.
    """
    width = inputs.data_range[1] - inputs.data_range[0]
    odd = (torch.arange(x[0].numel()) % 2).reshape(x.shape[1:]).bool()
    if x[0].numel() % 2:
        return 0.0
    spread = torch.where(odd, math.sqrt(MORE), math.sqrt(2.0 - MORE))
    even, uneven, double = (probe.value(x, x + t * step * width, zero, zero) for t in (1.0, spread, 2.0))
    return (uneven - even) / (double - even) if double != even else math.inf


def _scope_of_logarithm(
    probe: Probe, x: Tensor, inputs: Inputs, zero: Tensor, weight: float, steps: tuple[float, ...], value: float
) -> str | None:
    """Of the batch's mean or of each example's: a batch of which half has larger residuals."""
    batch = len(x)
    if batch < 2:
        return None
    half, factor = batch // 2, steps[2] / steps[1]
    parts = torch.cat([torch.full((half,), factor), torch.ones(batch - half)]).double()
    rise = _ladder(probe, x, inputs, zero, parts, steps[1:2])[0] - value
    share = half / batch
    of_batch = weight * math.log(share * factor**2 + 1.0 - share)
    of_example = weight * share * math.log(factor**2)
    return "batch" if abs(rise - of_batch) < abs(rise - of_example) else "example"


def measure_weight(probe: Probe, sizes: Sizes, found: Reconstruction) -> float:
    """The weight at other sizes, for a term that is known."""
    zero = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)
    inputs = found.inputs
    x = inputs.x(sizes, seed=0)
    if found.kind == "log_mse":
        x = inputs.x(sizes, seed=0, contrast=0.1 if found.inside else 1.0)
        steps = (LADDER_INSIDE if found.inside else LADDER)[-2:]
        low, high = _ladder(probe, x, inputs, zero, torch.ones(sizes.batch_size, dtype=torch.float64), steps)
        return (high - low) / (2.0 * math.log(2.0))
    assert found.term is not None
    one, two = inputs.guess(x, 0, 0.0), inputs.guess(x, 1, 0.9)
    change = probe.value(x, two, zero, zero) - probe.value(x, one, zero, zero)
    return change / float(found.term(x, two) - found.term(x, one))

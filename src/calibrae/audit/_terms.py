"""Known reconstruction terms, each summed over the batch, in the order in which they are preferred."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from .. import functional
from ._inputs import Inputs

Term: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Candidate: TypeAlias = tuple[str, Term, str | None]


def _sse(x: Tensor, v: Tensor) -> Tensor:
    return (x - v).square().sum()


def _sae(x: Tensor, v: Tensor) -> Tensor:
    return (x - v).abs().sum()


def _log_cosh(alpha: float) -> Term:
    def term(x: Tensor, v: Tensor) -> Tensor:
        t = alpha * (x - v).abs()
        return ((t + torch.log1p(torch.exp(-2.0 * t)) - math.log(2.0)) / alpha).sum()

    return term


def _bernoulli(inputs: Inputs, *, logits: bool) -> Term:
    def term(x: Tensor, v: Tensor) -> Tensor:
        log_odds = v if logits else torch.logit(inputs.to_unit(v) if inputs.space == "data" else v)
        return functional.bernoulli_nll(inputs.to_unit(x), log_odds).sum()

    return term


def _categorical(dim: int, view: str) -> Term:
    def term(x: Tensor, v: Tensor) -> Tensor:
        log_p = {"logits": lambda: torch.log_softmax(v, dim), "logp": lambda: v, "probs": v.log}[view]()
        return -(x * log_p).sum()

    return term


def candidates(inputs: Inputs, alpha: float | None) -> Iterator[Candidate]:
    """Known terms: kind, sum over the batch, and how `x_hat` is read if not as stated."""
    if inputs.space in ("data", "probs"):
        yield from _of_means(inputs, alpha)
    elif inputs.space == "logits":
        yield from _of_logits(inputs)
    else:
        yield from (("categorical", _categorical(dim, "logp"), None) for dim in inputs.alphabets)
        yield from (("categorical", _categorical(dim, "logits"), "logits") for dim in inputs.alphabets)
        yield "gaussian", lambda x, v: _sse(x, v.exp()), None
        yield "gaussian", _sse, "data"


def _of_means(inputs: Inputs, alpha: float | None) -> Iterator[Candidate]:
    probs = None if inputs.space == "probs" else "probs"
    yield "gaussian", _sse, None
    yield "laplace", _sae, None
    if alpha:
        yield "log_cosh", _log_cosh(alpha), None
    yield "bernoulli", _bernoulli(inputs, logits=False), probs
    yield "bernoulli", _bernoulli(inputs, logits=True), "logits"
    yield "gaussian", lambda x, v: _sse(x, torch.sigmoid(v)), "logits"
    for dim in inputs.alphabets:
        yield "categorical", _categorical(dim, "probs"), probs
        yield "categorical", _categorical(dim, "logits"), "logits"
    if inputs.kind == "binary" and inputs.data_range != (0.0, 1.0):
        yield "gaussian", lambda x, v: _sse(inputs.to_unit(x), v), None
        yield "laplace", lambda x, v: _sae(inputs.to_unit(x), v), None


def _of_logits(inputs: Inputs) -> Iterator[Candidate]:
    yield "bernoulli", _bernoulli(inputs, logits=True), None
    yield "gaussian", lambda x, v: _sse(inputs.to_unit(x), torch.sigmoid(v)), None
    yield "laplace", lambda x, v: _sae(inputs.to_unit(x), torch.sigmoid(v)), None
    yield from (("categorical", _categorical(dim, "logits"), None) for dim in inputs.alphabets)
    yield "gaussian", _sse, "data"
    yield "laplace", _sae, "data"
    yield "gaussian", lambda x, v: _sse(x, torch.tanh(v)), None

"""Importance weights of many samples of a few examples, compiled where that pays."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from threading import Lock
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

from ..latents import AbstractPosterior
from ..models import VAE, compile_alone

CompileChoice: TypeAlias = Literal["auto", "on", "off"]
HOPED = 0.3  # share of the time that a compiler saves where it does well
COST = 20.0  # seconds that it takes
WORTH = 0.03
TIMED = 3

Weigh = Callable[[AbstractPosterior, Tensor, Tensor], Tensor]


def log_weights(model: VAE, posterior: AbstractPosterior, x: Tensor, noise: Tensor) -> Tensor:
    """`log p(x|z) + log p(z) - log q(z|x)`, `[K, B]`, of the samples that noise `[K, B, d]` gives."""
    z = posterior.sample(noise)
    repeated = x.expand(len(noise), *x.shape).flatten(0, 1)
    nll = model.likelihood(model.decoder(z.flatten(0, 1))).nll(repeated).reshape(noise.shape[:2])
    weights: Tensor = model.prior.log_prob(z).sum(-1) - posterior.log_prob_of(noise).sum(-1) - nll
    return weights


@final
class Weigher:
    """Computes log weights; the first full-sized call decides, by a timed trial, whether they are compiled from then on.

    Args:
        model: in eval mode.
        shape: `(K, B)` of the calls that may be compiled; others, at the edges, run as they are.
        calls: how many of those are to come, all threads together.
        choice: `on`, `off`, or `auto`: compile if the calls repay it.
    """

    def __init__(self, model: VAE, shape: tuple[int, int], calls: float, choice: CompileChoice) -> None:
        self.model = model
        self.shape = shape
        self.calls = calls
        self.says = f"not compiled ({'as asked' if choice == 'off' else 'too short to repay it'})"
        self._choice = choice
        self._lock = Lock()
        self._compiled: Weigh | None = None
        self._is_decided = choice == "off" or calls < 1

    @property
    def rows(self) -> int:
        """Samples at once."""
        return self.shape[0]

    def __call__(self, posterior: AbstractPosterior, x: Tensor, noise: Tensor) -> Tensor:
        """`[K, B]` for a posterior of `B` examples, the examples, and noise `[K, B, d]`."""
        if tuple(noise.shape[:2]) != self.shape:
            return log_weights(self.model, posterior, x, noise)
        if not self._is_decided:
            with self._lock:
                if not self._is_decided:
                    self._decide(posterior, x, noise)
                    self._is_decided = True
        if self._compiled is None:
            return log_weights(self.model, posterior, x, noise)
        return self._compiled(posterior, x, noise)

    def _decide(self, posterior: AbstractPosterior, x: Tensor, noise: Tensor) -> None:
        def eager() -> Tensor:
            return log_weights(self.model, posterior, x, noise)

        before = _seconds(eager)
        if self._choice == "auto" and HOPED * before * self.calls < COST:
            self.says = "not compiled (too short to repay it)"
            return
        compiled = _compiled(self.model)
        try:
            compiled(posterior, x, noise)
        except Exception as error:  # whatever a compiler, or the lack of one, may raise; a fault of the model is raised again, uncompiled
            why = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
            self.says = f"not compiled (the compiler failed: {why})"
            warnings.warn(f"importance weights are {self.says}; the numbers are the same.", stacklevel=2)
            return
        after = _seconds(lambda: compiled(posterior, x, noise))
        if self._choice == "auto" and after > (1.0 - WORTH) * before:
            self.says = f"not compiled (measured: {1e3 * after:.3g} ms instead of {1e3 * before:.3g})"
            return
        self.says = f"compiled (measured: {1e3 * after:.3g} ms instead of {1e3 * before:.3g})"
        self._compiled = compiled


def _compiled(model: VAE) -> Weigh:
    """The same function for this model, compiled; a posterior goes in and out as its parameters."""

    def weigh(features: tuple[Tensor, ...], x: Tensor, noise: Tensor) -> Tensor:
        return log_weights(model, model.posterior.from_features(features), x, noise)

    fused = compile_alone(weigh, model.device)

    def call(posterior: AbstractPosterior, x: Tensor, noise: Tensor) -> Tensor:
        found: Tensor = fused(posterior.features(), x, noise)
        return found

    return call


def _seconds(function: Callable[[], Tensor]) -> float:
    """The quickest of a few calls."""
    found = []
    for _ in range(TIMED):
        started = time.perf_counter()
        value = function()
        if value.is_cuda:
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found)

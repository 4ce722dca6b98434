"""Means over a data set: what training selects by and evaluation reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import torch
from torch import Tensor

from .._types import Batch, World
from ..acceleration import AutoCompiled, CompileChoice
from ..objectives import Objective
from ._modes import evaluating
from ._vae import VAE

Batches: TypeAlias = Iterable[Batch]
NoiseRows: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ELBOSummary:
    """Terms of a data set, averaged over examples in float64.

    Attributes:
        n: number of examples.
        nll: mean of `-log p(x|z)`, nats.
        kl: mean KL, summed over the latents, nats; `None` for a plain autoencoder.
        kl_per_dim: mean KL of each latent, `[d]`, nats; `None` unless posterior and prior factorise.
        elbos: ELBO of each example at beta = 1, `[N]`, nats, float64: two models differ by the mean of the differences. For a plain
            autoencoder `-nll`.
        mse: mean squared error of the reconstruction at the sampled `z`, per element; `None` where there are categories.
        posterior_mean_var: variance over examples of each posterior mean, `[d]`; `None` if the posterior cannot tell its mean.
        is_bound: whether `elbo` is one (a plain autoencoder has none).
        standard_errors: standard errors of the means by name, from their spread over examples; empty for one example.
        loss: mean of the objective at its final weights, if one was given.
        parts: mean of each part of the objective.
    """

    n: int
    nll: float
    kl: float | None
    kl_per_dim: Tensor | None
    elbos: Tensor
    mse: float | None
    posterior_mean_var: Tensor | None
    is_bound: bool
    standard_errors: dict[str, Any]
    loss: float | None = None
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def elbo(self) -> float:
        """Mean ELBO at beta = 1, nats; for a plain autoencoder `-nll`."""
        return -(self.nll + (self.kl or 0.0))

    @property
    def standard_error(self) -> float:
        """Standard error of `elbo`, from its spread over examples; NaN for one."""
        return float(self.standard_errors.get("elbo", math.nan))


@final
class Tally:
    """Numbers per example by name, whose means and errors are over all processes.

    Args:
        world: processes that share the examples.

    Examples:
        >>> from calibrae.models import Tally
        >>> tally = Tally()
        >>> tally.add({"a": torch.tensor([1.0, 3.0])})
        >>> tally.mean("a"), tally.error("a")
        (2.0, 1.0)
    """

    def __init__(self, world: World | None = None) -> None:
        self._world = world or World()
        self._values: dict[str, list[Tensor]] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Add a batch: `[B]` or `[B, d]` by name."""
        for name, value in values.items():
            self._values.setdefault(name, []).append(value.detach().cpu().double())

    def __contains__(self, name: str) -> bool:
        return name in self._values

    @property
    def names(self) -> list[str]:
        """Names so far."""
        return list(self._values)

    def values(self, name: str) -> Tensor:
        """This process's numbers, `[N]` or `[N, d]`, float64."""
        return torch.cat(self._values[name])

    def everywhere(self, name: str) -> Tensor:
        """Numbers of all processes, the first one's first."""
        return self._world.rows(self.values(name))

    def count(self) -> int:
        """Number of examples, over all processes."""
        first = next(iter(self._values.values()), [])
        return round(float(self._world.sum(torch.tensor(float(sum(map(len, first))), dtype=torch.float64))))

    def means(self, name: str) -> Tensor:
        """Mean over examples, `[]` or `[d]`, float64."""
        return self._world.sum(self.values(name).sum(0)) / self.count()

    def mean(self, name: str) -> float:
        """Mean over examples of numbers `[N]`."""
        return float(self.means(name))

    def variances(self, name: str) -> Tensor:
        """Variance over examples (divided by `N`), `[]` or `[d]`, float64."""
        deviations = self.values(name) - self.means(name)
        return self._world.sum(deviations.square().sum(0)) / self.count()

    def errors(self, name: str) -> Tensor:
        """Standard errors of the means; NaN for one example."""
        count = self.count()
        return (self.variances(name) / (count - 1)).sqrt() if count > 1 else torch.full_like(self.means(name), math.nan)

    def error(self, name: str) -> float:
        """Standard error of the mean of numbers `[N]`."""
        return float(self.errors(name))


@final
class Scorer:
    """Terms of batches by name, each `[B]` or `[B, d]`, compiled if enough of them are to come.

    `nll` and `sse`; with a prior `kl`, `elbo` and, if it splits, `kl_per_dim`; `posterior_mean` if the posterior can tell it; with an
    objective `loss` at its final weights and its parts as `part_NAME`.

    Args:
        model: with a fixed scale.
        examples: number of examples to be scored, if it is known.
        batch_size: examples at once.
        objective: evaluated on the same samples, if given.
        compile: whether to compile: `auto`, `on` or `off`.
    """

    def __init__(
        self,
        model: VAE,
        examples: int | None = None,
        batch_size: int = 1,
        objective: Objective | None = None,
        compile: CompileChoice = "auto",  # noqa: A002 (torch's name for it)
    ) -> None:
        samples = 1 if objective is None else objective.samples
        weights = {} if objective is None else objective.final_weights()

        def score(x: Tensor, eps: Tensor, context: Tensor | None) -> dict[str, Tensor]:
            draw = model.draw(Batch(x, context), samples, eps)
            found = {"nll": draw.nll.mean(0)}
            if model.likelihood.has_mean:
                found["sse"] = draw.sse.mean(0)
            if draw.is_bound:
                found |= {"kl": draw.kl, "elbo": -(found["nll"] + draw.kl)}
                by_latent = draw.kl_per_dim
                if by_latent is not None:
                    found["kl_per_dim"] = by_latent
            with suppress(NotImplementedError):
                found["posterior_mean"] = draw.q.mean
            if objective is not None:
                terms = objective(draw, weights)
                found |= {"loss": terms.loss} | {f"part_{name}": part for name, part in terms.parts.items()}
            return found

        self.model = model
        self.samples = samples
        self._score = AutoCompiled(score, model.device, (examples or 0) // batch_size, compile)

    @property
    def is_compiled(self) -> bool | None:
        """Tell whether scoring is compiled; `None` before the first batch has decided."""
        return self._score.is_compiled

    def __call__(self, batch: Batch, eps: Tensor) -> dict[str, Tensor]:
        """Terms of a batch at the samples that noise `[B, K, d]` gives."""
        batch = batch.to(self.model.device)
        eps = eps.transpose(0, 1).to(batch.x)
        found: dict[str, Tensor] = self._score(batch.x, eps, batch.context)
        return found


def summarise(
    model: VAE,
    batches: Batches,
    noise: NoiseRows,
    step: Callable[[int], None] | None = None,
    scorer: Scorer | None = None,
    world: World | None = None,
) -> ELBOSummary:
    """ELBO of a data set and its terms, each a mean over examples (not over batches).

    Args:
        model: put into eval mode for the while.
        batches: examples with their positions.
        noise: from positions `[B]` to standard normal noise `[B, K, d]` (or `[B, d]` for one sample).
        step: called with the size of each batch, for a progress bar.
        scorer: scorer of this model, which may be compiled; one can serve several data sets.
        world: processes that share the examples.

    Raises:
        ScaleNotFixedError: if an optimal scale was not fixed.
    """
    tally, scorer, data_dim = Tally(world), scorer or Scorer(model), 1
    with evaluating(model):
        for batch in batches:
            assert batch.index is not None
            eps = noise(batch.index)
            tally.add(scorer(batch, eps if eps.ndim == 3 else eps[:, None]))
            data_dim = batch.x[0].numel()
            if step is not None:
                step(len(batch))
    return _summary(tally, data_dim)


def _summary(tally: Tally, data_dim: int) -> ELBOSummary:
    is_bound = "kl" in tally
    by_latent = tally.means("kl_per_dim") if "kl_per_dim" in tally else None  # its sum in float64 is the KL
    errors: dict[str, Any] = {}
    if tally.count() > 1:
        named = {"reconstruction_nats": "nll", "elbo": "elbo", "kl_nats": "kl", "loss": "loss"}
        errors = {key: tally.error(name) for key, name in named.items() if name in tally}
        if "sse" in tally:
            errors["mse"] = tally.error("sse") / data_dim
        if "kl_per_dim" in tally:
            errors["kl_per_dim"] = tally.errors("kl_per_dim").tolist()
        if not is_bound:
            errors["elbo"] = errors["reconstruction_nats"]
    return ELBOSummary(
        n=tally.count(),
        nll=tally.mean("nll"),
        kl=(tally.mean("kl") if by_latent is None else float(by_latent.sum())) if is_bound else None,
        kl_per_dim=by_latent,
        elbos=tally.everywhere("elbo") if is_bound else -tally.everywhere("nll"),
        mse=tally.mean("sse") / data_dim if "sse" in tally else None,
        posterior_mean_var=tally.variances("posterior_mean") if "posterior_mean" in tally else None,
        is_bound=is_bound,
        standard_errors=errors,
        loss=tally.mean("loss") if "loss" in tally else None,
        parts={name[5:]: tally.mean(name) for name in tally.names if name.startswith("part_")},
    )

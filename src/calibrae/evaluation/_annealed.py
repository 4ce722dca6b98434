"""Annealed importance sampling with Hamiltonian transitions, and bidirectional Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution

from .. import functional
from .._noise import mixed_seed
from .._types import Batch
from ..acceleration import in_double
from ..errors import ArgumentError, NoDensityError
from ..functional import error_of_mean
from ..latents import reparameterise
from ..models import VAE, evaluating, mean_of, sample_data, sample_latents, seeded
from ..objectives import NO_PRIOR
from ._blocks import reblocked

BLOCK_EXAMPLES = 16  # a constant, so that the result does not depend on the caller's batches
ANNEALED_STREAM = 7
PILOT_CHAINS = 4
TARGET_ACCEPTANCE = 0.7
ADAPTATION = 0.25  # of log step size, per transition and unit of acceptance
FIRST_STEP = 0.3
JITTER = 0.2
STEEPNESS = 4.0


@dataclass(frozen=True, slots=True)
class AnnealedSettings:
    """Settings of an annealed chain.

    Attributes:
        chains: independent chains per example.
        temperatures: distributions between `q(z|x)` and `p(z|x)`, the latter included.
        leapfrog: gradient steps of each Hamiltonian transition.
    """

    chains: int = 16
    temperatures: int = 200
    leapfrog: int = 8

    def __post_init__(self) -> None:
        for name in ("chains", "temperatures", "leapfrog"):
            if getattr(self, name) < 1:
                raise ArgumentError(
                    f"`{name}` of annealed importance sampling must be at least 1; got {getattr(self, name)}."
                )


@dataclass(frozen=True)
class AnnealedSummary:
    """Annealed estimates of `log p(x)`, in expectation bounds from below.

    Attributes:
        log_likelihood: log likelihood of each example, `[N]`, nats, float64.
        chain_error: its Monte Carlo standard error, from the spread of the chains' weights, `[N]`.
        acceptance: mean acceptance of the Hamiltonian transitions of each example, `[N]`.
        settings: how the chains went.
    """

    log_likelihood: Tensor
    chain_error: Tensor
    acceptance: Tensor
    settings: AnnealedSettings

    @property
    def mean(self) -> float:
        """Mean over examples, nats."""
        return float(self.log_likelihood.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, from the spread over examples."""
        return error_of_mean(self.log_likelihood)


@dataclass(frozen=True)
class BidirectionalSummary:
    """Bounds on `log p(x)` of simulated examples, from both sides.

    Attributes:
        lower: from annealing forwards from `q(z|x)`, `[N]`, nats, float64.
        upper: from annealing backwards from the `z` that each example was made of, `[N]`.
        lower_error: Monte Carlo standard error of each lower bound, from the spread of its chains' weights, `[N]`; true once the
            temperatures are many.
        upper_error: standard error of each upper bound, likewise. Its chains begin at one `z`, so with few temperatures it is too small.
        settings: how the chains went.
    """

    lower: Tensor
    upper: Tensor
    lower_error: Tensor
    upper_error: Tensor
    settings: AnnealedSettings

    @property
    def gap(self) -> float:
        """Mean distance of the bounds, nats: the estimates of `settings` are, on such data, no further off than this."""
        return float((self.upper - self.lower).mean())

    @property
    def gap_standard_error(self) -> float:
        """Standard error of the gap, from its spread over examples."""
        return error_of_mean(self.upper - self.lower)


def annealed_importance(
    model: VAE,
    batches: Iterable[Batch],
    settings: AnnealedSettings | None = None,
    seed: int = 0,
    step: Callable[[int], None] | None = None,
) -> AnnealedSummary:
    r"""Estimates $\log p(x)$ by annealed importance sampling from `q(z|x)` to `p(z|x)`.

    $$f_t(z) = q(z|x)^{1-\beta_t}\, p(x, z)^{\beta_t}, \qquad
      \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1})\, [\log p(x, z_{t-1}) - \log q(z_{t-1}|x)]$$

    where $z_0 \sim q(z|x)$ and $z_t$ follows from $z_{t-1}$ by a Hamiltonian transition that leaves $f_t$ invariant; the
    estimate is $\log \frac1C \sum_c w_c$. Positions are measured in posterior standard deviations. The step size of every
    temperature and example is found by a pilot run of four chains and then held, so the weights are unbiased.

    Args:
        model: with a fixed scale.
        batches: examples.
        settings: how many chains, temperatures and leapfrog steps.
        seed: seed of all noise.
        step: called with the number of examples done, for a progress bar.

    Raises:
        NoDensityError: for a plain autoencoder.
        ScaleNotFixedError: if an optimal scale was not fixed.

    References:
        Neal 2001, https://arxiv.org/abs/physics/9803008; Wu et al. 2017, https://arxiv.org/abs/1611.04273
    """
    settings = settings or AnnealedSettings()
    bounds, errors, accepted = [], [], []
    with evaluating(model):
        for block, batch in enumerate(reblocked(batches, BLOCK_EXAMPLES)):
            path = _Path.of(model, batch.to(model.device))
            chains = _Chains(path, settings, torch.Generator().manual_seed(mixed_seed(seed, ANNEALED_STREAM, block)))
            sizes = chains.pilot()
            log_weights = chains.forward(sizes)
            bounds.append(functional.importance_bound(log_weights).cpu())
            errors.append(_relative_error(log_weights).cpu())
            accepted.append(chains.acceptance.cpu())
            if step is not None:
                step(len(batch))
    return AnnealedSummary(torch.cat(bounds), torch.cat(errors), torch.cat(accepted), settings)


def bidirectional(
    model: VAE,
    examples: int,
    settings: AnnealedSettings | None = None,
    seed: int = 0,
    step: Callable[[int], None] | None = None,
    contexts: Tensor | None = None,
) -> BidirectionalSummary:
    r"""Bounds $\log p(x)$ of examples drawn from the model itself from both sides, to see how far annealing is off.

    For simulated data the `z` that made an `x` is an exact sample of `p(z|x)`. Annealing backwards from it to `q(z|x)`
    gives weights with mean $1/p(x)$, whose logarithm is in expectation an upper bound; forwards as `annealed_importance`.

    Args:
        model: with a fixed scale.
        examples: how many to simulate.
        settings: how many chains, temperatures and leapfrog steps.
        seed: seed of all noise.
        step: called with the number of examples done, for a progress bar.
        contexts: contexts of the simulated examples, `[examples, context_dim]`, for a conditional model.

    References:
        Grosse, Ghahramani & Adams 2015, https://arxiv.org/abs/1511.02543
    """
    settings = settings or AnnealedSettings()
    forwards, backwards = [], []
    with evaluating(model):
        for block, start in enumerate(range(0, examples, BLOCK_EXAMPLES)):
            generator = torch.Generator().manual_seed(mixed_seed(seed, ANNEALED_STREAM, block, 1))
            context = None if contexts is None else contexts[start : start + BLOCK_EXAMPLES].to(model.device)
            z, x = _simulated(model, min(BLOCK_EXAMPLES, examples - start), context, generator)
            path = _Path.of(model, Batch(x, context))
            chains = _Chains(path, settings, generator)
            sizes = chains.pilot()
            forwards.append(chains.forward(sizes).cpu())
            backwards.append(chains.backward(path.to_standard(z), sizes).cpu())
            if step is not None:
                step(len(x))
    weights, inverse = torch.cat(forwards, 1), torch.cat(backwards, 1)
    return BidirectionalSummary(
        lower=functional.importance_bound(weights),
        upper=-functional.importance_bound(inverse),
        lower_error=_relative_error(weights),
        upper_error=_relative_error(inverse),
        settings=settings,
    )


def annealing_schedule(temperatures: int) -> Tensor:
    """`[T + 1]` inverse temperatures from 0 to 1, closest together at both ends.

    Examples:
        >>> annealing_schedule(2)
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    ends = torch.sigmoid(STEEPNESS * torch.linspace(-1.0, 1.0, temperatures + 1, dtype=torch.float64))
    return (ends - ends[0]) / (ends[-1] - ends[0])


def _simulated(model: VAE, count: int, context: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Latents `[B, d]` from the prior, and examples made of them."""
    p = model.prior_for(context, count)
    if p is None:
        raise NoDensityError(NO_PRIOR)
    drawn = sample_latents(p, 1 if p.batch_shape else count, model.device, generator)
    z = drawn[0] if p.batch_shape else drawn
    return z, sample_data(model.decode(z, context), model.device, generator)


@dataclass(frozen=True)
class _Path:
    """The densities between `q(z|x)` and `p(x, z)` of some examples; positions `u` are in posterior standard deviations."""

    model: VAE
    batch: Batch
    q: Distribution
    p: Distribution
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, model: VAE, batch: Batch) -> _Path:
        p = model.prior_for(batch.context, len(batch))
        if p is None:
            raise NoDensityError(NO_PRIOR)
        q = model.encode(batch.x, batch.context)
        try:
            std = q.stddev
        except NotImplementedError:
            raise ArgumentError(
                f"annealing measures positions in posterior standard deviations, which a {type(q).__name__} cannot tell. Take an "
                "importance-weighted bound."
            ) from None
        return cls(model, batch, q, p, mean_of(q), std)

    def start(self, eps: Tensor, generator: torch.Generator) -> Tensor:
        """Samples of `q`, `[C, B, d]`, as positions."""
        z = reparameterise(self.q, eps)
        if z is None:
            with seeded(generator, self.mean.device):
                z = self.q.sample((len(eps),))
        return self.to_standard(z)

    def to_standard(self, z: Tensor) -> Tensor:
        return (z - self.mean) / self.std

    def log_ratio(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """`log q(u)` and `log p(x, u) - log q(u)`, each `[C, B]`, for `u` `[C, B, d]`."""
        z = self.mean + self.std * u
        jacobian = self.std.log().sum(-1)
        log_q = self.q.log_prob(z) + jacobian
        log_likelihood = self.model.decode(z, self.batch.context).log_prob(self.batch.x)
        return log_q, self.p.log_prob(z) + log_likelihood + jacobian - log_q

    def tempered(self, u: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        """`log f`, its gradient in `u`, and the log ratio of the ends."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            log_q, ratio = self.log_ratio(u)
            value = log_q + beta * ratio
            (gradient,) = torch.autograd.grad(value.sum(), u)
        return value.detach(), gradient, ratio.detach()


@dataclass
class _Chains:
    """Chains of some examples, `[C, B, d]`, along a path."""

    path: _Path
    settings: AnnealedSettings
    generator: torch.Generator
    betas: list[float] = field(init=False)
    _accepted: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.betas = annealing_schedule(self.settings.temperatures).tolist()

    @property
    def acceptance(self) -> Tensor:
        """Mean acceptance of each example over the last run, `[B]`."""
        rates = self._accepted or [torch.ones(len(self.path.batch))]
        return torch.stack([rate.cpu() for rate in rates]).mean(0)

    def _noise(self, chains: int) -> Tensor:
        return torch.randn(chains, *self.path.mean.shape, generator=self.generator).to(self.path.mean)

    def pilot(self) -> Tensor:
        """A step size of each temperature and example, `[T, B]`, adapted along one run of a few chains."""
        size = torch.full_like(self.path.mean[:, 0], math.log(FIRST_STEP * self.path.mean.shape[1] ** -0.25))
        sizes, u = [], self.path.start(self._noise(PILOT_CHAINS), self.generator)
        for beta in self.betas[1:]:
            sizes.append(size.exp())
            u, _, acceptance = self._transition(u, beta, size.exp())
            size = size + ADAPTATION * (acceptance - TARGET_ACCEPTANCE)
        return torch.stack(sizes)

    def forward(self, sizes: Tensor) -> Tensor:
        """Log weights from `q(z|x)` to the posterior, `[C, B]`, float64."""
        u = self.path.start(self._noise(self.settings.chains), self.generator)
        return self._anneal(u, sizes, list(range(len(self.betas))))

    def backward(self, exact: Tensor, sizes: Tensor) -> Tensor:
        """Log weights from exact posterior samples `[B, d]` to `q(z|x)`, `[C, B]`, float64."""
        u = exact.expand(self.settings.chains, *exact.shape)
        return self._anneal(u, sizes, list(range(len(self.betas)))[::-1])

    def _anneal(self, u: Tensor, sizes: Tensor, order: list[int]) -> Tensor:
        """Log weights of a run through the temperatures of these numbers, from end to end."""
        self._accepted = []
        total: Tensor = in_double(torch.zeros(u.shape[:2], device=u.device))
        before = self.betas[order[0]]
        for number in order[1:-1]:
            beta = self.betas[number]
            moved, ratio, acceptance = self._transition(u, beta, sizes[number - 1])
            total += (beta - before) * in_double(ratio)
            self._accepted.append(acceptance)
            u, before = moved, beta
        ratio = self.path.log_ratio(u)[1]
        return total + (self.betas[order[-1]] - before) * in_double(ratio)

    def _transition(self, u: Tensor, beta: float, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One Hamiltonian transition: where it ends, the log ratio where it began, and the acceptance of each example."""
        momentum = self._noise(len(u))
        jitter = 1.0 + JITTER * (2.0 * torch.rand((), generator=self.generator).item() - 1.0)
        size = (jitter * size)[:, None]
        value, gradient, ratio = self.path.tempered(u, beta)
        kinetic = 0.5 * momentum.square().sum(-1)
        moved, momentum = u, momentum + 0.5 * size * gradient
        for i in range(self.settings.leapfrog):
            moved = moved + size * momentum
            new_value, gradient, _ = self.path.tempered(moved, beta)
            momentum = momentum + (0.5 if i + 1 == self.settings.leapfrog else 1.0) * size * gradient
        log_accept = (new_value - 0.5 * momentum.square().sum(-1)) - (value - kinetic)
        probability = torch.nan_to_num(log_accept, nan=-math.inf).clamp_max(0.0).exp()
        accepted = torch.rand(probability.shape, generator=self.generator).to(probability) < probability
        return torch.where(accepted[..., None], moved, u), ratio, probability.mean(0)


def _relative_error(log_weights: Tensor) -> Tensor:
    """Standard error of `log mean w` over chains, to first order, `[B]`."""
    chains = len(log_weights)
    if chains == 1:
        return torch.full_like(log_weights[0], math.nan)
    weights = (log_weights - log_weights.logsumexp(0)).exp() * chains
    return weights.std(0) / math.sqrt(chains)

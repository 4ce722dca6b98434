"""Checks of likelihoods, posteriors, priors and objectives, by their definitions."""

from __future__ import annotations

import copy
import math
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from .._types import Batch, Shape, Support
from ..errors import ArgumentError
from ..latents import Posterior, Prior, reparameterise, require_event
from ..likelihoods import Likelihood, elements_of
from ..models import VAE
from ..objectives import Objective, require_terms

EXAMPLES = 6
SAMPLES = 20_000
SURE = 5.0  # standard errors
GRID = 4001
BLOCK = 128  # points at once
SHARES = (0.8, 0.4, 0.2, 0.1, 0.05)  # of the samples that a reference density is laid through
HEAVY = 0.005


def check_likelihood(likelihood: Likelihood, data_shape: Shape, *, x: Tensor | None = None) -> None:
    """Assert that a likelihood keeps its contract.

    It must read `[*S, *output_shape]` as a distribution with the batch `[*S]` and the event `data_shape`; treat examples apart; have
    finite log densities and gradients; and, where the elements of a density of real data are independent, integrate to 1.

    Args:
        likelihood: in any mode; a copy in eval mode is checked. An optimal scale must have been fixed.
        data_shape: shape of one example.
        x: examples that it can explain, `[6, *data]`; by default standard normal, uniform, bits or small integers by its support.

    Raises:
        AssertionError: if something does not hold, saying what.

    Examples:
        >>> cb.testing.check_likelihood(cb.LaplaceLikelihood(0.5), (3, 4))
    """
    head = copy.deepcopy(likelihood).eval()
    if not head.knows_data_shape:
        head.set_data_shape(tuple(data_shape))
    shape = tuple(head.output_shape(tuple(data_shape)))
    generator = torch.Generator().manual_seed(0)
    output = 0.1 * torch.randn(2, EXAMPLES, *shape, generator=generator)
    x = _examples(head, tuple(data_shape), generator) if x is None else x
    px = head(output)
    _require_shapes(px, (2, EXAMPLES), tuple(data_shape), "the likelihood")
    log_prob = px.log_prob(x)
    assert tuple(log_prob.shape) == (2, EXAMPLES), f"log_prob of [B, *data] must be [K, B]; got {list(log_prob.shape)}"
    assert bool(torch.isfinite(log_prob).all()), "log_prob must be finite on data of the likelihood's support"
    alone = head(output[0, :1]).log_prob(x[:1])
    assert torch.allclose(alone, log_prob[0, :1], rtol=1e-4, atol=1e-4), "an example's log_prob depends on the others"
    _require_gradient(lambda y: head(y).log_prob(x).sum(), output, "the decoder's output")
    _require_parameter_gradients(head, lambda: head(output).log_prob(x).sum())
    if head.is_density and head.support in ("real", "unit"):
        _require_integral(head(output[0, :1]), head.support)


def _examples(head: Likelihood, shape: Shape, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(EXAMPLES, *shape, generator=generator)
    if head.support == "real":
        return torch.randn(EXAMPLES, *shape, generator=generator)
    return {"unit": uniform.clamp(0.01, 0.99), "binary": uniform.round()}.get(head.support, (4 * uniform).floor())


def _require_integral(px: Distribution, support: Support) -> None:
    """The density of one element must integrate to 1."""
    elements = elements_of(px)
    if elements is None:
        return
    unit = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
    points, slope = unit, torch.ones_like(unit)
    if support == "real":  # the quantiles of a Cauchy density: tails of any weight are reached
        torch.manual_seed(0)
        drawn = px.sample((GRID,)).double().reshape(GRID, -1)[:, 0]
        low, middle, high = drawn.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
        angle = torch.pi * (unit - 0.5)
        points, slope = middle + (high - low) * angle.tan(), (high - low) * torch.pi / angle.cos().square()
    with torch.no_grad():
        blocks = (
            points.float().reshape(-1, *(1,) * len(elements.batch_shape)).expand(-1, *elements.batch_shape).split(BLOCK)
        )
        values = torch.cat([_density(elements, block, px.sample()) for block in blocks])
    integral = float((values * slope).mean())
    assert abs(integral - 1.0) < 1e-2, f"the density of an element integrates to {integral:.4f}, not to 1"


def _density(elements: Distribution, points: Tensor, elsewhere: Tensor) -> Tensor:
    """Density of the first element at points `[n, *batch]`: zero outside its support, where it need not be computable."""
    inside = torch.ones_like(points, dtype=torch.bool)
    with suppress(NotImplementedError):
        inside = inside if elements.support is None else elements.support.check(points)
    log_prob: Tensor = elements.log_prob(torch.where(inside, points, elsewhere.to(points)))
    return (log_prob.double().exp() * inside).reshape(len(points), -1)[:, 0]


def check_prior(prior: Prior, context: Tensor | None = None) -> None:
    r"""Assert that a prior keeps its contract: its distribution has the right shape, its samples follow its density, it can be trained.

    Samples and density are compared by $E_{z \sim p}[r(z) / p(z)] = 1$ for a Gaussian $r$ inside the samples (or $r$'s share of their range, where that ends).

    Args:
        prior: any prior.
        context: `[B, context_dim]`, for a conditional one.

    Raises:
        AssertionError: if something does not hold, saying what.

    Examples:
        >>> cb.testing.check_prior(cb.MixturePrior(2, components=3))
    """
    p = prior(context)
    count = None if context is None else len(context)
    _require_latent(p, prior.latent_dim, count or 1, "the prior")
    torch.manual_seed(0)
    _require_samples_follow(p, p.sample((SAMPLES,)))
    z = p.sample((3,)).detach()
    _require_parameter_gradients(prior, lambda: prior(context).log_prob(z).sum())


def check_posterior(posterior: Posterior, latent_dim: int) -> None:
    r"""Assert that a posterior keeps its contract: shapes, samples that follow its density, gradients to the encoder's features.

    Args:
        posterior: any posterior that is a density.
        latent_dim: `d`.

    Raises:
        AssertionError: if something does not hold, saying what.

    Examples:
        >>> cb.testing.check_posterior(cb.GaussianPosterior("log_var"), latent_dim=3)
    """
    generator = torch.Generator().manual_seed(0)
    features = 0.3 * torch.randn(EXAMPLES, *posterior.features_shape(latent_dim), generator=generator)
    q = posterior(features)
    _require_latent(q, latent_dim, EXAMPLES, "the posterior", shared=False)
    torch.manual_seed(0)
    eps = torch.randn(SAMPLES, EXAMPLES, latent_dim)
    z = reparameterise(q, eps)
    assert z is not None or q.has_rsample, (
        f"samples must have a gradient; {type(q).__name__} has no rsample, and no map from noise is registered for it"
    )
    z = (q.rsample((SAMPLES,)) if z is None else z).detach()
    _require_samples_follow(q, z)

    def sampled(given: Tensor) -> Tensor:
        of_given = posterior(given)
        drawn = reparameterise(of_given, eps[:2])
        return (of_given.rsample((2,)) if drawn is None else drawn).sum()

    _require_gradient(sampled, features, "the features, through a sample")
    some, every = posterior(features[:2]).log_prob(z[0, :2]), q.log_prob(z[0])
    assert torch.allclose(some, every[:2], rtol=1e-4, atol=1e-4), "an example's posterior depends on the others"


def check_objective(objective: Objective, model: VAE, x: Tensor, context: Tensor | None = None) -> None:
    """Assert that an objective keeps its contract.

    It must give one finite number per example, which does not depend on the other examples, and gradients that are finite; its
    schedule must always name the same weights.

    Args:
        objective: any objective.
        model: model to try it with; a copy in eval mode is used.
        x: examples on the model's scale, `[B, *data]`, at least two.
        context: `[B, context_dim]`, for a conditional model.

    Raises:
        AssertionError: if something does not hold, saying what.

    Examples:
        >>> cb.testing.check_objective(cb.IWAE(3), build("vae", data_shape=(4,), latent_dim=2), torch.randn(5, 4))
    """
    tried = copy.deepcopy(model).eval()
    names = {tuple(objective.schedule(step, 10)) for step in (0, 1, 5, 10)}
    assert len(names) == 1, f"the schedule must always name the same weights; got {sorted(names)}"
    eps = torch.randn(objective.samples, len(x), model.latent_dim, generator=torch.Generator().manual_seed(0))
    weights = objective.final_weights()
    terms = objective(tried.draw(Batch(x, context), objective.samples, eps.to(x)), weights)
    try:
        require_terms(terms, len(x), objective)
    except ArgumentError as error:
        raise AssertionError(str(error)) from error
    assert bool(torch.isfinite(terms.loss).all()), "the loss must be finite"
    given = None if context is None else context[:1]
    alone = objective(tried.draw(Batch(x[:1], given), objective.samples, eps[:, :1].to(x)), weights).loss
    assert torch.allclose(alone, terms.loss[:1], rtol=1e-3, atol=1e-3), "an example's loss depends on the others"
    assert terms.loss.requires_grad, "the loss has no gradient for any parameter of the model"
    tried.zero_grad(set_to_none=True)
    terms.loss.mean().backward()
    gradients = [p.grad for p in tried.parameters() if p.grad is not None]
    assert gradients, "the loss has no gradient for any parameter of the model"
    assert all(bool(torch.isfinite(g).all()) for g in gradients), "a gradient of the loss is not finite"


def _require_latent(distribution: Distribution, latent_dim: int, batch: int, who: str, *, shared: bool = True) -> None:
    try:
        require_event(distribution, latent_dim, batch, who, shared=shared)
    except ValueError as error:
        raise AssertionError(str(error)) from error


def _require_shapes(px: Distribution, batch: Shape, event: Shape, who: str) -> None:
    assert tuple(px.event_shape) == event, f"{who} must have the event {list(event)}; got {list(px.event_shape)}"
    assert tuple(px.batch_shape) == batch, f"{who} must have the batch {list(batch)}; got {list(px.batch_shape)}"


def _require_samples_follow(distribution: Distribution, z: Tensor) -> None:
    """Compare samples `[n, *batch, d]` with the density, at the first of the batch."""
    log_p = distribution.log_prob(z).detach().reshape(len(z), -1)[:, 0].double()
    flat = z.reshape(len(z), -1, z.shape[-1])[:, 0].double()
    references = (_reference(flat, log_p, share) for share in SHARES)
    tried = [(reference, (reference.log_prob(flat) - log_p).exp()) for reference in references]
    reference, ratio = next(
        (pair for pair in tried if _heaviest(pair[1]) < HEAVY), min(tried, key=lambda pair: _heaviest(pair[1]))
    )
    mean, error = float(ratio.mean()), float(ratio.std()) / len(ratio) ** 0.5
    drawn = reference.sample((len(z),))  # a density may end within the reference's reach
    inside = float(((drawn >= flat.min(0).values) & (drawn <= flat.max(0).values)).all(1).double().mean())
    error = math.hypot(error, math.sqrt(inside * (1.0 - inside) / len(z)))
    assert abs(mean - inside) <= SURE * error + 1e-3, (
        f"samples do not follow the density: E[r(z) / p(z)] is {mean:.3f} +- {error:.3f}, and must be {inside:.3f}"
    )


def _reference(flat: Tensor, log_p: Tensor, share: float) -> MultivariateNormal:
    """Gaussian within the nearest share of the samples about the densest; a small one stays within one of several modes."""
    away = flat - flat[log_p.argmax()]
    distance = (away / away.abs().median(0).values.clamp_min(1e-12)).norm(dim=1)
    inner = flat[distance <= distance.quantile(share)]
    tiny = 1e-9 * torch.eye(flat.shape[1], dtype=torch.float64)
    return MultivariateNormal(inner.mean(0), torch.atleast_2d(inner.T.cov()) / 2.0 + tiny)


def _heaviest(ratio: Tensor) -> float:
    """Share of the greatest in the sum: above a percent their mean is not to be trusted."""
    return float(ratio.max() / ratio.sum())


def _require_gradient(function: object, at: Tensor, what: str) -> None:
    given = at.clone().requires_grad_()
    value: Tensor = function(given)  # type: ignore[operator]
    assert value.requires_grad, f"there is no gradient in {what}"
    (gradient,) = torch.autograd.grad(value, given, allow_unused=True)
    assert gradient is not None, f"there is no gradient in {what}"
    assert bool(torch.isfinite(gradient).all()), f"the gradient in {what} must be finite"
    assert bool(gradient.any()), f"there is no gradient in {what}"


def _require_parameter_gradients(module: nn.Module, value: object) -> None:
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not parameters:
        return
    total: Tensor = value()  # type: ignore[operator]
    assert total.requires_grad, f"the parameters {', '.join(parameters)} have no influence on log_prob"
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        assert gradient is not None, f"the parameter {name} has no influence on log_prob"
        assert bool(torch.isfinite(gradient).all()), f"the gradient of {name} is not finite"

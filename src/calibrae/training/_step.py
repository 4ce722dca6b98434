"""One optimiser step: forward, loss, backward, clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from .. import functional
from ..errors import NonFiniteError
from ..models import VAE, optimal_sigma_of
from ..objectives import BetaELBO, ELBOTerms

Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
Autocast = Callable[[], AbstractContextManager[object]]


def batch_sigma(model: VAE, micro: Sequence[tuple[Tensor, Tensor]], autocast: Autocast = nullcontext) -> Tensor:
    """The optimal sigma over all micro-batches of a batch, without gradients."""
    sigma = optimal_sigma_of(model)
    if sigma is None:
        raise ValueError("batch_sigma is for models with an optimal sigma")
    total, count = torch.zeros(sigma.sigma_shape), 0
    with torch.no_grad(), autocast():
        for x, noise in micro:
            mean = model(x, noise).likelihood.mean.to(x.dtype)
            total = total + len(x) * functional.optimal_sigma(x, mean, sigma.shared).square().cpu()
            count += len(x)
    if not bool(torch.isfinite(total).all()):
        raise NonFiniteError("the reconstruction term is not finite (in the pass that finds the batch's sigma)")
    return (total / count).sqrt().to(model.device)


def backward_batch(
    model: VAE,
    forward: Forward,
    backward: Callable[[Tensor], None],
    objective: BetaELBO,
    micro: Sequence[tuple[Tensor, Tensor]],
    step: int,
    autocast: Autocast = nullcontext,
) -> dict[str, float]:
    """Gradients of the loss of a whole batch, in nats per data dimension; returns its sums per example.

    `forward` gives the model's terms of a batch, as `StepTerms` does.

    With several micro-batches an optimal sigma is first found over all of them and held: by the envelope theorem its
    gradient is that of the whole batch's profile.
    """
    optimal = optimal_sigma_of(model)
    hold = optimal is not None and len(micro) > 1
    if optimal is not None and hold:
        optimal.freeze(batch_sigma(model, micro, autocast))
    total = sum(len(x) for x, _ in micro)
    sums = {"n": 0.0, "nll": 0.0, "kl": 0.0, "mse": 0.0}
    try:
        for x, noise in micro:
            nll, kl, sse = forward(x, noise)
            with torch.no_grad():
                values = torch.stack([nll.sum(), kl.sum(), sse.sum() / x[0].numel()]).tolist()
            if not all(map(math.isfinite, values)):
                raise _not_finite(model, x, noise, values)
            terms = ELBOTerms(nll, kl, is_bound=model.posterior.is_density)
            backward(objective.loss(terms, step) * (len(x) / total / x[0].numel()))
            for name, value in zip(("nll", "kl", "mse"), values, strict=True):
                sums[name] += value
            sums["n"] += len(x)
    finally:
        if optimal is not None and hold:
            optimal.unfreeze()
    return sums


def _not_finite(model: VAE, x: Tensor, noise: Tensor, values: Sequence[float]) -> NonFiniteError:
    named = zip(("reconstruction", "KL"), values, strict=False)
    bad = [name for name, value in named if not math.isfinite(value)] or ["squared error"]
    with torch.no_grad():
        output = model(x, noise)
    facts = {
        "x": x,
        "x_hat": output.likelihood.mean,
        "posterior mean": output.posterior.mean,
        "posterior log std": getattr(output.posterior, "log_std", None),
    }
    seen = ", ".join(f"largest |{name}| {_largest(value)}" for name, value in facts.items() if value is not None)
    return NonFiniteError(f"the {' and the '.join(bad)} term is not finite ({seen})")


def _largest(value: Tensor) -> str:
    number = float(value.detach().float().abs().max())
    return f"{number:.3g}" if math.isfinite(number) else "not finite"


def clip(parameters: Sequence[nn.Parameter], limit: float) -> float:
    """Scale the gradients down to a norm of `limit` (0: leave them); returns the norm before.

    Raises:
        NonFiniteError: if the norm is not finite.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients, foreach=True))
    if not math.isfinite(norm):
        raise NonFiniteError("the gradient is not finite, though the loss is")
    if 0 < limit < norm:
        torch._foreach_mul_(gradients, limit / (norm + 1e-6))
    return norm

"""One optimiser step: forward, loss, backward, clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from .. import functional
from ..errors import NonFiniteError
from ..models import optimal_sigma_of
from ..objectives import BetaELBO
from ._terms import MicroBatch, StepTerms

Autocast = Callable[[], AbstractContextManager[object]]


def batch_sigma(terms: StepTerms, micro: Sequence[MicroBatch], autocast: Autocast = nullcontext) -> Tensor:
    """The optimal sigma over all micro-batches of a batch, without gradients."""
    sigma = optimal_sigma_of(terms.model)
    if sigma is None:
        raise ValueError("batch_sigma is for models with an optimal sigma")
    total, count = torch.zeros(sigma.sigma_shape), 0
    with torch.no_grad(), autocast():
        for batch in micro:
            x = terms.prepared(batch)
            mean = terms.model(x, batch.noise).likelihood.mean.to(x.dtype)
            total = total + len(x) * functional.optimal_sigma(x, mean, sigma.shared).square().cpu()
            count += len(x)
    if not bool(torch.isfinite(total).all()):
        raise NonFiniteError("the reconstruction term is not finite (in the pass that finds the batch's sigma)")
    return (total / count).sqrt().to(terms.model.device)


def loss_weights(objective: BetaELBO, step: int, examples: int, data_dim: int) -> tuple[float, float]:
    """Of the summed NLL and the summed KL, so that the loss is the batch's mean in nats per data dimension.

    Example:
        >>> loss_weights(BetaELBO(beta=2.0), step=0, examples=4, data_dim=5)
        (0.05, 0.1)
    """
    share = 1.0 / (examples * data_dim)
    return share, share * objective.weight(step)


def backward_batch(
    terms: StepTerms,
    backward: Callable[[Tensor], None],
    objective: BetaELBO,
    micro: Sequence[MicroBatch],
    step: int,
    autocast: Autocast = nullcontext,
) -> dict[str, float]:
    """Gradients of the loss of a whole batch, in nats per data dimension; returns its sums per example.

    With several micro-batches an optimal sigma is first found over all of them and held: by the envelope theorem its
    gradient is that of the whole batch's profile.

    Args:
        terms: of the model.
        backward: of a scalar, under the run's precision.
        objective: what is descended.
        micro: the batch in pieces.
        step: counted from 0.
        autocast: of the networks.

    Raises:
        NonFiniteError: if a term is not finite; no gradient of it is taken then.
    """
    optimal = optimal_sigma_of(terms.model)
    hold = optimal is not None and len(micro) > 1
    if optimal is not None and hold:
        optimal.freeze(batch_sigma(terms, micro, autocast))
    data_dim = micro[0].values[0].numel()
    sums = {"n": float(sum(len(batch.values) for batch in micro)), "nll": 0.0, "kl": 0.0, "mse": 0.0}
    weights = micro[0].noise.new_tensor(loss_weights(objective, step, round(sums["n"]), data_dim))
    try:
        for batch in micro:
            with autocast():
                loss, found = terms(batch, weights)
            nll, kl, sse = found.tolist()
            if not all(map(math.isfinite, (nll, kl, sse))):
                raise not_finite(terms, batch, (nll, kl, sse))
            backward(loss)
            sums["nll"] += nll
            sums["kl"] += kl
            sums["mse"] += sse / data_dim
    finally:
        if optimal is not None and hold:
            optimal.unfreeze()
    return sums


def not_finite(terms: StepTerms, batch: MicroBatch, values: Sequence[float]) -> NonFiniteError:
    """What to raise for a batch's sums of NLL, KL and squared error: which is not finite, and the largest numbers behind it."""
    named = zip(("reconstruction", "KL"), values, strict=False)
    bad = [name for name, value in named if not math.isfinite(value)] or ["squared error"]
    with torch.no_grad():
        x = terms.prepared(batch)
        output = terms.model(x, batch.noise)
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


def clip(parameters: Sequence[nn.Parameter], limit: float) -> None:
    """Scale the gradients down to a norm of `limit`; 0 leaves them.

    Raises:
        NonFiniteError: if there is a limit and the norm is not finite. (Without one, the next loss is not.)
    """
    if limit == 0:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients, foreach=True))
    if not math.isfinite(norm):
        raise NonFiniteError("the gradient is not finite, though the loss is")
    if norm > limit:
        torch._foreach_mul_(gradients, limit / (norm + 1e-6))

"""The optimal scale over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .. import functional
from .._noise import ExampleNoise
from .._types import Batch, World
from ..errors import ArgumentError
from ..likelihoods import Scale
from ._modes import evaluating, seeded
from ._vae import VAE

NoiseRows: TypeAlias = Callable[[Tensor], Tensor]


def optimal_scale_of(model: VAE) -> Any:
    """The model's scale if it is the analytic optimum, which must be fixed before evaluation; else `None`."""
    scale = model.likelihood.scale
    return scale if scale is not None and scale.choice == "optimal" else None


def scale_over(
    model: VAE, scale: Scale, batches: Iterable[Batch], noise: NoiseRows, world: World | None = None
) -> Tensor:
    """Statistic of the residuals over a data set, posterior samples included, shared as the scale is.

    Raises:
        ArgumentError: if there are no examples.
    """
    world, power = world or World(), scale.statistic.power
    total, count = torch.zeros(scale.shape, dtype=torch.float64), 0
    with evaluating(model), _any_value(scale):
        for batch in batches:
            batch = batch.to(model.device)
            assert batch.index is not None
            px = model.draw(batch, eps=noise(batch.index).to(batch.x)[None]).px
            value = functional.optimal_scale(batch.x, px.mean[0].to(batch.x.dtype), scale.shared, power)
            total += len(batch) * value.cpu().double().pow(power)
            count += len(batch)
    everywhere = float(world.sum(torch.tensor(float(count), dtype=torch.float64)))
    if everywhere == 0:
        raise ArgumentError("a scale is fixed on examples; got none. Pass the training set.")
    return (world.sum(total) / everywhere).pow(1.0 / power)


def _any_value(scale: Scale) -> Any:
    """Let an optimal scale without a value decode in eval mode: the residuals do not depend on it."""
    if scale.choice != "optimal" or scale.is_fixed:
        return nullcontext()
    return scale.held(torch.ones(scale.shape, device=scale.log_scale.device))  # type: ignore[operator]


def fix_scale_over(model: VAE, batches: Iterable[Batch], noise: NoiseRows, world: World | None = None) -> None:
    """Fix an optimal scale to its value over the given (training) examples; any other scale is left alone."""
    scale = optimal_scale_of(model)
    if scale is not None:
        scale.fix(scale_over(model, scale, batches, noise, world).to(model.device, scale.log_scale.dtype))


def fix_scale(model: VAE, data: Any, *, context: Any = None, seed: int = 0, batch_size: int = 512) -> Tensor | None:
    r"""Fix an optimal scale on the training set, as `fit` does at its end; for training loops of your own.

    $$s^{*p} = \frac{1}{N D} \sum_n \lVert x_n - \hat x(z_n) \rVert_p^p, \qquad z_n \sim q(z|x_n)$$

    with $p = 2$ for a Gaussian and 1 for a Laplace density. One posterior sample per example, whose noise belongs to the example:
    the result does not depend on `batch_size`. It holds in eval mode; going back to training forgets it. A fixed or learned scale is
    left alone.

    Args:
        model: any `VAE`.
        data: training set as the model sees it (dequantised): a tensor or array `[N, *data]`, a map-style Dataset, or
            batches: tensors, `Batch`es, or tuples that begin with the examples, as from a `DataLoader`. Of the data of `load_data`,
            the training split is taken, with its contexts; `seed` is that of its dequantisation too.
        context: contexts `[N, context_dim]` of a tensor or array, for a conditional model.
        seed: seed of the posterior samples.
        batch_size: examples at once, where `data` is a tensor.

    Returns:
        Scale in units of the data, `[]`, `[C]` or `[*data]`; `None` if the likelihood has none.

    Raises:
        ArgumentError: if there are no examples, or contexts beside those of the data.

    Examples:
        >>> x = torch.rand(64, 1, 8, 8)
        >>> model = build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
        >>> optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        >>> for step in range(3):
        ...     optimiser.zero_grad()
        ...     (-model.elbo(x).elbo.mean()).backward()
        ...     optimiser.step()
        >>> sigma = fix_scale(model, x)
        >>> model.eval().elbo(x).elbo.shape
        torch.Size([64])
    """
    if optimal_scale_of(model) is not None:
        noise, batches = ExampleNoise("normal", (model.latent_dim,), seed), batches_of(data, context, batch_size, seed)
        first = next(batches, None)
        if first is not None and not model.likelihood.knows_data_shape:
            model.likelihood.set_data_shape(tuple(first.x.shape[1:]))
        with seeded(torch.Generator().manual_seed(seed), model.device):  # a posterior may draw its samples itself
            fix_scale_over(model, batches if first is None else chain([first], batches), noise.rows)
    return None if model.likelihood.scale is None else model.likelihood.scale.value


def batches_of(data: Any, context: Any = None, batch_size: int = 512, seed: int = 0) -> Iterator[Batch]:
    """Numbered batches of a tensor, an array, a map-style Dataset, the training split of data, or what is batches already."""
    if hasattr(data, "views") and callable(getattr(data, "batches", None)):
        if context is not None:
            raise ArgumentError("these data have their own contexts. Leave `context` out.")
        data = data.batches("train", batch_size, seed)
    if hasattr(data, "__array__") and not isinstance(data, Tensor):
        data = torch.as_tensor(data)
    if isinstance(data, Tensor):
        parts: Any = data.to(torch.float32 if data.dtype != torch.float64 else data.dtype).split(batch_size)
        given = None if context is None else torch.as_tensor(context).to(torch.float32).split(batch_size)
        parts = parts if given is None else zip(parts, given, strict=True)
        parts = parts if len(data) else []
        pairs = given is not None
    else:
        parts, pairs = (DataLoader(data, batch_size) if isinstance(data, Dataset) else data), False
    start = 0
    for part in parts:
        batch = part if isinstance(part, Batch) else Batch(*part) if pairs else Batch(_first(part))
        yield Batch(batch.x, batch.context, batch.mask, torch.arange(start, start + len(batch)))
        start += len(batch)


def _first(part: Any) -> Tensor:
    x: Tensor = part[0] if isinstance(part, tuple | list) else part
    return x

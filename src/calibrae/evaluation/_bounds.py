"""The importance-weighted bound of a split, kept as it comes so that it can be interrupted."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .._noise import mixed_seed
from .._progress import counter
from .._types import ALONE, AnySplit, Batch, World
from ..acceleration import in_double
from ..data import Data, RowCache
from ..errors import NoDensityError
from ..models import VAE, evaluating, sample_latents
from ..objectives import NO_PRIOR
from ._importance import ImportanceSummary, importance_weighted

POOR_EFFECTIVE_SAMPLES = 10.0
PRIOR_STREAM = 13
ESTIMATORS_REVISION = 4  # part of what kept work is known by


def split_bounds(
    model: VAE,
    data: Data,
    split: AnySplit,
    samples: int,
    *,
    fewer: Sequence[int] = (),
    seed: int = 0,
    batch_size: int = 512,
    limit: int | None = None,
    world: World = ALONE,
) -> ImportanceSummary:
    """The importance-weighted bound of each example of a split; finished blocks of an interrupted call are not computed again.

    Args:
        model: with a fixed sigma.
        data: split and prepared as the model's.
        split: `train`, `validation`, `test` or `all`.
        samples: `K`.
        fewer: smaller numbers of samples whose bounds are wanted as well.
        seed: seed of all noise.
        batch_size: examples read at once; does not change the numbers.
        limit: so many examples only, evenly spaced.
        world: processes that share the examples.
    """
    n = len(data.positions(split, limit))
    world = world.over(n)
    mine = world.part(n)
    batches = data.batches(split, data.rows_at_once(batch_size), seed, limit, world)
    identity = (
        "importance",
        ESTIMATORS_REVISION,
        digest_of(model),
        data.identity(split),
        seed,
        samples,
        sorted(fewer),
        limit,
        *(() if world.size == 1 else (mine.start, mine.stop)),
    )
    with RowCache(identity) as kept:
        share = mine.stop - mine.start
        step = counter(f"log p(x), K = {samples}", share)
        found = importance_weighted(model, batches, samples, seed, step, fewer=fewer, kept=kept, examples=share)
    return found.over(world)


def prior_bound(model: VAE, batch: Batch, samples: int, seed: int = 0) -> Tensor:
    r"""The importance-weighted bound with samples of the prior: $\log \frac1K \sum_k p(x|z_k)$, $z_k \sim p(z)$, `[B]`, float64.

    Loose, but a bound for any example, however far it lies from those that the encoder knows.

    Args:
        model: with a fixed scale.
        batch: examples.
        samples: `K`.
        seed: seed of the samples.
    """
    batch = batch.to(model.device)
    generator = torch.Generator().manual_seed(mixed_seed(seed, PRIOR_STREAM))
    with evaluating(model):
        bounds = []
        for i in range(len(batch)):
            one = batch.rows(slice(i, i + 1))
            p = model.prior_for(one.context, 1)
            if p is None:
                raise NoDensityError(NO_PRIOR)
            z = sample_latents(p, samples, model.device, generator).reshape(samples, -1)
            context = None if one.context is None else one.context.expand(samples, -1)
            density = model.decode(z, context).log_prob(one.x.expand(samples, *one.x.shape[1:]))
            bounds.append(in_double(density).logsumexp(0) - math.log(samples))
    return torch.stack(bounds).cpu()


def is_reliable(weighted: ImportanceSummary) -> bool:
    """Tell whether enough samples count, or too few were drawn to say."""
    median = float(weighted.effective_samples.median())
    return weighted.samples < POOR_EFFECTIVE_SAMPLES or median >= POOR_EFFECTIVE_SAMPLES


def effective_remark(weighted: ImportanceSummary, advice: str = "take more samples, or anneal (--full)") -> str:
    """Say the effective sample size, with a warning and advice where it is poor."""
    median = float(weighted.effective_samples.median())
    if is_reliable(weighted):
        return f"median effective samples {median:.1f}"
    return (
        f"not reliable: of {weighted.samples} samples a median of {median:.1f} count, so the bound is loose and its error bar too small; "
        f"{advice}"
    )


def digest_of(model: VAE) -> str:
    """Hash of everything that a model computes with: its modules, their state, and their plain attributes."""
    digest = hashlib.blake2b(repr(model).encode(), digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + _bytes(value))
    usual = vars(nn.Module()).keys()
    for name, module in model.named_modules():
        attributes = {key: value for key, value in vars(module).items() if key not in usual}
        digest.update(f"{name} {type(module).__qualname__}".encode() + _bytes(attributes))
    return digest.hexdigest()


def _bytes(value: Any) -> bytes:
    """A value as bytes: numbers, text, tensors, distributions, and containers of these; of anything else the type alone."""
    if isinstance(value, torch.Tensor):
        raw = (
            value.detach()
            .cpu()
            .flatten()
            .clone(memory_format=torch.contiguous_format)
            .view(torch.uint8)
            .numpy()
            .tobytes()
        )
        return f"{tuple(value.shape)}{value.dtype}".encode() + raw
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value).encode()
    if isinstance(value, Distribution):
        value = {"distribution": type(value).__qualname__, **vars(value)}
    if isinstance(value, Mapping):
        return b"{" + b",".join(str(key).encode() + b":" + _bytes(part) for key, part in value.items()) + b"}"
    if isinstance(value, tuple | list):
        return b"[" + b",".join(map(_bytes, value)) + b"]"
    return type(value).__qualname__.encode()

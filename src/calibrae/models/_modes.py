"""Evaluation mode for a while, and seeded sampling from any distribution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .._noise import seed_torch
from .._types import Shape
from ..acceleration import full_float32
from ..latents import reparameterise


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run in eval mode under `no_grad`, in whole float32; restore the mode of every submodule on exit."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), full_float32(place):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def seeded(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Draw from torch's global generators as a generator says, and leave them as they were; without one, do nothing."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
    kinds = {} if device.type == "cpu" else {"device_type": device.type}
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device], **kinds):
        seed_torch(seed)
        yield


def sample_latents(p: Distribution, n: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw `n` samples of a prior, `[n, d]`, or `[n, B, d]` if it has a batch."""
    return _sampled(p, (n,), device, generator)


def sample_data(px: Distribution, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw one example from each `p(x|z)` of a batch."""
    return _sampled(px, (), device, generator)


def _sampled(p: Distribution, lead: Shape, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw from noise of the generator's own device where that is possible, so that every device gives the same samples."""
    if generator is not None:
        state, shape = generator.get_state(), (*lead, *p.batch_shape, *p.event_shape)
        drawn = reparameterise(p, torch.randn(shape, generator=generator, device=generator.device).to(device))
        if drawn is not None:
            return drawn
        generator.set_state(state)
    with seeded(generator, device):
        sampled: Tensor = p.sample(lead)
        return sampled

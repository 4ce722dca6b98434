"""Channels-last feature maps, where a model can take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError
from ._protocol import undisturbed
from ._trial import StepTrial


def choose_layout(trial: StepTrial, picture: Tensor, set_layout: Callable[[torch.memory_format], None]) -> bool:
    """Keep pictures, and the weights of convolutions, channels-last if the model has such layers and runs with it.

    It changes no number but by rounding. A module of one's own may count on the usual order, as `h.view(len(h), -1)` does behind
    a convolution: if a trial step raises, the layout is unchanged.

    Args:
        trial: a step.
        picture: examples as the model sees them.
        set_layout: called with the order in memory that the pictures are to have.

    Returns:
        Whether the layout is channels-last.
    """
    module = trial.step.eager.module
    if not (picture.ndim == 4 and any(map(_is_convolution, module.modules()))):
        return False
    with undisturbed(trial.step.eager):
        try:
            arrange(module, torch.channels_last)
            set_layout(torch.channels_last)
            trial()
        except NonFiniteError:
            pass  # it runs; the first step raises this again, with batch and cause
        except (
            Exception
        ):  # a module of one's own may refuse the layout in any way; what is wrong otherwise is raised again
            arrange(module, torch.contiguous_format)
            set_layout(torch.contiguous_format)
            return False
    return True


def arrange(module: nn.Module, order: torch.memory_format) -> None:
    """Keep the weights of convolutions in an order in memory; their values do not change."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=order)


@contextmanager
def usual_layout_afterwards(module: nn.Module) -> Iterator[None]:
    """Bring the weights of a model back to torch's usual order on exit, so that they can be viewed as vectors."""
    try:
        yield
    finally:
        arrange(module, torch.contiguous_format)


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.ConvTranspose2d)

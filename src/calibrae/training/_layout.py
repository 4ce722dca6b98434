"""Channels-last feature maps, where a model can take them."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import NonFiniteError
from ._terms import StepTerms
from ._trial import StepTrial


def choose_layout(trial: StepTrial) -> None:
    """Keep pictures, and the weights of convolutions, channels-last if the model has such layers and runs with it.

    It changes no number but by rounding. Presets arrange themselves. A module of one's own may count on the usual order, as
    `h.view(len(h), -1)` does behind a convolution: what fails a trial step is left as it was.

    Args:
        trial: a step.
    """
    terms = trial.descent.terms
    model = terms.model
    values = trial.micro[0].values
    is_picture = values.ndim == 4 and values.shape[1] > 1
    if model.config is not None or not is_picture or not any(map(_is_convolution, model.modules())):
        return
    with trial.descent.undisturbed():
        try:
            _arrange(terms, torch.channels_last)
            trial()
        except NonFiniteError:
            pass  # it runs; the first step raises this again, with batch and cause
        except RuntimeError:
            _arrange(terms, torch.contiguous_format)


def _arrange(terms: StepTerms, order: torch.memory_format) -> None:
    for parameter in terms.model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=order)
    terms.channels_last = order is torch.channels_last


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.ConvTranspose2d)

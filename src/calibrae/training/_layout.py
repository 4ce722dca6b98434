"""Channels-last feature maps, where a model can take them."""

from __future__ import annotations

import torch
from torch import nn

from ._trial import StepTrial


def choose_layout(trial: StepTrial) -> None:
    """Keep pictures, and the weights of convolutions, channels-last if the model has such layers and runs with it.

    It changes no number but by rounding. Presets arrange themselves. A module of one's own may count on the usual order, as
    `h.view(len(h), -1)` does behind a convolution: what fails a trial step is left as it was.

    Args:
        trial: a step.
    """
    terms = trial.terms
    model = terms.model
    is_picture = trial.batch.values.ndim == 4 and trial.batch.values.shape[1] > 1
    if model.config is not None or not is_picture or not any(map(_is_convolution, model.modules())):
        return
    with trial.undisturbed():
        try:
            _arrange(trial, torch.channels_last)
            trial()
        except RuntimeError:
            _arrange(trial, torch.contiguous_format)


def _arrange(trial: StepTrial, order: torch.memory_format) -> None:
    for parameter in trial.terms.model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=order)
    trial.terms.channels_last = order is torch.channels_last


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.ConvTranspose2d)

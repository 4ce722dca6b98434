"""Devices by name."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ArgumentError, first_line

WITHOUT_DOUBLE = {"mps"}  # kinds of device that have no float64


def in_double(x: Tensor) -> Tensor:
    """Convert to float64, in main memory where the device has none, as Apple's.

    Examples:
        >>> in_double(torch.ones(1)).dtype
        torch.float64
    """
    return x.cpu().double() if x.device.type in WITHOUT_DOUBLE else x.double()


def find_device(device: str | torch.device) -> torch.device:
    """Find the device that a name means, if this machine has it; for `auto`, a CUDA device if one can be used, or else the CPU.

    Raises:
        ArgumentError: if this machine has none of that name.

    Examples:
        >>> from calibrae.acceleration import find_device
        >>> find_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        try:
            return find_device("cuda")
        except ArgumentError:
            return torch.device("cpu")
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(
            f"`device` must be one that this machine has, such as cpu, or auto; got {device} ({first_line(error)})"
        ) from error
    return place

"""Context as further features."""

from __future__ import annotations

import torch
from torch import Tensor


def appended(features: Tensor, context: Tensor | None) -> Tensor:
    """Append the context, `[B, context_dim]`, to features `[B, n]`.

    Examples:
        >>> from calibrae.networks._context import appended
        >>> appended(torch.zeros(2, 3), torch.ones(2, 1)).shape
        torch.Size([2, 4])
    """
    return features if context is None else torch.cat([features, context.to(features.dtype)], dim=1)

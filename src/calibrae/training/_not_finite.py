"""Words for a loss that is not finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._types import Batch
from ..errors import NonFiniteError
from ..likelihoods import mean_of_data
from ._loss import Piece, PieceLoss


def not_finite(loss: PieceLoss, piece: Piece, sums: dict[str, float]) -> NonFiniteError:
    """Build the error for sums that are not finite: which part, and the largest numbers behind it.

    Args:
        loss: loss of the piece.
        piece: examples.
        sums: sums over the examples by name.
    """
    parts = [name for name, value in sums.items() if not math.isfinite(value) and name not in ("loss", "sse")]
    names = {"nll": "reconstruction", "kl": "KL"}
    bad = " and the ".join(names.get(name, name) for name in parts) or "loss"
    with torch.no_grad():
        x = loss.prepared(piece.values, piece.dequantisation_bytes)
        draw = loss.model.draw(Batch(x, piece.context, piece.mask), len(piece.eps), piece.eps)
    facts = {"x": x, "x_hat": mean_of_data(draw.px), "z": draw.z}
    seen = ", ".join(f"largest |{name}| {_largest(value)}" for name, value in facts.items())
    return NonFiniteError(f"the {bad} term is not finite ({seen})")


def _largest(value: Tensor) -> str:
    number = float(value.detach().float().abs().max())
    return f"{number:.3g}" if math.isfinite(number) else "not finite"

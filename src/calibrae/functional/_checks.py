"""Shape checks: nothing broadcasts silently."""

from __future__ import annotations

from torch import Tensor

from ..errors import ShapeError


def require_same_shape(**tensors: Tensor) -> None:
    """Raise `ShapeError` unless all tensors have one shape; the message names each."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        came = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        names = " and ".join(f"`{name}`" for name in shapes)
        raise ShapeError(f"{names} must have the same shape; got {came}. Reshape or expand them explicitly.")


def require_examples(**tensors: Tensor) -> None:
    """Raise `ShapeError` unless all tensors are `[B, *data]` with at least one data dimension, and agree."""
    require_same_shape(**tensors)
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            raise ShapeError(
                f"`{name}` must be [B, *data] with a batch and at least one data dimension; got {tuple(tensor.shape)}. "
                f"Add the missing one, as in {name}[None] or {name}[:, None]."
            )


def require_spread(name: str, spread: Tensor, x: Tensor) -> None:
    """Raise `ShapeError` unless `spread` is one number, `[*data]`-like or `[B, *data]`-like and broadcasts to `x`.

    A shorter shape such as `[C]` or `[W]` is refused: it would land on the wrong axis without a word.
    """
    if spread.numel() == 1 and spread.ndim <= x.ndim:
        return
    aligned = spread.ndim in (x.ndim, x.ndim - 1)
    padded = (1,) * (x.ndim - spread.ndim) + tuple(spread.shape)
    if not (aligned and all(have in (1, want) for have, want in zip(padded, x.shape, strict=True))):
        raise ShapeError(
            f"`{name}` must be one number or broadcast over `x` with every data dimension written out; got {name} "
            f"{tuple(spread.shape)} for x {tuple(x.shape)}. A sigma per channel of [B, C, H, W] has the shape [C, 1, 1]."
        )

"""NumPy arrays and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...errors import DataError, first_line
from .._registry import reads
from .._source import Array, Raw, Request


def is_array(data: Any) -> bool:
    """Tell whether this is an array or a tensor."""
    return isinstance(data, np.ndarray | np.generic | torch.Tensor)


@reads("an array or tensor", is_array, rank=40)
def read_array(data: Any, request: Request) -> Raw:
    """An array `[N, *data]`; of a trained model's data, one example alone too."""
    array, resolution, notes = plain_array(data)
    if request.trained is None and array.ndim == 1:
        raise DataError(
            f"data must be [N, D], [N, C, L], [N, C, H, W] or [N, C, D, H, W]; got {array.shape}. Reshape them: x.reshape(-1, 1) for "
            "one column."
        )
    return Raw("array", {"all": array}, resolution=resolution, notes=notes)


def plain_array(data: Any) -> tuple[Array, float | None, tuple[str, ...]]:
    """An array or tensor as a plain array, the spacing of floats that were widened, and notes.

    Raises:
        DataError: for masked entries, and for what is no array of numbers.
    """
    if isinstance(data, torch.Tensor):
        return _of_tensor(data)
    if isinstance(data, np.ma.MaskedArray):
        return _unmasked(data), None, ()
    return np.asarray(data), None, ()


def _of_tensor(data: torch.Tensor) -> tuple[Array, float | None, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    try:
        data = data.detach().cpu()
        if data.dtype.itemsize == 1 and data.is_floating_point():
            data = data.float()
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise DataError(
            f"this tensor cannot be read: {first_line(error, 200)} Pass a plain tensor in memory."
        ) from error
    if data.is_nested:
        raise DataError("a nested tensor holds examples of several shapes. Bring them to one shape.")
    if data.layout != torch.strided:
        data, notes = data.to_dense(), ("a sparse tensor was made dense",)
    if data.is_complex() or data.is_quantized:
        raise DataError(f"data must be numbers; got {data.dtype}. Convert them to integers or floats.")
    resolution = None
    if data.dtype == torch.bfloat16:
        data, resolution = data.float(), float(torch.finfo(torch.bfloat16).eps)
        notes = (*notes, "bfloat16 was read as float32")
    array: Array = data.resolve_neg().numpy()
    return array, resolution, notes


def _unmasked(data: Any) -> Array:
    """Values of a masked array without masked entries."""
    masked = np.ma.getmaskarray(data)
    if masked.any():
        first = tuple(int(i) for i in np.argwhere(masked)[0])
        raise DataError(
            f"all values must be there; got {int(masked.sum()):,} masked entries, the first at {first} (counted from 0). Drop those "
            "examples, or fill them."
        )
    values: Array = np.asarray(data.data)
    return values

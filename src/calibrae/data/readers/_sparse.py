"""Sparse matrices of SciPy, and annotated matrices (AnnData)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import DataError
from .. import _cache
from .._registry import reads
from .._source import Array, Raw, Request, listed

BLOCK_BYTES = 1 << 24


def is_sparse(data: Any) -> bool:
    """Tell whether this is a sparse matrix of SciPy."""
    return hasattr(data, "tocsr") and hasattr(data, "nnz")


def is_annotated(data: Any) -> bool:
    """Tell whether this is an annotated matrix: it has `X` and names or at least rows that are annotated again."""
    return hasattr(data, "X") and hasattr(data, "shape")


@reads("a sparse matrix", is_sparse, rank=19)
def read_sparse(data: Any, _: Request) -> Raw:
    """A sparse matrix `[N, D]`, made dense a block of rows at a time, in the cache."""
    if len(data.shape) != 2:
        raise DataError(f"a sparse matrix must be [N, D]; got {data.shape}. Reshape it.")
    rows, width = data.shape
    key = _cache.write(None, {"all": _dense_blocks(data.tocsr())}, dict)
    arrays = _cache.read(key)[0]
    note = f"a sparse matrix [{rows}, {width}] was made dense"
    return Raw(type(data).__name__, {"all": arrays.get("all", np.empty((0, width)))}, key, notes=(note,))


def _dense_blocks(matrix: Any) -> Iterator[Array]:
    rows = max(1, BLOCK_BYTES // max(1, matrix.shape[1] * 8))
    for start in range(0, matrix.shape[0], rows):
        yield np.asarray(matrix[start : start + rows].toarray())


@reads("annotated data (AnnData)", is_annotated, rank=18)
def read_annotated(data: Any, request: Request) -> Raw:
    """The matrix of annotated data, with the names of its variables; a column of `obs` as the condition."""
    matrix, name = data.X, type(data).__name__
    if matrix is None:
        raise DataError(f"{name} has no matrix X. Fill it, or pass the layer that is meant.")
    raw = read_sparse(matrix, request) if is_sparse(matrix) else None
    array = raw.parts["all"] if raw is not None else np.asarray(matrix)
    named = getattr(data, "var_names", None)
    columns = () if named is None else tuple(map(str, named))
    if len(columns) != (array.shape[1] if array.ndim == 2 else -1):
        columns = ()
    notes = (*(() if raw is None else raw.notes), "the matrix X of annotated data was read")
    labels = {}
    known = list(getattr(getattr(data, "obs", None), "columns", ()))
    for condition in request.options.conditions:
        if condition not in known:
            raise DataError(
                f"{name} has no column {condition!r} in obs for the condition; it has {listed(list(map(str, known)))}."
            )
        labels[condition] = {"all": np.asarray(data.obs[condition])}
    return Raw(name, {"all": array}, "" if raw is None else raw.fingerprint, columns, labels=labels, notes=notes)  # type: ignore[arg-type]

"""Shards of Parquet: a row group is a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from ...errors import DataError
from .._schema import Schema
from .._source import Array, Raw
from .._trained import read_as
from ..readers._arrow import numbers, resolution_of_columns
from ..readers._parquet import reading
from ._keys import Hashes, digests_of_rows
from ._order import HELD
from ._pictures import Form

MOST_BLOCK = HELD // 4  # bytes of a row group


def _reading(path: Path, read: Callable[[Any], Any], known: Any = None) -> Any:
    """Read something of an opened file, whose footer may be known from before."""
    import pyarrow.parquet as pq

    def opened(file: Path) -> Any:
        with pq.ParquetFile(file, metadata=known) as parquet:
            return read(parquet)

    return reading(path, opened)


class _Groups:
    """Row groups of a Parquet file; the file is open while they are read."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.columns = list(columns)
        self._facts = facts = _reading(path, lambda file: file.metadata)
        groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
        self.sizes: Sequence[int] = [group.num_rows for group in groups]
        self._firsts = np.cumsum([0, *self.sizes])
        wanted = set(self.columns)
        self.bytes = [
            sum(
                group.column(j).total_uncompressed_size
                for j in range(group.num_columns)
                if group.column(j).path_in_schema.split(".")[0] in wanted
            )
            for group in groups
        ]

    def digests(self, block: int) -> Hashes:
        """Number that stands for the file and row of each example."""
        return digests_of_rows(self.path.name, int(self._firsts[block]), self.sizes[block])

    def first(self, block: int) -> int:
        """Row of the file at which a block begins."""
        return int(self._firsts[block])

    def read(self, block: int) -> Any:
        """Columns of a row group."""
        return _reading(self.path, lambda file: file.read_row_group(block, columns=self.columns), self._facts)

    def require_small(self, weights: Sequence[int]) -> None:
        """Raise `DataError` for a row group that is too large to be held beside others."""
        if max(weights, default=0) > MOST_BLOCK:
            raise DataError(
                f"{self.path.name}: a row group of a stream must take at most {MOST_BLOCK >> 20} MiB in memory; got "
                f"{max(weights) >> 20} MiB. Write it again with a smaller `row_group_size`."
            )


@final
class TableShard:
    """Rows of a table in a Parquet file.

    Args:
        path: the file.
        columns: names of the columns that are modelled.
    """

    is_decoded = False

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._groups = _Groups(path, columns)
        self.path, self.sizes = path, self._groups.sizes
        self.schema: Schema | None = None
        self._groups.require_small([self.weight(block) for block in range(len(self.sizes))])

    def digests(self, block: int) -> Hashes:
        """Number that stands for the file and row of each example."""
        return self._groups.digests(block)

    def weight(self, block: int) -> int:
        """Bytes of a loaded block: eight a number."""
        return 8 * self.sizes[block] * len(self._groups.columns)

    def numbers(self, block: int) -> Raw:
        """The rows of a block as they came."""
        table, names = self._groups.read(block), self._groups.columns
        rows = numbers(self.path.name, [table.column(name) for name in names], names)
        first = self._groups.first(block)
        name = f"{self.path.name}, rows {first} to {first + len(rows) - 1}"
        resolution = resolution_of_columns(table.schema, names)
        return Raw(name, {"all": rows}, "rows of a shard", tuple(names), resolution=resolution)

    def load(self, block: int) -> Array:
        """The rows of a block, with the meaning that the schema gives them.

        Raises:
            DataError: for values that the schema does not allow.
        """
        assert self.schema is not None
        found = read_as(self.numbers(block), self.schema)
        if found.notes:
            raise DataError(
                f"{found.name}: {found.notes[0]}. The meaning of a stream's columns is taken from a sample of its rows. Leave out --stream, "
                "or add noise to that column yourself."
            )
        return found.parts["all"]

    def take(self, content: Any, block: int, rows: Array) -> Array:
        """Some rows of a block."""
        del block
        found: Array = content[rows]
        return found


@final
class PictureShard:
    """Encoded pictures in a column of a Parquet file.

    Args:
        path: the file.
        column: name of the column.
    """

    is_decoded = True

    def __init__(self, path: Path, column: str) -> None:
        self._groups = _Groups(path, [column])
        self.path, self.sizes = path, self._groups.sizes
        self.form: Form | None = None
        self._groups.require_small([self.weight(block) for block in range(len(self.sizes))])

    def digests(self, block: int) -> Hashes:
        """Number that stands for the file and row of each example."""
        return self._groups.digests(block)

    def weight(self, block: int) -> int:
        """Bytes of a loaded block: its pictures as they are encoded."""
        return int(self._groups.bytes[block])

    def load(self, block: int) -> Any:
        """The encoded pictures of a block."""
        return self._groups.read(block).column(0).combine_chunks()

    def take(self, content: Any, block: int, rows: Array) -> Array:
        """Some pictures of a block, `[len(rows), C, H, W]`."""
        assert self.form is not None
        return self.form.take(self.sizes[block], self.fetcher(content, block), rows)

    def fetcher(self, content: Any, block: int) -> Callable[[int], tuple[str, bytes]]:
        """Name and content of each picture of a loaded block."""
        first = self._groups.first(block)

        def fetch(row: int) -> tuple[str, bytes]:
            value = content[row].as_py()
            encoded = value["bytes"] if isinstance(value, dict) else value
            return f"{self.path.name} row {first + row}", encoded or b""

        return fetch

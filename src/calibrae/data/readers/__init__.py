"""Readers: one file for each source of data. Each registers itself; adding one touches no other file but the list here."""

from importlib import import_module

from ._frames import is_frame as is_frame
from ._kept import KEPT as KEPT
from ._names import NAMES as NAMES

MODULES = (
    "_kept", "_names", "_paths", "_mappings", "_arrays", "_frames", "_sparse", "_loaders", "_records", "_items",
    "_idx", "_pictures", "_parquet", "_csv", "_numpy_files", "_waves",
)  # fmt: skip


def register_all() -> None:
    """Import every reader, which registers it."""
    for name in MODULES:
        import_module(f".{name}", __name__)

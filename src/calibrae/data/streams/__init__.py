"""Data that no machine holds: shards that are read where they lie, a part at a time."""

from __future__ import annotations

from ._open import open_stream
from ._stream import Stream

__all__ = ["Stream", "open_stream"]

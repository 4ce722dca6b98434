"""Data that no machine holds: shards that are read where they lie, a part at a time."""

from __future__ import annotations

from ._open import may_be_streamed, open_stream
from ._stream import Stream

__all__ = ["Stream", "may_be_streamed", "open_stream"]

"""Compositions as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that is needed to compose the same model again, with fresh weights.

    Attributes:
        name: preset that it started from.
        parts: sizes, network, and the name and arguments of each component, of plain types.
    """

    name: str
    parts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON and TOML."""
        return asdict(self)

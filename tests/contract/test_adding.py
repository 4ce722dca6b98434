"""The blocks of docs/architecture.md, "Adding something", run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


@pytest.mark.slow
def test_what_the_page_says_of_adding_works(monkeypatch):
    from calibrae import _registry

    monkeypatch.setattr(_registry, "_CLASSES", {kind: dict(known) for kind, known in _registry._CLASSES.items()})
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    assert len(blocks) == 6
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    names: dict[str, object] = {}
    try:
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    finally:
        torch.set_num_threads(before)
    assert names["sevens"].shape == (8, 1, 8, 8)  # type: ignore[attr-defined]
    assert names["small"].encode(names["measured"]).shape == (80, 1)  # type: ignore[attr-defined]
    assert "train_nll" in names["run"].history[0]  # type: ignore[attr-defined]

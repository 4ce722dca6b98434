"""Names that the docstrings' examples use."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _example_names(doctest_namespace: dict[str, Any]) -> None:
    import torch
    from torch import nn

    import calibrae

    torch.manual_seed(0)
    names = {name: getattr(calibrae, name) for name in calibrae.__all__ if not name.startswith("_")}
    doctest_namespace.update(torch=torch, nn=nn, cb=calibrae, **names)

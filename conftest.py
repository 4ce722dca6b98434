"""Names that the docstrings' examples use, and a folder for what they write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from _pytest.doctest import DoctestItem


@pytest.fixture(autouse=True, scope="session")
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let what is written without a place, such as a run without a folder, be gone at the end."""
    tmp_path_factory.getbasetemp()  # which pytest itself keeps for a while
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="calibrae-tests-", ignore_cleanup_errors=True) as place:
        os.environ["TMPDIR"], tempfile.tempdir = place, place
        yield
        tempfile.tempdir = None
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


@pytest.fixture(autouse=True)
def _example_names(
    doctest_namespace: dict[str, Any],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from torch import nn

    import calibrae

    if isinstance(request.node, DoctestItem):
        monkeypatch.chdir(tmp_path_factory.mktemp("example"))
    torch.default_generator.manual_seed(0)
    names = {name: getattr(calibrae, name) for name in calibrae.__all__ if not name.startswith("_")}
    doctest_namespace.update(torch=torch, nn=nn, cb=calibrae, **names)

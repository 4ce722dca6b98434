"""The loop and the plain step are short enough to be read in one sitting, and know nothing of acceleration."""

from __future__ import annotations

import ast
from pathlib import Path

import calibrae.training

FILES = [Path(calibrae.training.__file__).parent / name for name in ("_loop.py", "_step.py")]


def test_loop_and_step_are_short() -> None:
    lines = sum(len(file.read_text().splitlines()) for file in FILES)
    assert lines < 250, f"_loop.py and _step.py must stay under 250 lines together; they have {lines}"


def test_loop_and_step_import_no_acceleration() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named += [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert not any("acceleration" in name for name in named), f"{file.name}, line {node.lineno}"

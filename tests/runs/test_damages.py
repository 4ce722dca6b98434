"""Damaged and forged files of a run and of the cache are refused by name, or harmless; `damages.py` does it ten thousand times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("damages.py")


@pytest.mark.whole
@pytest.mark.skipif(sys.platform == "win32", reason="it limits its memory and time by the system's own means")
def test_damages() -> None:
    command = [sys.executable, str(PROGRAM), "--damages", "200", "--forgeries", "100", "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fault" not in done.stdout
    assert "refused" in done.stdout

"""A run that is killed with SIGKILL, at random and within saves, ends bit for bit where an unbroken one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kills.py")


@pytest.mark.whole
@pytest.mark.skipif(sys.platform == "win32", reason="it forks")
def test_kills() -> None:
    command = [sys.executable, str(PROGRAM), "--kills", "8", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "differences []; files left behind []" in done.stdout

"""Freed memory is held while a model trains."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from calibrae.training import _allocator
from calibrae.training._allocator import freed_memory_kept

PROGRAM = """
import resource, sys
import torch
from contextlib import nullcontext
from calibrae.training._allocator import freed_memory_kept
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    a = [torch.ones(1 << 22) for _ in range(12)]  # 16 MiB each
    del a
with freed_memory_kept() if sys.argv[1] == "kept" else nullcontext():
    step(); step()
    before = faults()
    for _ in range(5):
        step()
    print(faults() - before)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(_allocator._glibc() is None, reason="only glibc's allocator is told")
def test_a_step_finds_the_memory_of_the_last_one() -> None:
    pages = 5 * 12 * (1 << 24) // resource.getpagesize()
    assert faults("kept") < 0.05 * pages
    assert faults("plain") > 0.5 * pages


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with freed_memory_kept():
        pass

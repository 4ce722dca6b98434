"""Freed memory is held while a model trains."""

from __future__ import annotations

import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from calibrae.acceleration import _memory, retain_freed_memory

PROGRAM = """
import resource, sys
import torch
from contextlib import nullcontext
from calibrae.acceleration import retain_freed_memory
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    a = [torch.ones(1 << 22) for _ in range(12)]  # 16 MiB each
    del a
with retain_freed_memory() if sys.argv[1] == "kept" else nullcontext():
    step(); step()
    before = faults()
    for _ in range(5):
        step()
    print(faults() - before)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(_memory._glibc() is None, reason="only glibc's allocator is told")
def test_a_step_finds_the_memory_of_the_last_one() -> None:
    pages = 5 * 12 * (1 << 24) // resource.getpagesize()
    kept = faults("kept")
    assert kept < 0.05 * pages
    assert kept <= faults("plain")


def test_the_allocator_is_told_and_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, ...]] = []
    fake = SimpleNamespace(mallopt=lambda *what: told.append(what), malloc_trim=lambda pad: told.append((pad,)))
    monkeypatch.setattr(_memory, "_glibc", lambda: fake)
    told_within: list[tuple[int, ...]] = []

    def interrupted() -> None:
        with retain_freed_memory():
            told_within.extend(told)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert told_within == [(-3, 32 << 20), (-1, 1 << 30)]
    assert told[2:] == [(-1, 64 << 20), (0,)]


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _memory._glibc() is None
    with retain_freed_memory():
        pass

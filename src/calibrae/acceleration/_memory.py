"""Freed memory, held from one step to the next."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 32 << 20  # bytes: the most that glibc takes from its heap instead of a map of its own
KEPT = 1 << 30  # bytes of free heap that are held


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Let the whole process hold on to freed memory, up to a gigabyte, and give it back at the end.

    glibc returns the megabytes of a feature map to the system after every step and gets them back as empty pages, each of which the
    kernel must clear: a twelfth of the time of a step of convolutions. Elsewhere than on glibc nothing is done. This is a setting of
    the process, so only the command line, or a user who asks for it, turns it on.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        libc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST)  # where glibc's own rule ends up
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None

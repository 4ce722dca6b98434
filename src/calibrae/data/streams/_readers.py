"""Examples read ahead by processes of their own, as decoding pictures holds Python's lock."""

from __future__ import annotations

import atexit
import gc
import mmap
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeAlias, final

import numpy as np
import torch

from ..._cores import cores_of_each
from ...errors import ArgumentError, DataError, first_line
from .._source import Array

AHEAD = 2  # batches that are being read while one is in use
MOST = 16  # readers that start unasked
NAME = "CALIBRAE_READERS"
PATIENCE = 30.0  # seconds that a reader has to end what it is at
LOOKS_EVERY = 2.0  # seconds after which a reader that waits looks whether the process that asks still lives
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name))
Warned: TypeAlias = tuple[str, type[Warning]]


class Readable(Protocol):
    """An array `[N, *data]` of which some rows are read at a time."""

    shape: tuple[int, ...]
    dtype: Any

    def __getitem__(self, rows: Any) -> Array: ...


def readers_for(*, is_decoded: bool, has_card: bool | None = None) -> int:
    """Number of processes that read a stream: `CALIBRAE_READERS`; else, where pictures are decoded for a CUDA device, one for each core but one.

    A processor that trains has no core to spare for them. They are copies of this process; where those are not safe, on Windows and macOS, or
    not allowed, in a worker of a pool, there are none.

    Args:
        is_decoded: whether the examples are pictures, which are decoded when they are read.
        has_card: whether they go to a CUDA device; by default, whether there is one.

    Raises:
        ArgumentError: if `CALIBRAE_READERS` is no number.

    Examples:
        >>> readers_for(is_decoded=False)
        0
    """
    asked = os.environ.get(NAME, "")
    if asked and not (asked.isascii() and asked.isdecimal()):
        raise ArgumentError(f"{NAME} must be a number of processes, 0 for none; got {asked!r}.")
    if sys.platform != "linux" or multiprocessing.current_process().daemon:
        return 0
    if asked:
        return int(asked)
    pays = is_decoded and (torch.cuda.is_available() if has_card is None else has_card)
    return min(MOST, cores_of_each() - 1) if pays else 0


def read_ahead(source: Readable, batches: Iterable[Array], most: int, readers: int) -> Iterator[Array]:
    """Examples of each batch, in order, read by processes of which each has its stretch of every batch.

    What comes out does not depend on the number of readers.

    Args:
        source: array that is read.
        batches: positions of the examples of each batch.
        most: examples of a batch, at most.
        readers: processes that read; 0 to read here, when a batch is asked for.

    Raises:
        DataError: an error of reading, or if a reader has died.

    Examples:
        >>> [batch.tolist() for batch in read_ahead(np.arange(4) ** 2, [np.array([3, 1]), np.array([2])], 2, 0)]
        [[9, 1], [4]]
    """
    if readers:
        with closing(_Crew(source, most, readers)) as crew:
            yield from crew.read(batches)
    else:
        yield from map(source.__getitem__, batches)


@final
class _Crew:
    """Readers, and memory that they share with this process.

    The memory is a map without a file, so no limit of `/dev/shm` holds, which containers keep small. Positions go through it too, so that what
    is sent is short, and nobody waits for a full pipe.

    Args:
        source: array that is read.
        most: examples of a batch, at most.
        readers: number of processes.
    """

    def __init__(self, source: Readable, most: int, readers: int) -> None:
        self._asked = _shared((AHEAD + 1, most), np.dtype(np.int64))
        self._slots = _shared((AHEAD + 1, most, *source.shape[1:]), np.dtype(source.dtype))
        self._told: set[str] = getattr(source, "told", set())  # what other readers of it have said
        self._lines: list[Connection] = []
        self._readers: list[Any] = []
        atexit.register(self.close)  # multiprocessing, whose turn is later, would wait for readers that nobody ends
        try:
            for _ in range(readers):
                self._begin(source, readers)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise DataError(
                    f"no further process can be begun to read the stream: {first_line(error)}. Set {NAME} to fewer than {readers}, 0 for none."
                ) from error
            raise

    def _begin(self, source: Readable, readers: int) -> None:
        """Begin one reader more."""
        copied = multiprocessing.get_context("fork")
        line, far_end = copied.Pipe()
        self._lines.append(line)
        work = (source, self._asked, self._slots, far_end, self._lines, readers, os.getpid())
        reader = copied.Process(target=_serve, args=work, daemon=True, name="calibrae-reader")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that a copy lacks the other threads: it needs none
            reader.start()
        self._readers.append(reader)
        far_end.close()

    def read(self, batches: Iterable[Array]) -> Generator[Array, None, None]:
        """Examples of each batch, in order."""
        pending: deque[tuple[int, int]] = deque()
        for number, rows in enumerate(batches):
            slot = number % len(self._slots)
            self._ask(slot, rows)
            pending.append((slot, len(rows)))
            if len(pending) > AHEAD:
                yield self._whole(*pending.popleft())
        while pending:
            yield self._whole(*pending.popleft())

    def close(self) -> None:
        """End the readers, once they have read what they are at; one that takes long is killed."""
        atexit.unregister(self.close)
        for line in self._lines:
            _hang_up(line)
        for reader in self._readers:
            reader.join(PATIENCE)
            if reader.is_alive():
                reader.kill()
                reader.join()

    def _ask(self, slot: int, rows: Array) -> None:
        self._asked[slot, : len(rows)] = rows
        ends = np.linspace(0, len(rows), len(self._lines) + 1).astype(int).tolist()
        with _while_they_live():
            for line, start, stop in zip(self._lines, ends, ends[1:], strict=False):
                line.send((slot, start, stop))

    def _whole(self, slot: int, count: int) -> Array:
        """A batch, once all readers have read their parts of it."""
        with _while_they_live():
            answers = [line.recv() for line in self._lines]
        for error in (error for error, _ in answers if error is not None):
            raise error
        for text, category in (warning for _, said in answers for warning in said):
            if text not in self._told:
                self._told.add(text)
                warnings.warn(text, category, stacklevel=2)
        return self._slots[slot, :count].copy()


def _shared(shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros in memory that copies of this process share with it."""
    count = int(np.prod(shape))
    return np.frombuffer(mmap.mmap(-1, max(1, count * dtype.itemsize)), dtype, count).reshape(shape)


@contextmanager
def _while_they_live() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise DataError(
            f"a process that reads the stream was ended from outside, perhaps for want of memory. Set {NAME} to fewer, 0 for none, and go on with --resume."
        ) from error


def _hang_up(line: Connection) -> None:
    """Close a line for both sides, also where a process that was begun since has a copy of this end."""
    with suppress(OSError), socket.socket(fileno=os.dup(line.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)
    line.close()


def _serve(
    source: Readable,
    asked: Array,
    slots: Array,
    line: Connection,
    others: Iterable[Connection],
    readers: int,
    parent: int,
) -> None:
    """Read what is asked for, until the process that asks closes the line or ends; signals are left to it.

    A reader ends at once: what else ends a process would flush streams and join threads that only the process that asks has.
    """
    try:
        gc.freeze()  # what came with the copy is not this process's to take down
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        for other in others:  # ends that belong to the process that asks, which else would seem to live on in this one
            other.close()
        share = getattr(source, "share", None)  # of a stream, which holds blocks
        if share is not None:
            share(readers)
        while os.getppid() == parent:
            if line.poll(LOOKS_EVERY):
                slot, start, stop = line.recv()
                line.send(_answer(source, asked[slot, start:stop], slots[slot, start:stop]))
    finally:
        os._exit(0)


def _answer(source: Readable, rows: Array, place: Array) -> tuple[Exception | None, list[Warned]]:
    """Read examples into their place; returns an error, and the warnings that came up."""
    with warnings.catch_warnings(record=True) as said:
        try:
            if len(rows):
                place[...] = source[rows]
        except Exception as error:  # goes to the process that asked, which raises it
            return _sendable(error), []
    return None, [(str(warning.message), warning.category) for warning in said]


def _sendable(error: Exception) -> Exception:
    """The error, or one of ours in its place if it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (made here)
    except Exception:  # pickle runs the error's own code
        return DataError(f"the stream cannot be read: {type(error).__name__}: {first_line(error)}")
    return error

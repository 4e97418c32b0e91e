"""Syncing the write-ahead log, and telling when to fold it into the file.

SQLite would do both itself, but it syncs the log on the thread that commits, and folds it without the steps that
:mod:`.sessions` needs.

To wake a waiting thread, and to pass the interpreter back from it, takes longer than all the rest of a small commit. So
the operating system's kernel syncs the log in the background and wakes the event loop when it is done: Linux's
asynchronous IO (io_submit(2), ``IOCB_CMD_FDSYNC``) needs no thread. The C library has no function for it, so it is
called by its number. Where that is unknown or forbidden, a thread has to wait.

After each fold the log is overwritten from its beginning and never shrinks, so its size says nothing. But the log's
header and the header of each page contain two salts that change with each new log (sqlite.org/fileformat2.html, section
4.1).
"""

import asyncio
import ctypes
import os
import platform
import sqlite3
import sys
from pathlib import Path

from msgspec import Struct

FULL_BYTES = 32 * 1_024 * 1_024
"""About 200 chains of three calls, run one by one, so that fewer than one in a hundred waits for the fold."""

_HEAD_BYTES, _SALTS_IN_HEAD = 32, 16
_PAGE_HEAD_BYTES, _SALTS_IN_PAGE_HEAD = 24, 8
_SALTS_BYTES = 8

_sync = getattr(os, "fdatasync", os.fsync)


class Log:
    """The log of an open database."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        (page_size,) = db.execute("PRAGMA page_size").fetchone()
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        pages = FULL_BYTES // page_size
        self._last = _HEAD_BYTES + (pages - 1) * (_PAGE_HEAD_BYTES + page_size) + _SALTS_IN_PAGE_HEAD

    def sync(self) -> None:
        """Return once everything written is on disk. Raises ``OSError``."""
        _sync(self.descriptor)

    def is_full(self) -> bool:
        """Return whether it has :data:`FULL_BYTES` of pages since it was last overwritten."""
        salts = os.pread(self.descriptor, _SALTS_BYTES, self._last)
        return bool(salts) and salts == os.pread(self.descriptor, _SALTS_BYTES, _SALTS_IN_HEAD)

    def close(self) -> None:
        os.close(self.descriptor)


class _Calls(Struct, frozen=True):
    """Numbers of Linux's system calls."""

    setup: int
    destroy: int
    submit: int
    getevents: int


_CALLS = {"x86_64": _Calls(206, 207, 209, 208), "aarch64": _Calls(0, 1, 2, 4)}
_FDSYNC, _TELL_BY_EVENT = 3, 1


class _ControlBlock(ctypes.Structure):
    """``struct iocb`` of linux/aio_abi.h, on little-endian machines."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("how", ctypes.c_int32),
        ("operation", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("file", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("event", ctypes.c_uint32),
    )


class _Outcome(ctypes.Structure):
    """``struct io_event``: ``result`` is 0, or a negative error number."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("more", ctypes.c_int64),
    )


class KernelSync:
    """Syncs one open file; used on the event loop. Raises ``OSError`` where the kernel cannot do this for the file."""

    def __init__(self, file: int) -> None:
        if sys.platform != "linux" or platform.machine() not in _CALLS:
            raise OSError("unknown system calls")
        self._calls = _CALLS[platform.machine()]
        self._context = ctypes.c_ulong()
        _call(self._calls.setup, 1, ctypes.byref(self._context))
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._block = _ControlBlock(operation=_FDSYNC, file=file, event=self._event)
        self._blocks = ctypes.pointer(self._block)
        self._outcome = _Outcome()
        self._done: asyncio.Future[None]
        try:
            self._submit()
            self._take_outcome()
        except OSError:
            self._release()
            raise
        self._block.flags = _TELL_BY_EVENT
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._event, self._end)

    def sync(self) -> asyncio.Future[None]:
        """Wait until everything written to the file is on disk. Raises ``OSError``. Only one sync at a time."""
        self._done = self._loop.create_future()
        self._submit()
        return self._done

    def close(self) -> None:
        """No sync may be in flight."""
        self._loop.remove_reader(self._event)
        self._release()

    def _end(self) -> None:
        os.eventfd_read(self._event)
        try:
            self._take_outcome()
        except OSError as error:
            if not self._done.done():
                self._done.set_exception(error)
        else:
            if not self._done.done():
                self._done.set_result(None)

    def _submit(self) -> None:
        _call(self._calls.submit, self._context, 1, ctypes.byref(self._blocks))

    def _take_outcome(self) -> None:
        """Wait for the outcome; raise it if it is an error."""
        _call(self._calls.getevents, self._context, 1, 1, ctypes.byref(self._outcome), None)
        if self._outcome.result < 0:
            raise OSError(-self._outcome.result, os.strerror(-self._outcome.result))

    def _release(self) -> None:
        _call(self._calls.destroy, self._context)
        os.close(self._event)


def kernel_sync(file: int | None) -> KernelSync | None:
    """Return ``None`` for no file, and where the kernel cannot do this for it."""
    try:
        return None if file is None else KernelSync(file)
    except OSError:
        return None


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _call(number: int, *arguments: object) -> None:
    """Raises ``OSError``."""
    assert _libc is not None
    if _libc.syscall(ctypes.c_long(number), *arguments) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))

"""``resonate backup``: a copy of a running server's database."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click

from resonate_server.client.commands import connect, ended_by_signals, fail
from resonate_server.store.sqlite.backup import BackupUnusable, check_backup, sync
from resonate_server.store.sqlite.lock import PathTaken, check_free


@click.command(short_help="Copy the database of a running server.")
@click.argument("path", type=click.Path(dir_okay=False, readable=False, allow_dash=True))
def backup(path: str) -> None:
    """Write a copy of the server's database to the file PATH, or to standard output if PATH is "-".

    The server keeps running meanwhile; the copy is complete, with the state at the end of the copying. The file gets
    its name only when it is complete and checked, so a failure leaves an earlier PATH as it was. "resonate-server
    restore" restores it.
    """
    if not path:
        raise click.UsageError("the name of the file is empty")
    try:
        if path == "-":
            _write_to_stdout()
        else:
            _write(Path(path))
    except PathTaken as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}")


def _write_to_stdout() -> None:
    if sys.stdout is None:
        fail("standard output is closed")
    connect().download("backup", sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _write(path: Path) -> None:
    check_free(path.resolve())
    coming = path.with_name(path.name + ".part")
    with ended_by_signals(), _open_alone(coming) as file:
        try:
            size = connect().download("backup", file)
            file.flush()
            check_backup(coming)
            sync(coming)
            coming.replace(path)
        except BaseException as error:
            coming.unlink()
            if isinstance(error, BackupUnusable):
                fail(f"the copy is not usable: {error}")
            raise
    sync(path.resolve().parent)
    click.echo(f"{path}: {size:,} bytes", err=True)


@contextmanager
def _open_alone(path: Path) -> Iterator[BinaryIO]:
    """Open a file that no other command writes to, which would do so even after the file got its final name.

    A file that was left behind is used again.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        with suppress(OSError):  # Some network file systems have no locks.
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fail(f"another backup is being written to {path}")
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(descriptor)):
            fail(f"another backup has just been written to {path}")
        file.truncate()
        yield file

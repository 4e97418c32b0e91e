"""``resonate backup``: a copy of a running server's database."""

import sys
from pathlib import Path

import click

from resonate_server.client.commands import fail, where
from resonate_server.client.server_connection import CallFailed
from resonate_server.store.sqlite.backup import BackupUnusable, check_backup, sync

STANDARD_OUTPUT = Path("-")


@click.command(short_help="Copy the database of a running server.")
@click.argument("path", type=click.Path(path_type=Path))
def backup(path: Path) -> None:
    """Write a copy of the server's database to the file PATH, or to standard output if PATH is "-".

    The server keeps running meanwhile; the copy is complete, with the state at the end of the copying. The file gets
    its name only when it is complete and checked, so a failure leaves an earlier PATH as it was. "resonate-server
    restore" restores it.
    """
    try:
        if path == STANDARD_OUTPUT:
            where().connection().download("backup", sys.stdout.buffer)
        else:
            _write(path)
    except CallFailed as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}")


def _write(path: Path) -> None:
    coming = path.with_name(path.name + ".part")
    try:
        with coming.open("wb") as file:
            size = where().connection().download("backup", file)
        check_backup(coming)
        sync(coming)
        coming.replace(path)
        sync(path.resolve().parent)
    except BackupUnusable as error:
        fail(f"the copy is not usable: {error}")
    finally:
        coming.unlink(missing_ok=True)
    click.echo(f"{path}: {size:,} bytes", err=True)

"""Loopback ports: which are free, who listens on them, and which somebody is about to take. Needs no package."""

import contextlib
import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

HELD = Path(os.environ.get("PORTS_FILE", f"/tmp/durable-rpc-{os.getuid()}.ports"))  # noqa: S108
"""Whoever is about to take a port locks the byte with its number. The file stays empty. Each user has one: whoever may
lock the file of another could keep that one from starting anything."""
PATIENCE_SECONDS = 1
"""A process that ends frees its ports a moment later."""
SOCKETS = Path("/proc/net/tcp")
"""Where Linux lists listening sockets."""
LISTENS, ANY, LOOPBACK = "0A", "00000000", "0100007F"
LAST = 65_535


def hold(ports: Collection[int]) -> bool:
    """Hold the ports until this process ends, against other stacks of this user that start. False if another holds one
    of them."""
    try:
        file = _open()
    except OSError:
        return True  # nobody can hold any; a conflict shows when they are bound
    end = time.monotonic() + PATIENCE_SECONDS
    return all(_lock(file, port, end) for port in ports)


def _open() -> int:
    """Raises ``OSError`` if it is not this user's: everybody may create files in that folder."""
    file = os.open(HELD, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if os.fstat(file).st_uid != os.getuid():
        os.close(file)
        raise PermissionError(f"{HELD} belongs to another user")
    return file


def _lock(file: int, port: int, end: float) -> bool:
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        else:
            return True


def is_free(port: int) -> bool:
    """Return whether nobody has it. A port that this user may not bind counts as free: Docker's engine may bind it."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not count
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            return isinstance(error, PermissionError)
        return True


def next_free(first: int, but: Collection[int]) -> int:
    """Return a free port, held from now on; 0 if there is none."""
    return next((port for port in range(first, LAST) if port not in but and is_free(port) and hold_free(port)), 0)


def hold_free(port: int) -> bool:
    """Hold the port; return whether it is free then: whoever held it before may have taken it."""
    return hold([port]) and is_free(port)


def listeners(port: int, pids: Collection[int]) -> set[int] | None:
    """Return which of the processes listen on it, and 0 if somebody else does; None if this system does not tell."""
    try:
        if SOCKETS.exists():
            owners = {socket: pid for pid in pids for socket in _sockets_of(pid)}
            return {owners.get(socket, 0) for socket in _listening(port)}
        told = subprocess.run(["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-t"], capture_output=True, check=False)  # noqa: S603, S607
        return {int(pid) if int(pid) in pids else 0 for pid in told.stdout.split()}
    except OSError:
        return None


def _listening(port: int) -> list[str]:
    rows = [line.split() for line in SOCKETS.read_text().splitlines()[1:]]
    places = {f"{address}:{port:04X}" for address in (ANY, LOOPBACK)}
    return [f"socket:[{row[9]}]" for row in rows if row[1] in places and row[3] == LISTENS]


def _sockets_of(pid: int) -> list[str]:
    """Return what the process has open; nothing if we may not look, or it is gone."""
    found = []
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(file.readlink()))
    return found


def hold_for_reader(ports: Collection[int]) -> None:
    """Print "held", and hold them until nobody reads the output any more; or print the first that is taken."""
    for port in ports:
        if not hold_free(port):
            print(port)
            return
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"held\n")
        while True:
            time.sleep(0.2)
            os.write(1, b"\n")

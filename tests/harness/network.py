"""A network that consists of this machine alone, for programs that react to changes of the real one."""

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


@contextmanager
def isolated_network() -> Iterator[None]:
    """Give this thread, and everything it starts meanwhile, a network with a loopback interface only.

    Where the system does not support this, or allows it to root only, the network stays as it is.
    """
    if sys.platform != "linux":
        yield
        return
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        with suppress(PermissionError):
            os.unshare(os.CLONE_NEWNET)
            _switch_on("lo")
        yield
    finally:
        with suppress(PermissionError):
            os.setns(before, os.CLONE_NEWNET)
        os.close(before)


def _switch_on(interface: str) -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", interface.encode(), IFF_UP))

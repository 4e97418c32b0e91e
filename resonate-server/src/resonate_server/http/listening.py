"""Listening for connections: no more are accepted than may be open. All others wait in the system's queue."""

import asyncio
import logging
import resource
import socket
from collections.abc import Callable
from typing import cast

from aiohttp import web

from resonate_server.http.connections import LOOK_AGAIN_S, Connections

logger = logging.getLogger(__name__)

MAX_NON_STREAM_CONNECTIONS = 1_024
"""Connections allowed in addition to the streams. At the limit, new ones wait, and those that have waited longest for a
request are closed."""

RESERVED_FILES = 512
"""File descriptors reserved for pushes, the database and Python itself."""

SOCKET_BYTES = 64 * 1_024
"""Socket buffer per direction. The kernel allocates twice as much, which counts towards a container's memory limit."""

BACKLOG = 1_024

type Connect = Callable[[], asyncio.Protocol]
"""Makes the protocol of a new connection."""


class Site(web.BaseSite):
    """A listening address, used like :class:`aiohttp.web.TCPSite`. With ``reuse_port``, other processes may listen
    there, too."""

    def __init__(
        self,
        runner: web.BaseRunner,
        host: str,
        port: int,
        connections: Connections,
        connect: Connect,
        reuse_port: bool,
    ) -> None:
        super().__init__(runner)
        self._host = host
        self._port = port
        self._connections = connections
        self._connect = connect
        self._reuse_port = reuse_port

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Raises :class:`OSError`, or :class:`UnicodeError` for an invalid host name."""
        await super().start()
        sockets = await _listen(self._host, self._port, self._reuse_port)
        self._server = cast("asyncio.AbstractServer", Acceptor(sockets, self._connections, self._connect))


class Acceptor:
    """The parts of an :class:`asyncio.Server` that aiohttp uses."""

    def __init__(self, sockets: list[socket.socket], connections: Connections, connect: Connect) -> None:
        self.sockets = sockets
        self._connections = connections
        self._connect = connect
        self._accepting = [asyncio.create_task(self._accept(each)) for each in sockets]

    def close(self) -> None:
        for each in self._accepting:
            each.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    peer, _ = await loop.sock_accept(listener)
                except OSError:  # this process may open no more files for now
                    await asyncio.sleep(LOOK_AGAIN_S)
                else:
                    await self._serve(peer)

    async def _serve(self, peer: socket.socket) -> None:
        await self._connections.room_for_one()
        # Not cancelled with its task: uvloop would never tell the protocol that its connection is lost.
        await asyncio.shield(asyncio.Task(self._begin(peer), loop=asyncio.get_running_loop(), eager_start=True))

    async def _begin(self, peer: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._connect, peer)
        except Exception as error:
            peer.close()
            if not isinstance(error, OSError):  # else the peer has left
                logger.exception("could not serve a connection")


async def _listen(host: str, port: int, reuse_port: bool) -> list[socket.socket]:
    """Listen on every address of ``host``. Raises :class:`OSError` if that is not possible."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    addresses = dict.fromkeys((family, cast("tuple[str, int]", address)) for family, _, _, _, address in found)
    return [
        _listener(family, address, reuse_port)
        for family, address in addresses
        if family != socket.AF_INET6 or socket.has_dualstack_ipv6()
    ]


def _listener(family: int, address: tuple[str, int], reuse_port: bool) -> socket.socket:
    listener = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=reuse_port)
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    return listener


def allow_connections(wanted: int) -> int:
    """Raise the limit of open files to allow ``wanted`` connections; return how many are allowed."""
    files = wanted + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed - RESERVED_FILES, allowed // 2)

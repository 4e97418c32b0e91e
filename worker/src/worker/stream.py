"""The stream of messages from the server to this worker: an implementation of the SDK's `Source`.

The SDK's own one stops listening for good when a stream lasts 300 s, gives no sign of being connected, does not notice
a server that vanished without closing the connection, and loses messages whose letters beyond ASCII are torn apart.
"""

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from resonate.timing import now_ms

from worker.network import leads_elsewhere, pause_after, reason_of

logger = logging.getLogger(__name__)

# After a stream that lasted this long, reconnect without a pause.
LASTING_SECONDS = 0.5
# Promised to the server, in ms: after a broken stream the next one comes this soon, or the process is dead; and it is
# heard of this often, or it is frozen or cut off. So the server can soon give its work to others.
HEARTBEAT_WITHIN = "Resonate-Heartbeat-Within"
TIMING_HEADERS = {"Resonate-Reconnect-Within": "300", HEARTBEAT_WITHIN: "4000"}
# Promised by a server that is one of several, in ms: it writes at least this often. After a longer silence, it hangs.
WRITE_WITHIN = "Resonate-Write-Within"
CONNECT_SECONDS = 2.0
# A server that has accepted the connection answers this soon, or it hangs, and another may be at its address.
GREETING_SECONDS = 10.0
_TIME = re.compile(rb": time ([0-9]{1,15})")
EVENTS = "text/event-stream"
# Many times as long as any message.
MAX_LINE_BYTES = 64 * 1024 * 1024
# A refused token seldom becomes right.
REFUSED_SECONDS = 5.0
# Do not log shorter outages: all programs start at the same time, and a server's restart takes a moment.
QUIET_SECONDS = 1.5


def uptime_ms() -> int:
    """Return milliseconds since some fixed moment, including time spent in suspend if the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class ServerClock:
    """The server's time, from which the SDK computes every deadline: the server judges by its own clock, which never
    jumps. Until a server reports its time (only ours does), it shows the machine's."""

    def __init__(self, uptime: Callable[[], int] = uptime_ms, wall: Callable[[], int] = now_ms) -> None:
        self._uptime = uptime
        self._wall = wall
        self._ahead: int | None = None
        """How many ms the server's time is ahead of the uptime."""
        self._is_new_stream = True

    def __call__(self) -> int:
        return self._wall() if self._ahead is None else self._uptime() + self._ahead

    def start_afresh(self) -> None:
        """A new stream may lead to another server, or to one that was restarted."""
        self._is_new_stream = True

    def synchronise(self, server_ms: int) -> None:
        """Take the server's time. A delayed message carries too early a time, so the greatest value counts."""
        ahead = server_ms - self._uptime()
        if self._is_new_stream or self._ahead is None or ahead > self._ahead:
            self._ahead = ahead
        self._is_new_stream = False


class Stream:
    """Listens as one member of a group; reconnects for as long as it runs."""

    def __init__(self, url: str, group: str, pid: str, token: str | None) -> None:
        self._server = url.rstrip("/")
        self._url = f"{self._server}/poll/{group}/{pid}"
        self._headers = {"Accept": EVENTS} | TIMING_HEADERS
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._group, self._pid = group, pid
        self.clock = ServerClock()
        self._receivers: list[Callable[[str], None]] = []
        self.changed: Callable[[bool], None] = lambda _: None
        """Called with True whenever the stream is established, and with False when it is lost."""
        self._listening: asyncio.Task[None] | None = None
        self._patience: float | None = None
        """Seconds of silence to tolerate, as the server promised last; None: any."""
        self.refusal = ""
        """Why the server refuses this worker; empty if it does not, as far as is known."""
        self.expects_liveness = False
        """Whether the server expects the signs of life that this worker promises. Only ours does."""
        self._last_report = ""
        self._away_since = 0.0
        """Since when there has been no stream that lasted."""
        self._established = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether messages from the server reach this process now."""
        return self._established.is_set()

    @property
    def is_listening(self) -> bool:
        """Whether it listens, or tries to; false once it is stopped, or its event loop ends."""
        return self._listening is not None and not self._listening.done() and not self._listening.cancelling()

    async def wait_until_connected(self) -> None:
        await self._established.wait()

    def unicast(self) -> str:
        return f"poll://uni@{self._group}/{self._pid}"

    def resolve_target(self, target: str) -> str:
        return f"poll://any@{target}"

    def recv(self, callback: Callable[[str], None]) -> None:
        self._receivers.append(callback)

    async def start(self) -> None:
        self._away_since = time.monotonic()
        self._listening = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        self._receivers.clear()
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        self._lose()

    async def _listen(self) -> None:
        async with _session() as session:
            while True:
                began = time.monotonic()
                try:
                    await self._read_one_stream(session)
                except Exception as error:  # of any kind: a worker that no longer listens would never be missed
                    self.refusal = ""
                    if not self.connected and time.monotonic() - self._away_since > QUIET_SECONDS:
                        self._report(f"cannot reach server {self._server}, retrying", detail=reason_of(error))
                now = time.monotonic()
                if lasted := self.connected and now - began > LASTING_SECONDS:
                    self._away_since = now
                self._lose()
                if not lasted:
                    await asyncio.sleep(REFUSED_SECONDS if self.refusal else pause_after(now - self._away_since))

    async def _read_one_stream(self, session: aiohttp.ClientSession) -> None:
        """Raises :class:`TimeoutError` if the server does not answer, or later hangs and is one of several."""
        unread = bytearray()
        async with (
            asyncio.timeout(self._patience or GREETING_SECONDS) as silence,
            session.get(self._url, headers=self._headers) as response,
        ):
            if response.status != HTTPStatus.OK or response.content_type != EVENTS:
                self._report_refusal(response.status, response.content_type)
                return
            self.expects_liveness = HEARTBEAT_WITHIN in response.headers
            within = response.headers.get(WRITE_WITHIN, "")
            self._patience = int(within) / 1_000 if re.fullmatch("[0-9]+", within) else None
            self._establish()
            self._await_more(silence)
            async for chunk in response.content.iter_any():
                self._await_more(silence)
                unread += chunk
                if b"\n" in chunk:
                    *lines, unread = unread.split(b"\n")
                    for line in lines:
                        self._read(bytes(line))
                elif len(unread) > MAX_LINE_BYTES:
                    raise aiohttp.ClientPayloadError("a message has no end")

    def _await_more(self, silence: asyncio.Timeout) -> None:
        now = asyncio.get_running_loop().time()
        silence.reschedule(None if self._patience is None else now + self._patience)

    def _read(self, line: bytes) -> None:
        """Read a line of the stream: a whole message, or in a comment, the server's time."""
        name, _, message = line.partition(b":")
        if name == b"data" and (message := message.strip()):
            self.deliver(message.decode(errors="replace"))
        elif match := _TIME.fullmatch(line):
            self.clock.synchronise(int(match[1]))

    def deliver(self, message: str) -> None:
        """Pass a message to the receivers."""
        for receive in list(self._receivers):
            try:
                receive(message)
            except Exception as error:
                logger.warning("a message from the server could not be read: %s", reason_of(error))

    def _establish(self) -> None:
        self._report(f"connected to server {self._server}")
        self.refusal = ""
        self.clock.start_afresh()
        self._established.set()
        self.changed(True)

    def _lose(self) -> None:
        if self.connected:
            self._established.clear()
            self.changed(False)

    def _report_refusal(self, status: int, content: str) -> None:
        reasons: dict[int, str] = {
            HTTPStatus.UNAUTHORIZED: "it does not accept RESONATE_TOKEN"
            if "Authorization" in self._headers
            else "it requires a token, and RESONATE_TOKEN is not set",
            HTTPStatus.FORBIDDEN: "RESONATE_TOKEN does not permit listening for this worker's group",
            HTTPStatus.MISDIRECTED_REQUEST: "it does not accept this host name; its RESONATE_SERVER__HOSTS can add it",
        }
        self.refusal = reasons.get(status, "")
        if self.refusal:
            self._report(f"server {self._server} refuses this worker: {self.refusal}", level=logging.WARNING)
        elif not leads_elsewhere(status):
            self._report(f"server {self._server} refuses the stream, retrying", str(status))
        else:
            answer = f"it answers with {content}" if status == HTTPStatus.OK else f"it answers {status}"
            url = urlsplit(self._server)
            mend = f"{url.scheme}://{url.netloc}" if url.path else "the server's, such as http://localhost:8001"
            line = f"there is no Resonate server at {self._server}; retrying. Should RESONATE_URL be {mend}?"
            self._report(line, answer, logging.WARNING)

    def _report(self, line: str, detail: str = "", level: int = logging.INFO) -> None:
        """Log a line unless it repeats the last one: streams end as planned every few minutes."""
        if line != self._last_report:
            self._last_report = line
            logger.log(level, "%s%s", line, f" ({detail})" if detail else "")


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(use_dns_cache=False, socket_factory=_watched_socket)
    # No total limit, as a stream may last. Connecting includes the name lookup.
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


def _watched_socket(address: Any) -> socket.socket:
    """Make a socket that notices within about 10 s if its peer vanishes silently."""
    family, kind, protocol, _, _ = address
    watched = socket.socket(family, kind, protocol)
    watched.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 4), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            watched.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return watched

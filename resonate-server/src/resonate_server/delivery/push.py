"""Delivery by HTTP: the message is POSTed to the address itself (protocol section 5.3, end).

At most once per dispatch: a failure is counted and logged, and the task's retry timer brings the message again.
"""

import asyncio
import logging
from collections.abc import Callable

import aiohttp

from resonate_server.config import HttpPush
from resonate_server.metrics import Metrics
from resonate_server.protocol.messages import Execute, Message, Unblock, encode_message

logger = logging.getLogger(__name__)

MAX_QUEUED = 10_000
"""Messages that wait for a free slot. Beyond that they are dropped; the retry timer brings them again."""


class Push:
    """Used on the event loop, between :meth:`start` and :meth:`stop`."""

    def __init__(
        self, settings: HttpPush, server_url: str, metrics: Metrics, delivered: Callable[[Unblock], None]
    ) -> None:
        self._settings = settings
        self._server_url = server_url
        self._metrics = metrics
        self._delivered = delivered
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._queued: set[str] = set()
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        connect, total = self._settings.connect_timeout / 1_000, self._settings.request_timeout / 1_000
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=total, connect=connect),
            headers=self._auth_headers(),
            connector=aiohttp.TCPConnector(limit=self._settings.concurrency),
        )

    async def stop(self) -> None:
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def send(self, message: Message, url: str) -> None:
        """Start delivering. A message that is still under way is not sent twice at a time."""
        if not self._settings.enabled or len(self._under_way) >= MAX_QUEUED:
            self._metrics.delivery("dropped")
            return
        key = message.task_id if isinstance(message, Execute) else f"{message.promise.id} {url}"
        if key not in self._under_way:
            self._queued.add(key)
            self._under_way[key] = task = asyncio.create_task(self._deliver(key, message, url))
            task.add_done_callback(lambda _: self._forget(key))

    def withdraw(self, task_id: str) -> None:
        """The task needs no worker any more. A request that has begun goes on: it may be the worker's own claim."""
        if task_id in self._queued:
            self._under_way[task_id].cancel()

    async def _deliver(self, key: str, message: Message, url: str) -> None:
        async with self._slots:
            self._queued.discard(key)
            await self._post(message, url)

    def _forget(self, key: str) -> None:
        """In a callback, because a delivery that is cancelled before its first step runs no code of its own."""
        self._queued.discard(key)
        del self._under_way[key]

    async def _post(self, message: Message, url: str) -> None:
        assert self._session is not None
        body = encode_message(message, self._server_url)
        try:
            async with self._session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
                ok, outcome = response.status // 100 == 2, f"status {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            ok, outcome = False, str(error) or type(error).__name__
        self._metrics.delivery("success" if ok else "error")
        if not ok:
            logger.warning("could not deliver to %s: %s", url, outcome)
        elif isinstance(message, Unblock):
            self._delivered(message)

    def _auth_headers(self) -> dict[str, str]:
        auth = self._settings.auth
        return {auth.header: f"Bearer {auth.token}"} if auth.mode == "bearer" else {}

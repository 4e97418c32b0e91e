"""Delivers messages by HTTP: each is POSTed to its address (protocol section 5.3, end).

At most once per dispatch: a failure is counted and logged, and the task's retry timer sends the message again.

Every target has its own queue and starts with one request at a time. Each success allows one more, a failure resets it
to one. So a target that does not answer, or whose name is not found for long, holds up only itself. Where many such
targets take all places, they get less time.
"""

import asyncio
import concurrent.futures
import logging
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
from msgspec import Struct, field

from resonate_server.bounded_connector import BoundedConnector
from resonate_server.certificates import context_for
from resonate_server.config import HttpPush
from resonate_server.delivery.unblocks import OVERHEAD_BYTES, weight_of
from resonate_server.metrics import Metrics
from resonate_server.protocol.messages import Execute, Message, Unblock, encode_message

logger = logging.getLogger(__name__)

MAX_WAITING_BYTES = 16 * 2**20
"""Limit on messages queued or in flight. Beyond it the target with the most loses its newest; the retry timer resends
an ``execute``."""

MAX_TARGETS = 1_024
"""Targets to remember; idle ones are forgotten first."""

MAX_AT_A_TIME = 32
"""Most concurrent requests to one target, once it has answered as many."""

TRIAL_S = 5.0
"""How long a target that has not answered lately keeps its place while others wait for one."""

LOG_PAUSE_S = 60.0
"""Minimum time between two warnings about one target."""


type Key = tuple[str, int | str]
"""A task and its version, because a worker may claim and suspend a task before it answers the request that offered it;
or a promise and the address of its listener."""


class Delivery(Struct, eq=False):
    """A message to deliver to ``url``; ``size`` in bytes."""

    key: Key
    message: Message
    url: str
    size: int


class PushTarget(Struct, eq=False):
    """The messages to send to ``origin``: a scheme, host and port.

    ``window``: most concurrent requests; 1 while the target is untried or its last request failed. ``lookup``: of its
    name, if under way.
    """

    origin: str
    queue: OrderedDict[Key, Delivery] = field(default_factory=OrderedDict)
    senders: set[asyncio.Task[None]] = field(default_factory=set)
    """Each sends one message after the other, until none is left."""
    window: int = 1
    size: int = 0
    lookup: asyncio.Future[Any] | None = None
    failures: int = 0
    """In a row."""
    told: float = float("-inf")
    """When a failure was last logged, in monotonic seconds."""


class Push:
    """Used on the event loop, between :meth:`start` and :meth:`stop`."""

    def __init__(
        self, settings: HttpPush, server_url: str, metrics: Metrics, delivered: Callable[[Unblock], None]
    ) -> None:
        self._settings = settings
        self._server_url = server_url
        self._metrics = metrics
        self._delivered = delivered
        self._targets: OrderedDict[str, PushTarget] = OrderedDict()
        self._target_of: dict[Key, PushTarget] = {}
        """By the key of each message that is queued or in flight."""
        self._size = 0
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._trials = asyncio.Semaphore(max(settings.concurrency // 2, 1))
        """Half of the slots are for targets that have answered before."""
        self._on_trial: dict[asyncio.Timeout, float] = {}
        """Requests to the other targets, and when each began (loop time)."""
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        connect, total = self._settings.connect_timeout / 1_000, self._settings.request_timeout / 1_000
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=total, connect=connect),
            headers=self._auth_headers(),
            connector=BoundedConnector(
                limit=self._settings.concurrency,
                resolver=aiohttp.ThreadedResolver(cast("asyncio.AbstractEventLoop", _NameLookups())),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # A jar would fill up, and show one target's cookies to another.
        )

    async def stop(self) -> None:
        senders = [sender for target in self._targets.values() for sender in target.senders]
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def send(self, message: Message, url: str) -> None:
        """Start delivering. A message queued or in flight is not sent twice."""
        key: Key = (message.task_id, message.version) if isinstance(message, Execute) else message.key
        if key in self._target_of:
            return
        delivery = Delivery(key, message, url, OVERHEAD_BYTES if isinstance(message, Execute) else weight_of(message))
        target = self._target(url) if self._settings.enabled else None
        if target is None or not self._make_room(delivery, target):
            self._metrics.deliveries.labels("dropped").inc()
            return
        target.queue[key] = delivery
        self._target_of[key] = target
        self._weigh(target, delivery.size)
        self._add_senders(target)

    def withdraw(self, task_id: str, version: int) -> None:
        """Drop a task that needs no worker any more. A request in flight continues: it may have led to the claim."""
        key = task_id, version
        target = self._target_of.get(key)
        if target is not None and key in target.queue:
            self._forget(target, target.queue.pop(key))

    # --- queues -----------------------------------------------------------------------------------------------------

    def _target(self, url: str) -> PushTarget | None:
        """Return the target of ``url``, or ``None`` if too many others are busy."""
        origin = _origin(url)
        target = self._targets.get(origin)
        if target is None:
            if len(self._targets) >= MAX_TARGETS and not self._forget_an_idle_target():
                return None
            target = self._targets[origin] = PushTarget(origin)
        self._targets.move_to_end(origin)
        return target

    def _forget_an_idle_target(self) -> bool:
        idle = next((origin for origin, target in self._targets.items() if not target.senders), None)
        if idle is not None:
            del self._targets[idle]
        return idle is not None

    def _make_room(self, delivery: Delivery, target: PushTarget) -> bool:
        """Drop messages of the targets with the most queued. Return whether there is room now."""
        while self._size and self._size + delivery.size > MAX_WAITING_BYTES:
            queueing = (each for each in self._targets.values() if each.queue)
            largest = max(queueing, key=lambda each: each.size, default=target)
            if largest is target or largest.size <= target.size + delivery.size:
                return False
            _, dropped = largest.queue.popitem()
            self._forget(largest, dropped)
            self._metrics.deliveries.labels("dropped").inc()
        return True

    def _forget(self, target: PushTarget, delivery: Delivery) -> None:
        del self._target_of[delivery.key]
        self._weigh(target, -delivery.size)

    def _weigh(self, target: PushTarget, size: int) -> None:
        target.size += size
        self._size += size

    # --- requests ---------------------------------------------------------------------------------------------------

    def _add_senders(self, target: PushTarget) -> None:
        for _ in range(min(target.window - len(target.senders), len(target.queue))):
            target.senders.add(asyncio.create_task(self._send_all(target)))

    async def _send_all(self, target: PushTarget) -> None:
        """Send queued messages one by one, unless the target has more senders than its window allows."""
        try:
            while target.queue and len(target.senders) <= target.window:
                if target.window == 1 and self._trials.locked():
                    self._hurry()
                async with self._trials if target.window == 1 else nullcontext(), self._slots:
                    if target.queue:
                        await self._deliver(target, target.queue.popitem(last=False)[1])
                self._add_senders(target)
        finally:
            target.senders.remove(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _deliver(self, target: PushTarget, delivery: Delivery) -> None:
        _served.set(target)
        trouble = await (self._try(delivery) if target.window == 1 else self._post(delivery))
        self._metrics.deliveries.labels("error" if trouble else "success").inc()
        if trouble:
            self._metrics.push_failed(target.origin)
            self._failed(target, delivery.message, trouble)
        else:
            self._succeeded(target)
            if isinstance(delivery.message, Unblock):
                self._delivered(delivery.message)
        if target.lookup is not None:  # It outlives the request, and its thread takes the place of a request.
            await asyncio.wait([target.lookup])
        self._forget(target, delivery)

    async def _try(self, delivery: Delivery) -> str | None:
        """Send it to a target that has not answered lately. Return what went wrong, or ``None``."""
        try:
            async with asyncio.timeout(None) as limit:
                self._on_trial[limit] = asyncio.get_running_loop().time()
                return await self._post(delivery)
        except TimeoutError:
            return f"no answer within {TRIAL_S:g} s, and others wait"
        finally:
            self._on_trial.pop(limit, None)

    def _hurry(self) -> None:
        """End the oldest trial in time: another target waits for its place."""
        oldest = next((limit for limit in self._on_trial if limit.when() is None), None)
        if oldest is not None:
            oldest.reschedule(self._on_trial[oldest] + TRIAL_S)

    async def _post(self, delivery: Delivery) -> str | None:
        """Return what went wrong, or ``None``. Do not follow redirects: our credentials are for this address only."""
        assert self._session is not None
        body, headers = encode_message(delivery.message, self._server_url), {"Content-Type": "application/json"}
        url = delivery.url
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False, ssl=context_for(url)
            ) as response:
                return None if response.status // 100 == 2 else f"status {response.status}"
        except Exception as error:  # of any kind: it must not end the sender
            return _trouble(error)

    def _succeeded(self, target: PushTarget) -> None:
        target.window = min(target.window + 1, MAX_AT_A_TIME)
        if target.failures:
            logger.info("deliveries to %r succeed again, after %d failures", target.origin, target.failures)
            target.failures = 0

    def _failed(self, target: PushTarget, message: Message, trouble: str) -> None:
        """Log the first of consecutive failures, with one message as an example."""
        target.window = 1
        target.failures += 1
        now = time.monotonic()
        if target.failures == 1 and now - target.told >= LOG_PAUSE_S:
            target.told = now
            subject = message.task_id if isinstance(message, Execute) else message.promise.id
            logger.warning("could not deliver %r to %r: %s", subject, target.origin, trouble)

    def _auth_headers(self) -> dict[str, str]:
        auth = self._settings.auth
        return {auth.header: f"Bearer {auth.token}"} if auth.mode == "bearer" else {}


_served: ContextVar[PushTarget] = ContextVar("_served")


class _NameLookups:
    """Takes the place of the event loop in aiohttp's resolver, and gives each lookup a thread of its own.

    The loop has a few threads for all of them, and a name whose servers do not answer holds one for half a minute.
    """

    def __init__(self) -> None:
        self.getnameinfo = asyncio.get_running_loop().getnameinfo

    async def getaddrinfo(self, host: str, port: int, **options: Any) -> Any:
        found: concurrent.futures.Future[Any] = concurrent.futures.Future()
        found.set_running_or_notify_cancel()

        def look_up() -> None:
            try:
                found.set_result(socket.getaddrinfo(host, port, **options))
            except Exception as error:
                found.set_exception(error)

        threading.Thread(target=look_up, daemon=True).start()
        target = _served.get()
        target.lookup = asyncio.wrap_future(found)
        try:
            return await target.lookup
        finally:
            target.lookup = None


def _trouble(error: Exception) -> str:
    """Say what is wrong, without the URL, which may hold secrets, and without what the target has sent."""
    match error:
        case aiohttp.InvalidURL():
            return "not a valid URL"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed"
        case aiohttp.ClientConnectorError(os_error=reason):
            return reason.strerror or str(reason)
        case aiohttp.ClientResponseError(message=message) if message:
            return message.partition("\n")[0].rstrip(":")
    return str(error) or type(error).__name__


def _origin(url: str) -> str:
    """Return scheme, host and port without credentials. All invalid addresses are one target, and fail."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()

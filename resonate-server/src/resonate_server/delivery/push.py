"""Delivers messages by HTTP: each is POSTed to its address (protocol section 5.3, end).

At most once per dispatch: a failure is counted and logged, and the task's retry timer sends the message again.

Every target has its own queue and starts with one request at a time. Each success allows one more, a failure resets it
to one. So a target that does not answer holds up only itself.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
from msgspec import Struct, field

from resonate_server.certificates import context_for
from resonate_server.config import HttpPush
from resonate_server.metrics import Metrics
from resonate_server.protocol.messages import Execute, Message, Unblock, encode_message
from resonate_server.protocol.records import Value

logger = logging.getLogger(__name__)

MAX_WAITING_BYTES = 16 * 2**20
"""Limit on messages queued or in flight. Beyond it the target with the most loses its newest; the retry timer resends
an ``execute``."""

MESSAGE_BYTES = 1_024
"""Assumed size of a message without its payloads."""

MAX_TARGETS = 1_024
"""Targets to remember; idle ones are forgotten first."""

MAX_AT_A_TIME = 32
"""Most concurrent requests to one target, once it has answered as many."""

LOG_PAUSE_S = 60.0
"""Minimum time between two warnings about one target."""


class Delivery(Struct, eq=False):
    """A message to deliver to ``url``; ``size`` in bytes."""

    key: str
    message: Message
    url: str
    size: int


class PushTarget(Struct, eq=False):
    """Scheme, host and port, and the messages to send there.

    ``window``: most concurrent requests; 1 while the target is untried or its last request failed.
    """

    origin: tuple[str, str]
    queue: OrderedDict[str, Delivery] = field(default_factory=OrderedDict)
    under_way: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    window: int = 1
    size: int = 0
    in_line: bool = False
    failures: int = 0
    """In a row."""
    told: float = float("-inf")
    """When a failure was last logged, in monotonic seconds."""

    @property
    def is_idle(self) -> bool:
        return not self.queue and not self.under_way

    @property
    def has_next(self) -> bool:
        return bool(self.queue) and len(self.under_way) < self.window


class Push:
    """Used on the event loop, between :meth:`start` and :meth:`stop`."""

    def __init__(
        self, settings: HttpPush, server_url: str, metrics: Metrics, delivered: Callable[[Unblock], None]
    ) -> None:
        self._settings = settings
        self._server_url = server_url
        self._metrics = metrics
        self._delivered = delivered
        self._targets: OrderedDict[tuple[str, str], PushTarget] = OrderedDict()
        self._target_of: dict[str, PushTarget] = {}
        """By the key of each message that is queued or in flight."""
        self._proven: deque[PushTarget] = deque()
        self._untried: deque[PushTarget] = deque()
        """Targets with something to send, in the order of their turns."""
        self._size = 0
        self._under_way = self._on_trial = 0
        """Requests in flight; and those among them to unproven targets."""
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        connect, total = self._settings.connect_timeout / 1_000, self._settings.request_timeout / 1_000
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=total, connect=connect),
            headers=self._auth_headers(),
            connector=aiohttp.TCPConnector(limit=self._settings.concurrency),
        )

    async def stop(self) -> None:
        tasks = [task for target in self._targets.values() for task in target.under_way.values()]
        for target in self._targets.values():
            target.queue.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def send(self, message: Message, url: str) -> None:
        """Start delivering. A message queued or in flight is not sent twice."""
        key = message.task_id if isinstance(message, Execute) else f"{message.promise.id} {url}"
        if key in self._target_of:
            return
        delivery = Delivery(key, message, url, _size(message))
        target = self._target(url) if self._settings.enabled else None
        if target is None or not self._make_room(delivery, target):
            self._metrics.delivery("dropped")
            return
        target.queue[key] = delivery
        self._target_of[key] = target
        self._weigh(target, delivery.size)
        self._line_up(target)
        self._pump()

    def withdraw(self, task_id: str) -> None:
        """Drop a task that needs no worker any more. A request in flight continues: it may have led to the claim."""
        target = self._target_of.get(task_id)
        if target is not None and task_id in target.queue:
            self._forget(target, target.queue.pop(task_id))

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
        idle = next((origin for origin, target in self._targets.items() if target.is_idle), None)
        if idle is not None:
            del self._targets[idle]
        return idle is not None

    def _make_room(self, delivery: Delivery, target: PushTarget) -> bool:
        """Drop messages of the targets with the most queued. Return whether there is room now."""
        while self._size and self._size + delivery.size > MAX_WAITING_BYTES:
            largest = max((each for each in self._targets.values() if each.queue), key=_weight, default=target)
            if largest is target or largest.size <= target.size + delivery.size:
                return False
            _, dropped = largest.queue.popitem()
            self._forget(largest, dropped)
            self._metrics.delivery("dropped")
        return True

    def _forget(self, target: PushTarget, delivery: Delivery) -> None:
        del self._target_of[delivery.key]
        self._weigh(target, -delivery.size)

    def _weigh(self, target: PushTarget, size: int) -> None:
        target.size += size
        self._size += size

    # --- requests ---------------------------------------------------------------------------------------------------

    def _line_up(self, target: PushTarget) -> None:
        if target.has_next and not target.in_line:
            target.in_line = True
            (self._proven if target.window > 1 else self._untried).append(target)

    def _pump(self) -> None:
        """Start requests in free slots; half of the slots are for targets that have answered before."""
        slots = self._settings.concurrency
        while self._proven and self._under_way < slots:
            self._take_turn(self._proven.popleft())
        while self._untried and self._under_way < slots and self._on_trial < max(slots // 2, 1):
            self._take_turn(self._untried.popleft())

    def _take_turn(self, target: PushTarget) -> None:
        target.in_line = False
        if target.has_next:
            self._begin(target, target.queue.popitem(last=False)[1])
        self._line_up(target)

    def _begin(self, target: PushTarget, delivery: Delivery) -> None:
        on_trial = target.window == 1
        self._under_way += 1
        self._on_trial += on_trial
        target.under_way[delivery.key] = task = asyncio.create_task(self._deliver(target, delivery))
        task.add_done_callback(lambda _: self._ended(target, delivery, on_trial))

    def _ended(self, target: PushTarget, delivery: Delivery, on_trial: bool) -> None:
        """Runs as a callback, because a delivery cancelled before its first step runs no code of its own."""
        self._under_way -= 1
        self._on_trial -= on_trial
        del target.under_way[delivery.key]
        self._forget(target, delivery)
        self._line_up(target)
        self._pump()

    async def _deliver(self, target: PushTarget, delivery: Delivery) -> None:
        trouble = await self._post(delivery)
        self._metrics.delivery("error" if trouble else "success")
        if trouble:
            self._metrics.push_failed("://".join(target.origin))
            self._failed(target, delivery, trouble)
        else:
            self._succeeded(target)
            if isinstance(delivery.message, Unblock):
                self._delivered(delivery.message)

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
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return str(error) or type(error).__name__

    def _succeeded(self, target: PushTarget) -> None:
        target.window = min(target.window + 1, MAX_AT_A_TIME)
        if target.failures:
            logger.info("deliveries to %r succeed again, after %d failures", "://".join(target.origin), target.failures)
            target.failures = 0

    def _failed(self, target: PushTarget, delivery: Delivery, trouble: str) -> None:
        """Log the first of consecutive failures, with one message as an example."""
        target.window = 1
        target.failures += 1
        now = time.monotonic()
        if target.failures == 1 and now - target.told >= LOG_PAUSE_S:
            target.told = now
            logger.warning("could not deliver %r to %r: %s", _subject(delivery.message), delivery.url, trouble)

    def _auth_headers(self) -> dict[str, str]:
        auth = self._settings.auth
        return {auth.header: f"Bearer {auth.token}"} if auth.mode == "bearer" else {}


def _subject(message: Message) -> str:
    return message.task_id if isinstance(message, Execute) else message.promise.id


def _origin(url: str) -> tuple[str, str]:
    """Return scheme, and host with port. An invalid address is a target of its own, and fails."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", url
    return parts.scheme.lower(), parts.netloc.rpartition("@")[2].lower()


def _size(message: Message) -> int:
    if isinstance(message, Execute):
        return MESSAGE_BYTES
    promise = message.promise
    return MESSAGE_BYTES + _value_size(promise.param) + _value_size(promise.value) + _texts_size(promise.tags)


def _value_size(value: Value) -> int:
    return len(value.data or "") + _texts_size(value.headers or {})


def _texts_size(texts: dict[str, str]) -> int:
    return sum(len(name) + len(text) for name, text in texts.items())


def _weight(target: PushTarget) -> int:
    return target.size

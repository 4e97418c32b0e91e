"""Exports an OpenTelemetry span for each attempt that its worker did not end.

Such an attempt lost its lease, or others settled or halted the call. Workers export all other attempts but none of
these, so each is exported once. A span's id is derived from promise and attempt number, here as in the workers, so the
calls of the attempt, and the next attempt, are linked to it. Loaded only if a collector is configured.
"""

import asyncio
import logging
import threading
import time
from hashlib import sha256
from typing import Final, override

import requests
from msgspec import UNSET
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from resonate_server.engine import Engine
from resonate_server.engine.outbound import DecisionObserver
from resonate_server.kernel.model import Task
from resonate_server.protocol.payload import function_of
from resonate_server.protocol.records import TaskState
from resonate_server.protocol.requests import TaskFulfill, TaskRelease, TaskSuspend
from resonate_server.store import Decided
from resonate_server.store.errors import ReadFailed
from resonate_server.watch.derive import chain_of

OUTCOMES: Final = {
    TaskState.PENDING: "lease lost",
    TaskState.FULFILLED: "settled by others",
    TaskState.HALTED: "halted",
}
EXPORT_MS: Final = 200
CLOSE_TIMEOUT_S: Final = 0.2
MAX_ANSWER_BYTES: Final = 4_096
MAX_HELD: Final = 10_000
"""Attempts whose beginning is remembered; for others, the span begins at the last sign of life."""


class LostAttempts(DecisionObserver):
    def __init__(self, engine: Engine) -> None:
        logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # no warning for each retry
        self._engine, self._ids = engine, _Ids()
        resource = Resource.create({"service.name": "resonate-server"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=self._ids)
        exporter = OTLPSpanExporter(session=_session())
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_MS))
        self._tracer = self._provider.get_tracer("resonate_server")
        self._held_since: dict[tuple[str, int], int] = {}
        """By task and attempt: when this server first saw it held, in ms."""
        self._telling: set[asyncio.Task[None]] = set()

    @override
    def decided(self, decided: Decided) -> None:
        for task in decided.decision.changes.tasks.values():
            before = decided.rows.tasks.get(task.id)
            if task.state is TaskState.ACQUIRED:
                self._held(task, decided.now)
            elif before is not None and before.state is TaskState.ACQUIRED:
                self._ended(before, task.state, decided)

    @override
    def close(self) -> None:
        sending = threading.Thread(target=self._provider.force_flush, daemon=True)
        sending.start()
        sending.join(CLOSE_TIMEOUT_S)

    def _held(self, task: Task, now: int) -> None:
        self._held_since.setdefault((task.id, task.version), now)
        if len(self._held_since) > MAX_HELD:  # the oldest may have ended unseen by this server
            del self._held_since[next(iter(self._held_since))]

    def _ended(self, task: Task, state: TaskState, decided: Decided) -> None:
        """``task``: as it was while held; ``state``: its new state."""
        heard_at = (task.timer_at or decided.now) - (task.ttl or 0)
        begin = self._held_since.pop((task.id, task.version), heard_at)
        if not _is_by_holder(decided, task.id):
            telling = asyncio.ensure_future(self._tell(task, OUTCOMES[state], begin, decided.now))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def _tell(self, task: Task, outcome: str, begin: int, end: int) -> None:
        """Export the span. Times are in ms by the server's clock; the span has the machine's time, as workers' spans
        do."""
        ahead = time.time_ns() - self._engine.now() * 1_000_000
        try:
            promise = (await self._engine.read(lambda view: view.promises((task.id,)))).get(task.id)
        except ReadFailed:  # those who need the store report it
            return
        if promise is None or promise.is_timer:  # SDKs drop claims of timers
            return
        headers = {} if promise.param.headers is UNSET else promise.param.headers
        parent = TraceContextTextMapPropagator().extract(headers, Context())
        function = function_of(promise)
        self._ids.next = trace_id(chain_of(promise)), span_id(task.id, task.version)
        span = self._tracer.start_span(
            function or "attempt", parent, SpanKind.CONSUMER, start_time=begin * 1_000_000 + ahead
        )
        if task.version > 1:
            before = span_id(task.id, task.version - 1)
            span.add_link(SpanContext(span.get_span_context().trace_id, before, is_remote=True))
        span.set_attributes({"resonate.promise.id": task.id, "resonate.function": function or ""})
        span.set_attributes({"resonate.attempt": task.version, "resonate.outcome": outcome})
        span.set_status(StatusCode.ERROR, f"{outcome}; it was held by {task.pid}")
        span.end(end * 1_000_000 + ahead)


def _session() -> requests.Session:
    """Read at most a little of each answer: only its status counts, and another server's body may never end."""
    session = requests.Session()
    session.hooks["response"].append(_close)
    return session


def _close(response: requests.Response, **_: object) -> None:
    response.raw.read1(MAX_ANSWER_BYTES, decode_content=False)  # a whole answer leaves the connection open
    response.close()
    if response.is_redirect:  # not followed, but taken for a success
        raise requests.TooManyRedirects(f"it redirects to {response.headers['Location']}")


class _Ids(IdGenerator):
    """Hands out the span's id, and the trace's id if the attempt has to begin a trace."""

    next = (0, 0)

    @override
    def generate_trace_id(self) -> int:
        return self.next[0]

    @override
    def generate_span_id(self) -> int:
        return self.next[1]


def trace_id(origin: str) -> int:
    """Return the trace id for calls whose caller does not trace: one for each chain."""
    return int.from_bytes(sha256(origin.encode()).digest()[:16])


def span_id(promise: str, attempt: int) -> int:
    return int.from_bytes(sha256(f"{promise}/{attempt}".encode()).digest()[:8])


def _is_by_holder(decided: Decided, id: str) -> bool:
    match decided.request:
        case TaskFulfill() | TaskRelease() | TaskSuspend() as end:
            return end.id == id and decided.decision.answer.status == 200
    return False

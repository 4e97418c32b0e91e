"""A worker: functions that the server may call, in a process that leaves nothing behind when it ends."""

import asyncio
import logging
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import uvloop
from resonate.heartbeat import NoopHeartbeat
from resonate.observability import Event, PromiseSettleReturned
from resonate.resonate import Resonate
from resonate.retry import Constant
from resonate.send import Sender
from resonate.transport import Transport

from worker.faults import Faults
from worker.health import BEAT_SECONDS, HealthFile
from worker.heartbeats import HeartbeatThread
from worker.leases import LeaseKeeper
from worker.logs import configure_logging
from worker.network import HttpNetwork
from worker.runs import RunLog
from worker.seams import adapt_sdk, check_durable, silence_sdk
from worker.settings import Settings
from worker.stream import Stream
from worker.values import PlainValues

if TYPE_CHECKING:
    from worker.tracing import Tracing

logger = logging.getLogger(__name__)

type DurableFunction = Callable[..., Any]

# Limits on connections to the server. As with the SDK's own figures, a heartbeat should find a free one.
MIN_CONNECTIONS, CONNECTIONS_PER_TASK = 256, 4
# Retry a failing function twice, one second apart, so that its caller soon hears of the failure.
RETRY_POLICY = Constant(max_retries=2, delay=1)
# Shutdown limits: together under one second even if the server does not answer.
ANSWER_SECONDS = 0.3
RELEASE_SECONDS = 0.4
SPANS_SECONDS = 0.2
# After this time a worker that was told to stop ends, although a function blocks its event loop.
END_SECONDS = 3.0
LOOK_SECONDS = 1.0
# Results are pushed. Other servers may lose one, so awaited results are polled this often (the SDK: every 60 s).
REFRESH_SECONDS = 30.0


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask the process to end. Under nohup, SIGHUP from a closed terminal is not among them."""
    is_deaf = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, *([] if is_deaf else [signal.SIGHUP])]


class Worker:
    """Functions, each known by its own name, to be served as a member of a group.

    Plain functions run on the event loop, like asynchronous ones, so they must not block.
    """

    def __init__(self, group: str, *functions: DurableFunction) -> None:
        """Raises `ValueError` for a name that cannot be called, `TypeError` for what is not a durable function."""
        if not re.fullmatch(r"[^\s/@?#%]+", group):
            raise ValueError(f"a group's name has no blanks and none of / @ ? # %: {group!r}")
        names = [getattr(function, "__name__", repr(function)) for function in functions]
        for name, function in zip(names, functions, strict=True):
            if not callable(function):
                raise TypeError(f"this is not a function: {name}")
            if not name.isidentifier() or names.count(name) > 1:
                raise ValueError(f"each function needs a name of its own: {name}")
            check_durable(function)
        self.group = group
        self.functions = functions

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP, and end the process. Raises `ValueError` if there is no function."""
        if not self.functions:
            raise ValueError(f"the worker of {self.group} has no functions: Worker({self.group!r}, function, ...)")
        configure_logging()
        asyncio.run(self._serve(Settings.from_environment()), loop_factory=uvloop.new_event_loop)

    async def _serve(self, settings: Settings) -> NoReturn:
        loop, told_to_stop = asyncio.get_running_loop(), asyncio.Event()

        def stop(*_: object) -> None:
            loop.call_soon_threadsafe(told_to_stop.set)
            threading.Thread(target=_end_anyway, daemon=True).start()

        # A handler of the loop would not be called while a function blocks it.
        former = {number: signal.signal(number, stop) for number in ending_signals()}

        def restore() -> None:
            for number, handler in former.items():
                signal.signal(number, handler)
            unblock()
            loop.call_soon(os._exit, 1)  # it must not go on with this loop: the connections are the worker's

        # `multiprocessing` ends the processes of a pool by SIGTERM, perhaps before they have forgotten the handler.
        block = partial(signal.pthread_sigmask, signal.SIG_BLOCK, former)
        unblock = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, former)
        os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=restore)
        running = RunningWorker(self, settings)
        await told_to_stop.wait()
        await running.stop()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # a normal exit would wait for threads that functions have started


def _end_anyway() -> None:
    time.sleep(END_SECONDS)
    logger.warning("a function blocks the event loop: ending without it, and leaving its task to others")
    os._exit(1)


class RunningWorker:
    """A worker's connections and the SDK on top of them, on one event loop."""

    def __init__(self, worker: Worker, settings: Settings) -> None:
        token, pid = settings.token, uuid.uuid4().hex
        adapt_sdk()
        self.stream = Stream(settings.server_url, worker.group, pid, token)
        connections = max(MIN_CONNECTIONS, CONNECTIONS_PER_TASK * settings.max_tasks)
        network = HttpNetwork(settings.server_url, token, connections)
        self.tracing = _tracing(worker.group, pid) if settings.tracing else None
        self._runs = RunLog(lambda: not self.stream.is_listening)
        if self.tracing is not None:
            self._runs.surround = self.tracing.surround
        self._releasing = Sender(Transport(network), token)
        self._leases = LeaseKeeper(network, self._runs, self.stream.deliver, settings.max_tasks, self.tracing)
        heartbeats = HeartbeatThread(
            pid,
            settings.lease.total_seconds(),
            Sender(Transport(HttpNetwork(settings.server_url, token)), token),
            self._leases.leases,
            lambda: self.stream.expects_liveness,
        )
        self.resonate = self._sdk(worker, settings, pid)
        heartbeats.start()
        if settings.health_file:
            self._beating = asyncio.create_task(self._show_health(HealthFile(settings.health_file)))
        self._counting = asyncio.create_task(report_shortage(lambda: self._leases.shortage))
        self.resonate.start()

    def _sdk(self, worker: Worker, settings: Settings, pid: str) -> Resonate:
        resonate = Resonate(
            network=self._leases,
            sources=[self.stream],
            group=worker.group,
            pid=pid,
            ttl=settings.lease,
            token=settings.token,
            encryptor=PlainValues(),
            heartbeat=NoopHeartbeat(),  # a thread sends them, see above
            max_concurrent_tasks=settings.max_tasks,
            retry_policy=RETRY_POLICY,
            observer=self._observe,
            clock=self.stream.clock,
            subscription_refresh_secs=REFRESH_SECONDS,
            autostart=False,
        ).with_dependency(self._runs)
        for function in worker.functions:
            resonate.register(function)
        if settings.offers_faults:
            resonate.register(Faults(pid, self._runs).fail)
        return resonate

    async def _show_health(self, file: HealthFile) -> None:
        self.stream.changed = file.show
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            file.show(self.stream.connected)

    async def stop(self) -> None:
        """Take no more work, release the held tasks and close the connections, within a second.

        The SDK's own `stop` would wait for running functions.
        """
        logger.info("shutting down")
        silence_sdk()
        await self.stream.stop()
        await self._leases.close(ANSWER_SECONDS)
        await asyncio.sleep(0)  # what was just spawned must begin, to be cancelled properly
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # another worker may run these functions as soon as their leases are released
        released = await self._leases.release_all(self._releasing, RELEASE_SECONDS)
        self._runs.abandoned()
        await self._leases.stop()
        if released:
            logger.info("released %d %s for other workers", released, "task" if released == 1 else "tasks")
        if self.tracing is not None:
            self.tracing.flush(SPANS_SECONDS)

    def _observe(self, event: Event) -> None:
        """Failed background work is logged with the end of its run, or where it was refused."""
        if isinstance(event, PromiseSettleReturned):
            self._runs.step_settled(event.id)


def _tracing(group: str, pid: str) -> "Tracing":
    from worker.tracing import Tracing, make_provider  # not at the top: OpenTelemetry is optional, and slow to import

    return Tracing(make_provider(group, pid))


async def report_shortage(find: Callable[[], str]) -> None:
    """Log when tasks have to wait, and why; and when no longer. Ignore what does not last from one look to the next."""
    logged = before = ""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        shortage = find()
        if shortage == before != logged:
            logged = shortage
            if shortage:
                logger.warning("%s: further tasks wait", shortage)
            else:
                logger.info("further tasks no longer wait")
        before = shortage

"""A worker: functions that the server may call, in a process that ends without leaving anything behind."""

import asyncio
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from resonate.connections import HttpConnection
from resonate.observability import BackgroundTaskFailed, Event, PromiseSettleReturned
from resonate.resonate import Resonate
from resonate.retry import Constant
from resonate.send import Sender
from resonate.transport import Transport

from worker.backoff import BACKOFF, RECONNECT_SECONDS
from worker.blocking import BlockWatch
from worker.clock import HeardClock
from worker.health import HealthFile
from worker.heartbeat import StandIn, SteadyHeartbeat
from worker.leases import LeaseKeeper
from worker.logs import configure_logging, filter_sdk, silence_sdk
from worker.places import report_full
from worker.runs import RunLog
from worker.seams import adapt_sdk
from worker.settings import Settings
from worker.stream import Stream
from worker.values import PlainValues

logger = logging.getLogger(__name__)

type DurableFunction = Callable[..., Any]

HEARTBEATS_PER_LEASE = 4
# To the server, at most. As with the SDK's own figures, a heartbeat is to find one that is free.
MIN_CONNECTIONS, CONNECTIONS_PER_TASK = 256, 4
# Retry a failing function twice, one second apart, so that its caller soon hears of the failure.
RETRY_POLICY = Constant(max_retries=2, delay=1)
# Shutdown limits: together under one second even if the server does not answer.
ANSWER_SECONDS = 0.3
RELEASE_SECONDS = 0.4


class Worker:
    """Functions, each known by its own name, that are served as a member of a group.

    Plain functions run on the event loop like asynchronous ones: a function must not block.
    """

    def __init__(self, group: str, *functions: DurableFunction) -> None:
        self.group = group
        self.functions = functions

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, and end the process."""
        configure_logging()
        asyncio.run(self._serve(Settings.from_environment()))

    async def _serve(self, settings: Settings) -> NoReturn:
        told_to_stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
        running = RunningWorker(self, settings)
        await told_to_stop.wait()
        await running.stop()
        end_process()


class RunningWorker:
    """A worker's connections and the SDK on top of them. Made, used and stopped on one event loop."""

    def __init__(self, worker: Worker, settings: Settings) -> None:
        url, token, lease = settings.server_url, settings.token, settings.lease
        pid = uuid.uuid4().hex
        adapt_sdk()
        self._stopping = False
        self.stream = Stream(url, worker.group, pid, token, RECONNECT_SECONDS)
        clock = HeardClock()
        self.stream.watch(clock.connection_changed)
        self.stream.watch_time(clock.heard)
        filter_sdk(lambda: self.stream.connected)
        connections = max(MIN_CONNECTIONS, CONNECTIONS_PER_TASK * settings.max_tasks)
        network = HttpConnection(url=url, auth=token, conn_limit=connections, backoff=BACKOFF)
        self._releasing = Sender(Transport(network), token)
        self._runs = RunLog()
        self._leases = LeaseKeeper(network, self._runs)
        self.sender = Sender(Transport(self._leases), token)
        """The protocol's requests, for what the SDK has no function for."""
        pause = lease.total_seconds() / HEARTBEATS_PER_LEASE
        self._heartbeat = SteadyHeartbeat(pid, pause, self.sender)
        self.resonate = Resonate(
            network=self._leases,
            sources=[self.stream],
            group=worker.group,
            pid=pid,
            ttl=lease,
            token=token,
            encryptor=PlainValues(),
            heartbeat=self._heartbeat,
            max_concurrent_tasks=settings.max_tasks,
            retry_policy=RETRY_POLICY,
            observer=self._observe,
            clock=clock,
            autostart=False,
        ).with_dependency(self._runs)
        for function in worker.functions:
            self.resonate.register(function)
        if settings.health_file:
            health = HealthFile(settings.health_file)
            self.stream.watch(health.show)
            self._beating = asyncio.create_task(health.keep_fresh())
        self._counting = asyncio.create_task(report_full(lambda: len(self._leases.leases()), settings.max_tasks))
        # Never started, this connection tries once and leaves it at that.
        sender = Sender(Transport(HttpConnection(url=url, auth=token)), token)
        stand_in = StandIn(pid, pause, sender, self._heartbeat.silence, self._leases.leases)
        _run_beside(BlockWatch(lease.total_seconds()).run(), stand_in.run())
        self.resonate.start()

    async def stop(self) -> None:
        """Take no more work, give back what is held and close the connections, within a second.

        The SDK's own `stop` would wait for the functions that run.
        """
        logger.info("shutting down")
        self._stopping = True
        silence_sdk()
        await self.stream.stop()
        self._heartbeat.shutdown()
        await self._leases.close(ANSWER_SECONDS)
        await asyncio.sleep(0)  # what has just been spawned begins, and can be ended properly
        _cancel_all_other_tasks()
        released = await self._leases.release_all(self._releasing, RELEASE_SECONDS)
        self._runs.abandoned()
        await self._leases.stop()
        if released:
            logger.info("released %d %s for other workers", released, "task" if released == 1 else "tasks")

    def _observe(self, event: Event) -> None:
        """Report work that failed in the background, unless the failure is part of the protocol."""
        match event:
            case PromiseSettleReturned(id=id):
                self._runs.step_settled(id)
            # 409: another copy of the message, or another worker, was first. That is how work is handed out once.
            case BackgroundTaskFailed(cause=cause) if not self._stopping and "code=409" not in cause:
                logger.warning("background work failed: %s", cause)


def _run_beside(*work: Coroutine[Any, Any, None]) -> None:
    """On the event loop of a thread of its own, until the process ends: what must go on while this one is blocked."""

    async def all_of_it() -> None:
        await asyncio.gather(*work)

    threading.Thread(target=asyncio.run, args=[all_of_it()], name="beside", daemon=True).start()


def _cancel_all_other_tasks() -> None:
    """Stop the functions that run: another worker may run them as soon as their leases are given back."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


def end_process() -> NoReturn:
    """Exit with 0, now. Threads that functions have started would delay a normal exit until they are done."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)

"""Figures of each group for operators: who is connected, what waits, and since when.

They are collected every few seconds in small portions, so that they cost the same however often somebody asks. Only
part of a very long queue is read.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from resonate_server.engine import ReadFailed
from resonate_server.protocol.records import TaskState
from resonate_server.store.found import Backlog, OpenTask
from resonate_server.store.view import View, portions_of_claims
from resonate_server.watch.chain_reader import RowReader

logger = logging.getLogger(__name__)

PAUSE_S = 3.0
"""Pause between two surveys. A restarted worker is back sooner, so what two in a row find is worth a warning."""

MAX_GROUPS = 200
"""Groups that are reported. Their names come from clients, and each is a metrics series of its own."""

MAX_NAME = 256
"""Characters of the name of a group that is reported: it is in several lines of the metrics."""

REMEMBERED_MS = 3_600_000
"""How long a group is still reported after it has neither workers nor open tasks."""

MAX_TASKS = 500
"""Waiting tasks read per group, and claims read at a time."""

MAX_CLAIMS = 10_000
"""Claims read in all groups together."""


class Survey(Collector):
    """Used on the event loop. ``workers()`` returns how many workers of each group are connected; ``now()`` is in
    ms."""

    def __init__(
        self,
        reader: RowReader,
        workers: Callable[[], dict[str, int]],
        now: Callable[[], int],
    ) -> None:
        self._reader = reader
        self._workers = workers
        self._now = now
        self._last_used: dict[str, int] = {}
        """When each group last had workers or tasks (ms), least recent first."""
        self._backlogs: dict[str, Backlog] = {}
        self._waiting, self._held = _Ages(), _Ages()
        self._deserted: dict[str, int] = {}
        """How many surveys in a row have found tasks waiting for a group without workers."""

    async def run(self) -> None:
        while True:
            with suppress(ReadFailed):  # Store failures are reported elsewhere; the last figures stand.
                await self.look()
            await asyncio.sleep(PAUSE_S)

    async def look(self) -> None:
        """Survey all groups once. Raises :class:`ReadFailed`."""
        owed = await self._reader.read(lambda store: store.groups_with_waiting_tasks(MAX_GROUPS))
        held = await self._claims()
        self._use([*self._workers(), *owed, *{task.group for task in held if task.group}])
        backlogs: dict[str, Backlog] = {}
        waiting: list[OpenTask] = []
        for group in list(self._last_used):
            backlogs[group], tasks = await self._reader.read(partial(_look_at, group))
            waiting += tasks
        self._backlogs = backlogs
        self._waiting.seen(waiting, self._now())
        self._held.seen(held, self._now())
        self._warn()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the metrics: the figures of the last survey, with the current number of workers."""
        connected = GaugeMetricFamily("resonate_connected_workers", "Open streams.", labels=["group"])
        waiting = GaugeMetricFamily(
            "resonate_messages_waiting",
            "execute: tasks that nobody has claimed; unblock: answers that may not have been read.",
            labels=["group", "kind"],
        )
        oldest = GaugeMetricFamily(
            "resonate_oldest_task_seconds",
            "pending: longest wait for a claim; acquired: longest time held by one worker.",
            labels=["group", "state"],
        )
        workers, now = self._workers(), self._now()
        self._use(workers)
        for name in self._last_used:
            backlog = self._backlogs.get(name, Backlog(0, 0))
            connected.add_metric([name], workers.get(name, 0))
            waiting.add_metric([name, "execute"], backlog.tasks)
            waiting.add_metric([name, "unblock"], backlog.answers)
        pending, acquired = self._waiting.oldest(now), self._held.oldest(now)
        for name in [*self._last_used, *([""] if "" in acquired else [])]:
            oldest.add_metric([name, TaskState.PENDING.value], pending.get(name, 0) / 1_000)
            oldest.add_metric([name, TaskState.ACQUIRED.value], acquired.get(name, 0) / 1_000)
        return connected, waiting, oldest

    def _use(self, names: Iterable[str]) -> None:
        now = self._now()
        for name in filter(lambda name: len(name) <= MAX_NAME, names):
            self._last_used.pop(name, None)
            self._last_used[name] = now
        for name, since in list(self._last_used.items()):
            if len(self._last_used) <= MAX_GROUPS and now - since < REMEMBERED_MS:
                break
            del self._last_used[name]

    async def _claims(self) -> list[OpenTask]:
        found: list[OpenTask] = []
        async for portion in portions_of_claims(self._reader.read, MAX_TASKS):
            found += portion
            if len(found) >= MAX_CLAIMS:
                break
        return found

    def _warn(self) -> None:
        """Warn once about a group that has tasks but no workers for longer than a restart takes."""
        workers = self._workers()
        self._deserted = {
            group: self._deserted.get(group, 0) + 1
            for group, backlog in self._backlogs.items()
            if backlog.tasks and not workers.get(group)
        }
        for group, times in self._deserted.items():
            if times == 2:
                logger.warning(
                    "group %s has no workers; tasks that wait for one: %d", group, self._backlogs[group].tasks
                )


def _look_at(group: str, store: View) -> tuple[Backlog, list[OpenTask]]:
    return store.backlog(group), store.waiting_tasks(group, MAX_TASKS)


class _Ages:
    """How long tasks have been in their current state: each claim, and each wait for one, has its own version."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], int] = {}
        self._oldest: dict[str, int] = {}

    def seen(self, tasks: list[OpenTask], now: int) -> None:
        """Take all tasks that there are at ``now`` (ms)."""
        self._since = {
            (task.id, task.version): task.offered_at or self._since.get((task.id, task.version), now) for task in tasks
        }
        self._oldest = {}
        for task in tasks:
            since = self._since[task.id, task.version]
            self._oldest[task.group] = min(since, self._oldest.get(task.group, since))

    def oldest(self, now: int) -> dict[str, int]:
        """Return the age of the oldest task of each group, in ms."""
        return {group: max(now - since, 0) for group, since in self._oldest.items()}

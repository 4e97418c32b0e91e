"""Metrics in the Prometheus text format: those of the official server, and those that its documentation calls missing.

Each instance has its own registry, so that several servers in one process (tests) share no figures. Times are in
seconds, as usual for Prometheus. What every request changes is counted in plain numbers, on the event loop only: the
library's counters take locks, which costs more than most of the server's own work.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from resonate_server.protocol.records import TaskState

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WAITING_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200, 86_400)
MAX_TARGETS = 50
"""Push targets that are counted by name: those that fail first. The others count as ``other``."""

BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Distribution:
    """A histogram. ``bounds``: the upper bounds of its buckets, ascending."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, *labels: str) -> HistogramMetricFamily:
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        family.add_metric(labels, [*zip(names, accumulate(self._counts), strict=True)], self._sum)
        return family


class Metrics(Collector):
    """Simple counters, and a method for each other kind of event; all are cheap enough for every request."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        self.deliveries = counter("resonate_deliveries", "Messages pushed by HTTP.", ["status"])
        """``status``: success, error or dropped."""
        self._push_failures = counter("resonate_push_failures", "Messages that a target did not accept.", ["target"])
        self._failed_targets: set[str] = set()
        self.refused = counter("resonate_refused", "Requests refused.", ["reason"])
        """``reason``: host, origin, site or content_type."""
        self.schedule_promises = counter("resonate_schedule_promises", "Promises created by schedules.")
        self.leases_lost = counter("resonate_leases_lost", "Leases that expired.")
        self.workers_misjudged = counter("resonate_workers_misjudged", "Workers declared dead that came back.")
        self._requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._request_seconds: defaultdict[str, Distribution] = defaultdict(partial(Distribution, LATENCY_S))
        self._messages = {"execute": 0, "unblock": 0}
        self._batch, self._commit = Distribution(BATCH), Distribution(LATENCY_S)
        self._claim, self._settle, self._recovery = (Distribution(WAITING_S) for _ in range(3))
        self._tasks = dict.fromkeys(TaskState, 0)
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("resonate_request", "Requests answered.", labels=["kind", "status"])
        for (kind, status), count in self._requests.items():
            requests.add_metric([kind, str(status)], count)
        messages = CounterMetricFamily("resonate_messages", "Messages handed to delivery.", labels=["kind"])
        for kind, count in self._messages.items():
            messages.add_metric([kind], count)
        tasks = GaugeMetricFamily("resonate_tasks", "Tasks by state.", labels=["state"])
        for state, count in self._tasks.items():
            tasks.add_metric([state], count)
        durations = HistogramMetricFamily("resonate_request_duration_seconds", "Time to answer.", labels=["kind"])
        for kind, seconds in self._request_seconds.items():
            seconds.add_to(durations, kind)
        yield from (requests, messages, tasks, durations)
        for name, text, distribution in (
            ("resonate_commit_batch_size", "Requests per commit.", self._batch),
            ("resonate_commit_duration_seconds", "Time of a transaction.", self._commit),
            ("resonate_task_claim_seconds", "From a task's creation to its first claim.", self._claim),
            ("resonate_promise_settlement_seconds", "From creation to settlement.", self._settle),
            ("resonate_task_recovery_seconds", "From a lost lease to the next claim.", self._recovery),
        ):
            yield distribution.add_to(HistogramMetricFamily(name, text, labels=[]))

    def request(self, kind: str, status: int, seconds: float) -> None:
        self._requests[kind, status] += 1
        self._request_seconds[kind].observe(seconds)

    def message(self, kind: str) -> None:
        self._messages[kind] += 1

    def push_failed(self, target: str) -> None:
        """``target``: scheme, host and port."""
        if len(self._failed_targets) < MAX_TARGETS:
            self._failed_targets.add(target)
        self._push_failures.labels(target if target in self._failed_targets else "other").inc()

    def commit(self, requests: int, seconds: float) -> None:
        self._batch.observe(requests)
        self._commit.observe(seconds)

    def claimed(self, waited_ms: int | None, recovery_ms: int | None) -> None:
        """``None``: nothing to measure, because it is not the first claim, or no lease was lost before."""
        if waited_ms is not None:
            self._claim.observe(waited_ms / 1_000)
        if recovery_ms is not None:
            self._recovery.observe(recovery_ms / 1_000)

    def settled(self, pending_ms: int) -> None:
        self._settle.observe(pending_ms / 1_000)

    def task_changed(self, before: TaskState | None, after: TaskState) -> None:
        """``before``: ``None`` for a new task."""
        self._tasks[after] += 1
        if before is not None:
            self._tasks[before] -= 1

    def tasks_changed(self, difference: Mapping[TaskState, int]) -> None:
        for state, count in difference.items():
            self._tasks[state] += count

    def set_tasks(self, counts: Mapping[TaskState, int]) -> None:
        """Set the number of tasks in each state: changes by other servers are not reported one by one."""
        self._tasks = {state: counts.get(state, 0) for state in TaskState}

    def render(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self.registry)

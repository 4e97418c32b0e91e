"""Metrics in the Prometheus text format: those of the official server, and those that its documentation calls missing.

Each instance has its own registry, so that several servers in one process (tests) share no figures. Times are in
seconds, as usual for Prometheus.
"""

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from resonate_server.protocol.records import TaskState

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WAITING_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200, 86_400)
MAX_TARGETS = 50
"""Push targets that are counted by name: those that fail first. The others count as ``other``."""

BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Simple counters, and a method for each other kind of event; all are cheap enough for every request."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, histogram = partial(Counter, registry=self.registry), partial(Histogram, registry=self.registry)
        self._requests = counter("resonate_request", "Requests answered.", ["kind", "status"])
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        """Looking up a labelled metric takes longer than counting, so these few are cached."""
        self._request_seconds = histogram(
            "resonate_request_duration_seconds", "Time to answer.", ["kind"], buckets=LATENCY_S
        )
        messages = counter("resonate_messages", "Messages handed to delivery.", ["kind"])
        self._messages = {kind: messages.labels(kind) for kind in ("execute", "unblock")}
        self.deliveries = counter("resonate_deliveries", "Messages pushed by HTTP.", ["status"])
        """``status``: success, error or dropped."""
        self._push_failures = counter("resonate_push_failures", "Messages that a target did not accept.", ["target"])
        self._failed_targets: set[str] = set()
        self.refused = counter("resonate_refused", "Requests refused.", ["reason"])
        """``reason``: host, origin, site or content_type."""
        self.schedule_promises = counter("resonate_schedule_promises", "Promises created by schedules.")
        self._batch = histogram("resonate_commit_batch_size", "Requests per commit.", buckets=BATCH)
        self._commit = histogram("resonate_commit_duration_seconds", "Time of a transaction.", buckets=LATENCY_S)
        self._claim = histogram(
            "resonate_task_claim_seconds", "From a task's creation to its first claim.", buckets=WAITING_S
        )
        self._settle = histogram(
            "resonate_promise_settlement_seconds", "From creation to settlement.", buckets=WAITING_S
        )
        self._recovery = histogram(
            "resonate_task_recovery_seconds", "From a lost lease to the next claim.", buckets=WAITING_S
        )
        self.leases_lost = counter("resonate_leases_lost", "Leases that expired.")
        self.workers_misjudged = counter("resonate_workers_misjudged", "Workers declared dead that came back.")
        tasks = Gauge("resonate_tasks", "Tasks by state.", ["state"], registry=self.registry)
        self._tasks = {state: tasks.labels(state.value) for state in TaskState}

    def request(self, kind: str, status: int, seconds: float) -> None:
        known = self._known.get((kind, status))
        if known is None:
            known = self._known[kind, status] = (
                self._requests.labels(kind, status),
                self._request_seconds.labels(kind),
            )
        requests, durations = known
        requests.inc()
        durations.observe(seconds)

    def message(self, kind: str) -> None:
        self._messages[kind].inc()

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

    def tasks_changed(self, difference: Mapping[TaskState, int]) -> None:
        for state, count in difference.items():
            if count:
                self._tasks[state].inc(count)

    def set_tasks(self, counts: Mapping[TaskState, int]) -> None:
        """Set the number of tasks in each state: changes by other servers are not reported one by one."""
        for state, gauge in self._tasks.items():
            gauge.set(counts.get(state, 0))

    def render(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self.registry)

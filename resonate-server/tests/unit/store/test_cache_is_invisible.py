"""The cache is invisible: a store without one gives the same answers to random requests and has the same rows."""

import tempfile
from pathlib import Path
from typing import override

from differential.kernel import Kernel, body_of
from differential.operations import BITS, EVERYTHING, IDS, PIDS, START, Choices, Request, Tick, Wait
from differential.sequences import run_sequences
from unit.driver import promise_create
from unit.rows import transaction
from unit.store.stores import seen

from resonate_server import kernel
from resonate_server.kernel.model import Footprint, Rules
from resonate_server.protocol.envelope import CheckedRequest
from resonate_server.protocol.messages import UnblockKey
from resonate_server.store.sqlite import IN_MEMORY, Database

STEPS = 500
RULES = Rules(notify_batch_size=1)


class KeepingStore(Database):
    """Keeps delivered messages: when they are forgotten depends on the commits."""

    @override
    def delivered(self, key: UnblockKey) -> None:
        pass


class BatchingStore(KeepingStore):
    """Many requests share a transaction, as in the engine, and hardly a row stays in memory after it."""

    REQUESTS_PER_COMMIT = 5

    def __init__(self, path: Path) -> None:
        super().__init__(path, "NORMAL", cache_bytes=1)
        self._requests = 0

    @override
    def flush(self) -> bool:
        self._requests += 1
        return self.is_between_transactions and super().flush()

    @property
    def is_between_transactions(self) -> bool:
        return self._requests % self.REQUESTS_PER_COMMIT == 0


class ForgetfulStore(KeepingStore):
    """Each request is a transaction, and nothing stays in memory after it."""

    @override
    def flush(self) -> bool:
        written = super().flush()
        self._forget_rows()
        return written


class Both:
    """Both stores. Each step is an operation on both: mostly a request, sometimes what only a server does."""

    steps = 0

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._batching = BatchingStore(Path(self._folder.name) / "state.db")
        self._forgetful = Kernel(RULES, store=ForgetfulStore(IN_MEMORY))
        self._kernels = self._forgetful, Kernel(RULES, store=self._batching)
        self._now = START
        self.history: list[str] = []

    def close(self) -> None:
        self._batching.close()
        self._folder.cleanup()

    def step(self, number: int) -> None:
        Both.steps += 1
        choices = Choices(number >> BITS // 2)
        is_request = choices.one((True,) * 9 + (False,))
        operation = EVERYTHING.decode(number, self._forgetful.scene(self._now)) if is_request else None
        match operation:
            case Wait(ms=ms):
                self._now += ms
            case Tick():
                for each in self._kernels:
                    each.tick(self._now)
            case Request(kind=kind):
                body = body_of(kind, operation.data_for(self._forgetful.version), self._now, operation.corr_id or "id")
                first, second = (each.call(body) for each in self._kernels)
                assert first == second
            case _:
                self._as_a_server(choices)
        self.history.append(str(operation))
        self._compare()

    def _as_a_server(self, choices: Choices) -> None:
        """Release the leases of a process, delete settled trees, or undo a transaction that has written."""
        what, pid, id = choices.one(("release", "drop", "undo")), choices.one(PIDS), choices.one(IDS)
        for store in (each.store for each in self._kernels):
            if what == "undo":
                undo(store, id, self._now)
                continue
            with transaction(store):
                if what == "drop":
                    store.drop_settled_trees(self._now, 2)
                else:
                    store.decide(*kernel.releasing("workers", pid, tuple(store.held_tasks(pid)), RULES), self._now)

    def _compare(self) -> None:
        """Only between transactions, because to look ends one. Messages have no order."""
        if self._batching.is_between_transactions:
            assert seen(self._forgetful.store) == seen(self._batching)
            first, second = (sorted(map(repr, each.take_sent())) for each in self._kernels)
            assert first == second


def undo(store: Database, id: str, now: int) -> None:
    if Database.flush(store):  # now, not with the next batch
        store.commit()
    store.load(Footprint(ids=(id,), preload_for=id))
    store.decide(*kernel.answering(CheckedRequest("id", promise_create(id)), RULES), now)
    store.rollback()


def test_with_and_without_a_cache_answers_messages_and_rows_are_the_same() -> None:
    run_sequences(Both, STEPS, lambda: Both.steps >= STEPS)

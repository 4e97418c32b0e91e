"""``debug.*`` (section 3.3): nothing happens by itself, time is moved by hand, and the whole state is visible."""

import json
from typing import Any

import msgspec
import pytest
from unit.driver import FAR, PID, START, TARGET, promise_create, promise_settle, task_acquire, value
from unit.engines import RETRY_MS, SERVER_URL, Bench

from resonate_server.engine import queries
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.requests import (
    DebugReset,
    DebugSnap,
    DebugStart,
    DebugStop,
    DebugTick,
    PromiseRegisterCallback,
    PromiseRegisterListener,
)

ADDRESS = "poll://uni@callers/c1"


@pytest.fixture
async def still(bench: Bench) -> Bench:
    await bench.call(DebugStart())
    return bench


def seen(answer: Answer) -> Any:
    """Return the data of an answer as a client reads it."""
    return json.loads(msgspec.json.encode(answer.data))


async def test_after_debugging_everything_missed_is_requested_again(still: Bench) -> None:
    await still.until(lambda: still.notes.refreshes > 0)  # the refresh at the start
    before = still.notes.refreshes
    await still.call(DebugStop())
    await still.settle_down()
    assert still.notes.refreshes == before + 1


async def test_nothing_is_sent_until_debugging_ends(still: Bench) -> None:
    await still.call(promise_create("before"), DebugStop(), promise_create("after"))
    await still.until(lambda: ("execute", "after") in still.notes.seen)
    assert ("execute", "before") not in still.notes.seen


async def test_a_tick_does_what_is_due_and_sends_nothing(still: Bench) -> None:
    await still.call(promise_create("late", target=None, timeout_at=START + 11))
    for number in range(3):
        await still.call(promise_create(f"p-{number}", target=None, timeout_at=START + 10))
        await still.call(PromiseRegisterListener(awaited=f"p-{number}", address=ADDRESS))

    assert await still.call(DebugTick(time=START + 10)) == Answer(status=200, data=[])

    found = seen(await still.call(DebugSnap()))["promises"]
    assert {each["id"]: each["state"] for each in found} == {
        "late": "pending",
        **{f"p-{number}": "rejected_timedout" for number in range(3)},
    }
    assert still.notes.unblocks == []


@pytest.mark.parametrize(("head", "status"), [(None, 200), (5, 200), (6, 400)])
async def test_a_tick_must_agree_with_the_time_in_the_head(still: Bench, head: int | None, status: int) -> None:
    answer = await still.call(DebugTick(time=5), debug_time=head)
    assert answer.status == status
    assert answer.data == ([] if status == 200 else "data.time must equal the head's resonate:debug_time")


async def test_a_snapshot_shows_everything(still: Bench) -> None:
    await still.call(promise_create("held"), task_acquire("held", ttl=7))
    await still.call(promise_create("waiting", param=value("x"), timeout_at=START + 9))
    await still.call(promise_create("dep", target=None, timeout_at=START + 8), promise_create("done", target=None))
    for awaited, awaiter in (("dep", "waiting"), ("done", "held")):
        await still.call(PromiseRegisterCallback(awaited=awaited, awaiter=awaiter))
        await still.call(PromiseRegisterListener(awaited=awaited, address=ADDRESS))
    done = await still.call(promise_settle("done", result=value("y")))

    answer = await still.call(DebugSnap())
    snap = seen(answer)

    assert answer.status == 200
    assert [each["id"] for each in snap["promises"]] == ["dep", "done", "held", "waiting"]
    assert snap.pop("promises")[1] == seen(done)["promise"]
    assert snap == {
        "promiseTimeouts": [
            {"id": "dep", "timeout": START + 8},
            {"id": "held", "timeout": FAR},
            {"id": "waiting", "timeout": START + 9},
        ],
        "callbacks": [{"awaiter": "waiting", "awaited": "dep"}],
        "listeners": [{"id": "dep", "address": ADDRESS}],
        "tasks": [
            {"id": "held", "state": "acquired", "version": 1, "resumes": 1, "ttl": 7, "pid": PID},
            {"id": "waiting", "state": "pending", "version": 0, "resumes": 0},
        ],
        "taskTimeouts": [
            {"id": "held", "type": 1, "timeout": START + 7},
            {"id": "waiting", "type": 0, "timeout": START + RETRY_MS},
        ],
        "messages": [
            {
                "address": TARGET,
                "message": {
                    "kind": "execute",
                    "head": {"serverUrl": SERVER_URL},
                    "data": {"task": {"id": "waiting", "version": 0}},
                },
            },
            {"address": ADDRESS, "message": {"kind": "unblock", "head": {}, "data": seen(done)}},
        ],
    }


async def test_a_state_that_is_too_large_is_refused(still: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await still.call(promise_create("p", param=value("x" * 1_000)))
    size = still.store.snapshot_bytes()

    monkeypatch.setattr(queries, "MAX_SNAP_BYTES", size)
    assert (await still.call(DebugSnap())).status == 200
    monkeypatch.setattr(queries, "MAX_SNAP_BYTES", size - 1)
    answer = await still.call(DebugSnap())

    assert answer.status == 413
    assert answer.data == f"the state has about {size} bytes; debug.snap shows at most {size - 1}"


async def test_a_reset_leaves_nothing_and_counts_nothing(still: Bench) -> None:
    await still.call(promise_create("t"))
    await still.settle_down()
    assert still.metric("resonate_tasks", state="pending") == 1

    await still.call(DebugReset())
    await still.settle_down()

    assert still.metric("resonate_tasks", state="pending") == 0
    assert all(rows == [] for rows in seen(await still.call(DebugSnap())).values())

"""Schedules over HTTP: creating, firing, catching up, deleting, finding (protocol sections 3.3 and 4.4)."""

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.server import Client, Reply, ServerProcess
from harness.stream import Stream

EVERY_SECOND = "* * * * * *"
NEVER_SOON = "0 0 1 1 *"


@pytest.fixture
def id() -> str:
    return f"s-{uuid.uuid4().hex[:8]}"


def create(client: Client, id: str, cron: str = NEVER_SOON, group: str = "nobody", **changes: Any) -> Reply:
    data = {
        "cron": cron,
        "promiseId": "{{.id}}-{{.timestamp}}",
        "promiseTimeout": 60_000,
        "promiseTags": {"resonate:target": f"poll://any@{group}"},
    }
    return client.call("schedule.create", id=id, **(data | changes))


def runs(client: Client, id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.call("promise.search", tags={"resonate:schedule": id}, limit=1_000).data[
        "promises"
    ]
    return found


def until[T](look: Callable[[], T], seconds: float = 60) -> T:
    """Return the first true result of ``look``."""
    deadline = time.monotonic() + seconds
    while not (result := look()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return result


# --- creating -------------------------------------------------------------------------------------------------------


# --- firing ---------------------------------------------------------------------------------------------------------


def test_a_run_is_a_promise_that_names_its_schedule(
    client: Client, connect: Callable[[str, str], Stream], id: str
) -> None:
    stream = connect(id, "w")
    schedule = create(client, id, EVERY_SECOND, group=id, promiseParam={"data": "eA=="}).data["schedule"]
    message = stream.message()
    client.call("schedule.delete", id=id)
    fired = schedule["nextRunAt"]
    expected = f"{id}-{fired}"
    promise = client.call("promise.get", id=expected).data["promise"]

    assert message["data"]["task"] == {"id": expected, "version": 0}
    assert promise == {
        "id": expected,
        "state": "pending",
        "param": {"data": "eA=="},
        "value": {},
        "tags": {
            "resonate:target": f"poll://any@{id}",
            "resonate:schedule": id,
            "resonate:origin": expected,
            "resonate:branch": expected,
            "resonate:parent": expected,
            "resonate:prefix": expected,
        },
        "timeoutAt": fired + 60_000,
        "createdAt": fired,
    }


def test_the_latest_missed_runs_are_caught_up(tmp_path: Path, id: str) -> None:
    wanted = 2
    server = ServerProcess(tmp_path / "log", tmp_path / "state.db", RESONATE_SCHEDULES__CATCH_UP=str(wanted)).start()
    create(server.client(), id, EVERY_SECOND)
    until(lambda: runs(server.client(), id))
    server.kill()
    killed_at = time.time() * 1_000
    time.sleep(4.2)
    started_at = time.time() * 1_000
    server.start()
    client = server.client()
    until(lambda: client.call("schedule.get", id=id).data["schedule"]["nextRunAt"] > time.time() * 1_000)
    client.call("schedule.delete", id=id)
    made_up = [promise["createdAt"] for promise in runs(client, id) if promise["createdAt"] > killed_at + 1_000]
    server.stop()

    assert len(made_up) >= wanted
    assert made_up[0] > started_at - wanted * 1_000


# --- deleting, finding ----------------------------------------------------------------------------------------------

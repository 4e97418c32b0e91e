"""Schedules over HTTP: firing and catching up (protocol sections 3.3 and 4.4)."""

import time
from collections.abc import Callable
from typing import Any

from harness.basics import wait_until
from harness.server import Client, Reply
from harness.stream import Stream
from integration.calls import named
from integration.servers import Start


def create(client: Client, id: str, group: str = "nobody", **changes: Any) -> Reply:
    """Create a schedule that fires every second."""
    data = {
        "cron": "* * * * * *",
        "promiseId": "{{.id}}-{{.timestamp}}",
        "promiseTimeout": 60_000,
        "promiseTags": {"resonate:target": f"poll://any@{group}"},
    }
    return client.call("schedule.create", id=id, **(data | changes))


def runs(client: Client, id: str) -> list[dict[str, Any]]:
    found = client.call("promise.search", tags={"resonate:schedule": id}, limit=1_000)
    return list(found.data["promises"])


def test_a_run_is_a_promise_that_names_its_schedule(
    client: Client, connect: Callable[[str, str], Stream], id: str
) -> None:
    stream = connect(id, "w")
    schedule = create(client, id, group=id, promiseParam={"data": "eA=="}).data["schedule"]
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
        "tags": named({"target": f"poll://any@{id}", "schedule": id})
        | named(dict.fromkeys(("origin", "branch", "parent", "prefix"), expected)),
        "timeoutAt": fired + 60_000,
        "createdAt": fired,
    }


def next_run_at(client: Client, id: str) -> int:
    return int(client.call("schedule.get", id=id).data["schedule"]["nextRunAt"])


def test_the_latest_missed_runs_are_caught_up(start: Start, id: str) -> None:
    wanted = 2
    server = start("state.db", RESONATE_SCHEDULES__CATCH_UP=str(wanted))
    create(server.client(), id)
    wait_until(lambda: runs(server.client(), id), "it has fired")
    server.kill()
    killed_at = time.time() * 1_000
    time.sleep(4.2)
    started_at = time.time() * 1_000
    server.start()
    client = server.client()
    wait_until(lambda: next_run_at(client, id) > time.time() * 1_000, "it has caught up")
    client.call("schedule.delete", id=id)
    made_up = [promise["createdAt"] for promise in runs(client, id) if promise["createdAt"] > killed_at + 1_000]

    assert len(made_up) >= wanted
    assert made_up[0] > started_at - wanted * 1_000

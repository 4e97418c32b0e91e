"""Schedules from outside: creating, firing, catching up, deleting, finding (protocol sections 3.3 and 4.4)."""

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
    """The first true result of ``look``."""
    deadline = time.monotonic() + seconds
    while not (result := look()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return result


# --- creating -------------------------------------------------------------------------------------------------------


def test_a_new_schedule_is_answered_in_full(client: Client, id: str) -> None:
    created = create(client, id, promiseParam={"data": "eA==", "headers": {"h": "v"}})
    schedule = created.data["schedule"]

    assert created.status == 200
    assert schedule == {
        "id": id,
        "cron": NEVER_SOON,
        "promiseId": "{{.id}}-{{.timestamp}}",
        "promiseTimeout": 60_000,
        "promiseParam": {"data": "eA==", "headers": {"h": "v"}},
        "promiseTags": {"resonate:target": "poll://any@nobody"},
        "createdAt": schedule["createdAt"],
        "nextRunAt": schedule["nextRunAt"],
    }
    assert client.call("schedule.get", id=id) == created


def test_creating_again_changes_nothing(client: Client, id: str) -> None:
    first = create(client, id)
    assert create(client, id, cron="0 0 2 2 *", promiseId="other", promiseTimeout=1, group="g") == first


@pytest.mark.parametrize(
    "changes",
    [
        *({"cron": cron} for cron in ("", "x", "0 0 30 2 *", "1" * 5_000)),
        *({"promiseId": id} for id in ("", "a\0", "x" * 5_000)),
        *({"promiseTimeout": timeout} for timeout in (-1, "1h")),
        {"promiseTags": {"resonate:target": "nowhere"}},
        {"promiseTags": {"resonate:target": "poll://any@nobody", "resonate:delay": "1"}},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_one_that_could_not_fire_is_refused(client: Client, id: str, changes: dict[str, Any]) -> None:
    assert create(client, id, **changes).status == 400
    assert client.call("schedule.get", id=id).status == 404


# --- firing ---------------------------------------------------------------------------------------------------------


def test_a_run_is_a_promise_that_says_where_it_comes_from(
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


def test_it_fires_at_every_match_and_tells_the_last_and_the_next(client: Client, id: str) -> None:
    create(client, id, EVERY_SECOND)
    until(lambda: len(runs(client, id)) >= 2)
    schedule = client.call("schedule.get", id=id).data["schedule"]
    client.call("schedule.delete", id=id)
    times = [promise["createdAt"] for promise in runs(client, id)]

    assert times == list(range(times[0], times[-1] + 1, 1_000))
    assert schedule["lastRunAt"] in times
    assert schedule["nextRunAt"] == schedule["lastRunAt"] + 1_000


def test_of_missed_runs_the_latest_are_made_up_for(tmp_path: Path, id: str) -> None:
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


def test_deleting_stops_the_firing_and_keeps_what_has_fired(client: Client, id: str) -> None:
    create(client, id, EVERY_SECOND)
    until(lambda: runs(client, id))
    deleted = client.call("schedule.delete", id=id)
    fired = runs(client, id)
    time.sleep(1.2)

    assert (deleted.status, deleted.data) == (200, {})
    assert runs(client, id) == fired != []
    assert client.call("schedule.get", id=id).status == 404
    assert client.call("schedule.delete", id=id).status == 404


def test_search_by_tags_in_pages_of_10(client: Client, id: str) -> None:
    tags = {"resonate:target": "poll://any@nobody", "of": id}
    for number in range(12):
        create(client, f"{id}-{number:02}", promiseTags=tags)
    create(client, f"{id}-other")
    first = client.call("schedule.search", tags={"of": id}).data
    second = client.call("schedule.search", tags={"of": id}, cursor=first["cursor"]).data

    assert [schedule["id"] for schedule in first["schedules"]] == [f"{id}-{number:02}" for number in range(10)]
    assert [schedule["id"] for schedule in second["schedules"]] == [f"{id}-10", f"{id}-11"]
    assert "cursor" not in second

"""Three servers on one database: whichever gets a request, the one with the worker's stream delivers the message."""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any

import psycopg
import pytest
from harness.basics import free_port, wait_until
from harness.metrics import sample
from harness.page import Page
from harness.postgres import PostgresServer
from harness.server import Client, ServerProcess
from harness.stream import Stream
from integration.servers import IMPATIENT, Start, postgres_at

GRACE_S = 4.0
LEASE_MS = 60_000
WINDOW = 64

Connect = Callable[[ServerProcess, str, str], Stream]


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    return postgres.create("many_servers")


@pytest.fixture(scope="module")
def another(database: str, start_for_all: Start) -> Callable[[], ServerProcess]:
    """Start another server on the database."""
    return lambda: start_for_all(
        RESONATE_STORAGE__POSTGRES__POOL_SIZE="4",
        RESONATE_TASKS__WORKER_GRACE=str(int(GRACE_S * 1_000)),
        RESONATE_OBSERVABILITY__METRICS_PORT=str(free_port()),
        RESONATE_DEBUG="true",
        **postgres_at(database),
    )


@pytest.fixture(scope="module")
def servers(another: Callable[[], ServerProcess]) -> list[ServerProcess]:
    return [another() for _ in range(3)]


@pytest.fixture
def clients(servers: list[ServerProcess]) -> list[Client]:
    return [server.client() for server in servers]


@pytest.fixture
def name() -> str:
    """The name of a group and of everything that belongs to it."""
    return f"m-{uuid.uuid4().hex[:8]}"


def offered(stream: Stream) -> tuple[str, int]:
    task = stream.message()["data"]["task"]
    return task["id"], task["version"]


def acquire(client: Client, id: str, version: int, pid: str) -> Any:
    return client.call("task.acquire", id=id, version=version, pid=pid, ttl=LEASE_MS)


def settling(id: str) -> dict[str, Any]:
    """The action of a ``task.fulfill``."""
    return {"kind": "promise.settle", "head": {}, "data": {"id": id, "state": "resolved", "value": {"data": "eA=="}}}


def hold(client: Client, worker: Stream, name: str) -> None:
    """Have the worker claim a task of its group."""
    client.create(name, target=f"poll://any@{name}")
    assert acquire(client, *offered(worker), f"{name}-w").status == 200


def test_a_server_that_stood_still_refuses_no_request_for_the_time_lost(
    postgres: PostgresServer, start: Start, name: str
) -> None:
    """To an SDK, a refusal means that its function has to run again."""
    database = postgres.create(name.replace("-", "_"))
    server = start(program=IMPATIENT, **postgres_at(database))
    server.client().create(name)
    with psycopg.connect(database) as other, ThreadPoolExecutor() as pool:
        other.execute("SELECT id FROM promises FOR UPDATE")
        asked = pool.submit(server.client().call, "promise.settle", id=name, state="resolved")
        time.sleep(0.5)
        server.freeze()
        time.sleep(3.5)
        other.rollback()
        server.thaw()
        assert asked.result().status == 200


def test_a_task_reaches_a_worker_connected_to_another_server(
    servers: list[ServerProcess], clients: list[Client], open_stream: Connect, name: str
) -> None:
    worker = open_stream(servers[1], name, f"{name}-w")

    for number in range(5):
        clients[0].create(f"{name}.{number}", target=f"poll://any@{name}")
        assert offered(worker) == (f"{name}.{number}", 0)
        assert acquire(clients[2], f"{name}.{number}", 0, f"{name}-w").status == 200


def test_a_waiting_task_reaches_the_first_worker_that_connects_to_any_server(
    servers: list[ServerProcess], clients: list[Client], open_stream: Connect, name: str
) -> None:
    clients[0].create(name, target=f"poll://any@{name}")

    assert offered(open_stream(servers[2], name, f"{name}-w")) == (name, 0)


@pytest.mark.parametrize("kind", ["uni", "any"])
def test_a_result_reaches_a_listener_connected_to_another_server(
    servers: list[ServerProcess], clients: list[Client], open_stream: Connect, name: str, kind: str, database: str
) -> None:
    """Even if it is too large for a notification, and whatever other users of the database have notified before."""
    listener = open_stream(servers[2], name, "caller")
    with psycopg.connect(database, autocommit=True) as connection:
        for nonsense in ("", "{", '["?"]', '[["Owed","p","http://127.0.0.1/"]]', '[["Owed","p",""]]'):
            connection.execute("SELECT pg_notify('resonate_servers', %s)", (nonsense,))

    for number in range(5):
        id = f"{name}.{number}"
        value = {"data": id * (1_000 if number == 3 else 1)}
        clients[0].create(id)
        clients[1].call("promise.register_listener", awaited=id, address=f"poll://{kind}@{name}/caller")
        clients[0].call("promise.settle", id=id, state="resolved", value=value)
        message = listener.message()
        assert (message["kind"], message["data"]["promise"]["id"]) == ("unblock", id)
        assert message["data"]["promise"]["value"] == value


def test_a_suspension_waits_for_a_promise_that_another_server_settles(clients: list[Client], name: str) -> None:
    """A suspension waits only for its patience, which may be too short on a busy machine: then try another one."""
    tries = count()

    def goes_on() -> bool:
        caller = f"{name}.{next(tries)}"
        called = f"{caller}:called"
        for id in (caller, called):
            clients[0].create(id, target=f"poll://any@{name}", origin=caller)
            assert acquire(clients[0], id, 0, "w").status == 200
        action = {"kind": "promise.register_callback", "head": {}, "data": {"awaited": called, "awaiter": caller}}
        suspend = partial(clients[0].call, "task.suspend", id=caller, version=1, actions=[action], patience=1_000)
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(suspend)
            time.sleep(0.1)
            clients[1].call("task.fulfill", id=called, version=1, action=settling(called))
            return asked.result().status == 300

    wait_until(goes_on, "a suspension has gone on")


def test_a_worker_that_claims_through_another_server_is_offered_more_tasks(
    servers: list[ServerProcess], clients: list[Client], open_stream: Connect, name: str
) -> None:
    """If this takes long, some tasks are offered twice."""
    worker = open_stream(servers[1], name, f"{name}-w")
    for number in range(WINDOW + 20):
        clients[1].create(f"{name}.{number}", target=f"poll://any@{name}")
    claimed = 0
    while claimed < WINDOW + 20:
        claimed += acquire(clients[2], *offered(worker), f"{name}-w").status == 200


def test_tasks_of_a_worker_that_never_reconnects_are_offered_to_another_server_s_worker(
    servers: list[ServerProcess], clients: list[Client], open_stream: Connect, name: str
) -> None:
    first = open_stream(servers[0], name, f"{name}-w")
    hold(clients[1], first, name)
    other = open_stream(servers[2], name, "other")
    first.close()

    assert offered(other) == (name, 1)


def test_every_server_counts_all_workers(servers: list[ServerProcess], open_stream: Connect, name: str) -> None:
    for number, server in enumerate(servers):
        open_stream(server, name, f"{name}-{number}")

    def counted() -> list[float]:
        return [metric(server, "resonate_connected_workers", group=name) for server in servers]

    wait_until(lambda: counted() == [3] * 3, "each server knows of all three", every=0.2)


def test_every_server_counts_all_tasks(servers: list[ServerProcess], clients: list[Client], name: str) -> None:
    for number in range(6):
        clients[number % 3].create(f"{name}.{number}", target=f"poll://any@{name}")

    def agree() -> bool:
        pending = [metric(server, "resonate_tasks", state="pending") for server in servers]
        return len(set(pending)) == 1 and pending[0] >= 6

    wait_until(agree, "all tell the same", every=0.2)


def test_the_page_of_every_server_shows_events_of_the_others(
    servers: list[ServerProcess], clients: list[Client], open_stream: Connect, name: str
) -> None:
    """Both live and after a reload."""
    with Page(servers[0].port).watch() as watching:
        worker = open_stream(servers[1], name, f"{name}-w")
        clients[1].create(name, target=f"poll://any@{name}", origin=name)
        watching.until("promise.created", id=name)
        assert offered(worker) == (name, 0)
        acquire(clients[2], name, 0, f"{name}-w")
        assert watching.until("task.claimed", id=name)["pid"] == f"{name}-w"
        assert clients[2].call("task.fulfill", id=name, version=1, action=settling(name)).status == 200
        assert watching.until("promise.settled", id=name)["value"] == {"text": "x", "cut": False, "bytes": 1}

    lives = [phases_of(server, name) for server in servers]
    assert [phase["kind"] for phase in lives[0]] == ["waiting", "running"]
    wait_until(lambda: len({str(phases_of(server, name)) for server in servers}) == 1, "all tell the same")


def phases_of(server: ServerProcess, id: str) -> list[dict[str, Any]]:
    phases: list[dict[str, Any]] = Page(server.port).get("/ui/api/chain", id=id).json["promises"][0]["phases"]
    return phases


def test_a_server_can_be_paused_for_debugging_only_if_it_is_the_only_one(clients: list[Client]) -> None:
    refused = clients[0].call("debug.start")

    assert refused.status == 409
    assert "other servers use the same database" in refused.data


def test_a_server_whose_listening_connection_breaks_misses_nothing(
    servers: list[ServerProcess], clients: list[Client], open_stream: Connect, name: str, database: str
) -> None:
    """The database keeps closing all connections that listen. The page, which has no events then, must read again."""
    page = Page(servers[0].port).watch()
    worker = open_stream(servers[1], name, f"{name}-w")
    listener = open_stream(servers[2], f"{name}-callers", "caller")
    with psycopg.connect(database, autocommit=True) as connection:
        for number in range(8):
            id = f"{name}.{number}"
            connection.execute("SELECT pg_terminate_backend(backend) FROM resonate.servers")
            clients[0].create(id, target=f"poll://any@{name}")
            clients[0].call("promise.register_listener", awaited=id, address=f"poll://uni@{name}-callers/caller")
            while offered(worker) != (id, 0):
                pass  # offered twice
            assert acquire(clients[0], id, 0, f"{name}-w").status == 200
            assert clients[0].call("task.fulfill", id=id, version=1, action=settling(id)).status == 200
            while listener.message()["data"]["promise"]["id"] != id:
                pass  # delivered twice
    with page:
        page.until("server.missed")


def test_due_work_is_done_once(
    servers: list[ServerProcess], clients: list[Client], open_stream: Connect, name: str
) -> None:
    """All three servers create 40 sleeps and keep looking for what is due."""
    listener = open_stream(servers[0], name, "caller")
    before = total(servers, "resonate_promise_settlement_seconds_count")
    born_pending, waiting = 0, set()
    deadline = int(time.time() * 1_000) + 2_000
    for number in range(40):
        id, client = f"{name}.{number}", clients[number % 3]
        created = client.create(id, timeout_at=deadline + 20 * number, timer="true")
        born_pending += created.data["promise"]["state"] == "pending"
        listens = client.call("promise.register_listener", awaited=id, address=f"poll://uni@{name}/caller")
        if listens.data["promise"]["state"] == "pending":
            waiting.add(id)

    assert {listener.message()["data"]["promise"]["id"] for _ in waiting} == waiting
    assert listener.nothing()
    assert total(servers, "resonate_promise_settlement_seconds_count") == before + born_pending


def test_a_schedule_fires_once(servers: list[ServerProcess], clients: list[Client], name: str) -> None:
    before = total(servers, "resonate_schedule_promises_total")
    for number in range(6):
        schedule = {"cron": "* * * * * *", "promiseId": "{{.id}}-{{.timestamp}}", "promiseTimeout": 60_000}
        assert clients[number % 3].call("schedule.create", id=f"{name}.{number}", **schedule).status == 200
    wait_until(lambda: len(runs(clients[0], name)) >= 12, "they fire", every=0.5)
    for number in range(6):
        assert clients[0].call("schedule.delete", id=f"{name}.{number}").status == 200

    assert total(servers, "resonate_schedule_promises_total") - before == len(runs(clients[0], name))


def runs(client: Client, name: str) -> list[str]:
    found = client.call("promise.search", tags={}, limit=1_000).data["promises"]
    return [promise["id"] for promise in found if promise["tags"].get("resonate:schedule", "").startswith(name)]


def metric(server: ServerProcess, name: str, **labels: str) -> float:
    return sample(int(server.env["RESONATE_OBSERVABILITY__METRICS_PORT"]), name, **labels) or 0


def total(servers: list[ServerProcess], name: str) -> float:
    return sum(metric(server, name) for server in servers)

"""Many clients may read the largest values at once, and the server's memory stays bounded."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.server import FAR, Client, Reply, ServerProcess
from integration.bystander import Bystander
from integration.calls import action, named

MIB = 1_024 * 1_024
HUGE = "x" * (4 * MIB - 1_024)
"""About the largest value that fits into a body."""

CLIENTS = 16
MAX_RSS_MIB = 180
CHILDREN = 16
RESULTS = 20

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc"),
    pytest.mark.long,
]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a task that has many children of 4 MiB, and with many results and tasks' params of that size."""
    folder = tmp_path_factory.mktemp("large")
    server = ServerProcess(
        folder / "log",
        folder / "state.db",
        RESONATE_STORAGE__SQLITE__SYNCHRONOUS="NORMAL",
    ).start()
    client = server.client()
    assert client.create("parent", target="poll://any@nobody", branch="parent").status == 200
    for number in range(CHILDREN):
        create(client, f"parent:{number:02}", HUGE, origin="parent", parent="parent", branch="parent")
    for number in range(RESULTS):
        id = f"results.{number:02}"
        create(client, id, "", origin="results")
        assert client.call("promise.settle", id=id, state="resolved", value={"data": HUGE}).status == 200
    for number in range(CLIENTS):
        create(client, f"task-{number:02}", HUGE, target="poll://any@nobody")
    server.kill()  # Empty its memory.
    yield server.start()
    server.stop()


def create(client: Client, id: str, param: str, **tags: str) -> None:
    assert client.call("promise.create", id=id, timeoutAt=FAR, param={"data": param}, tags=named(tags)).status == 200


def peak_mib(server: ServerProcess) -> int:
    """Return the peak memory of the process since :func:`forget_peak`."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) // 1_024


def forget_peak(server: ServerProcess) -> None:
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")


@pytest.fixture
def at_once(large: ServerProcess) -> Iterator[Callable[[Callable[[Client, int], Reply]], list[Reply]]]:
    """Send one request from each client at once and return the answers. Check that others are served meanwhile and
    that memory stays bounded."""
    waits: list[float] = []

    def run(request: Callable[[Client, int], Reply]) -> list[Reply]:
        forget_peak(large)
        with Bystander(large) as bystander, ThreadPoolExecutor(CLIENTS) as pool:
            replies = list(pool.map(lambda number: request(large.client(), number), range(CLIENTS)))
        waits.extend(bystander.took)
        return replies

    yield run
    print(f"peak {peak_mib(large)} MiB; others waited at most {max(waits) * 1_000:.0f} ms")
    assert peak_mib(large) < MAX_RSS_MIB
    assert max(waits) < 20  # 0.1 s on an idle machine; the clients share this process.


type AtOnce = Callable[[Callable[[Client, int], Reply]], list[Reply]]


def test_a_task_with_large_children_is_claimed_without_them(large: ServerProcess, at_once: AtOnce) -> None:
    at_once(lambda client, number: client.call("task.acquire", id="parent", version=0, pid=f"p-{number}", ttl=60_000))

    task = large.client().call("task.get", id="parent").data["task"]
    assert (task["state"], task["version"]) == ("acquired", 1)
    small = action(
        "promise.create", id="parent:small", timeoutAt=FAR, tags=named({"branch": "parent", "parent": "parent"})
    )
    assert large.client().call("task.fence", id="parent", version=1, action=small).status == 200
    large.client().call("task.release", id="parent", version=1)
    answer = large.client().call("task.acquire", id="parent", version=1, pid="p", ttl=60_000)
    assert [promise["id"] for promise in answer.data["preload"]] == ["parent:small"]


def test_tasks_with_large_params_are_claimed_by_all(at_once: AtOnce) -> None:
    replies = at_once(
        lambda client, number: client.call("task.acquire", id=f"task-{number:02}", version=0, pid="p", ttl=60_000)
    )
    assert [reply.status for reply in replies] == [200] * CLIENTS
    assert all(reply.data["promise"]["param"]["data"] == HUGE for reply in replies)


def test_large_promises_are_returned_to_all(at_once: AtOnce) -> None:
    replies = at_once(lambda client, number: client.call("promise.get", id=f"results.{number:02}"))
    assert [len(reply.data["promise"]["value"]["data"]) for reply in replies] == [len(HUGE)] * CLIENTS


def test_a_search_over_large_results_ends_its_pages_early(large: ServerProcess, at_once: AtOnce) -> None:
    tags = {"resonate:origin": "results"}
    replies = at_once(lambda client, _: client.call("promise.search", tags=tags, limit=1_000))
    assert {reply.status for reply in replies} == {200}
    assert {len(reply.data["promises"]) for reply in replies} == {1}
    assert all_pages(large.client(), tags) == [f"results.{number:02}" for number in range(RESULTS)]


def all_pages(client: Client, tags: dict[str, str]) -> list[str]:
    found: list[str] = []
    data = client.call("promise.search", tags=tags).data
    while "cursor" in data:
        found += [promise["id"] for promise in data["promises"]]
        data = client.call("promise.search", tags=tags, cursor=data["cursor"]).data
    return found + [promise["id"] for promise in data["promises"]]

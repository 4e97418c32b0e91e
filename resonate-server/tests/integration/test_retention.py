"""Old settled trees are removed as a whole, and only once nothing needs them (protocol section 9, item 16)."""

import uuid
from collections.abc import Iterator

import pytest
from harness.basics import wait_until
from harness.server import Client, ServerProcess

SETTLED_AFTER_MS = 2_000
CLEANING_OFTEN = (
    "from resonate_server import build; build.HOUSEKEEPING_S = 0.1; from resonate_server.cli import main; main()"
)
"""A server that runs housekeeping ten times a second instead of once a minute."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("retention")
    process = ServerProcess(
        folder / "log",
        folder / "state.db",
        RESONATE_RETENTION__SETTLED_AFTER=str(SETTLED_AFTER_MS),
    )
    process.command[1:3] = ["-c", CLEANING_OFTEN]
    process.start()
    yield process
    process.stop()


@pytest.fixture
def root() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def create(client: Client, id: str, root: str) -> None:
    client.create(id, target="poll://any@nobody", origin=root)


def settle(client: Client, *ids: str) -> None:
    for id in ids:
        assert client.call("promise.settle", id=id, state="resolved").status == 200


def is_there(client: Client, id: str) -> bool:
    promise, task = client.call("promise.get", id=id).status, client.call("task.get", id=id).status
    assert promise == task
    return promise == 200


def wait_until_gone(client: Client, *ids: str) -> None:
    """Wait for both promise and task of each id; they may vanish between the two requests."""
    for id in ids:
        for kind in ("promise.get", "task.get"):
            wait_until(lambda: client.call(kind, id=id).status == 404, f"{id} is gone")  # noqa: B023


def test_a_settled_tree_goes_as_a_whole_and_not_at_once(client: Client, root: str) -> None:
    ids = [root, f"{root}:1", f"{root}:1.1"]
    for id in ids:
        create(client, id, root)
    settle(client, *ids)

    assert [is_there(client, id) for id in ids] == [True] * 3
    wait_until_gone(client, *ids)
    assert client.create(root).data["promise"]["state"] == "pending"  # The id is free again.


def test_the_file_returns_the_space_of_deleted_trees(server: ServerProcess, root: str) -> None:
    """But not all of it at once, and not the space that new rows will need."""
    client = server.client()
    file = server.log.parent / "state.db"
    for number in range(30):
        id = f"{root}-{number}"
        client.create(id)
        client.call("promise.settle", id=id, state="resolved", value={"data": "x" * 1_000_000})
    wait_until(lambda: client.call("promise.get", id=f"{root}-29").status == 404, "the last one is deleted")
    wait_until(lambda: file.stat().st_size < 10_000_000, "the file has shrunk")
    assert client.create("still-there").status == 200
    assert server.is_running

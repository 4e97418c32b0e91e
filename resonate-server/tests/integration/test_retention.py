"""Old settled trees are removed as a whole, and only once nothing needs them (protocol section 9, item 16)."""

import pytest
from harness.basics import wait_until
from harness.server import CLEANING_OFTEN, Client, ServerProcess
from integration.calls import settle
from integration.servers import Start

SETTLED_AFTER_MS = 2_000


@pytest.fixture(scope="module")
def server(start_for_all: Start) -> ServerProcess:
    return start_for_all("state.db", program=CLEANING_OFTEN, RESONATE_RETENTION__SETTLED_AFTER=str(SETTLED_AFTER_MS))


def is_there(client: Client, id: str) -> bool:
    promise, task = client.call("promise.get", id=id).status, client.call("task.get", id=id).status
    assert promise == task
    return promise == 200


def wait_until_gone(client: Client, *ids: str) -> None:
    """Wait for both promise and task of each id; they may vanish between the two requests."""
    for id in ids:
        for kind in ("promise.get", "task.get"):
            wait_until(lambda: client.call(kind, id=id).status == 404, f"{id} is gone")  # noqa: B023


def test_a_settled_tree_goes_as_a_whole_and_not_at_once(client: Client, id: str) -> None:
    ids = [id, f"{id}:1", f"{id}:1.1"]
    for each in ids:
        client.create(each, target="poll://any@nobody", origin=id)
    for each in ids:
        settle(client, each)

    assert [is_there(client, each) for each in ids] == [True] * 3
    wait_until_gone(client, *ids)
    assert client.create(id).data["promise"]["state"] == "pending"  # The id is free again.

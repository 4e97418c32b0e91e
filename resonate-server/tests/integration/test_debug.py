"""``debug.*``: time moved by hand, and the whole state visible (protocol section 3.3)."""

import pytest
from harness.server import FAR, Client, Reply
from integration.calls import request
from integration.servers import Start

DEBUG = {"debug.start": {}, "debug.stop": {}, "debug.reset": {}, "debug.snap": {}, "debug.tick": {"time": 1}}


@pytest.fixture
def still(start: Start) -> Client:
    """A client of a server with a stopped clock."""
    client = start(RESONATE_DEBUG="true").client()
    assert client.call("debug.reset") == client.call("debug.start") == Reply(status=200, data={})
    return client


def test_a_time_in_the_head_is_ignored_unless_enabled(client: Client) -> None:
    created = client.post(request("promise.create", {"resonate:debug_time": 5}, id="ignored", timeoutAt=FAR))
    assert created.data["promise"]["createdAt"] > 1_000_000_000_000


def test_a_time_of_a_wrong_type_is_refused_always(client: Client, still: Client) -> None:
    body = request("promise.get", {"resonate:debug_time": "5"}, id="x")
    assert client.post(body).status == still.post(body).status == 400

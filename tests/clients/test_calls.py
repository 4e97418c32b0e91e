"""What an application does with the Python SDK, on real processes: each version alone, and one calling the other.

Whatever works the same with every SDK is in test_every_client.py.
"""

import base64
from typing import Any

import pytest
from harness.basics import wait_until

from .processes import Outcome, Sdk, Site


def test_run_steps(site: Site, sdk: Sdk, id: str) -> None:
    assert site.do(sdk, "run", id, "steps", 10) == Outcome(value=55)
    local = site.promises(origin=id, scope="local")
    assert len(local) == 10
    assert {promise["state"] for promise in local} == {"resolved"}


def test_repeated_id_joins(site: Site, sdk: Sdk, id: str) -> None:
    """The first call's arguments count; the second client gets its result, and nothing runs again."""
    first = site.rpc(sdk, id, "add", 1, 2)
    assert site.rpc(sdk, id, "add", 100, 200) == first == Outcome(value=3)
    assert site.do(sdk, "run", id, "add", 100, 200) == first
    assert site.do(sdk, "get", id) == first
    assert site.runs("add", id) == 1


@pytest.mark.parametrize(
    ("action", "value", "outcome"),
    [
        ("resolve", {"yes": True}, Outcome(value={"yes": True})),
        ("reject", "not today", Outcome(error="ValueError", message="not today")),
    ],
)
def test_promise_settled_from_outside(
    site: Site, sdk: Sdk, id: str, action: str, value: object, outcome: Outcome
) -> None:
    call = site.begin_rpc(sdk, id, "ask")
    assert site.do(sdk, action, site.awaited_promise(id), value) == Outcome()
    assert call.outcome() == outcome


def test_call_cancelled_from_outside(site: Site, sdk: Sdk, id: str) -> None:
    """The caller gets the error at once, although the function still waits; its task ends, too."""
    call = site.begin_rpc(sdk, id, "ask")
    site.wait_until_suspended(id)
    assert site.do(sdk, "cancel", id) == Outcome()
    assert call.outcome() == Outcome(error="ApplicationError", message="Promise canceled")
    assert site.state_of_task(id) == "fulfilled"


def test_detached_in_the_depth_of_a_chain(site: Site, sdk: Sdk, other: Sdk, id: str) -> None:
    """The detached chain passes through both versions, too. 0.7.4 detaches into a separate tree beside its caller."""
    launched = site.rpc(sdk, id, "launch_below", [other.group, sdk.group], [other.group, sdk.group])
    assert site.do(sdk, "get", launched.value) == Outcome(value=2)


def test_ids_with_a_prefix_from_the_environment(
    site: Site, sdk: Sdk, other: Sdk, own_group: str, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.7.4 puts the prefix and a colon before the ids of its roots; 0.8.1 ignores it."""
    monkeypatch.setenv("RESONATE_PREFIX", "mine")
    caller = site.new_caller(sdk, own_group)

    assert caller.do("rpc", other.group, id, "relay", [sdk.group, other.group], 0) == Outcome(value=2)

    assert len(site.promises(origin=f"mine:{id}" if sdk.version == "0.7.4" else id)) == 3


def test_schedule(site: Site, sdk: Sdk, id: str) -> None:
    assert site.do(sdk, "schedule", sdk.group, id, "* * * * * *", "add", 5, 6) == Outcome()
    wait_until(lambda: len(resolved_by_schedule(site, id)) >= 2, "it has fired twice and its function has run")
    assert site.do(sdk, "unschedule", id) == Outcome()
    assert site.server.client().call("schedule.get", id=id).status == 404
    for fired in resolved_by_schedule(site, id):
        assert fired["createdAt"] % 1_000 == 0
        assert fired["id"] in {f"{id}-{fired['createdAt']}", f"{id}.{fired['createdAt']}"}
        assert base64.b64decode(fired["value"]["data"]) == b"11"


def resolved_by_schedule(site: Site, id: str) -> list[dict[str, Any]]:
    return [promise for promise in site.promises(schedule=id) if promise["state"] == "resolved"]


def test_retries(site: Site, sdk: Sdk, id: str) -> None:
    """No attempt is visible outside."""
    assert site.rpc(sdk, id, "stumble", 2) == Outcome(value="arrived")
    assert site.runs("stumble", id) == 3
    assert site.rpc(sdk, f"{id}-exhausted", "stumble", 100) == Outcome(error="RuntimeError", message="fall 6")


def test_deadline(site: Site, sdk: Sdk, id: str) -> None:
    """Nobody serves the group, so the caller gets an error when the time is over."""
    outcome = site.do(sdk, "rpc_within", 1, "nobody", id, "add", 1, 2)
    assert outcome.error == "ResonateTimeoutError"


def test_parallel_chains(site: Site, sdk: Sdk, other: Sdk, id: str) -> None:
    """They go back and forth between the versions."""
    ids, groups = [f"{id}-{number}" for number in range(64)], [other.group, sdk.group]
    assert site.do(sdk, "rpc_many", sdk.group, ids, "relay", groups, 0) == Outcome(value=[2] * 64)


def test_rejection_passes_between_versions(site: Site, sdk: Sdk, other: Sdk, id: str) -> None:
    """As an exception of its own class."""
    outcome = site.rpc(sdk, id, "complain", [other.group, sdk.group], "no coffee")
    assert outcome == Outcome(error="ValueError", message="no coffee")


def test_clean_end(site: Site, sdk: Sdk, own_group: str, id: str) -> None:
    """A client that stops leaves nothing running that would keep its process alive."""
    caller = site.new_caller(sdk, own_group)
    assert caller.do("run", id, "relay", [sdk.group], 1) == Outcome(value=2)
    assert caller.finish() == 0

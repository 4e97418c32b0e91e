"""What workers and callers do for their users, the same on every SDK: see docs/conformance.md."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from resonate_server.client import main

from .processes import Outcome, Sdk, Site
from .programs import GO_VERSION, sdk_or_skip


def test_chain_over_three_groups(site: Site, client: Sdk, own_group: str, id: str) -> None:
    groups = [f"{own_group}-middle", f"{own_group}-last"]
    for group in groups:
        site.worker(client, group)
    assert site.rpc(client, id, "relay", groups, 1) == Outcome(value=3)
    targets = [promise["tags"]["resonate:target"] for promise in chain(site, id)]
    assert targets == [f"poll://any@{group}" for group in (client.group, *groups)]


def chain(site: Site, id: str) -> list[dict[str, Any]]:
    """Return the promise, its only child, and so on."""
    promise = site.server.client().call("promise.get", id=id).data["promise"]
    children = [child["id"] for child in site.promises(parent=id) if child["id"] != id]
    return [promise, *(chain(site, children[0]) if children else [])]


def test_caller_that_runs_a_function_itself(site: Site, client: Sdk, id: str) -> None:
    """It suspends, and resumes when the worker has done its part."""
    assert site.do(client, "run", id, "relay", [client.group], 1) == Outcome(value=2)


@pytest.mark.parametrize(
    "value",
    [None, {"numbers": [1, -2, 0.5, 2**53], "text": "grüße \u2028 \x85 🥭", "none": None}, "x" * 500_000],
    ids=["nothing", "nested", "large"],
)
def test_values_arrive_unchanged(site: Site, client: Sdk, id: str, value: object) -> None:
    assert site.rpc(client, id, "echo", value) == Outcome(value=value)


def test_unicode_id(site: Site, client: Sdk, id: str) -> None:
    """Every message contains the id; the SDK's stream reader would take U+2028 for the end of a line."""
    assert site.rpc(client, f"{id} ключ \u2028 🥭", "relay", [client.group], 1) == Outcome(value=2)


def test_the_longest_id_there_may_be(site: Site, client: Sdk, id: str) -> None:
    """SDKs also send it as a header, with four bytes for each of these characters."""
    assert site.rpc(client, id + "🥭" * (4_096 - len(id)), "add", 1, 2) == Outcome(value=3)


def test_durable_sleep(site: Site, client: Sdk, id: str) -> None:
    """No worker is sent the timer, whether or not it has a target."""
    began = time.monotonic()
    assert site.rpc(client, id, "nap", 1.5) == Outcome(value="rested")
    assert time.monotonic() - began >= 1.5
    (timer,) = site.promises(parent=id, timer="true")
    assert timer["state"] == "resolved"
    assert timer["settledAt"] == timer["timeoutAt"]
    assert timer["timeoutAt"] - timer["createdAt"] <= 1_500
    assert site.claims(timer["id"]) == 0


def test_fan_out_of_20(site: Site, client: Sdk, id: str) -> None:
    assert site.rpc(client, id, "fan", client.group, 20) == Outcome(value=210)
    assert len(site.promises(parent=id)) == 1 + 20
    assert site.runs("add", id) == 20


def test_promise_settled_by_a_person(site: Site, client: Sdk, id: str) -> None:
    call = site.begin_rpc(client, id, "ask")
    command = ["promises", "resolve", site.awaited_promise(id), "-S", site.server.url]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert call.outcome() == Outcome()


def test_promise_settled_by_http(site: Site, client: Sdk, id: str) -> None:
    call = site.begin_rpc(client, id, "ask")
    value = {"data": base64.b64encode(b'"by hand"').decode()}
    reply = site.server.client().call("promise.settle", id=site.awaited_promise(id), state="resolved", value=value)
    assert reply.status == 200
    assert call.outcome() == Outcome(value="by hand")


def test_failing_step_is_tried_again(site: Site, client: Sdk, id: str) -> None:
    """A step fails twice and then succeeds; no attempt is visible outside."""
    assert site.rpc(client, id, "walk", 2) == Outcome(value="arrived")
    assert site.runs("stumble", id) == 3


def test_failure_of_the_last_function_is_that_of_the_first(site: Site, client: Sdk, id: str) -> None:
    """None of the functions runs again because of it."""
    outcome = site.rpc(client, id, "complain", [client.group] * 2, "no coffee ☕")
    assert outcome.error
    assert outcome.message.endswith("no coffee ☕")
    assert [promise["state"] for promise in chain(site, id)] == ["rejected"] * 3


def test_detached_call(site: Site, client: Sdk, id: str) -> None:
    detached = site.rpc(client, id, "launch", 3, 4)
    assert detached.value.startswith(id)
    assert site.do(client, "get", detached.value) == Outcome(value=7)


def test_detached_call_in_the_depth_of_a_chain(site: Site, client: Sdk, id: str) -> None:
    """Most SDKs name it beside its caller, below the root."""
    launched = site.rpc(client, id, "launch_below", [client.group] * 2, [client.group])
    assert site.do(client, "get", launched.value) == Outcome(value=1)


def test_worker_killed_at_work(site: Site, client: Sdk, own_group: str, id: str, gate: Path) -> None:
    """The other worker of the group takes over; the recorded step does not run again."""
    workers = [site.worker(client, own_group), site.worker(client, own_group)]
    call = site.caller(client).begin("rpc", own_group, id, "hold", str(gate))
    site.wait_until_at_work(id)
    (victim,) = site.at_work(id)
    victim.kill()
    site.wait_until_at_work(id, number=2)
    gate.touch()
    assert call.outcome() == Outcome(value=3)
    assert site.runs("add", id) == 1
    assert [worker.runs("wait_for_file", id) for worker in workers] == [1, 1]


def test_chain_from_python_and_back(site: Site, client: Sdk, sdks: dict[str, Sdk], id: str) -> None:
    """In both directions, so that each SDK names children below those of the other. Nobody gives a task back."""
    python = sdks["0.8.1"]
    assert site.rpc(python, f"{id}-there", "relay", [client.group, python.group] * 3, 0) == Outcome(value=6)
    assert site.rpc(client, f"{id}-here", "relay", [python.group, client.group] * 3, 0) == Outcome(value=6)
    calls = [*chain(site, f"{id}-there"), *chain(site, f"{id}-here")]
    assert max(site.claims(promise["id"]) for promise in calls) <= 2


def test_chain_through_python_typescript_go_and_python(site: Site, sdks: dict[str, Sdk], id: str) -> None:
    others = [sdk_or_skip("typescript", "0.11.5"), sdk_or_skip("go", GO_VERSION), sdks["0.8.1"]]
    for sdk in others:
        site.stand(sdk)
    assert site.rpc(sdks["0.8.1"], id, "relay", [sdk.group for sdk in others], 0) == Outcome(value=3)
    assert [promise["tags"]["resonate:origin"] for promise in chain(site, id)] == [id] * 4

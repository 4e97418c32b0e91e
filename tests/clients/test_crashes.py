"""A worker, a caller or the server is killed under real clients, and every call still completes."""

import signal
from pathlib import Path

import pytest
from harness.basics import wait_until

from .processes import Outcome, Sdk, Site
from .programs import sdk_or_skip

CLEANING_OFTEN = (
    "from resonate_server import build; build.HOUSEKEEPING_S = 0.1; from resonate_server.cli import main; main()"
)
"""A server that runs housekeeping ten times a second instead of once a minute."""


def test_worker_frozen_beyond_its_lease(site: Site, sdk: Sdk, own_group: str, id: str, gate: Path) -> None:
    """Its stream stays open, but its heartbeats stop: another worker takes over, and it drops its work once thawed."""
    frozen = site.worker(sdk, own_group, lease_seconds=1)
    call = site.caller(sdk).begin("rpc", own_group, id, "hold", str(gate))
    site.wait_until_at_work(id)
    frozen.send(signal.SIGSTOP)
    site.worker(sdk, own_group)
    site.wait_until_at_work(id, number=2)
    gate.touch()
    assert call.outcome() == Outcome(value=3)
    frozen.send(signal.SIGCONT)
    wait_until(lambda: "code=409" in frozen.errors, "what it still wanted to write is refused")
    assert site.do(sdk, "rpc", own_group, f"{id}-next", "add", 1, 2) == Outcome(value=3)


def test_worker_killed_while_suspended(site: Site, sdk: Sdk, own_group: str, id: str) -> None:
    """It holds no task then; a worker that starts after the awaited promise was settled continues."""
    victim = site.worker(sdk, own_group)
    call = site.caller(sdk).begin("rpc", own_group, id, "ask")
    question = site.awaited_promise(id)
    victim.kill()
    assert site.do(sdk, "resolve", question, "here") == Outcome()
    assert site.state_of_task(id) == "pending"
    site.worker(sdk, own_group)
    assert call.outcome() == Outcome(value="here")


def test_caller_killed_and_repeated(site: Site, sdk: Sdk, own_group: str, id: str) -> None:
    """A caller that runs the function itself dies while it waits; another with the same id gets the result."""
    first, second = site.new_caller(sdk, own_group), site.new_caller(sdk, own_group)
    first.begin("run", id, "ask")
    question = site.awaited_promise(id)
    first.kill()
    call = second.begin("run", id, "ask")
    assert site.do(sdk, "resolve", question, "here") == Outcome()
    assert call.outcome() == Outcome(value="here")


def test_server_killed(own_site: Site, sdk: Sdk, id: str, gate: Path) -> None:
    """One chain is suspended and one is running when the server dies. Both complete, and no step runs twice."""
    worker = own_site.worker(sdk)
    asking = own_site.begin_rpc(sdk, f"{id}-ask", "ask")
    holding = own_site.begin_rpc(sdk, f"{id}-hold", "hold", str(gate))
    question = own_site.awaited_promise(f"{id}-ask")
    own_site.wait_until_at_work(f"{id}-hold")
    own_site.server.kill()
    own_site.server.start()
    gate.touch()
    assert own_site.do(sdk, "resolve", question, "here") == Outcome()
    assert asking.outcome() == Outcome(value="here")
    assert holding.outcome() == Outcome(value=3)
    assert worker.runs("wait_for_file", f"{id}-hold") == 1


@pytest.mark.parametrize("version", [("python", "0.7.4"), ("typescript", "0.11.5"), ("typescript", "0.11.4")], ids=str)
def test_detached_call_that_ended_long_before_its_caller(own_site: Site, version: tuple[str, str], id: str) -> None:
    """Its caller makes the call again whenever it continues, so the result must be kept until the caller ends. In
    TypeScript the call has an id of its own."""
    server, sdk = own_site.server, sdk_or_skip(*version)
    server.kill()
    server.command[1:3] = ["-c", CLEANING_OFTEN]
    server.env["RESONATE_RETENTION__SETTLED_AFTER"] = "1"
    client = server.start().client()

    def pending() -> set[str]:
        return {promise["id"] for promise in client.call("promise.search", state="pending").data["promises"]}

    own_site.worker(sdk)
    call = own_site.begin_rpc(sdk, id, "launch_and_ask", 1, 2)
    own_site.wait_until_suspended(id)
    wait_until(lambda: len(pending()) == 2, "the detached call has ended")
    client.create("later")
    client.call("promise.settle", id="later", state="resolved")
    wait_until(lambda: not client.state("later"), "what was settled later is deleted")

    (question,) = pending() - {id}
    client.call("promise.settle", id=question, state="resolved")

    assert call.outcome() == Outcome()
    wait_until(lambda: not pending(), "all calls have ended")
    assert own_site.runs("add", id) == 1

"""A worker, a caller or the server is killed under real clients, and every call still completes."""

import signal
from pathlib import Path

import pytest
from harness.basics import wait_until

from .processes import Outcome, Process, Sdk, Site


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file that lets ``hold`` finish."""
    return tmp_path / "gate"


def at_work(workers: list[Process], id: str) -> list[Process]:
    """Return the workers that have begun the long step of ``hold``."""
    return [worker for worker in workers if worker.runs("wait_for_file", id)]


def test_worker_frozen_beyond_its_lease(own_site: Site, sdk: Sdk, id: str, gate: Path) -> None:
    """Its stream stays open, but its heartbeats stop: another worker takes over, and it drops its work once thawed."""
    frozen = own_site.worker(sdk, lease_seconds=1)
    call = own_site.begin_rpc(sdk, id, "hold", str(gate))
    wait_until(lambda: at_work([frozen], id), "it is at work")
    frozen.send(signal.SIGSTOP)
    other = own_site.worker(sdk)
    wait_until(lambda: at_work([other], id), "the other worker has taken over")
    gate.touch()
    assert call.outcome() == Outcome(value=3)
    frozen.send(signal.SIGCONT)
    wait_until(lambda: "code=409" in frozen.errors, "what it still wanted to write is refused")
    assert own_site.rpc(sdk, f"{id}-next", "add", 1, 2) == Outcome(value=3)


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
    first.process.kill()
    call = second.begin("run", id, "ask")
    assert site.do(sdk, "resolve", question, "here") == Outcome()
    assert call.outcome() == Outcome(value="here")


def test_server_killed(own_site: Site, sdk: Sdk, id: str, gate: Path) -> None:
    """One chain is suspended and one is running when the server dies. Both complete, and no step runs twice."""
    worker = own_site.worker(sdk)
    asking = own_site.begin_rpc(sdk, f"{id}-ask", "ask")
    holding = own_site.begin_rpc(sdk, f"{id}-hold", "hold", str(gate))
    question = own_site.awaited_promise(f"{id}-ask")
    wait_until(lambda: at_work([worker], f"{id}-hold"), "it is at work")
    own_site.server.kill()
    own_site.server.start()
    gate.touch()
    assert own_site.do(sdk, "resolve", question, "here") == Outcome()
    assert asking.outcome() == Outcome(value="here")
    assert holding.outcome() == Outcome(value=3)
    assert worker.runs("wait_for_file", f"{id}-hold") == 1

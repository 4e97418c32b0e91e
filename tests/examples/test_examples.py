"""What each example promises when it is killed halfway: with a real server, real workers, and SIGKILL."""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, override

import pytest
from harness.basics import wait_until
from harness.process import Process
from harness.server import ServerProcess
from harness.services import CONNECTED
from harness.stack import Programs
from unit_services.programs import Stack

EXAMPLES = Path(__file__).parents[2] / "examples"


class Site(Stack):
    """Workers with short leases, on a server that all tests share."""

    def __init__(self, folder: Path, server: ServerProcess) -> None:
        super().__init__(folder)
        self.server, self.server_port = server, server.port

    @override
    def close(self) -> None:
        Programs.close(self)

    def worker(self, name: str) -> Process:
        """Start a worker for one of the examples, or a service."""
        file = EXAMPLES / f"{name}.py"
        return self.begin(name, str(file) if file.exists() else name, RESONATE_TOKEN="", LEASE_SECONDS="2")

    def call(self, id: str, function: str, *arguments: Any) -> None:
        group = f"example-{function.replace('_', '-')}"
        assert self.client().begin(id, group, function, *arguments).status == 200

    def counted(self, pattern: str) -> Counter[str]:
        return Counter(re.findall(pattern, self.printed()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    server = ServerProcess(folder / "log", folder / "state.db").start()
    yield server
    server.kill()


@pytest.fixture
def site(tmp_path: Path, server: ServerProcess) -> Iterator[Site]:
    site = Site(tmp_path, server)
    yield site
    site.close()


@pytest.mark.parametrize("example", ["approval", "detached", "fan_out", "saga", "schedule"])
def test_an_example_is_short_and_says_how_to_start_it_and_what_to_kill(example: str) -> None:
    source = (EXAMPLES / f"{example}.py").read_text()
    assert len(source.splitlines()) <= 50
    for told in (f"scripts/example.sh {example.replace('_', '-')}", "kill"):
        assert told in source.lower()


def test_fan_out_gets_its_sum_although_one_of_three_bars_dies_at_work(site: Site) -> None:
    *_, struck = [site.worker(name) for name in ("fan_out", "baz", "bar", "bar", "bar")]
    for worker in site.programs.values():
        worker.wait_for(CONNECTED)
    site.call("fan", "fan_out", 100, 1)
    struck.wait_for("running function work")
    struck.kill()

    assert site.client().result("fan") == 200
    assert Counter(site.counted(r"running function baz  promise=(\S+)").values()) == {1: 100}, "each baz ran once"
    assert set(site.counted(r"ended function bar  promise=(\S+) .* result: 2").values()) == {1}, "no answer twice"


def test_detached_answers_at_once_and_the_call_it_started_survives_the_death_of_all_workers(site: Site) -> None:
    baz, bar, example = (site.worker(name) for name in ("baz", "bar", "detached"))
    site.call("fire", "detached", 3600)
    call = site.client().result("fire")
    bar.wait_for("suspended")
    for worker in (baz, bar, example):
        worker.kill()

    assert site.client().state(call) == "pending"
    site.client().end_sleep("fire")
    for service in ("baz", "bar"):
        site.worker(service)
    assert site.client().result(call) == 2
    assert site.counted(r"running function (baz) ") == {"baz": 1}


def decide_by_command(site: Site, promise: str) -> None:
    command = [sys.executable, "-m", "resonate_server", "--server", site.server.url, "promises", "resolve", promise]
    resolving = Process([*command, "--value", '{"data": true}'], site.folder / "resolve.log", {}).launch()
    assert resolving.wait() == 0, resolving.output()


def decide_by_curl(site: Site, promise: str) -> None:
    """Decide with the command that the example gives."""
    body = re.search(r"-d '(\{.*\})'", (EXAMPLES / "approval.py").read_text(), re.DOTALL)
    assert body
    assert site.client().post(body[1].replace("PROMISE", promise).encode()).status == 200


def test_an_approval_is_asked_for_once_and_may_be_given_while_nothing_runs(site: Site) -> None:
    ways = {"command": decide_by_command, "curl": decide_by_curl}
    example = site.worker("approval")
    for id in ways:
        site.call(id, "approval")
    wait_until(lambda: example.count("suspended") == 2, "both wait")
    example.kill()
    site.server.kill()
    site.server.start()
    for promise in site.counted(r"Resolve the promise (\S+)"):
        ways[promise.partition(":")[0]](site, promise)

    assert {site.client().state(id) for id in ways} == {"pending"}
    site.worker("approval")
    assert {site.client().result(id) for id in ways} == {"paid"}
    assert site.counted("shall (100) be paid") == {"100": 2}


def test_a_saga_that_dies_twice_undoes_its_steps_in_order_and_repeats_no_finished_one(site: Site) -> None:
    flight, cancelled_hotel = "trip:1", "trip:4"
    site.call("trip", "saga", "car", 0.3)
    for step in (flight, cancelled_hotel):
        worker = site.worker("saga")
        wait_until(lambda: site.client().state(step) == "resolved", f"{step} is done", every=0.01)  # noqa: B023
        worker.kill()
    site.worker("saga")

    assert site.client().result("trip") == "nothing is booked: the car is sold out"
    effects = re.findall(r"(?:booked|cancelled) the \w+  key=\S+", site.printed())
    assert [effect for effect, _ in groupby(effects)] == [
        "booked the flight  key=trip:1",
        "booked the hotel  key=trip:2",
        "cancelled the hotel  key=trip:4",
        "cancelled the flight  key=trip:5",
    ]
    assert effects.count("booked the flight  key=trip:1") == effects.count("cancelled the hotel  key=trip:4") == 1


def test_a_saga_in_which_everything_is_available_cancels_nothing(site: Site) -> None:
    site.worker("saga")
    site.call("whole", "saga", "nothing", 0)

    assert site.client().result("whole") == "booked: flight, hotel, car"
    assert "cancelled" not in site.printed()


def test_a_schedule_catches_up_on_calls_that_fell_due_while_its_worker_was_dead(site: Site) -> None:
    worker = site.worker("schedule")
    worker.wait_for("ended function tick")
    worker.kill()
    early = site.counted(r"ended function tick  promise=(\S+)")
    wait_until(lambda: len(pending(site)) >= 2, "two calls are due")
    due = pending(site)
    site.worker("schedule")

    for id in due:
        assert site.client().result(id) == id.rpartition("-")[2]
    # The server has a result before its worker logs that.
    wait_until(lambda: set(due) <= site.counted(r"ended function tick  promise=(\S+)").keys(), "the ends are logged")
    ended = site.counted(r"ended function tick  promise=(\S+)")
    assert [ended[id] for id in due] == [1] * len(due)
    assert [ended[id] for id in early] == [1] * len(early), "what was done before is not done again"


def pending(site: Site) -> list[str]:
    tags = {"resonate:target": "poll://any@example-schedule"}
    return [found["id"] for found in site.client().call("promise.search", state="pending", tags=tags).data["promises"]]

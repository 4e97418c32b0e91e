"""``--trace FILE`` and ``resonate replay``: record requests and answers in order, then send the requests again."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from harness.basics import wait_until
from harness.server import FAR, Client, Reply, ServerProcess
from harness.services import ServiceProcess
from hostile import mutations
from integration.calls import action, request, resonate
from integration.servers import Start

type Replay = Callable[[], Result]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace.ndjson"


@pytest.fixture
def traced(start: Start, trace: Path) -> ServerProcess:
    return start(RESONATE_TRACE=str(trace), RESONATE_DEBUG="true")


@pytest.fixture(scope="module")
def server(start_for_all: Start) -> ServerProcess:
    """Another server, whose clock can be set."""
    return start_for_all(RESONATE_DEBUG="true")


@pytest.fixture
def replay(trace: Path, server: ServerProcess) -> Callable[[], Result]:
    """Send the trace to another server, which is emptied first."""

    def send() -> Result:
        assert server.client().call("debug.reset").status == 200
        return resonate(server.url, "replay", str(trace))

    return send


def lines(trace: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in trace.read_text().split("\n")[:-1]]


def edit(trace: Path, number: int, was: str, now: str) -> None:
    """Edit line ``number``, counting from 1."""
    texts = trace.read_text().splitlines(keepends=True)
    assert was in texts[number - 1]
    texts[number - 1] = texts[number - 1].replace(was, now)
    trace.write_text("".join(texts))


# --- the trace ------------------------------------------------------------------------------------------------------


def test_every_answer_is_recorded_once_with_its_request_and_only_the_owner_can_read_it(
    traced: ServerProcess, trace: Path
) -> None:
    client = traced.client()
    reply = client.create("x")
    client.call("promise.get", id="missing")
    client.call("promise.create", id="without a deadline")
    client.call("promise.search")
    client.call("task.heartbeat", pid="p", tasks=[{"id": f"t{number}", "version": 1} for number in range(450)])
    client.call("debug.tick", time=5)
    traced.stop()
    recorded = lines(trace)

    assert [(line["kind"], line["res"]["head"]["status"]) for line in recorded] == [
        ("promise.create", 200),
        ("promise.get", 404),
        ("promise.create", 400),
        ("promise.search", 200),
        ("task.heartbeat", 200),
        ("debug.tick", 200),
    ]
    assert list(recorded[0]) == ["kind", "now", "req", "res"]
    assert recorded[0]["now"] == reply.data["promise"]["createdAt"]
    assert recorded[0]["req"] == {"id": "x", "timeoutAt": FAR, "param": {}, "tags": {"resonate:external": "true"}}
    assert (recorded[0]["res"]["kind"], recorded[0]["res"]["data"]) == ("promise.create", reply.data)
    assert recorded[0]["res"]["head"].keys() == {"corrId", "status", "version"}
    assert trace.stat().st_mode & 0o777 == 0o600


def test_a_trace_says_nothing_about_who_asked(start: Start, trace: Path) -> None:
    """Not even in the heads of actions; requests that are not permitted leave no line."""
    server = start(RESONATE_TRACE=str(trace), RESONATE_AUTH__TOKEN="sesame")
    create = action("promise.create", id="x", timeoutAt=FAR, tags={"resonate:target": "poll://any@g"})
    create["head"] = {"auth": "sesame"}
    reply = server.client().post(request("task.create", {"auth": "sesame"}, pid="p", ttl=1_000, action=create))
    refused = server.client().create("y")
    server.stop()

    assert (reply.status, refused.status) == (200, 401)
    assert [line["kind"] for line in lines(trace)] == ["task.create"]
    assert "sesame" not in trace.read_text()


def test_an_odd_request_is_one_line_or_none_and_does_not_end_the_trace(traced: ServerProcess, trace: Path) -> None:
    """Line ends; members that nobody reads with invalid text, a long number, a large number, deep nesting."""
    client, plain = traced.client(), request("promise.get", id="é\u2028", y=0)
    members = [b'"\xff"', b"9" * 5_000, b"1e999", b"[" * 5_000 + b"]" * 5_000]
    bodies = [plain.replace(b'"y": 0', b'"y": ' + member) for member in members]
    bodies += [json.dumps(json.loads(plain), indent=2).encode(), plain.replace(b'"y"', b'"\xff"')]
    accepted = [client.post(body).status == 404 for body in bodies]
    client.create("x")
    traced.stop()

    assert accepted[-2]
    assert trace.read_bytes().count(b"\n") == sum(accepted) + 1
    assert [line["req"]["id"] for line in lines(trace)] == ["é\u2028"] * sum(accepted) + ["x"]
    assert "ends here" not in traced.output()


def test_a_trace_is_in_the_order_in_which_requests_took_effect(
    traced: ServerProcess, trace: Path, replay: Replay
) -> None:
    """Several clients at once, which also search; times never go back."""

    def act(number: int) -> None:
        client = traced.client()
        for step in range(6):
            client.create(f"p{step}", timeout_at=FAR + number)
            client.call("promise.settle", id=f"p{step}", state="resolved", value={"data": f"{number}"})
            client.call("promise.search", limit=5)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(act, range(6)))
    traced.stop()
    times = [line["now"] for line in lines(trace)]

    assert len(times) == 6 * 6 * 3
    assert times == sorted(times)
    assert replay().stdout == "108 answers are the same\n"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("mine\n"), "it is not empty; name another file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.symlink_to("/dev/null"), "it is not a file"),
        (lambda path: path.symlink_to("nowhere/trace"), "No such file or directory"),
    ],
    ids=["not empty", "folder", "device", "no folder"],
)
def test_an_unusable_trace_file_stops_the_start(
    refused: Callable[..., str], trace: Path, make: Callable[[Path], Any], reason: str
) -> None:
    make(trace)
    said = f"resonate-server: cannot write the trace {trace}: {reason}\n"
    assert refused(None, None, "--trace", str(trace)) == said


def test_a_full_disk_ends_the_trace_and_not_the_server(start: Start, disk: Path) -> None:
    trace = disk / "trace.ndjson"
    server = start(RESONATE_TRACE=str(trace))
    client = server.client()
    large = {"data": "x" * 1_000_000}
    statuses = {client.call("promise.create", id=f"p{n}", timeoutAt=FAR, param=large).status for n in range(20)}
    wait_until(lambda: "ends here" in server.output(), "the log tells")
    statuses.add(client.create("after").status)
    server.stop()

    assert statuses == {200}
    assert server.output().count("ends here: No space left on device; the server continues without it") == 1
    assert "Traceback" not in server.output()
    assert [line["req"]["id"] for line in lines(trace)] == [f"p{number}" for number in range(len(lines(trace)))]


# --- the replay -----------------------------------------------------------------------------------------------------


def test_the_replay_of_a_chain_of_real_workers_gets_the_same_answers(
    tmp_path: Path, traced: ServerProcess, trace: Path, replay: Replay
) -> None:
    """The chain has a sleep, a suspension and a resumption."""
    workers = [ServiceProcess(name, traced.url, tmp_path / f"{name}.log") for name in ("bar", "baz")]
    assert resonate(traced.url, "invoke chain -f bar --arg 1 --target service-bar").exit_code == 0
    client = traced.client()
    wait_until(lambda: client.state("chain") == "resolved", "the chain ends")
    for worker in workers:
        worker.stop()
    traced.stop()
    kinds = {line["kind"] for line in lines(trace)}
    result = replay()

    assert {"task.acquire", "task.fence", "task.suspend", "task.fulfill"} <= kinds
    assert (result.exit_code, result.stderr) == (0, ""), result.stdout
    assert result.stdout == f"{len(lines(trace))} answers are the same\n"


def test_the_replay_repeats_what_the_passage_of_time_did(traced: ServerProcess, trace: Path, replay: Replay) -> None:
    """A deadline, a timer, the end of a lease, the run of a schedule."""
    client = traced.client()
    now = client.create("any").data["promise"]["createdAt"]
    client.create("timed out", timeout_at=now + 100)
    client.create("timer", timeout_at=now + 100, timer="true")
    client.create("task", target="poll://any@nobody")
    client.call("task.acquire", id="task", version=0, pid="p", ttl=100)
    client.call("schedule.create", id="s", cron="* * * * * *", promiseId="run", promiseTimeout=FAR)
    wait_until(lambda: client.call("task.get", id="task").data["task"]["state"] == "pending", "the lease ends")
    wait_until(lambda: client.call("promise.get", id="run").status == 200, "the schedule runs")
    client.call("promise.search")
    traced.stop()

    assert {"rejected_timedout", "resolved"} <= {
        promise["state"] for promise in lines(trace)[-1]["res"]["data"]["promises"]
    }
    assert replay().stdout == f"{len(lines(trace))} answers are the same\n"


def test_the_replay_does_not_do_due_work_earlier_than_the_original(
    traced: ServerProcess, trace: Path, replay: Replay
) -> None:
    """The end of a lease, while the server does nothing by itself: a late heartbeat still extends it."""
    client = traced.client()
    client.call("debug.start")
    at(client, 0, "promise.create", id="x", timeoutAt=FAR, tags={"resonate:target": "poll://any@nobody"})
    at(client, 0, "task.acquire", id="x", version=0, pid="p", ttl=50)
    at(client, 100, "task.get", id="x")
    at(client, 100, "task.heartbeat", pid="p", tasks=[{"id": "x", "version": 1}])
    client.call("debug.tick", time=149)
    held = at(client, 149, "task.get", id="x").data["task"]["state"]
    client.call("debug.tick", time=150)
    ended = at(client, 150, "task.get", id="x").data["task"]["state"]
    traced.stop()

    assert (held, ended) == ("acquired", "pending")
    assert [line.get("undone") for line in lines(trace)][3:] == [50, 50, 50, None, None, None]
    assert replay().stdout == "8 answers are the same\n"


SLOW_SEARCHES = """
import asyncio
from resonate_server.engine import queries
from resonate_server.__main__ import main

find = queries.find

async def slowly(*asked):
    page = await find(*asked)
    await asyncio.sleep(0.5)
    return page

queries.find = slowly
main()
"""


def test_the_replay_does_not_do_what_happened_while_a_search_was_answered(
    start: Start, trace: Path, replay: Replay
) -> None:
    server = start(program=SLOW_SEARCHES, RESONATE_TRACE=str(trace), RESONATE_DEBUG="true")
    client = server.client()
    created = client.create("x").data["promise"]["createdAt"]
    client.create("short", timeout_at=created + 400)
    found = client.call("promise.search", state="pending").data["promises"]
    server.stop()

    assert [promise["id"] for promise in found] == ["short", "x"]
    assert replay().stdout == "3 answers are the same\n"


def at(client: Client, now: int, kind: str, **data: Any) -> Reply:
    return client.post(request(kind, {"resonate:debug_time": now}, **data))


def test_the_replay_of_hostile_requests_gets_the_same_answers(
    traced: ServerProcess, trace: Path, replay: Replay
) -> None:
    """Everything except bodies without an envelope and unknown kinds."""
    client = traced.client()
    statuses = [client.post(body).status for body in islice(mutations.requests(seed=3), 500)]
    traced.stop()
    told = [line["res"]["head"]["status"] for line in lines(trace)]
    result = replay()

    decided = [[status for status in each if status not in (400, 501)] for each in (told, statuses)]
    assert decided[0] == decided[1]
    assert (result.exit_code, result.stdout) == (0, f"{len(told)} answers are the same\n")


def test_the_first_answer_that_differs_is_shown(traced: ServerProcess, trace: Path, replay: Replay) -> None:
    traced.client().create("x")
    traced.client().call("promise.settle", id="x", state="resolved")
    traced.client().call("promise.get", id="x")
    traced.stop()
    edit(trace, 2, '"state":"resolved","param"', '"state":"rejected","param"')
    result = replay()

    assert result.exit_code == 1
    assert result.stdout.startswith("line 2, promise.settle: the answer differs\n--- recorded\n+++ answered\n")
    assert '-      "state": "rejected",\n+      "state": "resolved",\n' in result.stdout


MISSING = '{"kind":"promise.get","now":1,"req":{"id":"x"},"res":{"head":{"status":404},"data":"it cannot be found"}}\n'


def test_the_wording_of_a_refusal_may_differ(trace: Path, replay: Replay) -> None:
    trace.write_text(MISSING)
    assert replay().exit_code == 0


def test_if_the_clock_cannot_be_set_times_are_not_compared(start: Start, traced: ServerProcess, trace: Path) -> None:
    traced.client().create("x")
    traced.client().call("promise.settle", id="x", state="resolved")
    traced.stop()
    result = resonate(start().url, "replay", str(trace))

    assert (result.exit_code, result.stdout) == (0, "2 answers are the same\n")
    assert "times are not compared" in result.stderr


def test_after_a_replay_the_server_s_own_clock_is_back(
    traced: ServerProcess, server: ServerProcess, replay: Replay
) -> None:
    created = traced.client().create("x").data["promise"]["createdAt"]
    traced.client().create("short", timeout_at=created + 50)
    traced.stop()
    assert replay().exit_code == 0
    wait_until(lambda: server.client().state("short") == "rejected_timedout", "the deadline is noticed")


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ("nonsense\n", "not a line of a trace: "),
        ('{"kind":"promise.get","now":"noon","req":{},"res":{"head":{"status":200}}}\n', "not a line of a trace: "),
        ('{"kind":"promise.get","req":{}}\n', "not a line of a trace: "),
        ('{"kind":"promise.grow","now":1,"req":{},"res":{"head":{"status":200}}}\n', "unknown kind 'promise.grow'"),
        ('{"kind":"promise.get","now":1,"re', "it is cut off"),
        ("\xff\n", "not a line of a trace: "),
    ],
    ids=["no JSON", "another type", "missing members", "another kind", "cut off", "no text"],
)
def test_an_unreadable_line_is_named(trace: Path, replay: Replay, second: str, reason: str) -> None:
    trace.write_bytes((MISSING + second).encode("latin-1"))
    result = replay()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(f"Error: line 2: {reason}")

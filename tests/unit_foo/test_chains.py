"""foo in this process with a real server: the chains that clients begin, join and wait for, and foo's answers."""

import asyncio
import gc
import itertools
import json
import logging
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web as web_server
from aiohttp.test_utils import TestServer
from harness.basics import free_port
from harness.sdk import adaptable_sdk
from harness.server import ServerProcess
from resonate.context import Context
from resonate.error import ConnectorError, ServerError
from resonate.retry import Constant
from unit_worker.group import until

from foo_web import app as app_module
from foo_web import chains as chains_module
from foo_web import flask_async
from foo_web.chains import Chains
from worker import RunningWorker, Settings, Worker, worker

from . import asking
from .asking import PAUSE, Foo, problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE = 2.0
FAULTS = ["kill", "kill-at-work", "freeze"]
OF_OTHERS = "this id belongs to something other than a call of foo; choose another one"
_numbers = itertools.count(1)


async def foo(ctx: Context, pause: float = 0, running: float = 0) -> Any:
    """With a pause, wait until somebody settles the first step."""
    if running == LARGE:
        return "x" * 70_000
    return await ctx.promise() if pause else 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("server") / "log").start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def sdk() -> Iterator[None]:
    """Try nothing twice, and soon ask again for results of which no message came."""
    with adaptable_sdk() as patch:
        patch.setattr(worker, "RETRY_POLICY", Constant(max_retries=0, delay=0))
        patch.setattr(worker, "REFRESH_SECONDS", 0.5)
        yield


@asynccontextmanager
async def running_chains(url: str) -> AsyncIterator[Chains]:
    """Make sure that nothing is left running when the loop ends."""
    own = Worker(f"foo-{next(_numbers)}", foo)
    running = RunningWorker(own, Settings(url, None, timedelta(seconds=60), 64, None))
    yield Chains(own, running)
    await running.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chains(server: ServerProcess, sdk: None) -> AsyncIterator[Chains]:  # noqa: ARG001
    async with running_chains(server.url) as connected:
        await until(connected.is_connected)
        yield connected


@pytest_asyncio.fixture(loop_scope="function")
async def alone(server: ServerProcess, sdk: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Foo]:  # noqa: ARG001
    """A foo that does not find its server."""
    monkeypatch.setattr(chains_module, "CONNECT_SECONDS", 0.1)
    async with running_chains(f"http://127.0.0.1:{free_port()}") as lost:
        yield Foo(lost, server.client())


@pytest.fixture
def web(chains: Chains, server: ServerProcess) -> Foo:
    return Foo(chains, server.client())


@pytest.fixture
def breakable(chains: Chains, server: ServerProcess) -> Foo:
    return Foo(chains, server.client(), offers_faults=True)


# ── chains ──


async def test_a_request_is_answered_with_the_result(web: Foo) -> None:
    reply = await web.post(key="")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert reply.json == {"id": reply.json["id"], "message": 3}
    assert reply.body.endswith(b"\n")
    assert "Preference-Applied" not in reply.headers


@pytest.mark.parametrize(("body", "key"), [(b"pause=1", "a"), (b"", "a:b")])
async def test_a_request_that_makes_no_sense_is_refused(web: Foo, body: bytes, key: str) -> None:
    assert problem(await web.post(body, key=key))[0] == 400


async def test_a_repeated_request_joins_the_chain(web: Foo) -> None:
    first = web.posting()
    await web.waits()
    second = web.posting(b"")
    web.settle(7)
    assert (await first).json == (await second).json == {"id": web.key, "message": 7}
    assert (await web.post(PAUSE)).json == {"id": web.key, "message": 7}


@pytest.mark.parametrize("prefer", ["respond-async", "wait=600"])
async def test_of_two_different_requests_with_the_same_key_at_the_same_time_one_is_refused_at_once(
    web: Foo, prefer: str
) -> None:
    both = [web.posting(body, prefer=prefer) for body in (PAUSE, b'{"pause": 61}')]
    await until(lambda: any(each.done() and each.result().status == 422 for each in both))
    await web.waits()
    web.settle(7)
    assert sorted([(await each).status for each in both]) == [202 if prefer == "respond-async" else 200, 422]


async def test_a_chain_may_be_started_without_waiting_and_then_followed(web: Foo) -> None:
    pending = {"id": web.key, "state": "pending"}
    begun = await web.post(PAUSE, prefer="respond-async")
    assert (begun.status, begun.json) == (202, pending)
    assert begun.headers["Location"] == f"/foo/{web.key}"
    assert begun.headers["Preference-Applied"] == "respond-async"
    assert (await web.get()).json == pending
    await web.waits()
    web.settle({"a": None})
    while (reply := await web.get()).json == pending:
        await asyncio.sleep(0.02)
    assert reply.json == {"id": web.key, "state": "resolved", "message": {"a": None}}
    again = await web.post(prefer="respond-async")
    assert (again.status, again.json) == (200, {"id": web.key, "message": {"a": None}})


async def test_a_limited_wait_ends_after_its_time(web: Foo) -> None:
    reply = await web.post(PAUSE, prefer="wait=1")
    assert (reply.status, reply.json) == (202, {"id": web.key, "state": "pending"})
    assert reply.headers["Preference-Applied"] == "wait=1"


async def test_a_result_whose_message_is_lost_is_requested_again(web: Foo, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = web.chains._resonate._runtime
    waiting = web.posting()
    await web.waits()
    monkeypatch.setattr(runtime, "subs", dict(runtime.subs))
    web.settle(7)
    assert (await waiting).json["message"] == 7


async def test_a_chain_that_was_asked_about_before_it_was_created_is_waited_for(
    web: Foo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK repeatedly asks about a chain as soon as it starts to create it, and creating it may take long."""
    resonate = web.chains._resonate
    create = resonate._sender.task_create_or_conflict

    async def create_late(*arguments: Any) -> Any:
        await until(resonate._runtime.subs[web.key].settled)
        return await create(*arguments)

    monkeypatch.setattr(resonate._sender, "task_create_or_conflict", create_late)
    waiting = web.posting()
    await web.waits()
    web.settle(7)
    reply = await waiting
    assert (reply.status, reply.json) == (200, {"id": web.key, "message": 7})


# ── chains that fail ──


@pytest.mark.parametrize(
    ("state", "value", "error"),
    [
        ("rejected", {"message": "no"}, "no"),
        ("rejected", {"message": "x" * 9_000}, "x" * 8_000),
        ("rejected", "no", "the chain failed without a message"),
        ("rejected", {}, "the chain failed without a message"),
        ("rejected_canceled", None, "the chain was cancelled"),
        ("rejected_timedout", None, "the chain did not end before its deadline"),
    ],
)
async def test_any_other_failed_end_is_reported(web: Foo, state: str, value: Any, error: str) -> None:
    if state == "rejected_timedout":
        web.create(web.chains._group, "foo", timeout_at=1, delay=0)
    else:
        web.create(web.chains._group, "foo")
        web.settle_as(web.key, state, value)
    assert (await web.get()).json == {"id": web.key, "state": state, "error": error}
    reply = await web.post()
    assert (problem(reply), reply.json["id"]) == ((500, error), web.key)


@pytest.mark.parametrize("state", ["resolved", "rejected"])
@pytest.mark.parametrize("data", ["!", "ew==", "/w==", b64encode(b"[" * 9999).decode()])
async def test_an_unreadable_result_is_reported(web: Foo, state: str, data: str) -> None:
    await web.post(PAUSE, prefer="respond-async")
    web.ask_server("promise.settle", id=web.key, state=state, value={"data": data})
    told = f"the chain is {state}, but its stored result cannot be read, as base64 of JSON: "
    for reply in (await web.get(), await web.post()):
        status, detail = problem(reply)
        assert (status, detail[: len(told)]) == (502, told)


async def test_a_result_that_is_too_large_to_show_is_reported(web: Foo) -> None:
    status, detail = problem(await web.post(b'{"running": 2}'))
    assert (status, detail[:39]) == (502, "the result is too large to be shown: 70")


@pytest.mark.parametrize(
    ("group", "func", "members"),
    [("{own}", "bar", {}), ("others", "foo", {}), ("{own}-others", "foo", {}), ("{own}", "foo", {"args": "none"})],
)
async def test_other_promises_are_not_shown_and_not_joined(
    web: Foo, group: str, func: str, members: dict[str, Any]
) -> None:
    web.create(group.format(own=web.chains._group), func, **members)
    assert problem(await web.get()) == (404, "no chain has this id")
    assert problem(await web.post()) == (409, OF_OTHERS)
    task = web.ask_server("task.get", id=web.key)["task"]
    assert (task["state"], task["version"]) == ("pending", 0), "foo took a task that is not its own"


@pytest.mark.parametrize(
    ("body", "members"),
    [
        (b'{"pause": 60}', {"args": [60]}),
        (b'{"running": 60}', {"args": [0, 60]}),
        (b'{"running": 60}', {"kwargs": {"running": 60}}),
        (b'{"pause": 0}', {}),
    ],
)
async def test_an_equivalent_call_of_foo_is_joined(web: Foo, body: bytes, members: dict[str, Any]) -> None:
    web.create(web.chains._group, "foo", **members)
    assert (await web.post(body, prefer="respond-async")).status == 202
    told = "an earlier request with this Idempotency-Key had another body; an empty body joins its chain"
    assert problem(await web.post(b'{"pause": 1}')) == (422, told)
    web.settle_as(web.key, "resolved", 5)
    assert (await web.post(body)).json["message"] == 5


@pytest.mark.parametrize("path", ["/foo/nobody", "/foo/a:b", "/bar", "/foo/"])
async def test_unknown_paths_and_ids_give_404(web: Foo, path: str) -> None:
    status, detail = problem(await web.get(path))
    assert status == 404
    assert detail in {"there is no such resource", "no chain has this id"}


# ── what the server says, or does not say ──


@pytest.mark.parametrize(
    ("error", "status", "detail", "retry"),
    [
        (ServerError(404, "gone"), 404, "no chain has this id", None),
        (ServerError(422, "no"), 409, OF_OTHERS, None),
        (ServerError(429, "busy"), 503, "the Resonate server refuses for now: busy", "2"),
        (ServerError(503, "disk full"), 503, "the Resonate server refuses for now: disk full", "2"),
        (ServerError(500, "odd"), 502, "the Resonate server refuses: odd", None),
        (ConnectorError(OSError("odd")), 503, "the Resonate server gave an unusable answer: ", "2"),
    ],
)
async def test_a_refusal_by_the_server_is_passed_on(
    web: Foo, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, detail: str, retry: str | None
) -> None:
    async def refuse(id: str) -> Any:  # noqa: ARG001
        raise error

    monkeypatch.setattr(web.chains._sender, "promise_get", refuse)
    reply = await web.get()
    assert problem(reply)[0] == status
    assert problem(reply)[1].startswith(detail)
    assert reply.headers.get("Retry-After") == retry


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_server_that_does_not_answer_or_goes_away_meanwhile_gives_503(
    web: Foo, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    async def never(id: str) -> Any:  # noqa: ARG001
        if is_lost:
            monkeypatch.setattr(web.chains._stream, "wait_until_connected", asyncio.Event().wait)
        await asyncio.sleep(60)

    monkeypatch.setattr(web.chains._sender, "promise_get", never)
    monkeypatch.setattr(chains_module, "CONNECT_SECONDS" if is_lost else "ANSWER_SECONDS", 0.1)
    told = "the Resonate server cannot be reached" if is_lost else "the Resonate server does not answer"
    assert problem(await web.get()) == (503, told)


async def test_an_error_for_a_client_that_has_left_is_not_logged(
    web: Foo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def refuse(id: str) -> Any:  # noqa: ARG001
        asked.set()
        await left.wait()
        raise ServerError(404, "gone")

    monkeypatch.setattr(web.chains._sender, "promise_get", refuse)
    request = asyncio.create_task(web.get())
    await asked.wait()
    request.cancel()
    with suppress(asyncio.CancelledError):
        await request
    left.set()
    await asyncio.sleep(0.05)
    gc.collect()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.asyncio(loop_scope="function")
async def test_while_the_server_is_away_clients_are_told_to_retry(alone: Foo) -> None:
    reply = await alone.post()
    away = "the Resonate server cannot be reached"
    assert problem(reply) == (503, f"{away}. Repeat the request with the header Idempotency-Key: {alone.key}")
    assert reply.headers["Retry-After"] == "2"
    assert problem(await alone.get()) == (503, away)
    assert problem(await alone.get("/health")) == (503, "not connected to the Resonate server")


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.usefixtures("sdk")
async def test_a_server_that_is_none_is_reported_shortly(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As much as it likes to say does not reach clients."""
    monkeypatch.setattr(chains_module, "ANSWER_SECONDS", 1)

    async def stream(request: web_server.Request) -> web_server.StreamResponse:
        response = web_server.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(3600)
        return response

    async def answer(_: web_server.Request) -> web_server.Response:
        return web_server.Response(status=400, text="<html>" * 1_000_000)

    other = web_server.Application()
    other.router.add_get("/{path:.*}", stream)
    other.router.add_post("/", answer)
    async with TestServer(other) as none, running_chains(str(none.make_url("")).rstrip("/")) as mistaken:
        await until(mistaken.is_connected)
        told = await Foo(mistaken, server.client()).get()
    assert problem(told)[0] == 503
    assert len(told.body) < 20_000


# ── clients that wait, leave, or are many ──


async def test_if_too_many_clients_wait_the_next_is_told_when_to_retry(
    web: Foo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "MAX_WAITING", 2)
    bodies = {f"{web.key}-a": b'{"pause": 60}', f"{web.key}-b": b'{"pause": 80}'}
    waiting = [web.posting(body, key=key, prefer="wait=70") for key, body in bodies.items()]
    for key in bodies:
        await web.waits(key)
    reply = await web.post()
    assert problem(reply) == (
        503,
        "2 requests are already waiting. With the header Prefer: respond-async a request does not wait. "
        f"Repeat the request with the header Idempotency-Key: {web.key}",
    )
    assert 30 < int(reply.headers["Retry-After"]) <= 60
    assert (await web.post(PAUSE, key="", prefer="respond-async")).status == 202
    for key in bodies:
        web.settle(7, key)
    assert [(await each).status for each in waiting] == [200, 200]
    assert (await web.post()).status == 200


async def test_an_overloaded_foo_still_reports_its_health(web: Foo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flask_async, "MAX_AT_WORK", 1)
    assert (await web.get()).status == 404
    monkeypatch.setattr(flask_async, "MAX_AT_WORK", 0)
    reply = await web.get()
    assert problem(reply) == (503, "foo is overloaded")
    assert reply.headers["Retry-After"] == "1"
    assert (await web.get("/health")).status == 200
    assert not web.app.at_work


# ── HTTP ──


@pytest.mark.parametrize(
    ("headers", "read"), [([("Transfer-Encoding", "chunked")], 2), ([("Content-Length", "100000")], 0)]
)
async def test_a_body_that_is_too_large_is_read_up_to_the_limit_and_its_sender_gets_an_answer(
    web: Foo, headers: list[tuple[str, str]], read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flask_async, "LEAVE_SECONDS", 60)
    client = asking.Client(*[b" " * 10_000] * 10)
    client.sends = read
    request = web.begin(client, "POST", "/foo", headers)
    await until(lambda: len(client.sent) == 2)
    assert client.reply().status == 413 and not request.done()
    client.leave()
    await request


async def test_a_head_request_gets_no_body(web: Foo) -> None:
    reply = await web.request("HEAD", "/health")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["Content-Length"]) > 0


async def test_a_bug_in_foo_gives_500_and_is_logged_with_its_traceback(
    web: Foo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: str) -> Any:
        raise LookupError("a mistake")

    monkeypatch.setattr(web.chains, "look_up", fail)
    status, detail = problem(await web.get())
    assert (status, "mistake" in detail) == (500, False)
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [str(error) for error in logged] == ["a mistake"]


async def test_repeated_headers_are_joined(web: Foo) -> None:
    client = asking.Client(b"")
    await web.begin(client, "POST", "/foo", [("Prefer", "respond-async"), ("Prefer", "wait=30")])
    assert client.reply().headers["Preference-Applied"] == "respond-async, wait=30"


# ── the page's actions ──


async def test_the_page_gets_its_actions(web: Foo, breakable: Foo) -> None:
    for foo, faults, number in ((web, [], 1), (breakable, FAULTS, 0)):
        actions = (await foo.get("/actions")).json["actions"]
        assert [action["name"] for action in actions] == ["request", "work", "break", *faults]
        assert f"DEMO_FAULTS={number} " in actions[2]["note"]


async def test_fields_of_actions_have_the_limits_that_foo_checks(web: Foo) -> None:
    for action in (await web.get("/actions")).json["actions"][:2]:
        (field,) = action["fields"]
        clicks = [(field["min"], 202), (field["max"], 202), (field["min"] - 1, 400), (field["max"] + 1, 400)]
        for value, status in clicks:
            body = json.dumps({field["name"]: value}).encode()
            assert (await web.request("POST", f"/actions/{action['name']}", body)).status == status, value


@pytest.mark.parametrize("action", ["request", "work"])
async def test_a_click_starts_a_chain_and_does_not_wait(
    web: Foo, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "foo_web.flask_async")
    reply = await web.request("POST", f"/actions/{action}", PAUSE)
    assert f"POST /actions/{action}  id={reply.json['id']}  status=202" in caplog.text
    assert reply.status == 202
    assert reply.json["id"].startswith("foo-")
    await web.waits(reply.json["id"])


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_worker_is_called_to_fail_at_its_own_address_with_a_short_deadline_but_not_by_default(
    web: Foo, breakable: Foo, fault: str
) -> None:
    address = "poll://any@nobody/0123abcd"
    click = json.dumps({"worker": address}).encode()
    assert (await web.request("POST", f"/actions/{fault}", click)).status == 404
    reply = await breakable.request("POST", f"/actions/{fault}", click)
    assert reply.status == 202
    promise = web.ask_server("promise.get", id=reply.json["id"])["promise"]
    assert promise["tags"]["resonate:target"] == address
    assert promise["timeoutAt"] - promise["createdAt"] <= 120_000
    call = json.loads(b64decode(promise["param"]["data"]))
    assert (call["func"], call["args"]) == ("fail", [fault, "0123abcd"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[" * 10_000,
        b"\xff",
        b'{"worker": 1}',
        b'{"worker": "service-bar"}',
        b'{"worker": "poll://any@service-bar"}',
        b'{"worker": "poll://uni@service-bar/1"}',
        b'{"worker": "http://localhost/1"}',
    ],
)
async def test_a_click_without_a_valid_worker_is_refused(breakable: Foo, body: bytes) -> None:
    status, detail = problem(await breakable.request("POST", "/actions/kill", body))
    assert status == 400
    assert "the body must name a worker" in detail

"""How messages for HTTP addresses are posted: each target has a queue, and targets that answer get more at a time."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import pytest
from aiohttp import web
from unit.driver import value
from unit.hubs import execute, many, unblock, until

from resonate_server.config import HttpPush, PushAuth
from resonate_server.delivery import push as push_module
from resonate_server.delivery.push import Push
from resonate_server.delivery.unblocks import OVERHEAD_BYTES
from resonate_server.metrics import Metrics
from resonate_server.protocol.messages import Message
from resonate_server.protocol.records import Value

SERVER_URL = "http://server:8001"


class Receiver:
    """Answers with the next of ``statuses``, then with 200, and only while ``gate`` is open."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.answered: dict[str, str] = {"Location": "/elsewhere"}
        self.url = ""
        self._runner = web.ServerRunner(web.Server(self._take), shutdown_timeout=0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        await self._runner.cleanup()

    async def _take(self, request: web.BaseRequest) -> web.Response:
        body = json.loads(await request.read())
        self.received.append((request.path, body))
        self.headers.append(dict(request.headers))
        await self.gate.wait()
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers=self.answered)

    @property
    def tasks(self) -> list[str]:
        return [body["data"]["task"]["id"] for _, body in self.received]


class Post:
    """A push and two receivers, with what it has counted and reported."""

    def __init__(self, settings: HttpPush) -> None:
        self.receiver, self.other = Receiver(), Receiver()
        self.metrics = Metrics()
        self.delivered: list[str] = []
        self.push = Push(settings, SERVER_URL, self.metrics, lambda each: self.delivered.append(each.promise.id))

    def counted(self, status: str) -> float:
        return self.metrics.registry.get_sample_value("resonate_deliveries_total", {"status": status}) or 0

    async def until_counted(self, status: str, count: int) -> None:
        await until(lambda: self.counted(status) == count)

    async def until_ended(self, count: int) -> None:
        await until(lambda: self.counted("success") + self.counted("error") == count)
        for _ in range(5):  # The slot is freed a few turns of the loop later.
            await asyncio.sleep(0)

    def failures(self) -> dict[str, float]:
        samples = [sample for family in self.metrics.registry.collect() for sample in family.samples]
        return {each.labels["target"]: each.value for each in samples if each.name == "resonate_push_failures_total"}

    def send(self, *messages: Message, url: str | None = None) -> None:
        for message in messages:
            self.push.send(message, url or self.receiver.url)


@pytest.fixture
async def post(request: pytest.FixtureRequest) -> AsyncIterator[Post]:
    """The parameter, if there is one, has the settings that differ from the usual ones."""
    post = Post(HttpPush(**getattr(request, "param", {})))
    await post.push.start()
    async with post.receiver, post.other:
        yield post
    await post.push.stop()


def with_settings(**settings: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("post", [settings], indirect=True, ids=[""])


async def a_moment() -> None:
    """Wait long enough for a request that should not come."""
    await asyncio.sleep(0.05)


class TestPost:
    @pytest.mark.parametrize("status", [200, 299, 300, 307, 404, 500])
    async def test_an_unblock_is_reported_as_delivered_unless_it_is_refused(self, post: Post, status: int) -> None:
        delivered = status < 300
        post.receiver.statuses = [status]
        post.send(unblock("p"))
        await post.until_counted("success" if delivered else "error", 1)
        await until(lambda: post.delivered == ["p"] * delivered)
        assert post.failures() == ({} if delivered else {post.receiver.url: 1})
        assert [(path, body["data"]["promise"]["id"]) for path, body in post.receiver.received] == [("/", "p")]
        assert "Authorization" not in post.receiver.headers[0]

    @with_settings(auth=PushAuth(mode="bearer", token="secret", header="X-Proof"))
    async def test_the_server_proves_its_identity(self, post: Post) -> None:
        post.send(execute("t"))
        await post.until_counted("success", 1)
        assert post.receiver.headers[0]["X-Proof"] == "Bearer secret"

    @pytest.mark.parametrize(
        ("url", "target", "reason"),
        [
            ("https://127.0.0.1:1/x", "https://127.0.0.1:1", "Connect call failed"),
            ("HTTP://user:secret@127.0.0.1:1/x", "http://127.0.0.1:1", "Connect call failed"),
            ("http://user:secret@[", "an invalid address", "not a valid URL"),
        ],
    )
    async def test_an_unreachable_target_is_named_without_secrets(
        self, post: Post, caplog: pytest.LogCaptureFixture, url: str, target: str, reason: str
    ) -> None:
        post.send(execute("t"), url=url)
        await post.until_counted("error", 1)
        assert post.failures() == {target: 1}
        assert f"could not deliver 't' to '{target}': {reason}" in caplog.text
        assert "secret" not in caplog.text

    async def test_no_target_sees_the_cookies_of_another(self, post: Post) -> None:
        """Cookies belong to a host, whatever the port; a jar would also grow with each answer."""
        for count, receiver in enumerate((post.receiver, post.other), 1):
            receiver.answered["Set-Cookie"] = "own=secret"
            post.send(execute(receiver.url), url=receiver.url.replace("127.0.0.1", "localhost"))
            await post.until_counted("success", count)
        assert [headers.get("Cookie") for headers in post.receiver.headers + post.other.headers] == [None, None]

    @with_settings(enabled=False)
    async def test_if_push_is_disabled_everything_is_dropped(self, post: Post) -> None:
        post.send(execute("t"))
        await a_moment()
        assert (post.receiver.received, post.counted("dropped")) == ([], 1)

    @with_settings(request_timeout=50)
    async def test_a_target_that_does_not_answer_in_time_has_failed(self, post: Post) -> None:
        post.receiver.gate.clear()
        post.send(execute("t"))
        async with asyncio.timeout(10):
            await post.until_counted("error", 1)


class TestQueue:
    @pytest.mark.parametrize(
        ("sent", "withdrawn", "posted"),
        [
            pytest.param(["a/0", "b/0", "a/0", "b/0"], [], ["a/0", "b/0"], id="once, though it comes again meanwhile"),
            # Its worker may have suspended it, and not yet answered the request that offered it.
            pytest.param(["t/0", "t/1"], ["t/0"], ["t/0", "t/1"], id="at its new version, if it was claimed meanwhile"),
            pytest.param(["a/0", "t/3"], ["t/3"], ["a/0"], id="not, if it needs no worker any more"),
        ],
    )
    async def test_a_task_in_flight_or_queued_is_sent(
        self, post: Post, sent: list[str], withdrawn: list[str], posted: list[str]
    ) -> None:
        post.receiver.gate.clear()
        for task, _, version in (each.partition("/") for each in sent):
            post.send(execute(task, version=int(version)))
        await until(lambda: post.receiver.received)
        for task, _, version in (each.partition("/") for each in withdrawn):
            post.push.withdraw(task, int(version))
        post.receiver.gate.set()
        await post.until_counted("success", len(posted))
        await a_moment()

        tasks = [body["data"]["task"] for _, body in post.receiver.received]
        assert [f"{task['id']}/{task['version']}" for task in tasks] == posted

    async def test_a_result_in_flight_or_queued_is_not_sent_twice(self, post: Post) -> None:
        post.send(unblock("p"), unblock("p"))
        await post.until_counted("success", 1)
        await a_moment()
        assert len(post.receiver.received) == 1

    @pytest.mark.parametrize(
        ("statuses", "answered", "then"),
        [
            pytest.param([], [1, 3, 7], 15, id="first one, and one more for each success"),
            pytest.param([200, 500, 500], [1, 3], 4, id="only one after a failure"),
        ],
    )
    async def test_a_target_gets_at_a_time(
        self, post: Post, statuses: list[int], answered: list[int], then: int
    ) -> None:
        post.receiver.gate.clear()
        post.receiver.statuses = [*statuses]
        post.send(*many(20))
        for total in answered:
            await self.answer(post, total)
        await until(lambda: len(post.receiver.received) == then)
        await a_moment()

        assert (len(post.receiver.received), post.counted("error")) == (then, statuses.count(500))

    @with_settings(concurrency=2)
    async def test_half_of_the_slots_are_reserved_for_targets_that_have_answered(self, post: Post) -> None:
        post.send(execute("first"), url=post.other.url)
        await post.until_counted("success", 1)
        post.receiver.gate.clear()
        post.send(execute("stuck"))
        post.send(execute("also stuck"), url=post.receiver.url.replace("127.0.0.1", "localhost"))
        await until(lambda: len(post.receiver.received) == 1)

        post.send(execute("second"), url=post.other.url)
        await post.until_counted("success", 2)

        assert post.receiver.tasks == ["stuck"]
        post.receiver.gate.set()
        await until(lambda: post.counted("success") + post.counted("error") == 4)

    @with_settings(concurrency=2)
    async def test_targets_that_do_not_answer_give_their_places_up_soon_if_others_wait(
        self, post: Post, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(push_module, "TRIAL_S", 0.05)
        post.receiver.gate.clear()
        post.send(execute("stuck"))
        await until(lambda: post.receiver.received)
        post.send(execute("t"), url=post.other.url)
        await post.until_counted("success", 1)
        assert (post.other.tasks, post.counted("error")) == (["t"], 1)

    async def answer(self, post: Post, total: int) -> None:
        await until(lambda: len(post.receiver.received) == total)
        await a_moment()
        post.receiver.gate.set()
        post.receiver.gate.clear()


class Names:
    """The names that were looked up; those with ``slow`` in them are found once ``over`` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.over = threading.Event()
        self._find = socket.getaddrinfo

    def find(self, host: Any, *rest: Any, **options: Any) -> Any:
        self.asked.append(str(host))
        if "slow" not in str(host):
            return self._find(host, *rest, **options)
        self.over.wait()
        raise socket.gaierror(socket.EAI_NONAME, "not found")


class TestNames:
    """A name whose servers do not answer holds a thread, long after its request has failed."""

    @pytest.fixture
    def names(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
        names = Names()
        monkeypatch.setattr(socket, "getaddrinfo", names.find)
        yield names
        names.over.set()

    async def test_names_that_are_not_found_for_long_hold_up_no_others(self, post: Post, names: Names) -> None:
        for number in range(40):
            post.send(execute(f"slow-{number}"), url=f"http://slow-{number}.example")
        await until(lambda: names.asked)
        post.send(execute("t"), url=post.receiver.url.replace("127.0.0.1", "localhost"))
        await post.until_counted("success", 1)

    @with_settings(concurrency=2, connect_timeout=50)
    async def test_their_number_is_limited(self, post: Post, names: Names) -> None:
        for number in range(2):
            post.send(execute(f"slow-{number}"), url=f"http://slow-{number}.example")
        await post.until_counted("error", 1)
        await a_moment()
        assert names.asked == ["slow-0.example"]
        names.over.set()
        await post.until_counted("error", 2)


class TestMemory:
    """The target with the most waiting messages gives way."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(push_module, "MAX_WAITING_BYTES", 4 * OVERHEAD_BYTES)

    async def test_the_newest_message_of_the_largest_queue_is_dropped(self, post: Post) -> None:
        post.receiver.gate.clear()
        post.send(*many(4))
        post.send(execute("u"), url=post.other.url)
        await post.until_counted("success", 1)
        post.receiver.gate.set()
        await post.until_counted("success", 4)

        assert (post.other.tasks, post.receiver.tasks, post.counted("dropped")) == (["u"], ["t-0", "t-1", "t-2"], 1)

    @pytest.mark.parametrize(
        "payload",
        [value("x" * 4 * OVERHEAD_BYTES), Value(headers={"h": "x" * 4 * OVERHEAD_BYTES})],
        ids=["data", "headers"],
    )
    async def test_payloads_count_but_a_single_one_is_always_accepted(self, post: Post, payload: Value) -> None:
        post.receiver.gate.clear()
        post.send(unblock("p", value=payload), execute("t"))
        assert post.counted("dropped") == 1
        post.receiver.gate.set()
        await until(lambda: post.delivered == ["p"])

    async def test_a_limited_number_of_targets_is_remembered(self, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(push_module, "MAX_TARGETS", 1)
        post.receiver.gate.clear()
        post.send(execute("t"))
        post.send(execute("no room"), url=post.other.url)
        assert post.counted("dropped") == 1
        post.receiver.gate.set()
        await post.until_ended(1)

        post.send(execute("u"), url=post.other.url)
        await post.until_counted("success", 2)
        assert post.other.tasks == ["u"]


class TestLog:
    @pytest.mark.parametrize(
        ("answered", "told"),
        [
            (b"nonsense\r\n" * 100, "Bad status line"),
            # Any number of interim answers may come before the answer, which kept the event loop from everything else.
            (b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000 + b"HTTP/1.1 200 OK\r\n\r\n", "the connection was closed"),
        ],
        ids=["nonsense", "interim answers without end"],
    )
    async def test_a_target_that_does_not_answer_as_it_should_has_failed_and_cannot_write_to_the_log(
        self, post: Post, caplog: pytest.LogCaptureFixture, answered: bytes, told: str
    ) -> None:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answered)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            post.send(execute("t"), url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            await post.until_ended(1)
        assert post.counted("error") == 1
        assert told in caplog.text
        assert "nonsense" not in caplog.text

    @pytest.mark.parametrize(("pause_s", "lines"), [(60.0, 1), (0.0, 2)])
    async def test_trouble_and_its_end_are_logged_once_and_again_after_a_pause(
        self, post: Post, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, pause_s: float, lines: int
    ) -> None:
        caplog.set_level("INFO")
        monkeypatch.setattr(push_module, "LOG_PAUSE_S", pause_s)
        post.receiver.statuses = [500, 500, 200, 500]
        for number in range(4):
            post.send(execute(f"t-{number}"))
            await post.until_ended(number + 1)

        told = [record.getMessage() for record in caplog.records if record.name == push_module.__name__]
        assert (
            told
            == [
                f"could not deliver 't-0' to '{post.receiver.url}': status 500",
                f"deliveries to '{post.receiver.url}' succeed again, after 2 failures",
                f"could not deliver 't-3' to '{post.receiver.url}': status 500",
            ][: lines + 1]
        )

"""How messages for HTTP addresses are posted: each target has a queue, and targets that answer get more at a time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import pytest
from aiohttp import web
from unit.driver import value
from unit.hubs import execute, many, unblock, until

from resonate_server.config import HttpPush, PushAuth
from resonate_server.delivery import push as push_module
from resonate_server.delivery.push import MESSAGE_BYTES, Push
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
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 307 else {})

    @property
    def tasks(self) -> list[str]:
        return [body["data"]["task"]["id"] for _, body in self.received]


class Post:
    """A push, with what it has counted and reported."""

    def __init__(self, settings: HttpPush) -> None:
        self.metrics = Metrics()
        self.delivered: list[str] = []
        self.push = Push(settings, SERVER_URL, self.metrics, lambda each: self.delivered.append(each.promise.id))

    def counted(self, status: str) -> float:
        return self.metrics.registry.get_sample_value("resonate_deliveries_total", {"status": status}) or 0

    async def until_ended(self, count: int) -> None:
        await until(lambda: self.counted("success") + self.counted("error") == count)
        for _ in range(5):  # The slot is freed a few turns of the loop later.
            await asyncio.sleep(0)

    def failures(self) -> dict[str, float]:
        samples = [sample for family in self.metrics.registry.collect() for sample in family.samples]
        return {each.labels["target"]: each.value for each in samples if each.name == "resonate_push_failures_total"}

    def send(self, url: str, *messages: Message) -> None:
        for message in messages:
            self.push.send(message, url)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def other() -> AsyncIterator[Receiver]:
    async with Receiver() as other:
        yield other


@pytest.fixture
async def posted() -> AsyncIterator[Callable[..., Any]]:
    """Start a push with the given settings."""
    started: list[Post] = []

    async def start(**settings: Any) -> Post:
        started.append(Post(HttpPush(**settings)))
        await started[-1].push.start()
        return started[-1]

    yield start
    for post in started:
        await post.push.stop()


@pytest.fixture
async def post(posted: Callable[..., Any]) -> Post:
    started: Post = await posted()
    return started


async def a_moment() -> None:
    """Wait long enough for a request that should not come."""
    await asyncio.sleep(0.05)


class TestPost:
    async def test_an_execute_carries_the_address_to_call_back(self, post: Post, receiver: Receiver) -> None:
        post.send(f"{receiver.url}/work?x=1", execute("t", version=3))
        await until(lambda: post.counted("success") == 1)

        body = {"kind": "execute", "head": {"serverUrl": SERVER_URL}, "data": {"task": {"id": "t", "version": 3}}}
        assert receiver.received == [("/work", body)]
        assert receiver.headers[0]["Content-Type"] == "application/json"
        assert "Authorization" not in receiver.headers[0]
        assert post.delivered == []

    async def test_a_delivered_unblock_is_reported(self, post: Post, receiver: Receiver) -> None:
        post.send(receiver.url, unblock("p"))
        await until(lambda: post.delivered == ["p"])
        assert receiver.received[0][1]["data"]["promise"]["id"] == "p"

    async def test_the_server_proves_its_identity(self, posted: Callable[..., Any], receiver: Receiver) -> None:
        post = await posted(auth=PushAuth(mode="bearer", token="secret", header="X-Proof"))
        post.send(receiver.url, execute("t"))
        await until(lambda: post.counted("success") == 1)
        assert receiver.headers[0]["X-Proof"] == "Bearer secret"

    @pytest.mark.parametrize("status", [300, 307, 404, 500, 503])
    async def test_a_message_that_is_not_accepted_is_a_failure_and_not_reported_as_delivered(
        self, post: Post, receiver: Receiver, status: int
    ) -> None:
        receiver.statuses = [status]
        post.send(receiver.url, unblock("p"))
        await until(lambda: post.counted("error") == 1)
        assert (post.counted("success"), post.delivered) == (0, [])
        assert post.failures() == {receiver.url: 1}
        assert [path for path, _ in receiver.received] == ["/"]

    @pytest.mark.parametrize(
        ("url", "target"),
        [
            ("http://127.0.0.1:1/x", "http://127.0.0.1:1"),
            ("HTTP://user:secret@127.0.0.1:1/x", "http://127.0.0.1:1"),
            ("http://[", "://http://["),
        ],
    )
    async def test_an_unreachable_target_is_named_without_secrets(self, post: Post, url: str, target: str) -> None:
        post.send(url, execute("t"))
        await until(lambda: post.counted("error") == 1)
        assert post.failures() == {target: 1}

    async def test_if_push_is_disabled_everything_is_dropped(
        self, posted: Callable[..., Any], receiver: Receiver
    ) -> None:
        post = await posted(enabled=False)
        post.send(receiver.url, execute("t"))
        await a_moment()
        assert (receiver.received, post.counted("dropped")) == ([], 1)

    async def test_a_target_that_does_not_answer_in_time_has_failed(
        self, posted: Callable[..., Any], receiver: Receiver
    ) -> None:
        post = await posted(request_timeout=50)
        receiver.gate.clear()
        post.send(receiver.url, execute("t"))
        await until(lambda: post.counted("error") == 1)

    @pytest.mark.parametrize("status", [200, 201, 299])
    async def test_any_2xx_status_is_a_success(self, post: Post, receiver: Receiver, status: int) -> None:
        receiver.statuses = [status]
        post.send(receiver.url, unblock("p"))
        await until(lambda: post.counted("success") == 1)


class TestQueue:
    async def test_a_message_in_flight_or_queued_is_not_sent_twice(self, post: Post, receiver: Receiver) -> None:
        receiver.gate.clear()
        post.send(receiver.url, execute("a"), execute("b"), execute("a"), execute("b"), unblock("p"), unblock("p"))
        receiver.gate.set()
        await until(lambda: post.counted("success") == 3)
        await a_moment()
        assert len(receiver.received) == 3

    async def test_a_target_starts_with_one_request_and_each_success_allows_one_more(
        self, post: Post, receiver: Receiver
    ) -> None:
        receiver.gate.clear()
        post.send(receiver.url, *many(20))
        for total in (1, 3, 7):
            await self.answer(receiver, total)
        await until(lambda: len(receiver.received) == 15)
        await a_moment()

        assert len(receiver.received) == 15

    async def test_a_failure_reduces_a_target_to_one_request(self, post: Post, receiver: Receiver) -> None:
        receiver.gate.clear()
        receiver.statuses = [200, 500, 500]
        post.send(receiver.url, *many(8))
        await self.answer(receiver, 1)
        await self.answer(receiver, 3)
        await until(lambda: len(receiver.received) == 4)
        await a_moment()

        assert (len(receiver.received), post.counted("error")) == (4, 2)

    async def test_an_unresponsive_target_does_not_hold_up_others(
        self, post: Post, receiver: Receiver, other: Receiver
    ) -> None:
        receiver.gate.clear()
        post.send(receiver.url, *many(5, prefix="stuck"))
        post.send(other.url, *many(5))
        await until(lambda: len(other.received) == 5)
        assert len(receiver.received) == 1

    async def test_half_of_the_slots_are_reserved_for_targets_that_have_answered(
        self, posted: Callable[..., Any], receiver: Receiver, other: Receiver
    ) -> None:
        post = await posted(concurrency=2)
        post.send(other.url, execute("first"))
        await until(lambda: post.counted("success") == 1)
        receiver.gate.clear()
        post.send(receiver.url, execute("stuck"))
        post.send(receiver.url.replace("127.0.0.1", "localhost"), execute("also stuck"))
        await until(lambda: len(receiver.received) == 1)

        post.send(other.url, execute("second"))
        await until(lambda: post.counted("success") == 2)

        assert receiver.tasks == ["stuck"]
        receiver.gate.set()
        await until(lambda: post.counted("success") + post.counted("error") == 4)

    async def answer(self, receiver: Receiver, total: int) -> None:
        """Wait for ``total`` requests and return them all."""
        await until(lambda: len(receiver.received) == total)
        await a_moment()
        receiver.gate.set()
        receiver.gate.clear()


class TestMemory:
    """The target with the most waiting messages gives way."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(push_module, "MAX_WAITING_BYTES", 4 * MESSAGE_BYTES)

    async def test_the_newest_message_of_the_largest_queue_is_dropped(
        self, post: Post, receiver: Receiver, other: Receiver
    ) -> None:
        receiver.gate.clear()
        post.send(receiver.url, *many(4))
        post.send(other.url, execute("u"))
        await until(lambda: post.counted("success") == 1)
        receiver.gate.set()
        await until(lambda: post.counted("success") == 4)

        assert (other.tasks, receiver.tasks, post.counted("dropped")) == (["u"], ["t-0", "t-1", "t-2"], 1)

    @pytest.mark.parametrize(
        "payload",
        [value("x" * 4 * MESSAGE_BYTES), Value(headers={"h": "x" * 4 * MESSAGE_BYTES})],
        ids=["data", "headers"],
    )
    async def test_payloads_count_but_a_single_one_is_always_accepted(
        self, post: Post, receiver: Receiver, payload: Value
    ) -> None:
        receiver.gate.clear()
        post.send(receiver.url, unblock("p", value=payload), execute("t"))
        assert post.counted("dropped") == 1
        receiver.gate.set()
        await until(lambda: post.delivered == ["p"])

    async def test_a_limited_number_of_targets_is_remembered(
        self, post: Post, receiver: Receiver, other: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(push_module, "MAX_TARGETS", 1)
        receiver.gate.clear()
        post.send(receiver.url, execute("t"))
        post.send(other.url, execute("no room"))
        assert post.counted("dropped") == 1
        receiver.gate.set()
        await post.until_ended(1)

        post.send(other.url, execute("u"))
        await until(lambda: post.counted("success") == 2)
        assert other.tasks == ["u"]


class TestLog:
    async def test_trouble_is_logged_once_with_an_example_and_so_is_its_end(
        self, post: Post, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        receiver.statuses = [500, 500]
        for number in range(4):
            post.send(receiver.url, execute(f"t-{number}"))
            await post.until_ended(number + 1)

        assert [record.getMessage() for record in caplog.records if record.name == push_module.__name__] == [
            f"could not deliver 't-0' to '{receiver.url}': status 500",
            f"deliveries to '{receiver.url}' succeed again, after 2 failures",
        ]

    @pytest.mark.parametrize(("pause_s", "lines"), [(60.0, 1), (0.0, 2)])
    async def test_again_only_after_a_pause(
        self,
        post: Post,
        receiver: Receiver,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        pause_s: float,
        lines: int,
    ) -> None:
        monkeypatch.setattr(push_module, "LOG_PAUSE_S", pause_s)
        receiver.statuses = [500, 200, 500]
        for number in range(3):
            post.send(receiver.url, unblock("p"))
            await post.until_ended(number + 1)
        assert caplog.text.count("could not deliver 'p'") == lines

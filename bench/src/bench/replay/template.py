"""A recorded chain: its requests, and what each of them waited for.

Ids, correlation ids, workers and deadlines are replaced by placeholders; versions stay, because they are the same in
every chain that goes the same way. A worker takes the steps of one task one after another; heartbeats and listeners
go beside them, and nothing waits for their answers.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bench.replay.tap import Exchange

HERE = Path(__file__).parent
CHAIN_FILE = HERE / "chain.json"
"""Without pause: from the first request to the last."""
PAUSED_CHAIN_FILE = HERE / "paused_chain.json"
"""With a long pause: until everything waits."""

ROOT = "foo-################"
CORR_ID = "sr-################################"
"""Placeholders, as long as what they stand for: the length of a request does not depend on what is put in."""
WORKER = re.compile(r"worker of ([\w-]+)")
DEADLINE = re.compile(r'"in (\d+) ms"')

_BESIDE = {"task.heartbeat", "promise.register_listener"}


class Message(Struct, frozen=True):
    """An ``execute`` of the task ``suffix`` (its id without the root's), or the ``unblock`` of its promise."""

    suffix: str
    version: int | None = None


class Step(Struct, frozen=True, omit_defaults=True):
    """One request. It waits for the answers to the steps ``after``, and for the message ``on`` if there is one."""

    worker: str
    """The group of who sends it."""
    body: Any
    after: list[int] = []
    on: Message | None = None


class Template(Struct, frozen=True):
    """``ends_on``: the message that tells the caller its result, for chains that were recorded to their end."""

    steps: list[Step]
    ends_on: Message | None = None

    @property
    def workers(self) -> list[str]:
        return sorted({step.worker for step in self.steps})


def load(path: Path) -> Template:
    return msgspec.json.decode(path.read_bytes(), type=Template)


def save(template: Template, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(template), indent=1) + b"\n")


# ── from what a tap has heard ──


class WentAnotherWay(Exception):
    """The recorded chain took a turn that not every chain takes: something was settled before it was waited for."""


def template_of(exchanges: Iterable[Exchange], began_at_ms: int) -> Template:
    """Of the exchanges of one chain. Raises :class:`WentAnotherWay` if the server refused something."""
    heard = sorted(exchanges, key=lambda exchange: exchange.sent_at)
    requests = [exchange for exchange in heard if not exchange.is_message]
    for request in requests:
        if request.answer["head"]["status"] != 200:
            raise WentAnotherWay(f"{request.request} was answered with {request.answer}")
    unblocks = [exchange for exchange in heard if exchange.is_message and exchange.request["kind"] == "unblock"]
    root = _task_id(requests[0].request)
    return Template(
        steps=list(_Reader(root, requests, began_at_ms).steps()),
        ends_on=_message(root, unblocks[-1].request) if unblocks else None,
    )


class _Reader:
    def __init__(self, root: str, requests: list[Exchange], began_at_ms: int) -> None:
        self._root = root
        self._requests = requests
        self._began_at_ms = began_at_ms
        self._groups = {id: group for each in requests for id, group in _targets(each.request)}
        self._pids = dict(_pids(self._groups, requests))

    def steps(self) -> Iterator[Step]:
        for number, exchange in enumerate(self._requests):
            id = _task_id(exchange.request)
            on = self._on(exchange)
            after = [] if on else self._after(number)
            after += self._suspended_on(id) if exchange.request["kind"] == "task.fulfill" else []
            yield Step(self._groups[id], self._with_placeholders(exchange.request), sorted(set(after)), on)

    def _on(self, exchange: Exchange) -> Message | None:
        """Who acquires a task was told to."""
        if exchange.request["kind"] != "task.acquire":
            return None
        return Message(self._suffix(_task_id(exchange.request)), exchange.request["data"]["version"])

    def _after(self, number: int) -> list[int]:
        """The last step of the same task that was answered before this one was sent, other than those beside."""
        this = self._requests[number]
        answered = [
            (earlier.answered_at, index)
            for index, earlier in enumerate(self._requests)
            if _task_id(earlier.request) == _task_id(this.request)
            and earlier.request["kind"] not in _BESIDE
            and earlier.answered_at <= this.sent_at
        ]
        return [max(answered)[1]] if answered else []

    def _suspended_on(self, id: str) -> list[int]:
        """The suspensions until ``id`` is settled: if it were settled before them, the chain would go another way."""
        return [
            number
            for number, each in enumerate(self._requests)
            if each.request["kind"] == "task.suspend"
            and id in [callback["data"]["awaited"] for callback in each.request["data"]["actions"]]
            and each.answered_at <= self._fulfilled_at(id)
        ]

    def _fulfilled_at(self, id: str) -> float:
        return next(
            each.answered_at
            for each in self._requests
            if each.request["kind"] == "task.fulfill" and each.request["data"]["id"] == id
        )

    def _suffix(self, id: str) -> str:
        return id.removeprefix(self._root)

    def _with_placeholders(self, request: Any) -> Any:
        text = msgspec.json.encode(request).decode().replace(self._root, ROOT)
        text = re.sub(r'("corrId":)"[^"]*"', rf'\1"{CORR_ID}"', text)
        for pid, group in self._pids.items():
            text = text.replace(pid, f"worker of {group}")
        text = re.sub(r'("timeoutAt":)(\d+)', self._relative, text)
        return msgspec.json.decode(text)

    def _relative(self, found: re.Match[str]) -> str:
        return f'{found[1]}"in {int(found[2]) - self._began_at_ms} ms"'


def _targets(request: Any) -> Iterator[tuple[str, str]]:
    """Of each promise that a request creates for a worker: its id, and the worker's group."""
    action = request["data"].get("action", {})
    target = action.get("data", {}).get("tags", {}).get("resonate:target")
    if target is not None:
        yield action["data"]["id"], target.rpartition("@")[2]


def _pids(groups: dict[str, str], requests: list[Exchange]) -> Iterator[tuple[str, str]]:
    for each in requests:
        pid = each.request["data"].get("pid")
        if pid is not None:
            yield pid, groups[_task_id(each.request)]


def _task_id(request: Any) -> str:
    """Of the task on whose behalf the request was sent."""
    data = request["data"]
    match request["kind"]:
        case "task.create":
            id = data["action"]["data"]["id"]
        case "task.heartbeat":
            id = data["tasks"][0]["id"]
        case "promise.register_listener":
            id = data["awaited"]
        case _:
            id = data["id"]
    return str(id)


def _message(root: str, message: Any) -> Message:
    if message["kind"] == "unblock":
        return Message(message["data"]["promise"]["id"].removeprefix(root))
    task = message["data"]["task"]
    return Message(task["id"].removeprefix(root), task["version"])

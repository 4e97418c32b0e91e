"""The parts that this package reads of the SDK's requests and their answers."""

from typing import Any

import msgspec
from resonate.send import TaskRef


class RequestHead(msgspec.Struct, rename="camel"):
    corr_id: str = ""


class Request(msgspec.Struct):
    kind: str
    data: msgspec.Raw
    head: RequestHead = msgspec.field(default_factory=RequestHead)


class Head(msgspec.Struct):
    status: int


class Answer(msgspec.Struct):
    head: Head
    data: msgspec.Raw

    @property
    def text(self) -> str:
        """The message of a refusal."""
        return msgspec.json.decode(self.data, type=str)


class Task(msgspec.Struct):
    id: str = ""
    version: int = 0
    state: str = ""
    actions: list[dict[str, Any]] = []

    @property
    def ref(self) -> TaskRef:
        return TaskRef(id=self.id, version=self.version)


class Promise(msgspec.Struct):
    state: str = ""
    tags: dict[str, str] = {}


class WithPromise(msgspec.Struct):
    promise: Promise


class Claim(msgspec.Struct):
    task: Task
    promise: msgspec.Raw


class Listening(msgspec.Struct):
    awaited: str

"""Steps for a driver, written in words: ``create t by+10; acquire t; later 10; settle p``. No assertions.

The words are the names of :class:`unit.driver.Driver`'s requests and states, and some more: ``later`` and ``wait`` (ms
pass; after ``wait``, due work is done), ``forget`` (drop the messages sent so far), ``gone`` (the holder of leases is
gone), ``fenced`` and ``settle_fenced`` (create or settle in a fence). In ``create``, ``-`` means without a target, and
``by+10`` is the deadline in ms since the start.
"""

from typing import Any

from unit.driver import FAR, PID, START, TARGET, Driver, promise_create, promise_settle

from resonate_server.protocol.requests import PromiseCreate


def happen(server: Driver, steps: str) -> int:
    """Run the steps and return the status of the last answer."""
    status = 0
    for step in steps.split("; "):
        status = act(server, *step.split()) or status
    return status


def act(server: Driver, verb: str, *words: str) -> int | None:
    match verb, words:
        case "later", [ms]:
            server.now += int(ms)
        case "wait", [ms]:
            server.wait(int(ms))
        case "forget", []:
            server.forget_messages()
        case "gone", []:
            server.release_leases(PID)
        case "create", _:
            return server.call(creation(*words)).status
        case "fenced", [task, version, *of]:
            return server.fence(task, int(version), creation(*of)).status
        case "settle_fenced", [task, id]:
            return server.fence(task, 1, promise_settle(id)).status
        case "new", [id]:
            return server.create_task(promise_create(id)).status
        case "listen", [id]:
            return server.register_listener(id, "poll://uni@callers/1").status
        case "beat", refs:
            return server.heartbeat(*zip(refs[::2], map(int, refs[1::2]), strict=True)).status
        case _:
            answer = getattr(server, verb)(*(int(word) if word.isdigit() else word for word in words))
            return answer.status if answer else None
    return None


def creation(id: str, *options: str) -> PromiseCreate:
    deadline = FAR
    tags: dict[str, Any] = {}
    for option in options:
        if option.startswith("by"):
            deadline = START + int(option[2:])
        elif option.startswith("delay"):
            tags["delay"] = str(START + int(option[5:]))
        elif option == "timer":
            tags["timer"] = "true"
    return promise_create(id, target=None if "-" in options else TARGET, timeout_at=deadline, **tags)

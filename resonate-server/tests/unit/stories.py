"""What happens to a driver, written down in words: ``create t by+10; acquire t; later 10; settle p``. No assertions.

The words are the names that :class:`unit.driver.Driver` has for its requests and states, and some more: ``later`` and
``wait`` (ms pass; after ``wait`` what is due is done), ``forget`` what was sent so far, ``gone`` is who holds leases.
Of what is created, ``-`` says that nobody runs it, ``by+10`` when it is due, in ms since the beginning.
"""

from typing import Any

from unit.driver import FAR, PID, START, TARGET, Driver, promise_create

from resonate_server.protocol.requests import PromiseCreate


def happen(server: Driver, steps: str) -> int:
    """The status of the last answer."""
    status = 0
    for step in steps.split("; "):
        status = act(server, *step.split()) or status
    return status


def act(server: Driver, verb: str, *words: str) -> int | None:
    """The status of the answer, if it is a request."""
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
        case "fenced", [task, *of]:
            return server.fence(task, 1, creation(*of)).status
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

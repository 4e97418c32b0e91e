"""One client that sends one request after another, with time moved by hand: the model must explain every answer."""

import json
from collections import Counter
from collections.abc import Callable, Iterable

from differential.kernel import Reply, body_of
from differential.operations import START, Request, Scene, Tick, Wait
from machine import model
from machine.model import Answer, State
from machine.traffic import ANSWERS, ONE_BY_ONE

type Send = Callable[[list[bytes]], list[Reply]]
"""Sends request bodies, which are processed in this order."""

BATCH = 12
"""Number of steps sent in one go; a fifth of a sequence."""

CORR_ID = "machine"
"""Too short to count as unique, so no claim counts as repeated."""


EXPECTED = {(kind, status) for statuses, kinds in ANSWERS.items() for kind in kinds.split(", ") for status in statuses}


class Seen(Counter[tuple[str, int]]):
    """How often each kind was answered with each status; ``unanswered``: the number of requests without an answer."""

    unanswered = 0

    def add(self, kind: str, answer: Answer) -> None:
        self[kind, answer.status] += 1
        if kind == "task.fence" and answer.status == 200:
            inner = answer.data["action"]
            self[f"{kind}: {inner['kind']}", inner["head"]["status"]] += 1

    def check(self) -> None:
        """Raise ``AssertionError`` unless the answers seen are exactly those in the table."""
        assert self.missing() == set(), "never occurred"
        self.check_no_unexpected_answers()

    def missing(self) -> set[tuple[str, int]]:
        """Return what must occur in a run and has not."""
        return EXPECTED - self.keys()

    def check_no_unexpected_answers(self) -> None:
        """Raise ``AssertionError`` unless all answers are in the table."""
        assert self.keys() - EXPECTED == set(), "not in the table"


class Sequence:
    """An emptied server and the model's view of it, in the form that :mod:`differential.sequences` runs.

    New requests are drawn from a guess of the state: the model with all planned requests already applied.
    """

    def __init__(self, send: Send, seen: Seen) -> None:
        self._send = send
        self._seen = seen
        self._steps = 0
        self._now = START
        self._guess = State(now=START)
        self._states = [self._guess]
        self._planned = [model.Request(START, "debug.reset", {})]
        self.history: list[str] = []

    def close(self) -> None:
        pass

    def step(self, number: int) -> None:
        self._plan(number)
        self._steps += 1
        if self._steps % BATCH == 0:
            self._run()

    def _plan(self, number: int) -> None:
        state = model.must_have_become(model.at(self._guess, self._now), model.resumes)
        match ONE_BY_ONE.decode(number, scene_of(state)):
            case Wait(ms=ms):
                self._now += ms
                return
            case Tick():
                request = model.Request(self._now, "debug.tick", {"time": self._now})
            case Request() as drawn:
                data = drawn.data_for(lambda id: version_of(state, id))
                request = model.Request(self._now, drawn.kind, data)
            case _:
                return
        self._planned.append(request)
        self._guess = model.answer_to(state, request)[0]

    def _run(self) -> None:
        """Send the planned requests."""
        replies = self._send([body_of(one.kind, one.data, one.now, CORR_ID) for one in self._planned])
        for request, reply in zip(self._planned, replies, strict=True):
            self._explain(request, Answer(reply.status, reply.data))
        self._planned.clear()
        self._guess = self._states[0]

    def _explain(self, request: model.Request, answer: Answer) -> None:
        self.history.append(line_of(request, answer))
        self._seen.add(request.kind, answer)
        after = model.explain(self._states, request, answer)
        assert after, f"answered\n  {answer.data}\nthe machine answers\n  {told(self._states, request)}"
        self._states = after


def line_of(request: model.Request, answer: Answer | None) -> str:
    status = "no answer" if answer is None else answer.status
    return f"+{request.now - START} ms {request.kind} {json.dumps(request.data)} -> {status}"


def told(states: Iterable[State], request: model.Request) -> str:
    """Describe what the model would answer, for the failure message."""
    return "\n  or ".join({f"{answer.status} {answer.data}" for _, answer in model.possible(states, request)})


def scene_of(state: State) -> Scene:
    """What the next request may build on."""
    promises = {id: promise.state for id, promise in state.promises.items()}
    tasks = {id: task.state for id, task in state.tasks.items()}
    return Scene(
        now=state.now, promises=promises, tasks=tasks, awaited=tuple(sorted(one for one, _ in state.callbacks))
    )


def version_of(state: State, id: str) -> int:
    return state.tasks[id].version if id in state.tasks else 0

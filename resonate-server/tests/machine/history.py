"""Run several clients concurrently and search for an order of their requests that the model explains."""

import itertools
import math
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from differential.kernel import body_of
from differential.operations import BITS, START
from differential.operations import Request as Drawn
from differential.wire import Wire
from machine import model
from machine.model import Answer, Request, State
from machine.sequence import CORR_ID, Seen, line_of, scene_of, version_of
from machine.traffic import AT_ONCE, tree_of
from msgspec import Struct
from msgspec.structs import replace

REQUESTS = 80
CLIENTS = (4, 8)
TIMES = {"timeoutAt", "createdAt", "settledAt", "nextRunAt", "lastRunAt"}
AHEAD = 36_524 * 24 * 3_600_000
"""A century, in ms: nothing that is decided then falls due during the test, so servers need not be paused. First of
January shifts by the same amount."""
LATER = 61_000
"""Time (ms) that passes halfway, while no client sends requests: leases and some deadlines end, others do not."""

NEVER = 2**63


class Call(Struct, frozen=True):
    """Times are in ns and come from one clock. A request without an answer may have taken effect at any time after it
    was sent, or never."""

    client: int
    sent: int
    answered: int
    request: Request
    answer: Answer | None

    def __str__(self) -> str:
        return f"client {self.client} {self.sent:>10} to {self.answered:>10} {line_of(self.request, self.answer)}"


class Trouble:
    """What happens to the servers meanwhile; in this base class, nothing."""

    def strike(self) -> None:
        """Cause the trouble; called once, while clients send requests."""

    def heal(self) -> None:
        """Return when all servers answer."""


# --- a history ------------------------------------------------------------------------------------------------------


class Clients:
    """Concurrent clients that share one guess of the servers' state: the model applied to the requests as answered.

    ``ports``: the ports of servers that share one state. Clients spread over them; a client that loses its connection
    moves to the next port. ``ahead``: how far (ms) the servers' time is ahead of the model's.
    """

    def __init__(self, ports: Sequence[int], seed: int, ahead: int = 0, trouble: Trouble | None = None) -> None:
        self._random = random.Random(seed)
        self._number = self._random.randint(*CLIENTS)
        self._ports, self._ahead = ports, ahead
        self._guess = State(now=START)
        self._trouble = trouble or Trouble()
        self._strikes_at = self._random.randrange(REQUESTS // 4)
        self._calls = itertools.count()
        self._time_passes = threading.Barrier(self._number, self._trouble.heal, timeout=60)
        self._began = time.monotonic_ns()

    def run(self) -> list[Call]:
        Wire(self._ports[0]).call(body_of("debug.reset", {}, START + self._ahead, CORR_ID))
        seeds = [self._random.getrandbits(32) for _ in range(self._number)]
        with ThreadPoolExecutor(self._number) as pool:
            return [call for calls in pool.map(self._client, range(self._number), seeds) for call in calls]

    def _client(self, client: int, seed: int) -> list[Call]:
        rng, calls = random.Random(seed), []
        for now in (START, START + LATER):
            self._time_passes.wait()
            ports = deque(self._ports)
            ports.rotate(-client)
            wire = _connected(ports)
            for _ in range(math.ceil(REQUESTS / 2 / self._number)):
                if next(self._calls) == self._strikes_at:
                    self._trouble.strike()
                calls.append(self._call(client, wire, rng, now))
                if calls[-1].answer is None:
                    ports.rotate(-1)
                    wire = _connected(ports)
        return calls

    def _call(self, client: int, wire: Wire, rng: random.Random, now: int) -> Call:
        state = model.must_have_become(model.at(self._guess, now))
        drawn = AT_ONCE.decode(rng.getrandbits(BITS), scene_of(state))
        assert isinstance(drawn, Drawn)
        request = Request(now, drawn.kind, drawn.data_for(lambda id: version_of(state, id)))
        body = body_of(request.kind, shifted(request.data, self._ahead), now + self._ahead, CORR_ID)
        sent = time.monotonic_ns()
        try:
            reply = wire.call(body)[0]
        except OSError:
            return Call(client, sent - self._began, NEVER, request, None)
        answered = time.monotonic_ns()
        answer = Answer(reply.status, shifted(reply.data, -self._ahead))
        self._learn(request, answer)
        return Call(client, sent - self._began, answered - self._began, request, answer)

    def _learn(self, request: Request, answer: Answer) -> None:
        explained = model.explain([self._guess], request, answer)
        if explained:
            self._guess = explained[0]


def _connected(ports: deque[int]) -> Wire:
    """Connect to the first server that is up: one may be killed before a client connects to it."""
    while True:
        try:
            return Wire(ports[0])
        except ConnectionError:
            ports.rotate(-1)


def shifted(value: Any, by: int) -> Any:
    """Return ``value`` with all times in it shifted by ``by`` ms."""
    match value:
        case dict():
            return {
                name: each + by if name in TIMES and isinstance(each, int) else shifted(each, by)
                for name, each in value.items()
            }
        case list():
            return [shifted(each, by) for each in value]
    return value


# --- an order -------------------------------------------------------------------------------------------------------


def by_tree(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Group the requests by tree, in the order they were sent; requests of different trees are independent.

    A heartbeat counts in each tree separately.
    """
    trees: dict[str, list[Call]] = {}
    for call in sorted(calls, key=lambda call: call.sent):
        for tree in sorted({tree_of(id) for id in call.request.ids}) or [""]:
            trees.setdefault(tree, []).append(replace(call, request=_within(tree, call.request)))
    return trees


def _within(tree: str, request: Request) -> Request:
    if "tasks" not in request.data:
        return request
    tasks = [named for named in request.data["tasks"] if tree_of(named["id"]) == tree]
    return replace(request, data={**request.data, "tasks": tasks})


class Unordered(AssertionError):
    """No order explains the answers."""


def order(calls: list[Call]) -> list[Call]:
    """Return an order in which the machine gives all these answers. Raises :class:`Unordered` if there is none.

    ``calls`` are in the order they were sent. The search is Wing and Gong's. A point reached before, with the same
    requests and the same states, is not searched again.
    """
    best: list[int] = []
    reached = set()
    branches: list[tuple[tuple[int, ...], list[State]]] = [((), [State(now=START)])]
    while branches:
        done, states = branches.pop()
        if all(call.answer is None or number in done for number, call in enumerate(calls)):
            return [calls[number] for number in done]
        best = max(best, list(done), key=len)
        point = (frozenset(done), frozenset(states))
        if point in reached:
            continue
        reached.add(point)
        for number in reversed(_next(calls, point[0])):
            after = _after(states, calls[number])
            if after:
                branches.append(((*done, number), after))
    raise Unordered(_told(calls, best))


def _after(states: list[State], call: Call) -> list[State]:
    if call.answer is not None:
        return model.explain(states, call.request, call.answer)
    return list(dict.fromkeys(after for after, _ in model.possible(states, call.request)))


def _next(calls: list[Call], done: frozenset[int]) -> list[int]:
    """Return the calls that may come next: those sent before any remaining call was answered, first answered first."""
    left = [number for number in range(len(calls)) if number not in done]
    first_answer = min(calls[number].answered for number in left)
    fitting = [number for number in left if calls[number].sent <= first_answer]
    return sorted(fitting, key=lambda number: calls[number].answered)


def _told(calls: list[Call], best: list[int]) -> str:
    ordered = "\n  ".join(str(calls[number]) for number in best)
    left = "\n  ".join(str(call) for number, call in enumerate(calls) if number not in best)
    return f"no order explains all answers; the longest is\n  {ordered}\nwithout\n  {left}"


def check_histories(
    ports: Sequence[int], number: int, seed: int, ahead: int = 0, trouble: Trouble | None = None
) -> Seen:
    """Run ``number`` histories. Raises :class:`Unordered` at the first that has no order."""
    rng, seen = random.Random(seed), Seen()
    for _ in range(number):
        calls = Clients(ports, rng.getrandbits(32), ahead, trouble).run()
        for call in calls:
            if call.answer is None:
                seen.unanswered += 1
            else:
                seen.add(call.request.kind, call.answer)
        for tree in by_tree(calls).values():
            order(tree)
    return seen

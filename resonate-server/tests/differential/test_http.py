"""Our kernel in this process against our server over HTTP, a separate process in debug mode.

The same random operations, of all kinds, go to both. Answers are compared member by member, and after every step
everything that ``debug.snap`` shows: promises, tasks, callbacks, listeners, timers, owed messages. Time is moved by
hand; after ``debug.start`` the server does nothing by itself. To run more steps, or to repeat a failing run:

    DIFFERENTIAL_HTTP_STEPS=1000000 python -m pytest resonate-server/tests/differential/test_http.py
    DIFFERENTIAL_SEED=17 python -m pytest resonate-server/tests/differential/test_http.py
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from differential.kernel import Kernel, body_of
from differential.operations import EVERYTHING, START, Malformed, Request, Tick, Wait
from differential.sequences import run_sequences
from differential.wire import Wire
from harness.server import ServerProcess
from msgspec import Struct, field

from resonate_server.kernel.model import Rules
from resonate_server.protocol.requests import KINDS

STEPS = int(os.environ.get("DIFFERENTIAL_HTTP_STEPS", "5_000"))
FEW = 2_000
"""Enough steps to find most bugs."""
RARE = 5_000
"""From this many steps on, every kind must have succeeded at least once."""

CORR_ID = "differential"


class Tally(Struct):
    """What happened over many sequences."""

    steps: int = 0
    succeeded: Counter[str] = field(default_factory=Counter)

    def make(self, wire: Wire, kind: str) -> None:
        """Send a request that has no counterpart on our side."""
        reply = wire.call(body_of(kind, {}, START, CORR_ID))[0]
        self.succeeded[kind] += reply.status == 200


class Pair:
    """The server, emptied, and a fresh kernel."""

    def __init__(self, server: Wire, server_url: str, tally: Tally) -> None:
        self.server = server
        self.kernel = Kernel(Rules(), server_url)
        self.tally = tally
        self.now = START
        self.history: list[str] = []
        self.both(self.body("debug.reset", {}))

    def body(self, kind: str, data: dict[str, Any], corr_id: str = CORR_ID) -> bytes:
        return body_of(kind, data, self.now, corr_id)

    def close(self) -> None:
        pass

    def step(self, number: int) -> None:
        operation = EVERYTHING.decode(number, self.kernel.scene(self.now))
        if operation is None:
            return
        self.tally.steps += 1
        match operation:
            case Wait(ms=ms):
                self.history.append(f"{ms} ms pass")
                self.now += ms
                return
            case Tick():
                body = self.body("debug.tick", {"time": self.now})
            case Malformed(body=content):
                body = json.dumps(content).encode()
            case Request(kind=kind, corr_id=corr_id):
                body = self.body(kind, operation.data_for(self.kernel.version), corr_id or CORR_ID)
        self.both(body)

    def both(self, body: bytes) -> None:
        """Send the request to both, and compare the answers and the whole state."""
        snap = self.body("debug.snap", {})
        ours, seen = self.kernel.call(body), self.kernel.call(snap)
        theirs, seen_there = self.server.call(body, snap)
        kind = json.loads(body)["kind"]
        self.history.append(f"{body.decode()} -> {ours.status}")
        assert ours == theirs, f"answers\n{ours}\n{theirs}"
        assert seen == seen_there, f"snapshots\n{differences(seen.data, seen_there.data)}"
        for reply, made in ((theirs, kind), (seen_there, "debug.snap")):
            if reply.status < 400:
                self.tally.succeeded[made] += 1


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {ours[name]}\n    but {theirs[name]}" for name in ours if ours[name] != theirs[name])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("differential")
    process = ServerProcess(
        folder / "server.log",
        folder / "state.db",
        RESONATE_DEBUG="true",
        RESONATE_STORAGE__SQLITE__SYNCHRONOUS="NORMAL",
    ).start()
    yield process
    process.stop()


@pytest.mark.parametrize("steps", [FEW, pytest.param(STEPS, marks=pytest.mark.long)], ids=["few", "many"])
def test_the_server_on_sqlite_answers_like_the_kernel_in_memory(server: ServerProcess, steps: int) -> None:
    tally = Tally()
    wire = Wire(server.port)
    tally.make(wire, "debug.start")

    run_sequences(
        lambda: Pair(wire, f"http://localhost:{server.port}", tally),
        steps,
        lambda: tally.steps >= steps and not unseen(tally, steps),
    )

    tally.make(wire, "debug.stop")
    print(f"{tally.steps} steps; succeeded: {dict(tally.succeeded)}")
    assert tally.steps >= steps
    assert tally.succeeded["debug.stop"]
    assert unseen(tally, steps) == [], "never succeeded"


def unseen(tally: Tally, steps: int) -> list[str]:
    """Return the kinds that a run of this many steps should have met but has not; ``debug.stop`` ends the run."""
    if steps < RARE:
        return []
    return [kind for kind in KINDS if not tally.succeeded[kind] and kind != "debug.stop"]

"""Our kernel on the store in memory against our server on SQLite over HTTP: a process of its own, in debug mode.

The same random operations go to both, all kinds; answers are compared member by member, and after every step
everything that ``debug.snap`` shows: promises, tasks, callbacks, listeners, timers, messages owed. Time is moved by
hand; after ``debug.start`` the server does nothing by itself. More steps, or a failing run once more:

    DIFFERENTIAL_HTTP_STEPS=1000000 python -m pytest resonate-server/tests/differential/test_http.py
    DIFFERENTIAL_SEED=17 python -m pytest resonate-server/tests/differential/test_http.py
"""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from differential.kernel import Kernel, body_of
from differential.operations import BITS, EVERYTHING, START, Malformed, Request, Tick, Wait
from differential.wire import Wire
from harness.server import ServerProcess
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from resonate_server.kernel.model import Rules
from resonate_server.protocol.requests import KINDS

STEPS = int(os.environ.get("DIFFERENTIAL_HTTP_STEPS", "12_000"))
SEED = int(os.environ.get("DIFFERENTIAL_SEED", random.randrange(10**6)))
LENGTH = 60
"""Operations per sequence."""
RARE = 10_000
"""From this many steps on, every kind must have succeeded at least once."""

sequences = st.lists(st.integers(0, 2**BITS - 1), min_size=LENGTH, max_size=LENGTH)


class ServerDiffersError(AssertionError):
    pass


class Pair:
    """The server, emptied, and a fresh kernel."""

    def __init__(self, server: Wire, server_url: str, succeeded: Counter[str]) -> None:
        self.server = server
        self.kernel = Kernel(Rules(), server_url)
        self.succeeded = succeeded
        self.now = START
        self.steps = 0
        self.history: list[str] = []
        self.both(self.body("debug.reset", {}))

    def body(self, kind: str, data: dict[str, Any], corr_id: str = "differential") -> bytes:
        return body_of(kind, data, self.now, corr_id)

    def step(self, number: int) -> None:
        operation = EVERYTHING.decode(number, self.kernel.scene(self.now))
        if operation is None:
            return
        self.steps += 1
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
                body = self.body(kind, operation.data_for(self.kernel.version), corr_id or "differential")
        self.both(body)

    def both(self, body: bytes) -> None:
        """Make the request and look at everything."""
        snap = self.body("debug.snap", {})
        ours, seen = self.kernel.call(body), self.kernel.call(snap)
        theirs, seen_there = self.server.call(body, snap)
        kind = json.loads(body)["kind"]
        self.history.append(f"{body.decode()} -> {ours.status}")
        assert ours == theirs, f"answers\n{ours}\n{theirs}"
        assert seen == seen_there, f"snapshots\n{differences(seen.data, seen_there.data)}"
        for reply, made in ((theirs, kind), (seen_there, "debug.snap")):
            if reply.status < 400:
                self.succeeded[made] += 1


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


def test_the_server_on_sqlite_answers_as_the_kernel_in_memory(server: ServerProcess) -> None:
    print(f"DIFFERENTIAL_SEED={SEED} repeats this run")
    succeeded: Counter[str] = Counter()
    steps = 0
    wire = Wire(server.port)
    wire.call(body_of("debug.start", {}, START, "differential"))
    succeeded["debug.start"] += 1
    server_url = f"http://localhost:{server.port}"

    @seed(SEED)
    @settings(
        max_examples=-(-STEPS // LENGTH),
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(numbers=sequences)
    def check(numbers: list[int]) -> None:
        nonlocal steps
        pair = Pair(wire, server_url, succeeded)
        try:
            for number in numbers:
                pair.step(number)
        except AssertionError as error:
            raise ServerDiffersError("after\n  " + "\n  ".join(pair.history) + f"\n{error}") from error
        finally:
            steps += pair.steps

    check()
    stopped, _ = wire.call(*[body_of("debug.stop", {}, START, "differential")] * 2)
    succeeded["debug.stop"] += stopped.status == 200
    print(f"{steps} steps; succeeded: {dict(succeeded)}")
    assert steps >= STEPS * 0.9
    if steps >= RARE:
        assert [kind for kind in KINDS if not succeeded[kind]] == [], "never succeeded"

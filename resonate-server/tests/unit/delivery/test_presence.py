"""Presence: which workers are connected since when, which are silent, which are gone; and who is told."""

import asyncio
import logging
import re
import time

import pytest
from unit.hubs import Scene as HubScene
from unit.hubs import until

from resonate_server.delivery.presence import (
    ABSENT_MS,
    CHECK_INTERVAL_MS,
    GONE_KEPT_MS,
    LAST_WORDS_MS,
    MAX_AWAY,
    NO_PLEDGE,
    Change,
    Member,
    Pledge,
    Presence,
    State,
    WorkerObserver,
)

GRACE_S = 0.03
PLEDGES = {
    "": NO_PLEDGE,
    "soon": Pledge(reconnect_within=int(GRACE_S * 1_000)),
    "speaks": Pledge(heartbeat_within=4_000),
}


class Scene(WorkerObserver):
    """Presence on a hand-moved clock, except for the grace period, with a record of what it reported."""

    def __init__(self, grace_seconds: float) -> None:
        self.now = 1_000
        self.judged: list[str] = []
        self.told: list[tuple[str, str, str]] = []
        self.misjudged: list[str] = []
        self.presence = Presence(grace_seconds, lambda: self.now, self.judge, self.misjudged.append)
        self.presence.observer = self

    def judge(self, group: str, pid: str) -> None:
        self.judged.append(pid if group == "bar" else f"{group}/{pid}")

    def worker_changed(self, change: Change, group: str, pid: str, planned: bool = False) -> None:
        self.told.append(("planned " * planned + change, group, pid))

    def cut(self, *, planned: bool = False) -> None:
        """Let the stream of worker ``pid`` begin and end."""
        self.presence.connected("bar", "pid")
        self.presence.left("bar", "pid", planned)

    @property
    def only(self) -> Member:
        (member,) = self.presence.members()
        return member

    def pass_time(self, ms: int, heard: list[str]) -> None:
        """Pass time; the workers named in ``heard`` send something once a second, the others nothing."""
        for passed in range(CHECK_INTERVAL_MS, ms + CHECK_INTERVAL_MS, CHECK_INTERVAL_MS):
            self.now += CHECK_INTERVAL_MS
            for pid in heard if passed % 1_000 == 0 else ():
                self.presence.heard_from(pid)
            self.presence.check_pledges()

    async def play(self, story: str) -> str:
        """Return the end of the story as it really is."""
        for step in story.partition(" | ")[0].split():
            name, sign, rest = re.split("([!.?~:(]|$)", step.lstrip("+"), maxsplit=1)
            group, _, pid = name.rpartition("/")
            group = group or "bar"
            if step.startswith("+"):
                self.presence.connected(group, pid, PLEDGES[rest])
            elif name == "grace":
                await asyncio.sleep(2 * GRACE_S)
                await until(lambda: not self.presence.missed())
            elif name == "still":
                time.sleep(3 * GRACE_S)  # noqa: ASYNC251 - as if the process were frozen
                await asyncio.sleep(0)
            elif name == "frozen":
                self.now += int(rest.removesuffix("s")) * 1_000
                self.presence.check_pledges()
            elif name == "forget":
                self.presence.forget_departed()
            elif name == "stop":
                self.presence.close()
            elif re.fullmatch("[0-9]+s", name):
                self.pass_time(int(name[:-1]) * 1_000, rest.rstrip(")").split(",") if rest else [])
            elif sign in ("!", "."):
                self.presence.left(group, pid, planned=sign == ".")
            else:
                if sign == "?":
                    self.presence.heard_from(pid)
                else:
                    self.presence.fell_silent(group, pid)
        members = [f"pid={each.state}" for each in self.presence.members() if (each.group, each.pid) == ("bar", "pid")]
        avoided = ["avoided"] * self.presence.is_silent("bar", "pid")
        lists = {"judged": self.judged, "misjudged": self.misjudged}
        return " ".join([*members[:1], *avoided, *(f"{name}:{','.join(pids)}" for name, pids in lists.items() if pids)])


@pytest.fixture
def patient() -> Scene:
    """A scene in which no worker is judged during a test."""
    return Scene(grace_seconds=3_600)


@pytest.fixture
def strict() -> Scene:
    return Scene(GRACE_S)


async def test_a_worker_is_connected_since_its_stream_began_and_its_requests_are_no_events(patient: Scene) -> None:
    patient.presence.connected("bar", "pid")
    assert patient.only == Member("pid", "bar", since=1_000, heard=1_000, state=State.CONNECTED, gone_at=None)
    patient.now += 1
    patient.presence.heard_from("pid")
    assert (patient.only.heard, patient.told) == (1_001, [("connected", "bar", "pid")])


# `+pid` opens a stream in the group bar, `+baz/pid:speaks` in another one, with a pledge; `pid!` breaks it, `pid.` is
# its planned end. `pid?` is a request of the process, `pid~` a lease that lapsed. `8s(other)` passes time in which only
# `other` sends something; `frozen:8s` stops this server for as long, `still` for a few grace periods; `grace` waits
# until that of nobody runs. After the bar: what is known of `pid` at the end, and who was judged.
STORIES = {
    # A broken stream.
    "the worker is silent until the grace period ends": "+pid pid! | pid=silent",
    "then it is gone": "+pid pid! grace | pid=gone judged:pid",
    "a worker that reconnects starts afresh": "+pid pid! +pid grace | pid=connected",
    "a worker that is heard in time is not judged": "+pid pid! 1s pid? grace | pid=silent",
    "one that is still to be judged is not forgotten": "+pid pid! 660s forget +pid grace | pid=connected",
    "nobody is judged when the server stops": "+pid pid! stop grace | pid=silent",
    "a server that stood still reads first what has arrived": "+pid pid! still +pid grace | pid=connected",
    "then the grace period begins again": "+pid pid! still grace | pid=gone judged:pid",
    "a pledge to be back at once does not prolong the grace period": "+pid:soon pid! grace | pid=gone judged:pid",
    # A lapsed lease.
    "a lapsed lease makes it silent": "+pid pid~ | pid=silent avoided",
    "until its next request": "+pid pid~ pid? | pid=connected",
    "it is not avoided for ever": "+pid pid~ 30s | pid=silent",
    # The promise to be heard of; another worker of its group could take over its work.
    "a worker that keeps it is not judged": "+pid:speaks +other 12s(pid,other) | pid=connected",
    "4 s of silence keep it": "+pid:speaks +other 4s(other) | pid=connected",
    "a longer one does not": "+pid:speaks +other 8s(other) | pid=connected judged:pid",
    "it is judged once": "+pid:speaks +other 20s(other) | pid=connected judged:pid",
    "then avoided until it is heard": "+pid:speaks +other 8s(other) pid~ 60s(other) | pid=silent avoided judged:pid",
    "not longer": "+pid:speaks +other 8s(other) pid~ 60s(other) pid? | pid=connected judged:pid misjudged:pid",
    "nobody is judged if no other could take over": "+pid:speaks +baz/other 12s(other) | pid=connected",
    # This server was the one cut off. That one worker is heard first does not mean that the others are gone.
    "nor if all fall silent": "+pid:speaks +other:speaks 12s | pid=connected",
    "nor when they are heard again": "+pid:speaks +other:speaks 12s 3s(other) 4s(other,pid) | pid=connected",
    "a server that was frozen listens first": "+pid:speaks +other 1s(pid,other) frozen:40s other? 1s | pid=connected",
    "before it judges": "+pid:speaks +other 1s(pid,other) frozen:40s other? 8s(other) | pid=connected judged:pid",
    "a process of two groups is judged in each by itself": "+pid:speaks +other +baz/pid:speaks 12s(other) | "
    "pid=connected judged:pid",
    "in both if both could continue without it": "+pid:speaks +other +baz/pid:speaks +baz/third 8s(other,third) | "
    "pid=connected judged:pid,baz/pid",
    "a stream in another group says nothing of this one": "+baz/pid +pid pid! grace | pid=gone judged:pid",
    # Otherwise work that stops all threads of a worker for long would be restarted again and again.
    "one that lives was misjudged and is not held to it again": "+pid:speaks +other 8s(other) pid? 12s(other) | "
    "pid=connected judged:pid misjudged:pid",
    "nor on a new stream": "+pid:speaks +other 8s(other) +pid:speaks 12s(other) | "
    "pid=connected judged:pid misjudged:pid",
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_story(strict: Scene, story: str) -> None:
    assert await strict.play(story) == story.partition(" | ")[2]


@pytest.mark.parametrize(
    ("story", "events"),
    [
        ("+pid pid! grace pid~", "connected left gone"),
        ("+pid pid~ pid?", "connected silent heard"),
        ("+pid pid. +pid", "connected planned left planned connected"),
    ],
)
async def test_observers_are_told(strict: Scene, story: str, events: str) -> None:
    await strict.play(story)
    assert " ".join(what for what, *_ in strict.told) == events


async def test_a_worker_that_promised_to_reconnect_at_once_is_judged_by_that(patient: Scene) -> None:
    assert await patient.play("+pid:soon pid! grace") == "pid=gone judged:pid"


async def test_the_grace_period_ends_when_it_is_over(strict: Scene) -> None:
    strict.cut()
    strict.now += 9
    await until(lambda: strict.judged)
    assert strict.only.gone_at == 1_009


@pytest.mark.parametrize(("passed", "at"), [(0, None), (LAST_WORDS_MS - 1, None), (5_000, 990), (5_000, 1_010)])
async def test_an_old_request_that_comes_late_is_no_sign_of_life(strict: Scene, passed: int, at: int | None) -> None:
    """Delayed by the network, or reported by another server that heard it at ``at``."""
    strict.cut()
    strict.now += passed
    strict.presence.heard_from("pid", at=at)
    await until(lambda: strict.judged)
    strict.presence.heard_from("pid", at=at)
    assert strict.misjudged == []


class TestAPlannedEnd:
    async def test_a_planned_end_is_no_absence(self, strict: Scene) -> None:
        strict.cut(planned=True)
        await asyncio.sleep(3 * GRACE_S)
        assert (strict.only.state, strict.judged) == (State.CONNECTED, [])
        strict.now += 1

        assert strict.presence.connected("bar", "pid")
        assert strict.only.since == 1_000

    async def test_a_worker_that_does_not_reconnect_is_gone(self, patient: Scene) -> None:
        patient.cut(planned=True)
        patient.now += ABSENT_MS + 1
        assert (patient.only.state, patient.only.gone_at) == (State.GONE, 1_000 + ABSENT_MS)
        assert not patient.presence.connected("bar", "pid")
        assert patient.only.since == patient.now


@pytest.mark.parametrize(("end", "told"), [("", "worker silent: bar/pid"), ("pid!", "worker gone for good: bar/pid")])
async def test_the_log_distinguishes_workers_that_are_gone_from_silent_ones(
    patient: Scene, caplog: pytest.LogCaptureFixture, end: str, told: str
) -> None:
    caplog.set_level(logging.INFO)
    await patient.play(f"+pid:speaks +other 1s(pid,other) {end} 8s(other)")
    assert [message.rpartition(" for ")[0] for message in caplog.messages] == [f"{told}, no sign of life"]


@pytest.mark.parametrize(
    ("pause_ms", "warnings"),
    [
        pytest.param(1_000, 1, id="each replaces the other a second later"),
        pytest.param(1, 0, id="one came back again and again while this server stood still"),
        pytest.param(60_000, 0, id="one whose broken streams went unnoticed"),
    ],
)
async def test_the_log_names_a_pid_that_two_processes_use(
    scene: HubScene, caplog: pytest.LogCaptureFixture, pause_ms: int, warnings: int
) -> None:
    """It does so once, and has no line for each stream."""
    caplog.set_level(logging.INFO)
    for _ in range(20):
        scene.hub.connect("workers", "w")
        scene.now += pause_ms
    connected, *others = caplog.messages
    assert connected == "worker connected: workers/w"
    assert others == ["two processes seem to be workers/w: their streams replace each other"] * warnings


async def test_empty_groups_are_forgotten(patient: Scene) -> None:
    await patient.play("+pid +other pid. other. 660s forget")
    assert patient.presence._activity == {}


class TestMemory:
    async def test_workers_that_are_gone_are_shown_for_a_while(self, strict: Scene) -> None:
        strict.cut()
        await until(lambda: strict.judged)
        strict.now += GONE_KEPT_MS
        strict.presence.forget_departed()
        assert strict.only.state is State.GONE

        strict.now += 1
        assert strict.presence.members() == []
        strict.presence.forget_departed()

        strict.now -= GONE_KEPT_MS
        assert strict.presence.members() == []

    async def test_the_number_of_workers_without_a_stream_is_limited(self, patient: Scene) -> None:
        patient.presence.connected("bar", "stays")
        for number in range(MAX_AWAY + 1):
            patient.presence.connected("bar", f"pid-{number}")
            patient.presence.left("bar", f"pid-{number}", planned=True)

        pids = [member.pid for member in patient.presence.members()]

        assert len(pids) == MAX_AWAY + 1
        assert ("stays" in pids, "pid-0" in pids, "pid-1" in pids) == (True, False, True)

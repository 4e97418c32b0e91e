"""Presence: who is there since when, who is silent, who is gone; and who is told of it."""

import asyncio

import pytest

from resonate_server.delivery.presence import (
    ABSENT_MS,
    GONE_KEPT_MS,
    HEARD_EVERY_MS,
    MAX_AWAY,
    SILENT_MS,
    Member,
    Presence,
    State,
)
from resonate_server.delivery.worker_observer import WorkerObserver
from resonate_server.protocol.messages import Execute

GRACE_S = 0.03
PATIENCE_S = 10.0


class Scene(WorkerObserver):
    """Presence at a time that moves by hand, but for the grace period, and what it has told."""

    def __init__(self, grace_seconds: float) -> None:
        self.now = 1_000
        self.judged: list[str] = []
        self.told: list[tuple[str, str, str]] = []
        self.misjudged: list[str] = []
        self.presence = Presence(grace_seconds, lambda: self.now, self.judged.append, self.misjudged.append)
        self.presence.observer = self

    def worker_connected(self, group: str, pid: str, again: bool) -> None:
        self.told.append(("back" if again else "connected", group, pid))

    def worker_left(self, group: str, pid: str, planned: bool) -> None:
        self.told.append(("ended" if planned else "left", group, pid))

    def worker_silent(self, group: str, pid: str) -> None:
        self.told.append(("silent", group, pid))

    def worker_gone(self, group: str, pid: str) -> None:
        self.told.append(("gone", group, pid))

    def worker_heard(self, group: str, pid: str) -> None:
        self.told.append(("heard", group, pid))

    def task_sent(self, group: str, pid: str, _: Execute) -> None:
        self.told.append(("sent", group, pid))

    @property
    def only(self) -> Member:
        (member,) = self.presence.members()
        return member

    def states(self) -> dict[str, State]:
        return {member.group: member.state for member in self.presence.members()}

    async def until_judged(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not self.judged:
                await asyncio.sleep(0.005)


@pytest.fixture
def patient() -> Scene:
    """In which nobody is judged while a test lasts."""
    return Scene(grace_seconds=3_600)


@pytest.fixture
def strict() -> Scene:
    return Scene(GRACE_S)


async def test_a_worker_is_connected_since_its_stream_began(patient: Scene) -> None:
    patient.presence.connected("bar", "pid")

    assert patient.only == Member("pid", "bar", since=1_000, heard=1_000, state=State.CONNECTED, gone_at=None)
    assert patient.told == [("connected", "bar", "pid")]


class TestABrokenStream:
    async def test_it_makes_silent_until_the_grace_is_over(self, strict: Scene) -> None:
        strict.presence.connected("bar", "pid")
        strict.presence.left("bar", "pid", planned=False)
        assert (strict.only.state, strict.only.gone_at) == (State.SILENT, None)
        strict.now += 9

        await strict.until_judged()

        assert (strict.only.state, strict.only.gone_at) == (State.GONE, 1_009)
        assert strict.judged == ["pid"]
        assert [what for what, *_ in strict.told] == ["connected", "left", "gone"]

    async def test_a_worker_that_comes_back_begins_anew(self, strict: Scene) -> None:
        strict.presence.connected("bar", "pid")
        strict.presence.left("bar", "pid", planned=False)
        strict.now += 1

        assert not strict.presence.connected("bar", "pid")
        await asyncio.sleep(3 * GRACE_S)

        assert (strict.only.state, strict.only.since, strict.judged) == (State.CONNECTED, 1_001, [])

    async def test_who_is_heard_of_in_time_is_not_judged(self, strict: Scene) -> None:
        strict.presence.connected("bar", "pid")
        strict.presence.left("bar", "pid", planned=False)

        strict.presence.heard_from("pid")
        await asyncio.sleep(3 * GRACE_S)

        assert strict.judged == []

    async def test_who_breaks_away_again_and_again_is_judged_once(self, strict: Scene) -> None:
        for _ in range(3):
            strict.presence.connected("bar", "pid")
            strict.presence.left("bar", "pid", planned=False)

        await strict.until_judged()
        await asyncio.sleep(3 * GRACE_S)

        assert strict.judged == ["pid"]

    async def test_who_promised_to_be_back_at_once_is_judged_by_that(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid", back_within_s=GRACE_S)
        patient.presence.left("bar", "pid", planned=False)

        await patient.until_judged()

        assert patient.judged == ["pid"]

    async def test_no_promise_makes_the_grace_longer(self, strict: Scene) -> None:
        strict.presence.connected("bar", "pid", back_within_s=3_600)
        strict.presence.left("bar", "pid", planned=False)

        await strict.until_judged()

    async def test_a_promise_holds_for_the_stream_that_it_came_with(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid", back_within_s=GRACE_S)
        patient.presence.connected("bar", "pid")
        patient.presence.left("bar", "pid", planned=False)

        await asyncio.sleep(3 * GRACE_S)

        assert patient.judged == []

    @pytest.mark.parametrize("sign", ["a stream", "a request"])
    async def test_whoever_lives_though_given_up_was_misjudged_once(self, strict: Scene, sign: str) -> None:
        strict.presence.connected("bar", "pid")
        strict.presence.left("bar", "pid", planned=False)
        await strict.until_judged()
        assert strict.misjudged == []

        for _ in range(2):
            strict.presence.connected("bar", "pid") if sign == "a stream" else strict.presence.heard_from("pid")

        assert strict.misjudged == ["pid"]

    async def test_a_stream_in_another_group_proves_that_it_lives(self, strict: Scene) -> None:
        strict.presence.connected("bar", "pid")
        strict.presence.connected("baz", "pid")
        strict.presence.left("bar", "pid", planned=False)
        await asyncio.sleep(3 * GRACE_S)
        assert (strict.judged, strict.states()) == ([], {"bar": State.SILENT, "baz": State.CONNECTED})

        strict.presence.left("baz", "pid", planned=False)
        await strict.until_judged()

        assert strict.states() == {"bar": State.GONE, "baz": State.GONE}

    async def test_when_the_server_stops_nobody_is_judged(self, strict: Scene) -> None:
        strict.presence.connected("bar", "pid")
        strict.presence.left("bar", "pid", planned=False)

        strict.presence.close()
        await asyncio.sleep(3 * GRACE_S)

        assert strict.judged == []


class TestAPlannedEnd:
    async def test_it_is_no_absence(self, strict: Scene) -> None:
        strict.presence.connected("bar", "pid")
        strict.presence.left("bar", "pid", planned=True)
        await asyncio.sleep(3 * GRACE_S)
        assert (strict.only.state, strict.judged) == (State.CONNECTED, [])
        strict.now += 1

        assert strict.presence.connected("bar", "pid")
        assert strict.only.since == 1_000

    async def test_only_the_first_return_is_one(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid")
        patient.presence.left("bar", "pid", planned=True)

        assert [patient.presence.connected("bar", "pid") for _ in range(2)] == [True, False]

    async def test_who_does_not_come_back_is_gone(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid")
        patient.presence.left("bar", "pid", planned=True)
        patient.now += ABSENT_MS + 1

        assert (patient.only.state, patient.only.gone_at) == (State.GONE, 1_000 + ABSENT_MS)
        assert not patient.presence.connected("bar", "pid")
        assert patient.only.since == patient.now


class TestALapsedLease:
    async def test_it_makes_silent_and_a_request_takes_it_back(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid")
        patient.presence.fell_silent("pid")
        assert (patient.only.state, patient.presence.is_silent("pid")) == (State.SILENT, True)
        patient.now += 1

        patient.presence.heard_from("pid")

        assert (patient.only.state, patient.presence.is_silent("pid")) == (State.CONNECTED, False)
        assert patient.told[1:] == [("silent", "bar", "pid"), ("heard", "bar", "pid")]

    async def test_who_is_silent_is_not_avoided_for_ever(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid")
        patient.presence.fell_silent("pid")
        patient.now += SILENT_MS

        assert (patient.only.state, patient.presence.is_silent("pid")) == (State.SILENT, False)

    async def test_a_new_stream_is_a_sign_of_life(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid")
        patient.presence.fell_silent("pid")

        patient.presence.connected("bar", "pid")

        assert not patient.presence.is_silent("pid")

    async def test_who_is_gone_is_not_silent_as_well(self, strict: Scene) -> None:
        strict.presence.connected("bar", "pid")
        strict.presence.left("bar", "pid", planned=False)
        await strict.until_judged()

        strict.presence.fell_silent("pid")

        assert strict.only.state is State.GONE
        assert strict.told[-1] == ("gone", "bar", "pid")


class TestHeardOf:
    async def test_it_is_told_once_a_second(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid")
        for later in (1, 500, HEARD_EVERY_MS - 501, 1):
            patient.now += later
            patient.presence.heard_from("pid")

        assert patient.told[1:] == [("heard", "bar", "pid")] * 2
        assert patient.only.heard == patient.now

    async def test_of_very_many_workers_less_often(self, patient: Scene) -> None:
        for number in range(100):
            patient.presence.connected("bar", f"pid-{number}")
        patient.now += 5_000
        patient.told.clear()
        for later in (0, 4_999, 1):
            patient.now += later
            patient.presence.heard_from("pid-7")

        assert patient.told == [("heard", "bar", "pid-7")] * 2


async def test_of_processes_without_a_stream_nothing_is_known(patient: Scene) -> None:
    patient.presence.heard_from("pid")
    patient.presence.fell_silent("pid")

    assert (patient.told, patient.presence.members(), patient.presence.is_silent("pid")) == ([], [], False)


class TestMemory:
    async def test_those_that_are_gone_are_shown_for_a_while(self, strict: Scene) -> None:
        strict.presence.connected("bar", "pid")
        strict.presence.left("bar", "pid", planned=False)
        await strict.until_judged()
        strict.now += GONE_KEPT_MS
        strict.presence.keep_house()
        assert strict.only.state is State.GONE

        strict.now += 1
        assert strict.presence.members() == []
        strict.presence.keep_house()

        strict.now -= GONE_KEPT_MS
        assert strict.presence.members() == []

    async def test_of_those_without_a_stream_there_is_a_limit(self, patient: Scene) -> None:
        patient.presence.connected("bar", "stays")
        for number in range(MAX_AWAY + 1):
            patient.presence.connected("bar", f"pid-{number}")
            patient.presence.left("bar", f"pid-{number}", planned=True)

        pids = [member.pid for member in patient.presence.members()]

        assert len(pids) == MAX_AWAY + 1
        assert ("stays" in pids, "pid-0" in pids, "pid-1" in pids) == (True, False, True)

    async def test_whoever_is_still_to_be_judged_is_not_forgotten(self, strict: Scene) -> None:
        for number in range(MAX_AWAY + 10):
            strict.presence.connected("bar", f"pid-{number}")
            strict.presence.left("bar", f"pid-{number}", planned=False)

        async with asyncio.timeout(PATIENCE_S):
            while len(strict.judged) < MAX_AWAY + 10:
                await asyncio.sleep(0.005)

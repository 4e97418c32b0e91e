"""Presence: which workers are connected since when, which are silent, which are gone; and who is told."""

import asyncio
import logging

import pytest
from unit.hubs import until

from resonate_server.delivery.presence import (
    ABSENT_MS,
    CHECK_INTERVAL_MS,
    GONE_KEPT_MS,
    LAST_WORDS_MS,
    MAX_AWAY,
    MAX_GROUPS,
    NO_PLEDGE,
    SILENT_MS,
    Member,
    Pledge,
    Presence,
    State,
    WorkerObserver,
)

GRACE_S = 0.03
BACK_SOON = Pledge(reconnect_within=int(GRACE_S * 1_000))
HEARTBEAT_WITHIN_MS = 4_000
SPEAKS = Pledge(heartbeat_within=HEARTBEAT_WITHIN_MS)
SECOND = 1_000


class Scene(WorkerObserver):
    """Presence on a hand-moved clock, except for the grace period, with a record of what it reported."""

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

    def cut(self, pledge: Pledge = NO_PLEDGE, *, planned: bool = False) -> None:
        """Let the stream of worker ``pid`` begin and end."""
        self.presence.connected("bar", "pid", pledge)
        self.presence.left("bar", "pid", planned)

    @property
    def only(self) -> Member:
        (member,) = self.presence.members()
        return member

    def pass_time(self, ms: int, *, heard: str = "") -> None:
        """Pass time; the workers named in ``heard`` send something once a second, the others nothing."""
        for passed in range(CHECK_INTERVAL_MS, ms + CHECK_INTERVAL_MS, CHECK_INTERVAL_MS):
            self.now += CHECK_INTERVAL_MS
            for pid in heard.split() if passed % SECOND == 0 else ():
                self.presence.heard_from(pid)
            self.presence.check_pledges()


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


class TestABrokenStream:
    async def test_the_worker_is_silent_until_the_grace_period_ends(self, strict: Scene) -> None:
        strict.cut()
        assert (strict.only.state, strict.only.gone_at) == (State.SILENT, None)
        strict.now += 9

        await until(lambda: strict.judged)

        assert (strict.only.state, strict.only.gone_at) == (State.GONE, 1_009)
        assert strict.judged == ["pid"]
        assert [what for what, *_ in strict.told] == ["connected", "left", "gone"]

    async def test_a_worker_that_reconnects_starts_afresh(self, strict: Scene) -> None:
        strict.cut()
        strict.now += 1
        assert not strict.presence.connected("bar", "pid")
        await asyncio.sleep(3 * GRACE_S)
        assert (strict.only.state, strict.only.since, strict.judged) == (State.CONNECTED, 1_001, [])

    async def test_a_worker_that_is_heard_in_time_is_not_judged(self, strict: Scene) -> None:
        strict.cut()
        strict.now += LAST_WORDS_MS
        strict.presence.heard_from("pid")
        await asyncio.sleep(3 * GRACE_S)
        assert strict.judged == []

    @pytest.mark.parametrize(("passed", "at"), [(0, None), (LAST_WORDS_MS - 1, None), (5_000, 990), (5_000, 1_010)])
    async def test_an_old_request_that_comes_late_is_no_sign_of_life(
        self, strict: Scene, passed: int, at: int | None
    ) -> None:
        """Delayed by the network, or reported by another server that heard it at ``at``."""
        strict.cut()
        strict.now += passed
        strict.presence.heard_from("pid", at)
        await until(lambda: strict.judged)
        strict.presence.heard_from("pid", at)
        assert strict.misjudged == []

    async def test_a_worker_that_promised_to_reconnect_at_once_is_judged_by_that(self, patient: Scene) -> None:
        patient.cut(BACK_SOON)
        await until(lambda: patient.judged)
        assert patient.judged == ["pid"]

    async def test_a_worker_still_to_be_judged_is_not_forgotten(self, strict: Scene) -> None:
        """The grace period may be longer than the time for which others are remembered."""
        strict.cut()
        strict.now += ABSENT_MS + GONE_KEPT_MS + 1
        strict.presence.forget_departed()
        strict.presence.connected("bar", "pid")
        await asyncio.sleep(3 * GRACE_S)
        assert strict.judged == []

    async def test_no_worker_is_judged_when_the_server_stops(self, strict: Scene) -> None:
        strict.cut()
        strict.presence.close()
        await asyncio.sleep(3 * GRACE_S)
        assert strict.judged == []


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


class TestALapsedLease:
    async def test_a_lapsed_lease_makes_a_worker_silent_until_its_next_request(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid")
        patient.presence.fell_silent("pid")
        assert (patient.only.state, patient.presence.is_silent("pid")) == (State.SILENT, True)
        patient.now += 1

        patient.presence.heard_from("pid")

        assert (patient.only.state, patient.presence.is_silent("pid")) == (State.CONNECTED, False)
        assert patient.told[1:] == [("silent", "bar", "pid"), ("heard", "bar", "pid")]

    async def test_a_silent_worker_is_not_avoided_for_ever(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid")
        patient.presence.fell_silent("pid")
        patient.now += SILENT_MS
        assert (patient.only.state, patient.presence.is_silent("pid")) == (State.SILENT, False)

    async def test_a_worker_that_is_gone_is_not_also_silent(self, strict: Scene) -> None:
        strict.cut()
        await until(lambda: strict.judged)
        strict.presence.fell_silent("pid")
        assert strict.only.state is State.GONE
        assert strict.told[-1] == ("gone", "bar", "pid")


class TestAPromiseToBeHeardOf:
    """``pid`` makes the promise. Another worker of its group, ``other``, could take over its work."""

    @pytest.fixture
    def scene(self, patient: Scene) -> Scene:
        patient.presence.connected("bar", "pid", SPEAKS)
        patient.presence.connected("bar", "other")
        return patient

    async def test_a_worker_that_keeps_the_promise_is_not_judged(self, scene: Scene) -> None:
        scene.pass_time(3 * HEARTBEAT_WITHIN_MS, heard="pid other")
        assert scene.judged == []

    async def test_a_worker_that_breaks_the_promise_while_others_are_heard_is_given_up_once(self, scene: Scene) -> None:
        scene.pass_time(HEARTBEAT_WITHIN_MS, heard="other")
        assert scene.judged == []
        scene.pass_time(HEARTBEAT_WITHIN_MS, heard="other")
        assert scene.judged == ["pid"]

    async def test_a_worker_that_is_given_up_is_avoided_until_it_is_heard_again(self, scene: Scene) -> None:
        scene.pass_time(2 * HEARTBEAT_WITHIN_MS, heard="other")
        scene.presence.fell_silent("pid")  # reported when its work is given away
        scene.pass_time(2 * SILENT_MS, heard="other")
        assert scene.presence.is_silent("pid")
        scene.presence.heard_from("pid")
        assert not scene.presence.is_silent("pid")

    async def test_no_worker_is_judged_if_no_other_could_take_over(self, patient: Scene) -> None:
        patient.presence.connected("bar", "pid", SPEAKS)
        patient.presence.connected("baz", "other")
        patient.pass_time(3 * HEARTBEAT_WITHIN_MS, heard="other")
        assert patient.judged == []

    async def test_no_worker_is_judged_if_all_fall_silent_nor_when_they_are_heard_again(self, scene: Scene) -> None:
        """This server was the one cut off. That one worker is heard first does not mean that the others are gone."""
        scene.presence.connected("bar", "other", SPEAKS)
        scene.pass_time(3 * HEARTBEAT_WITHIN_MS)
        assert scene.judged == []
        scene.pass_time(HEARTBEAT_WITHIN_MS - SECOND, heard="other")
        scene.pass_time(HEARTBEAT_WITHIN_MS, heard="other pid")
        assert scene.judged == []

    async def test_a_server_that_was_frozen_listens_before_it_judges(self, scene: Scene) -> None:
        scene.pass_time(SECOND, heard="pid other")
        scene.now += 10 * HEARTBEAT_WITHIN_MS
        scene.presence.check_pledges()
        scene.presence.heard_from("other")
        scene.presence.check_pledges()
        assert scene.judged == []

        scene.pass_time(2 * HEARTBEAT_WITHIN_MS, heard="other")

        assert scene.judged == ["pid"]

    @pytest.mark.parametrize(
        ("is_gone", "told"), [(False, "worker silent: bar/pid"), (True, "worker gone for good: bar/pid")]
    )
    async def test_the_log_distinguishes_workers_that_are_gone_from_silent_ones(
        self, scene: Scene, caplog: pytest.LogCaptureFixture, is_gone: bool, told: str
    ) -> None:
        caplog.set_level(logging.INFO)
        scene.pass_time(SECOND, heard="pid other")
        if is_gone:
            scene.presence.left("bar", "pid", planned=False)
        scene.pass_time(2 * HEARTBEAT_WITHIN_MS, heard="other")
        assert [message.rpartition(" for ")[0] for message in caplog.messages] == [f"{told}, no sign of life"]

    async def test_a_worker_of_two_groups_is_judged_if_both_could_continue_without_it(self, scene: Scene) -> None:
        scene.presence.connected("baz", "pid", SPEAKS)
        scene.pass_time(3 * HEARTBEAT_WITHIN_MS, heard="other")
        assert scene.judged == []
        scene.presence.connected("baz", "third")
        scene.pass_time(2 * HEARTBEAT_WITHIN_MS, heard="other third")
        assert scene.judged == ["pid"]

    @pytest.mark.parametrize("sign", ["a stream", "a request"])
    async def test_a_worker_that_lives_after_being_given_up_was_misjudged_and_is_not_held_to_its_promise_again(
        self, scene: Scene, sign: str
    ) -> None:
        """Otherwise work that stops all threads of a worker for long would be restarted again and again."""
        scene.pass_time(2 * HEARTBEAT_WITHIN_MS, heard="other")
        assert scene.misjudged == []
        scene.presence.connected("bar", "pid", SPEAKS) if sign == "a stream" else scene.presence.heard_from("pid")
        scene.pass_time(3 * HEARTBEAT_WITHIN_MS, heard="other")
        assert (scene.misjudged, scene.judged) == (["pid"], ["pid"])

    async def test_empty_groups_are_forgotten(self, scene: Scene) -> None:
        for pid in ("pid", "other"):
            scene.presence.left("bar", pid, planned=True)
        scene.now += ABSENT_MS + GONE_KEPT_MS + 1
        scene.presence.forget_departed()
        assert scene.presence._activity == {}


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

    async def test_the_number_of_groups_that_one_process_has_left_is_limited(self, patient: Scene) -> None:
        """Each request of a process is noted in all of its groups."""
        patient.presence.connected("stays", "pid")
        for number in range(MAX_GROUPS):
            patient.presence.connected(f"group-{number}", "pid")
            patient.presence.left(f"group-{number}", "pid", planned=True)

        groups = [member.group for member in patient.presence.members()]

        assert len(groups) == MAX_GROUPS
        assert ("stays" in groups, "group-0" in groups, "group-1" in groups) == (True, False, True)

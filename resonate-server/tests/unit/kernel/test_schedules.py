"""``schedule.*`` and their firing: sections 3.3 and 4.4."""

import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from unit.driver import FAR, HOUR, RETRY, SECOND, START, TARGET, Driver, value

from resonate_server.kernel.cron import MAX_CRON_CHARACTERS, latest_match, next_match
from resonate_server.kernel.model import Rules
from resonate_server.kernel.schedules import NEVER
from resonate_server.protocol.answers import Answer, ScheduleData
from resonate_server.protocol.errors import Malformed
from resonate_server.protocol.records import PromiseState, Schedule
from resonate_server.protocol.requests import ScheduleCreate, ScheduleDelete, ScheduleGet

MINUTE = 60 * SECOND
FIRST = 1_700_000_040_000
"""The first full minute after the start of every test (22:13:20)."""
YEAR_ON = START + 365 * 24 * HOUR
LAST_MINUTE = 253_402_300_740_000
"""The last minute of the year 9999."""


def create(
    server: Driver,
    cron: str = "* * * * *",
    promise_id: str = "{{.id}}-{{.timestamp}}",
    timeout: int = 10 * MINUTE,
    tags: dict[str, str] | None = None,
) -> Answer:
    tags = {"resonate:target": TARGET} | (tags or {})
    return server.call(ScheduleCreate("s", cron, promise_id, timeout, value("x"), tags))


def stored(server: Driver) -> Schedule:
    schedule: Schedule = server.call(ScheduleGet(id="s")).data.schedule
    return schedule


class TestCreate:
    def test_answers_the_schedule(self, server: Driver) -> None:
        shown = Schedule(
            "s",
            "* * * * *",
            "{{.id}}-{{.timestamp}}",
            10 * MINUTE,
            value("x"),
            {"resonate:target": TARGET},
            START,
            FIRST,
        )
        assert create(server) == Answer(200, ScheduleData(shown))

    def test_is_idempotent_on_the_id_alone(self, server: Driver) -> None:
        first = create(server).data.schedule
        server.now += 5 * MINUTE
        again = create(server, cron="0 0 1 1 *", promise_id="other")
        assert (again.status, again.data.schedule) == (200, first)

    @pytest.mark.parametrize(
        "cron", ["", "x", "* * * *", "61 * * * *", "* * * * 0", "@daily", "0 0 30 2 *", "* * * * * * 1999", "1" * 5_000]
    )
    def test_a_bad_expression_or_one_that_never_matches_is_400(self, server: Driver, cron: str) -> None:
        assert create(server, cron=cron).status == 400

    @pytest.mark.parametrize("promise_id", ["mine:{{.id}}.{{.timestamp}}", "{{.id}}:{{.timestamp}}"])
    def test_its_promises_may_hold_a_colon(self, server: Driver, promise_id: str) -> None:
        """SDK 0.7.4 with RESONATE_PREFIX puts it there."""
        create(server, promise_id=promise_id)
        server.wait(FIRST - START)
        fired = promise_id.replace("{{.id}}", "s").replace("{{.timestamp}}", str(FIRST))
        assert server.get(fired).status == 200

    @pytest.mark.parametrize("delay", ["x", "-1", "", str(FAR), str(FIRST + 10 * MINUTE)])
    def test_an_impossible_delay_blocks_nothing(self, server: Driver, delay: str) -> None:
        """Whether it is refused or ignored: due work must not fail, or nothing would happen any more."""
        with suppress(Malformed):
            create(server, tags={"resonate:delay": delay})
        server.wait(FIRST - START)
        server.wait(MINUTE)

    def test_ids_that_will_be_too_long_are_refused(self, server: Driver) -> None:
        """A later time has more digits, and due work must not fail."""
        server.now = 0
        for length, status in ((4_075, 200), (4_096 - 19, 200), (4_096 - 18, 400), (4_096 - 5, 400)):
            answer = server.call(ScheduleCreate(f"s{length}", "* * * * *", "x" * length + "{{.timestamp}}", HOUR))
            assert answer.status == status
        server.wait(START)


class TestGetAndDelete:
    def test_get_and_delete_of_an_unknown_id_are_404(self, server: Driver) -> None:
        assert server.call(ScheduleGet(id="s")).status == 404
        assert server.call(ScheduleDelete(id="s")).status == 404

    def test_a_deleted_one_does_not_fire(self, server: Driver) -> None:
        create(server)
        assert server.call(ScheduleDelete(id="s")).status == 200
        server.wait(10 * MINUTE)
        assert server.call(ScheduleGet(id="s")).status == 404
        assert not server.sent


class TestFiring:
    def test_it_creates_a_promise_as_of_the_time_it_was_due_with_its_tags_and_lineage(self, server: Driver) -> None:
        create(server, tags={"own": "tag"})
        server.wait(FIRST - START)
        assert server.take_executes() == [(f"s-{FIRST}", 0)]
        promise = server.promise(f"s-{FIRST}")
        assert (promise.state, promise.param) == (PromiseState.PENDING, value("x"))
        assert (promise.created_at, promise.timeout_at) == (FIRST, FIRST + 10 * MINUTE)
        lineage = {f"resonate:{name}": f"s-{FIRST}" for name in ("origin", "branch", "parent", "prefix")}
        tags = {"resonate:target": TARGET, "own": "tag", "resonate:schedule": "s"} | lineage
        assert promise.tags == tags

    @pytest.mark.parametrize(
        ("cron", "at", "catch_up", "runs", "following"),
        [
            pytest.param("* * * * *", FIRST + MINUTE - 1, 1, [FIRST], FIRST + MINUTE, id="one that is late"),
            pytest.param("* * * * *", FIRST + MINUTE, 1, [FIRST + MINUTE], FIRST + 2 * MINUTE, id="not the one before"),
            pytest.param("* * * * * *", YEAR_ON + 500, 1, [YEAR_ON], YEAR_ON + SECOND, id="the latest of many"),
            pytest.param("* * * * *", 10**18, 1, [LAST_MINUTE], NEVER, id="the last in the calendar"),
            pytest.param(
                "* * * * *",
                FIRST + 9 * MINUTE,
                3,
                [FIRST + minutes * MINUTE for minutes in (7, 8, 9)],
                FIRST + 10 * MINUTE,
                id="as many as are set",
            ),
        ],
    )
    def test_of_the_runs_that_were_missed_it_makes_up(
        self, cron: str, at: int, catch_up: int, runs: list[int], following: int
    ) -> None:
        """One per sweep."""
        server = Driver(rules=Rules(retry_timeout_ms=RETRY, catch_up_runs=catch_up))
        create(server, cron=cron)
        server.now = at
        for run in runs:
            server.tick()
            assert server.promise(f"s-{run}").created_at == run
            assert stored(server).last_run_at == run
        server.tick()
        assert stored(server).next_run_at == following
        assert len(server.store.snapshot().promises) == len(runs)

    def test_a_run_past_its_deadline_is_born_settled(self, server: Driver) -> None:
        create(server, timeout=MINUTE // 2)
        server.now = FIRST + MINUTE // 2
        server.tick()
        promise = server.promise(f"s-{FIRST}")
        assert (promise.state, promise.settled_at) == (PromiseState.TIMEDOUT, FIRST + MINUTE // 2)
        assert server.take_executes() == []

    def test_an_existing_promise_is_left_alone(self, server: Driver) -> None:
        create(server, promise_id="fixed")
        existing = server.create("fixed", target=None).data.promise
        server.wait(FIRST - START)
        assert server.promise("fixed") == existing
        assert stored(server).last_run_at == FIRST

    def test_after_the_last_match_a_schedule_rests(self, server: Driver) -> None:
        create(server, cron="0 14 22 14 11 ? 2023")
        server.wait(FIRST - START)
        server.wait(MINUTE)
        assert stored(server).last_run_at == FIRST
        assert set(server.take_executes()) == {(f"s-{FIRST}", 0)}


class TestCron:
    """Section 4.4: UTC; 5, 6 or 7 fields; weekdays as in Quartz, 1 is Sunday and 7 is Saturday."""

    @pytest.mark.parametrize(
        ("cron", "after", "expected"),
        [
            ("* * * * *", "2024-01-01T00:00:00", "2024-01-01T00:01:00"),
            ("*/15 * * * *", "2024-01-01T00:16:00", "2024-01-01T00:30:00"),
            ("30 4 * * *", "2024-01-01T05:00:00", "2024-01-02T04:30:00"),
            ("* * * * * *", "2024-01-01T00:00:00", "2024-01-01T00:00:01"),
            ("30 * * * * *", "2024-01-01T00:00:30", "2024-01-01T00:01:30"),
            ("0 0 12 1 1 * 2026", "2024-01-01T00:00:00", "2026-01-01T12:00:00"),
            ("0 0 29 2 *", "2024-03-01T00:00:00", "2028-02-29T00:00:00"),
            ("0 0 * * 1", "2024-01-01T00:00:00", "2024-01-07T00:00:00"),
            ("0 0 * * 7", "2024-01-01T00:00:00", "2024-01-06T00:00:00"),
            ("0 0 * * 2", "2024-01-01T00:00:00", "2024-01-08T00:00:00"),
            ("0 0 * * SUN", "2024-01-01T00:00:00", "2024-01-07T00:00:00"),
            ("0 0 * * sat", "2024-01-01T00:00:00", "2024-01-06T00:00:00"),
            ("0 0 * * 2-6", "2024-01-05T12:00:00", "2024-01-08T00:00:00"),
            ("0 0 * * MON-FRI", "2024-01-05T12:00:00", "2024-01-08T00:00:00"),
            ("0 0 * * 1,7", "2024-01-01T00:00:00", "2024-01-06T00:00:00"),
            ("0 0 * * */2", "2024-01-01T00:00:00", "2024-01-02T00:00:00"),
            ("0 0 * * 2-6/2", "2024-01-01T00:00:00", "2024-01-03T00:00:00"),
            ("0 0 * * 2/3", "2024-01-01T00:00:00", "2024-01-04T00:00:00"),
            ("0 0 * * 1#2", "2024-01-01T00:00:00", "2024-01-14T00:00:00"),
            ("0 0 * * 6L", "2024-01-01T00:00:00", "2024-01-26T00:00:00"),
            ("0 0 0 * * 1", "2024-01-01T00:00:00", "2024-01-07T00:00:00"),
            ("0 0 0 * * 7 2025", "2024-01-01T00:00:00", "2025-01-04T00:00:00"),
            ("0 0 13 * 6", "2024-01-01T00:00:00", "2024-09-13T00:00:00"),
            ("0 0 1 JAN *", "2024-01-01T00:00:00", "2025-01-01T00:00:00"),
        ],
    )
    def test_next(self, cron: str, after: str, expected: str) -> None:
        found = next_match(cron, ms(after))
        assert found is not None
        assert datetime.fromtimestamp(found / 1_000, UTC).isoformat() == expected + "+00:00"

    def test_the_machine_s_time_zone_does_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "XST+7:30")
        time.tzset()
        try:
            assert next_match("30 4 * * *", ms("2024-01-01T05:00:00")) == ms("2024-01-02T04:30:00")
            assert latest_match("30 4 * * *", ms("2024-01-01T05:00:00"), 1) == ms("2023-12-31T04:30:00")
        finally:
            monkeypatch.undo()
            time.tzset()

    @pytest.mark.parametrize("cron", ["* * * * *", "* * * * * *"])
    @pytest.mark.parametrize("offset", [0, 1, 500, 999])
    def test_next_is_the_first_match_strictly_later(self, cron: str, offset: int) -> None:
        step = MINUTE if len(cron.split()) == 5 else SECOND
        assert next_match(cron, ms("2024-01-01T00:00:00") + offset) == ms("2024-01-01T00:00:00") + step

    @pytest.mark.parametrize(
        ("until", "earlier", "expected"),
        [
            ("2024-01-01T00:02:00", 0, "2024-01-01T00:02:00"),
            ("2024-01-01T00:02:59", 0, "2024-01-01T00:02:00"),
            ("2024-01-01T00:02:59", 2, "2024-01-01T00:00:00"),
        ],
    )
    def test_latest(self, until: str, earlier: int, expected: str) -> None:
        assert latest_match("* * * * *", ms(until), earlier) == ms(expected)

    @pytest.mark.parametrize(
        "cron",
        [
            *("* * * *", "* * * * * * * *", "* * * * 0", "* * * * 8", "* * * * 0-3", "* * * * 5-9", "* * * * 2,8"),
            *("60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * SUNDAYS", "*/0 * * * *", "* * * * 1-"),
            *("* * * * x", "* * * * 1/", "R * * * *", "* H * * *", "0,r * * * *", "* * h(1-5) * *", "*" * 300),
            "* * * * *".rjust(MAX_CRON_CHARACTERS + 1),
        ],
    )
    def test_bad(self, cron: str) -> None:
        with pytest.raises(Malformed):
            next_match(cron, START)

    def test_a_day_that_never_comes_is_not_searched_for(self) -> None:
        began = time.process_time()
        for hour in range(4):
            for day in ("31 2,4,6,9,11 *", "1-7 * 1#2,2#2,3#3", "8 * 1#1,7#1", "L 4 2#4", "15W * 1#1", "21 * 6L"):
                assert next_match(f"0 {hour} {day}", START) is None
                assert latest_match(f"0 {hour} {day}", START, 0) is None
        assert time.process_time() - began < 5  # Takes 0.02 s; ten seconds if the library searched 100 years.

    @pytest.mark.parametrize("day", ["29 2 1", "L 2 7#5", "28 2 6#4", "31 * 5L", "15W * 2#3", "31W 2 *", "22 2 5L"])
    def test_a_rare_day_is_found(self, day: str) -> None:
        found = next_match(f"0 0 {day}", START)
        assert found is not None
        assert latest_match(f"0 0 {day}", found, 0) == found

    def test_the_longest_possible_expression(self) -> None:
        assert next_match("* * * * *".rjust(MAX_CRON_CHARACTERS), START) == FIRST


def ms(time: str) -> int:
    return int(datetime.fromisoformat(time + "+00:00").timestamp()) * 1_000

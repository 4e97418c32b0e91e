"""Servers that share a store: where messages go, what they tell each other, and which server judges which worker. They
run in one process, with real hubs and presences, a bus that delivers on demand, and no engine."""

import asyncio
from typing import Any, cast

import pytest
from unit.hubs import Scene, execute, many, received, unblock, until

from resonate_server.delivery import Pledge
from resonate_server.delivery.worker_stream import WINDOW
from resonate_server.engine import Engine
from resonate_server.peers import Peers, hints, router
from resonate_server.peers.hints import LookAgain, Offered, Present, Withdrawn
from resonate_server.peers.router import Roster, encode_roster
from resonate_server.protocol.messages import Execute, Message, OwedUnblock
from resonate_server.protocol.records import Value
from resonate_server.store.sharing import PeerListener, Sharing
from resonate_server.watch import Watch


class Bus:
    """Holds messages until a test calls :meth:`deliver`."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.rung: list[tuple[int, int | None, bytes]] = []
        """Sender, receiver, and message."""
        self.mentioned: list[bytes] = []
        """The messages that are not urgent."""

    def deliver(self) -> None:
        rung, self.rung = self.rung, []
        for sender, receiver, message in rung:
            for member in self.members.values():
                if member.id != sender and receiver in (None, member.id):
                    member.listener.heard(f"[{message.decode()}]")

    def introduce(self) -> None:
        """Tell every member what all others have published."""
        for member in self.members.values():
            member.listener.update_rosters({id: each.roster for id, each in self.members.items() if id != member.id})


class Member(Sharing):
    def __init__(self, bus: Bus, id: int) -> None:
        self.id = id
        self.listener: PeerListener = PeerListener()
        self.roster = b"[]"
        self.told: list[bytes] = []
        self._bus = bus
        bus.members[id] = self

    @property
    def has_others(self) -> bool:
        return len(self._bus.members) > 1

    def publish(self, roster: bytes) -> None:
        self.roster = roster
        self.told.append(roster)
        self._bus.introduce()

    def ring(self, message: bytes, to: int | None = None, *, is_urgent: bool = True) -> None:
        self._bus.rung.append((self.id, to, message))
        if not is_urgent:
            self._bus.mentioned.append(message)

    def look(self) -> asyncio.Future[None]:
        self._bus.introduce()
        looked = asyncio.get_running_loop().create_future()
        looked.set_result(None)
        return looked


class Nobody:
    """Replaces the engine and push."""

    def __init__(self) -> None:
        self.gone: list[str] = []
        self.settled: list[str] = []
        self.time = 1_000_000

    def now(self) -> int:
        return self.time

    def worker_gone(self, _: str, pid: str) -> None:
        self.gone.append(pid)

    def settled_elsewhere(self, ids: list[str]) -> None:
        self.settled += ids


class Server(Scene):
    """A server with a hub, on ``bus``."""

    def __init__(self, bus: Bus, id: int) -> None:
        super().__init__()
        self.id = id
        self.bus = bus
        self.member = Member(bus, id)
        self.nobody = Nobody()
        self.peers = Peers(self.member, cast("Engine", self.nobody), self.hub, self.presence)
        self.peers.begin(None)
        self.router = self.peers.router

    async def has(self, pid: str, group: str = "workers") -> Any:
        """Connect a worker, let all other servers know, and return its stream."""
        stream = self.worker(pid, group)
        await asyncio.sleep(0.02)
        await until(lambda: (group, pid) in self.hub.seats() and pid.encode() in self.member.roster)
        return stream

    def decides(self, message: Message) -> None:
        """Send a message as if this server's engine had decided it, and deliver what the others are told."""
        self.router.send(message)
        self.bus.deliver()

    def claims(self, execute: Execute) -> None:
        """Claim the task through this server."""
        self.router.withdraw(execute.task_id, execute.version)
        self.bus.deliver()


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def one(bus: Bus) -> Server:
    return Server(bus, 1)


@pytest.fixture
def other(bus: Bus, one: Server) -> Server:  # noqa: ARG001  the first one
    return Server(bus, 2)


def kinds(bus: Bus) -> list[str]:
    return [type(hint).__name__ for *_, data in bus.rung for hint in hints.decode(f"[{data.decode()}]")]


# --- tasks ----------------------------------------------------------------------------------------------------------


async def test_a_lone_server_sends_nothing_to_others(bus: Bus, one: Server) -> None:
    one.worker("w")
    one.router.send(execute("t"))
    one.router.withdraw("t", 0)
    one.router.withdraw("unknown", 0)
    one.router.send(unblock("p"))
    one.router.heard_from("somebody")
    one.router.fell_silent("workers", "somebody")
    one.router.settled(["p"])

    assert bus.rung == []


async def test_a_task_goes_to_the_worker_that_it_names_wherever_it_is_connected(one: Server, other: Server) -> None:
    """No other server than that worker's hears of it."""
    mine, theirs = one.worker("w1"), await other.has("w2")
    one.router.send(execute("t", "poll://any@workers/w2"))
    assert [receiver for _, receiver, _ in one.bus.rung] == [other.id]
    one.bus.deliver()

    assert (await received(mine), await received(theirs)) == ([], ["t"])


async def test_a_late_withdrawal_leaves_the_next_version_alone(one: Server, other: Server) -> None:
    mine = one.worker("w1")
    one.router.send(execute("t", version=1))
    other.claims(execute("t", version=0))

    assert await received(mine) == ["t"]
    assert one.hub.withdraw("t", 1)


async def test_a_task_read_from_the_store_before_it_was_announced_stays_where_it_is(one: Server, other: Server) -> None:
    first, second = await other.has("w1"), await other.has("w2")
    one.router.send(execute("t"))
    other.hub.refill("workers", [execute("t")], complete=True)
    one.bus.deliver()

    assert sorted([await received(first), await received(second)]) == [[], ["t"]]


async def test_tasks_that_waited_are_divided_among_the_servers(one: Server, other: Server) -> None:
    streams = [await server.has(f"w{number}") for number, server in enumerate((one, other))]
    queued = many(WINDOW)
    for server in (one, other):
        server.router.refill("workers", queued, complete=True)
    mine, theirs = [await received(stream) for stream in streams]

    assert mine
    assert theirs
    assert sorted([*mine, *theirs]) == sorted(each.task_id for each in queued)


async def test_tasks_that_a_server_did_not_get_to_are_taken_over_and_this_is_reported(
    bus: Bus, one: Server, other: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, _ = await one.has("w1"), await other.has("w2")
    queued = many(router.MAX_TAKEN_OVER)
    one.router.refill("workers", queued, complete=True)
    at_once = await received(mine)
    assert kinds(bus) == []
    monkeypatch.setattr(router, "PATIENCE_S", 0)
    one.router.refill("workers", queued, complete=True)

    later = await received(mine)
    assert sorted([*at_once, *later]) == sorted(each.task_id for each in queued)
    assert kinds(bus) == ["Withdrawn"] * len(later)


async def test_nothing_is_kept_of_groups_without_tasks(one: Server, other: Server) -> None:
    await other.has("w2")
    one.router.refill("workers", many(1), complete=True)
    for name in ("workers", "nobody"):
        one.router.refill(name, [], complete=True)

    assert one.router._seen == {}


# --- results --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cast", ["uni", "any"])
async def test_a_result_goes_to_the_listener_it_names_wherever_it_is(one: Server, other: Server, cast: str) -> None:
    bystander, caller = await one.has("bystander", "callers"), await other.has("c1", "callers")
    one.decides(unblock("p", f"poll://{cast}@callers/c1"))

    await until(lambda: caller.unblocks_waiting)
    assert await received(caller) == ["p"]
    assert await received(bystander) == []


async def test_a_result_for_any_member_is_delivered_once(one: Server, other: Server, bus: Bus) -> None:
    third = Server(bus, 3)
    listeners = [await server.has(f"c{server.id}", "callers") for server in (other, third)]
    one.decides(unblock("p", "poll://any@callers"))

    await until(lambda: any(listener.unblocks_waiting for listener in listeners))
    await asyncio.sleep(0.05)
    assert sorted([await received(listener) for listener in listeners]) == [[], ["p"]]


async def test_a_result_for_a_listener_that_left_its_server_is_announced_to_all_again(bus: Bus, other: Server) -> None:
    other.member.listener.heard(f"[{hints.encode(hints.Owed('p', 'poll://any@callers', 2)).decode()}]")

    assert [hints.decode(f"[{data.decode()}]") for *_, data in bus.rung] == [[hints.Owed("p", "poll://any@callers")]]


async def test_a_result_comes_with_the_message_unless_it_is_too_long_for_one(one: Server, other: Server) -> None:
    caller = await other.has("c1", "callers")
    one.decides(unblock("small"))
    assert await received(caller) == ["small"]

    large = unblock("large", value=Value(data="x" * 9_000))
    other.owed["callers/c1"].append(OwedUnblock(1, large))
    one.decides(large)
    assert await received(caller) == ["large"]


async def test_claims_are_announced_later_and_all_else_at_once(bus: Bus, one: Server, other: Server) -> None:
    """For example, a sign of life must not be reported after the process has died."""
    await other.has("w2")
    one.router.send(execute("t"))
    one.router.send(unblock("p", "poll://any@workers"))
    one.router.heard_from("w2")
    one.router.fell_silent("workers", "w2")
    assert bus.mentioned == []

    one.router.withdraw("claimed elsewhere", 0)
    assert len(bus.mentioned) == 1
    assert kinds(bus) == ["Offered", "Owed", "Heard", "Silent", "Withdrawn"]


async def test_settlements_are_announced_unless_there_are_many(one: Server, other: Server, bus: Bus) -> None:
    several = [f"p{number}" for number in range(router.MAX_SETTLED)]
    one.router.settled(several)
    one.router.settled([*several, "one more"])
    one.router.settled(["x" * (router.MAX_SETTLED_CHARACTERS + 1)])
    bus.deliver()

    assert other.nobody.settled == several


async def test_a_message_with_an_id_that_is_too_long_asks_others_to_look_again() -> None:
    for hint in (Offered(1, "i" * 9_000, 0, "poll://any@g"), Withdrawn("i" * 9_000, 0)):
        assert hints.decode(f"[{hints.encode(hint).decode()}]") == [LookAgain()]


# --- processes ------------------------------------------------------------------------------------------------------


async def test_signs_of_life_are_announced_from_time_to_time(bus: Bus, one: Server, other: Server) -> None:
    await other.has("w")
    for _ in range(5):
        one.router.heard_from("w")

    assert kinds(bus) == ["Heard"]


async def test_a_worker_that_reconnects_to_another_server_has_left_this_one(one: Server, other: Server) -> None:
    """Even if its former connection was cut, the server has not noticed, and reports it late."""
    one.bus.introduce()
    stale = one.worker("w")
    other.now += 1
    newest = other.worker("w")
    await until(lambda: one.member.told and (stale.closed or newest.closed))

    assert b'"w"' in one.member.told[0]
    assert (stale.closed, newest.closed) == (True, False)


async def test_a_pid_that_two_processes_use_is_noticed_although_they_use_two_servers(
    one: Server, other: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Each process reconnects to its own server, which has ended its stream for that of the other process."""
    one.bus.introduce()
    for server, rival in [(one, other), (other, one)] * 10:
        one.now += 1_000
        other.now += 1_000
        await server.has("w")
        for stale in [each for each in rival.hub._all() if each.closed]:
            rival.hub.disconnect(stale, planned=True)
    assert caplog.messages == ["two processes seem to be workers/w: their streams replace each other"] * 2


async def test_workers_of_a_dead_server_are_missed_by_its_heir(one: Server, other: Server) -> None:
    await other.has("there")
    one.worker("here")
    left = Roster([("workers", pid) for pid in ("here", "there", "lost")], [("workers", "missed")])
    one.member.listener.inherits(encode_roster(left))

    assert sorted(one.presence.missed()) == [("workers", "lost"), ("workers", "missed")]


async def test_only_a_worker_that_is_connected_nowhere_loses_its_tasks(one: Server, other: Server) -> None:
    await other.has("moved")
    for pid in ("moved", "lost"):
        one.peers.worker_gone("workers", pid)

    await until(lambda: one.nobody.gone)
    assert one.nobody.gone == ["lost"]


async def test_an_earlier_request_at_another_server_does_not_revive_a_dead_worker(one: Server, other: Server) -> None:
    """The report arrives after this server has noticed the end."""
    other.nobody.time = one.now
    other.router.heard_from("w")
    one.hub.disconnect(one.worker("w"), planned=False)
    one.bus.deliver()

    assert one.presence.missed() == [("workers", "w")]


async def test_a_silent_worker_is_given_up_if_others_are_heard_at_another_server(one: Server, other: Server) -> None:
    one.hub.connect("workers", "frozen", Pledge(heartbeat_within=3_000))
    other.worker("w")
    one.presence._gone = one.peers.worker_gone
    for _ in range(5):
        one.now += 1_000
        other.peers._tell_members()
        one.bus.deliver()
        one.presence.check_pledges()

    assert one.nobody.gone == ["frozen"]


async def test_members_are_reported_as_the_best_informed_server_knows_them(one: Server, other: Server) -> None:
    one.hub.disconnect(one.worker("moved"), planned=False)
    assert one.presence.missed() == [("workers", "moved")]
    await other.has("moved")
    assert (one.presence.missed(), one.presence.members()) == ([], [])
    one.worker("here")
    other.peers._tell_members()
    one.bus.deliver()

    told = {member.pid: member.state.value for member in one.peers.members()}
    assert told == {"here": "connected", "moved": "connected"}
    assert one.peers.workers() == {"workers": 2}


class Looker:
    """Replaces a watch; ``known_since``: since when it knows of all workers."""

    known_since: int | None = 0

    def sync_connected(self, _: object) -> None:
        pass

    def all_workers_known(self, since: int | None) -> None:
        self.known_since = since


@pytest.mark.parametrize(("began", "known_since"), [(999_999, 1_000_500), (1_000_001, 1_000_000)])
async def test_all_workers_are_known_since_the_report_of_an_older_server_or_from_the_start_if_it_is_younger(
    one: Server, began: int, known_since: int
) -> None:
    looker = Looker()
    one.peers.begin(cast("Watch", looker))
    one.peers.update_rosters({2: b"[]"})
    assert looker.known_since is None

    for now in (1_000_500, 1_000_900):
        one.nobody.time = now
        one.peers.heard(f"[{hints.encode(Present(2, [], more=False, began=began)).decode()}]")
        assert looker.known_since == known_since

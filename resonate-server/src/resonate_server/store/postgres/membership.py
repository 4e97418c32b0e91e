"""Which servers work on a database, and the time that they share, which is that of the database.

Each server has a row there, with a heartbeat once a second and a roster of its workers.

A server counts as dead when the connection for its heartbeats has ended, or when it has been silent for too long. The
first to notice deletes its row, ends its connections, to free what they hold locked, and takes over its roster. A
mistake harms nobody: rows are locked while they are decided on, and a server that finds its row gone joins again.

What the others must know at once is rung: sent as a notification, which may be lost, but not unnoticed. A listener that
was away, a server that has just joined, and all that see another one go are told that they may have missed something.
"""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
from msgspec import Struct

from resonate_server.store.errors import STOPS, ReadFailed
from resonate_server.store.health import LogThrottle
from resonate_server.store.postgres import sql
from resonate_server.store.postgres.driver import ServingConnection, Source, ask, name_of
from resonate_server.store.postgres.schema import DatabaseUnusable, check_version, migrate
from resonate_server.store.sharing import MAX_RING_BYTES, PeerListener, Sharing

logger = logging.getLogger(__name__)

PAUSE_S = 0.25  # before the database is tried again
BEAT_S = 1.0
DEAD_S = 7.0
"""A server whose heartbeat has stood still for this long counts as dead; it is looked at once a second. By the clock of
the server that looks, because the database's may jump. A crash is noticed by the connection, so this is for servers
that freeze. On an overloaded machine servers may be seconds late, and must not cut each other off."""

KNOWN_S = 2.5 * BEAT_S  # after it has joined, a server is known to all others.

RUNG_EVERY_S = 0.005
MENTIONED_WITHIN_S = 0.05
"""Messages that come up meanwhile are sent together: a notification wakes the database's process and the server's."""
MAX_RINGS = 10_000  # messages to a server may wait while the database is down.

ROSTER_CHANGED = b"[]"  # a notification between memberships: look at the others again
MISSED = b"null"  # in place of messages that were lost


class DatabaseClock:
    """Returns the time in ms since the epoch; between two readings, follows the machine's uptime. Never goes back."""

    def __init__(self, uptime: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000) -> None:
        self._uptime = uptime
        self._ahead = time.time_ns() // 1_000_000 - uptime()
        self._told = 0

    def __call__(self) -> int:
        self._told = max(self._told, self._uptime() + self._ahead)
        return self._told

    def begin(self, time: int) -> None:
        """Set the time (ms), whatever was returned before it was known."""
        self._ahead, self._told = time - self._uptime(), 0

    def measured(self, time: int, took: int) -> None:
        """Adjust to ``time`` (ms), from an answer of the database that took ``took`` ms: by now it is that, or up to
        ``took`` later. An earlier, more exact answer stays in force."""
        least = time - self._uptime()
        most = least + took
        if self._ahead < least:
            self._ahead = least
        elif most < self._ahead <= most + sql.STEP_MS:
            self._ahead = most


class Rings(Struct):
    """Messages to a server, to be sent at ``at`` (monotonic seconds)."""

    messages: list[bytes] = []
    at: float = math.inf


class Membership(Sharing):
    """``trouble``: why this server cannot work at the moment, for people; empty if it can, as far as it knows.

    ``lost`` is called with the reason when the server cannot continue; ``due``, once a second, with the time when
    something is due next (ms).
    """

    def __init__(self, url: str, lost: Callable[[str], None], due: Callable[[int], None]) -> None:
        self.trouble = "the database has not answered yet"
        self._throttle, self._is_told = LogThrottle(), True
        """Whether the log says what ``trouble`` says, which may come and go several times a second."""
        self.id = secrets.randbits(62)
        self.source = Source(url, name_of(self.id))
        self.listener: PeerListener = PeerListener()
        self.has_joined = False
        """At least once; from then on, requests may wait."""
        self.is_first = False
        """No other server was at work when it joined."""
        self.clock = DatabaseClock()
        self._lost = lost
        self._due = due
        self._others: dict[int, tuple[int, bytes]] = {}
        """Version and roster of each."""
        self._beats: dict[tuple[int, int], float] = {}
        """Each one's last heartbeat, and when this server first saw it (monotonic seconds)."""
        self._judges_from = 0.0
        """Until then (monotonic seconds), none counts as dead: what has cut off this server may have cut off others."""
        self._roster, self._version, self._is_published = b"[]", 0, True
        self._rings: dict[int, Rings] = {}
        """By server that they are for."""
        self._rings_from = 0.0
        """None is sent before (monotonic seconds)."""
        self._waiting: list[asyncio.Future[None]] = []
        """Done with the next look at the others."""
        self._known: asyncio.TimerHandle | None = None
        """Fires when all others know that it has joined."""
        self._has_begun = False
        """Other servers need not wait any longer, and do not know yet."""
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._is_doubtful = False

    # --- what the store asks ----------------------------------------------------------------------------------------

    @property
    def has_others(self) -> bool:
        return bool(self._others)

    @property
    def others(self) -> int:
        """Number of other servers at work."""
        return len(self._others)

    async def joined(self) -> None:
        """Return once this server is at work. Raises :class:`ReadFailed` if it stops."""
        while self.trouble and not self._is_stopping:
            await self._changed.wait()
        if self._is_stopping:
            raise ReadFailed(STOPS)

    def doubt(self) -> None:
        """Check at once whether all is well, because something went wrong elsewhere."""
        self._is_doubtful = True
        self._wake.set()

    def begun(self) -> None:
        """Let other servers start: this one has done what only the first does."""
        self._has_begun = self.is_first
        self._wake.set()

    def publish(self, roster: bytes) -> None:
        self._roster, self._version, self._is_published = roster, self._version + 1, False
        self._wake.set()

    def ring(self, message: bytes, to: int | None = None, *, is_urgent: bool = True) -> None:
        at = time.monotonic() + (0 if is_urgent else MENTIONED_WITHIN_S)
        for id in self._others.keys() if to is None else self._others.keys() & {to}:
            rings = self._rings.setdefault(id, Rings())
            if len(rings.messages) >= MAX_RINGS:
                rings.messages = [MISSED]
            rings.messages.append(message)
            if at < rings.at:
                rings.at = at
                self._wake.set()

    def look(self) -> asyncio.Future[None]:
        looked = asyncio.get_running_loop().create_future()
        self._waiting.append(looked)
        self.doubt()
        return looked

    def stop(self) -> None:
        """End all waiting, and have :meth:`run` leave."""
        self._is_stopping = True
        self._changed.set()
        self._wake.set()
        if self._known is not None:
            self._known.cancel()

    # --- the connection for heartbeats and notifications ------------------------------------------------------------

    async def run(self) -> None:
        """Join the servers and stay among them, rejoining after errors, until this one stops. It leaves on the same
        connection, whose end would be taken for its death."""
        while not self._is_stopping:
            try:
                async with await self.source.connect_async() as connection:
                    connection.add_notify_handler(self._hear)
                    await self._begin(connection)
                    await self._live(connection)
                    await ask(connection, (sql.REMOVE, ([self.id],)), (sql.RING, (sql.CHANNEL, ROSTER_CHANGED)))
            except DatabaseUnusable as error:
                self._lost(str(error))
                return
            except Exception as error:
                if not isinstance(error, psycopg.Error | OSError):
                    logger.exception("cannot tell whether this server may use the database")
                self._tell(told(error))
            await asyncio.sleep(PAUSE_S)

    def _hear(self, notification: psycopg.Notify) -> None:
        """Everybody who may connect to the database may notify: no message ends the listening."""
        try:
            if notification.payload.encode() == ROSTER_CHANGED:
                self.doubt()
            else:
                self.listener.heard(notification.payload)
        except Exception:
            logger.exception("a notification made no sense")
            self.listener.may_have_missed()

    def _tell(self, trouble: str) -> None:
        if trouble == self.trouble and self._is_told:
            return
        was_told, self._is_told = self._is_told, not trouble or self._throttle.admits(trouble)
        self.trouble = trouble
        if trouble:
            self._changed.clear()
            if self._is_told:
                logger.warning("not at work: %s", trouble)
        else:
            self._changed.set()
            if was_told:
                logger.info("at work on the database")

    async def _begin(self, connection: ServingConnection) -> None:
        await connection.execute("SET synchronous_commit = off")  # Nobody waits for the disk here.
        if self.has_joined:  # A schema that is gone was taken away: an empty one instead would look like lost data.
            [[(version,)]] = await ask(connection, (sql.GET_VERSION, ()))
            check_version(version)
            self._judges_from = time.monotonic() + KNOWN_S
        else:
            await migrate(connection)
            await self._wait_for_those_who_begin(connection)
            _, [(now,)] = await ask(connection, (sql.FORGET_ENDINGS, ()), (sql.GET_TIME, ()))
            self.clock.begin(now)
        for channel in (sql.CHANNEL, name_of(self.id)):  # for all servers, and for this one
            await connection.execute(f'LISTEN "{channel}"'.encode())
        await self._join(connection)
        if not self.has_joined:
            self.has_joined, self.is_first = True, not self._others
            if not self.is_first:
                await ask(connection, (sql.HAS_BEGUN, ()))
        self._tell("")
        self.listener.may_have_missed()

    async def _wait_for_those_who_begin(self, connection: ServingConnection) -> None:
        while await ask(connection, (sql.TRY_TO_BEGIN, ())) == [[(False,)]]:
            await self._look(connection)  # A frozen one is cut off.
            await asyncio.sleep(PAUSE_S)

    async def _join(self, connection: ServingConnection) -> None:
        """Join the servers. Others see this one with their next look; what they ring before may be missed."""
        await self._publish(connection)
        await self._look(connection)
        self._known = asyncio.get_running_loop().call_later(KNOWN_S, lambda: self.listener.may_have_missed())

    async def _live(self, connection: ServingConnection) -> None:
        next_beat = time.monotonic()
        while not self._is_stopping:
            self._wake.clear()
            if self._has_begun:
                self._has_begun = False
                await ask(connection, (sql.HAS_BEGUN, ()))
            if not self._is_published:
                await self._publish(connection)
            if due := self._due_rings():
                await self._ring(connection, due)
            late = time.monotonic() - next_beat
            if late >= 0:
                next_beat += late + BEAT_S
                await self._beat(connection, late)
            elif self._is_doubtful:
                await self._look(connection)
            next_ring = max(self._rings_from, min((rings.at for rings in self._rings.values()), default=math.inf))
            await self._wait(connection, min(next_beat, next_ring))

    async def _wait(self, connection: ServingConnection, until: float) -> None:
        """Take notifications until then (monotonic seconds), or until woken. Waking for each one would cost more than
        reading it."""
        loop, socket = asyncio.get_running_loop(), connection.fileno()

        def take_notifications() -> None:
            try:
                connection.take_notifications()
            except psycopg.OperationalError:  # Raised again below.
                loop.remove_reader(socket)  # It is closed, and its number free for others.
                self._wake.set()

        loop.add_reader(socket, take_notifications)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(until - time.monotonic()):
                    await self._wake.wait()
        finally:
            if not connection.closed:
                loop.remove_reader(socket)
        connection.take_notifications()

    async def _publish(self, connection: ServingConnection) -> None:
        version = self._version
        await ask(connection, (sql.JOIN, (self.id, version, self._roster)), (sql.RING, (sql.CHANNEL, ROSTER_CHANGED)))
        self._is_published = version == self._version

    def _due_rings(self) -> list[int]:
        now = time.monotonic()
        return [id for id, rings in self._rings.items() if rings.at <= now] if now >= self._rings_from else []

    async def _ring(self, connection: ServingConnection, to: list[int]) -> None:
        """Send the messages that wait for these servers. If some may be lost, they hear that later."""
        texts = [(name_of(id), text) for id in to for text in _packed(self._rings.pop(id).messages)]
        try:
            await ask(connection, *[(sql.RING, each) for each in texts])
        except BaseException:
            for id in to:
                later = self._rings.pop(id, Rings())
                self._rings[id] = Rings([MISSED, *later.messages], at=0)
            raise
        self._rings_from = time.monotonic() + RUNG_EVERY_S

    async def _beat(self, connection: ServingConnection, late_s: float) -> None:
        """``late_s``: by how much this heartbeat is late. What has delayed it may have delayed others, too."""
        if late_s >= BEAT_S:
            self._beats.clear()
        began = time.monotonic()
        alive, [(now,)], [(due,)], [(version,)] = await ask(
            connection,
            (sql.BEAT, (self.id,)),
            (sql.KEEP_TIME, (self.clock(),)),
            (sql.NEXT_DUE, {"put_off": []}),
            (sql.GET_VERSION, ()),
        )
        check_version(version)
        self.clock.measured(now, int((time.monotonic() - began) * 1_000) + 1)
        if due is not None:
            self._due(due)
        if not alive:
            logger.warning("another server declared this one dead")
            await self._join(connection)
        await self._look(connection)

    async def _look(self, connection: ServingConnection) -> None:
        """Look which other servers are there, and which of them are dead."""
        self._is_doubtful = False
        waiting = list(self._waiting)
        versions = [version for version, _ in self._others.values()]
        [found] = await ask(connection, (sql.OTHERS, ([*self._others], versions, self.id)))
        now = time.monotonic()
        self._beats = {(id, beat_at): self._beats.get((id, beat_at), now) for id, _, beat_at, *_ in found}
        dead: list[int] = []
        alive: dict[int, tuple[int, bytes]] = {}
        for id, version, beat_at, has_ended, roster in found:
            if now >= self._judges_from and (has_ended or now - self._beats[id, beat_at] >= DEAD_S):
                dead.append(id)
            else:
                alive[id] = version, self._others[id][1] if roster is None else roster
        self._see(alive)
        if dead and (self.has_joined or not alive):
            cut_off = sql.CUT_OFF, ([name_of(id) for id in dead],)
            buried, _ = await ask(connection, (sql.REMOVE, (dead,)), cut_off)
            for id, roster in buried:
                logger.warning("server %x is dead", id)
                if self.has_joined:
                    self.listener.inherits(roster)
        del self._waiting[: len(waiting)]
        for each in waiting:
            if not each.done():
                each.set_result(None)

    def _see(self, alive: dict[int, tuple[int, bytes]]) -> None:
        before, self._others = self._others, alive
        for id in before.keys() - alive.keys():
            self._rings.pop(id, None)
        if alive != before:
            self.listener.update_rosters({id: roster for id, (_, roster) in alive.items()})
        if before.keys() - alive.keys():
            self.listener.may_have_missed()


def told(error: BaseException) -> str:
    """Describe ``error`` for people, in one line."""
    text = " ".join(str(error).split())
    has_answered = getattr(error, "sqlstate", None) or "FATAL: " in text  # as when it has no connection left
    verb = "refuses this" if has_answered else "does not answer"
    return f"the database {verb}: {text or type(error).__name__}"


def _packed(messages: list[bytes]) -> Iterator[bytes]:
    """Pack ``messages`` into JSON arrays that each fit into one notification."""
    portion: list[bytes] = []
    size = 0
    for message in messages:
        if portion and size + len(message) + 1 > MAX_RING_BYTES:
            yield b"[%b]" % b",".join(portion)
            portion, size = [], 0
        portion.append(message)
        size += len(message) + 1
    if portion:
        yield b"[%b]" % b",".join(portion)

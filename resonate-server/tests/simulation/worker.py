"""A model of the SDK's worker: what it sends and when, how it resends, and how it replays a function on resume."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import msgspec
from msgspec import Struct
from simulation import invariants
from simulation.network import Network, Stream
from simulation.plans import (
    GIVEN_FROM_OUTSIDE,
    HANDLED_FAILURE,
    Plan,
    Step,
    child_id,
    decode_plan,
    encode_plan,
)
from simulation.run import Run

from resonate_server.protocol.messages import Execute, Message

LEASE_S = 10
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 60.0
"""Backoff after a failed call or connection: the pause doubles from the first to the last."""
LISTEN_AGAIN_S = 60.0
FAR_MS = 24 * 3_600_000

type Record = dict[str, Any]


class Refused(Exception):
    """Raised for an answer of 400 or more after which the worker cannot continue."""


class Reply(Struct, frozen=True):
    status: int
    data: Any
    corr_id: str
    asked_at: int
    """When the request was first sent, in ms."""


class Process:
    """A process that can be killed and frozen; all its requests go through :meth:`call`."""

    def __init__(self, run: Run, network: Network, group: str) -> None:
        self.run = run
        self.network = network
        self.group = group
        self.pid = f"{group}-{run.rng.getrandbits(96):024x}"
        self._awake = asyncio.Event()
        self._awake.set()
        self._jobs: dict[asyncio.Task[None], None] = {}
        self.killed = False

    def __str__(self) -> str:
        return self.pid[:9]

    def spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = self.run.loop.create_task(job)
        self._jobs[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._jobs.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Refused):
            self.run.broken.append(f"the model failed: {error!r}")

    def kill(self) -> None:
        self.run.note(self, "killed")
        self.killed = True
        for task in list(self._jobs):
            task.cancel()

    async def freeze(self, seconds: float) -> None:
        self._awake.clear()
        await asyncio.sleep(seconds)
        self._awake.set()

    async def think(self) -> None:
        """Take the time that user code needs."""
        if self.network.weather["thinking"] and not self.run.calm:
            await asyncio.sleep(self.run.rng.random() * self.network.weather["thinking"])
            await self._awake.wait()

    def thaw(self) -> None:
        self._awake.set()

    async def call(self, kind: str, **data: Any) -> Reply:
        """Return the answer, resending the same request with the same correlation id as often as needed."""
        corr_id = f"{self.run.rng.getrandbits(128):032x}"
        head = {"corrId": corr_id, "version": "2026-04-01"}
        body = json.dumps({"kind": kind, "head": head, "data": data}).encode()
        asked_at = self.run.now_ms()
        pause = FIRST_PAUSE_S
        while True:
            await self._awake.wait()
            try:
                answer = await self.network.call(body)
                break
            except ConnectionError:
                self.run.happened[f"{kind} sent again"] += 1
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE_S)
        await self._awake.wait()
        reply = Reply(answer.status, msgspec.to_builtins(answer.data), corr_id, asked_at)
        self._take(kind, data, reply)
        return reply

    def _take(self, kind: str, data: Record, reply: Reply) -> None:
        self.run.happened[f"{kind} {reply.status}"] += 1
        self.run.note(
            self, f"{kind} {data.get('id', data.get('awaited', ''))} {data.get('version', '')} {reply.status}"
        )
        for record in _promises_in(reply):
            self.run.check(self.run.ledger.promise_shown(record, reply.asked_at, self.run.now_ms()))


class Worker(Process):
    """A worker of a group: it runs the functions it is sent, any number at a time."""

    def __init__(self, run: Run, network: Network, group: str) -> None:
        super().__init__(run, network, group)
        self.stream: Stream | None = None
        self._held: dict[str, int] = {}
        self._news: dict[str, asyncio.Event] = {}

    @property
    def address(self) -> str:
        return f"poll://uni@{self.group}/{self.pid}"

    def start(self) -> None:
        self.spawn(self._listen())
        self.spawn(self._beat())

    async def _listen(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            await self._awake.wait()
            try:
                self.stream = await self.network.connect(self)
                await self.stream.ended.wait()
                pause = FIRST_PAUSE_S
                await asyncio.sleep(FIRST_PAUSE_S)
            except ConnectionError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE_S)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            if self._held:
                tasks = [{"id": id, "version": version} for id, version in self._held.items()]
                await self.call("task.heartbeat", pid=self.pid, tasks=tasks)

    def receive(self, message: Message) -> None:
        if self.killed:
            return
        if isinstance(message, Execute):
            self.spawn(self._execute(message.task_id, message.version))
        elif message.promise.id in self._news:
            self._news[message.promise.id].set()

    async def _execute(self, id: str, version: int) -> None:
        lease = {"pid": self.pid, "ttl": LEASE_S * 1_000}
        reply = await self.call("task.acquire", id=id, version=version, **lease)
        if reply.status == 200:
            await self.run_task(reply)

    async def run_task(self, claim: Reply) -> None:
        """Run the function behind a claimed task until it ends or has to wait."""
        id, version = claim.data["task"]["id"], claim.data["task"]["version"]
        self.run.check(self.run.ledger.claimed(id, version, self.pid, claim.corr_id))
        self._held[id] = version
        try:
            if self.run.happens(0.02):
                self.run.happened["function not found"] += 1
                raise Refused
            await Execution(self, claim).run_function()
        except Refused:
            reply = await self.call("task.release", id=id, version=version)
            if reply.status == 200:
                self.run.ledger.given_up(id, version)
        finally:
            if self._held.get(id) == version:
                del self._held[id]

    # --- the caller's side ------------------------------------------------------------------------------------------

    async def call_durably(self, id: str, plan: Plan) -> Record:
        """``resonate.run``: start function ``id`` here, or join it, and wait for its settled promise."""
        self.spawn(self._start(id, plan))
        return await self.wait_for(id)

    async def _start(self, id: str, plan: Plan) -> None:
        promise = new_promise(self.run, id, plan, root=id, parent=id)
        action = {"kind": "promise.create", "head": {}, "data": promise}
        reply = await self.call("task.create", pid=self.pid, ttl=LEASE_S * 1_000, action=action)
        if reply.status == 200 and reply.data["task"]["state"] == "acquired":
            await self.run_task(reply)

    async def wait_for(self, id: str) -> Record:
        """Wait until the promise is settled, registering again every minute: messages may get lost."""
        news = self._news.setdefault(id, asyncio.Event())
        while True:
            reply = await self.call("promise.register_listener", awaited=id, address=self.address)
            if reply.status == 200 and reply.data["promise"]["state"] != "pending":
                record: Record = reply.data["promise"]
                return record
            if reply.status == 200:
                self.run.ledger.listening(id, self.address)
            try:
                async with asyncio.timeout(LISTEN_AGAIN_S if reply.status == 200 else 0.5):
                    await news.wait()
                news.clear()
            except TimeoutError:
                pass


class Execution:
    """One run of a function, which is a replay if it ran before: steps with known results are not repeated."""

    def __init__(self, worker: Worker, claim: Reply) -> None:
        self.worker = worker
        self.run = worker.run
        self.id: str = claim.data["task"]["id"]
        self.version: int = claim.data["task"]["version"]
        self.tags: dict[str, str] = claim.data["promise"]["tags"]
        self.plan = decode_plan(claim.data["promise"]["param"]["data"])
        self._asked_at = claim.asked_at
        self._known: dict[str, Record] = {}
        self._remember(claim.data["preload"])

    def _remember(self, preload: list[Record]) -> None:
        self._known.update({record["id"]: record for record in preload})

    async def run_function(self) -> None:
        while True:
            self.run.check(self.run.ledger.ran(self.id, self._asked_at))
            total, waiting = await self._make_steps()
            await self.worker.think()
            if not waiting:
                await self._end(total)
                return
            if await self._suspend(waiting):
                return

    async def _make_steps(self) -> tuple[int, list[str]]:
        """Return the sum of the steps' values so far, and the promises that the function has to wait for."""
        total, waiting = 1, []
        for position, step in enumerate(self.plan.steps, 1):
            record = await self._make(step, child_id(self.id, position))
            if record["state"] != "pending":
                total += _value(step, record)
                if step.kind == "sleep":
                    self.run.check(invariants.a_sleep_ends_at_its_deadline(record))
            elif step.kind != "detached":
                waiting.append(record["id"])
                if step.awaited_at_once:
                    break
        return total, waiting

    async def _make(self, step: Step, id: str) -> Record:
        await self.worker.think()
        known = self._known.get(id)
        if known is None:
            known = await self._fence("promise.create", self._promise_of(step, id))
        if step.kind == "local" and known["state"] == "pending":
            self.run.check(self.run.ledger.ran(id, self._asked_at))
            await self.worker.think()
            settlement = {"id": id, "state": "resolved", "value": {"data": "1"}}
            known = await self._fence("promise.settle", settlement)
            self.run.ledger.ended(id, self.run.now_ms())
        return known

    def _promise_of(self, step: Step, id: str) -> Record:
        promise = new_promise(self.run, id, step.plan, root=self.tags["resonate:origin"], parent=self.id)
        tags = promise["tags"]
        match step.kind:
            case "sleep":
                promise["timeoutAt"] = self.run.now_ms() + step.ms
                tags |= {"resonate:timer": "true", "resonate:target": f"poll://any@{self.worker.group}"}
            case "local":
                tags |= {"resonate:branch": self.tags["resonate:branch"], "resonate:scope": "local"}
            case "external":
                tags |= {"resonate:external": "true"}
        return promise

    async def _fence(self, kind: str, data: Record) -> Record:
        action = {"kind": kind, "head": {}, "data": data}
        reply = await self.worker.call("task.fence", id=self.id, version=self.version, action=action)
        if reply.status != 200:
            raise Refused
        self._asked_at = reply.asked_at
        record: Record = reply.data["action"]["data"]["promise"]
        self._remember([*reply.data["preload"], record])
        return record

    async def _suspend(self, waiting: list[str]) -> bool:
        """Return whether the function is suspended now; otherwise it continues at once."""
        actions = [
            {"kind": "promise.register_callback", "head": {}, "data": {"awaited": id, "awaiter": self.id}}
            for id in waiting
        ]
        reply = await self.worker.call("task.suspend", id=self.id, version=self.version, actions=actions)
        if reply.status == 300:
            self._known = {id: record for id, record in self._known.items() if record["state"] != "pending"}
            self._remember(reply.data["preload"])
            self._asked_at = reply.asked_at
            return False
        if reply.status != 200:
            raise Refused
        self.run.ledger.given_up(self.id, self.version)
        return True

    async def _end(self, total: int) -> None:
        state = "rejected" if self.plan.fails else "resolved"
        settlement = {"id": self.id, "state": state, "value": {"data": str(total)}}
        action = {"kind": "promise.settle", "head": {}, "data": settlement}
        reply = await self.worker.call("task.fulfill", id=self.id, version=self.version, action=action)
        if reply.status != 200:
            raise Refused
        self.run.ledger.given_up(self.id, self.version)
        self.run.ledger.ended(self.id, self.run.now_ms())


class Outsider(Process):
    """Everything but workers: it resolves external promises, starts functions on behalf of callers, and operates the
    server."""

    def __init__(self, run: Run, network: Network) -> None:
        super().__init__(run, network, "outside")

    async def resolve(self, id: str) -> None:
        """Resolve the promise some time after it exists."""
        while (await self.call("promise.get", id=id)).status == 404:
            await asyncio.sleep(2)
        await asyncio.sleep(self.run.rng.random() * 3)
        value = {"data": str(GIVEN_FROM_OUTSIDE)}
        await self.call("promise.settle", id=id, state="resolved", value=value)

    async def post(self, id: str, plan: Plan, begins_s: float) -> None:
        await asyncio.sleep(begins_s)
        await self.call("promise.create", **new_promise(self.run, id, plan, root=id, parent=id))

    async def halt_something(self, seconds: float) -> None:
        found = (await self.call("task.search", limit=100)).data["tasks"]
        open_ids = [task["id"] for task in found if task["state"] != "fulfilled"]
        if not open_ids:
            return
        id = self.run.rng.choice(open_ids)
        if (await self.call("task.halt", id=id)).status == 200:
            await self.call("task.get", id=id)
            await asyncio.sleep(seconds)
            await self.call("task.continue", id=id)

    async def continue_everything(self) -> None:
        """Continue all halted tasks: a halt carries no version, so a late duplicate halts the task again."""
        found = (await self.call("task.search", state="halted")).data["tasks"]
        for task in found:
            await self.call("task.continue", id=task["id"])


def new_promise(run: Run, id: str, plan: Plan | None, root: str, parent: str) -> Record:
    tags = {"resonate:origin": root, "resonate:parent": parent, "resonate:branch": id, "resonate:scope": "global"}
    param = {}
    if plan is not None:
        tags["resonate:target"] = f"poll://any@{plan.group}"
        param = {"data": encode_plan(plan)}
    return {"id": id, "timeoutAt": run.now_ms() + FAR_MS, "param": param, "tags": tags}


def _value(step: Step, record: Record) -> int:
    if step.kind in ("sleep", "detached"):
        return 0
    return int(record["value"]["data"]) if record["state"] == "resolved" else HANDLED_FAILURE


def _promises_in(reply: Reply) -> list[Record]:
    if reply.status >= 400:
        return []
    found = list(reply.data.get("preload", []))
    inner = reply.data.get("action", {}).get("data", {})
    found += [data["promise"] for data in (reply.data, inner) if "promise" in data]
    return found

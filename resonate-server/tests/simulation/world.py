"""One run: workers, callers, a server, a phase with faults, a phase without in which everything must get done."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

from msgspec import Struct
from simulation import invariants
from simulation.loop import ModuleTime, VirtualLoop, run
from simulation.network import LATEST_COPY_S, Network
from simulation.plans import GROUPS, Plan, encode_plan, external_ids, outcome, random_plan, total_sleep_ms
from simulation.run import Run
from simulation.server import RETRY_S, Server, WatchedDatabase
from simulation.worker import LEASE_S, LISTEN_AGAIN_S, Outsider, Worker

from resonate_server.delivery import hub as hub_module
from resonate_server.delivery import worker_stream
from resonate_server.store.sqlite import store as store_module

FAULTS = (
    *("worker dies", "worker freezes", "stream breaks", "task is halted"),
    *("server dies", "server dies before a commit", "server dies while sending"),
)

EXTERNAL_S = 5
"""Longest time until an outsider has found and resolved its promise."""

PROMPT_S = 3
"""Longest time that nothing but delivery takes."""

SLACK_S = 30
"""For workers that are just being started again, for the pause after which a failed call is repeated (it had doubled
a few times), and for a task that came back by release."""


class Chain(Struct):
    """A function called from outside. ``posted``: its caller does not run it itself.

    ``begins_s``: seconds from the start of the run."""

    id: str
    plan: Plan
    posted: bool
    begins_s: float
    result: object = None


class Report(Struct):
    """What a run came to; ``calm_s``: virtual seconds from the end of all faults to the end of all work."""

    seed: int
    broken: list[str]
    happened: dict[str, int]
    calm_s: float
    diary: list[str]


def simulate(seed: int, trace: bool = False, faults: bool = True) -> Report:
    """One run; without ``faults`` only what happens anyway, and nothing may wait for a timer."""
    loop = VirtualLoop()
    state = Run(seed, loop, trace)
    state.calm = not faults
    with virtual_time(loop):
        calm_s = run(loop, _live(state))
    return Report(seed, state.broken, dict(state.happened), calm_s, state.diary or [])


@contextmanager
def virtual_time(loop: VirtualLoop) -> Iterator[None]:
    """For the server's code too."""
    time = ModuleTime(loop)
    with (
        mock.patch.object(hub_module, "time", time),
        mock.patch.object(worker_stream, "time", time),
        mock.patch.object(store_module, "time", time),
    ):
        yield


async def _live(state: Run) -> float:
    return await World(state).live()


class World:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.network = Network(run)
        self.store = WatchedDatabase(run)
        self.outsider = Outsider(run, self.network)
        self.workers: list[Worker] = []
        self.caller: Worker | None = None
        self.frozen: list[asyncio.Task[None]] = []
        self.chains = [self._random_chain(number) for number in range(run.rng.randint(1, 3))]
        self.fault_weights = [run.rng.choice((0, 1, 1, 4)) for _ in FAULTS]
        self.fault_pause_s = run.rng.choice((2.0, 5.0, 15.0))

    def _random_chain(self, number: int) -> Chain:
        rng = self.run.rng
        posted, begins_s = rng.random() < 0.4, rng.choice((0, rng.random() * 20))
        return Chain(f"chain-{number}", random_plan(rng), posted, begins_s)

    async def live(self) -> float:
        """Both phases; the virtual seconds that the second took."""
        self.start_server()
        for group in GROUPS:
            for _ in range(self.run.rng.randint(1, 2)):
                self.start_worker(group)
        for chain in self.chains:
            self.run.note("plan", f"{chain.id} posted={chain.posted} {encode_plan(chain.plan)}")
            for id in external_ids(chain.id, chain.plan):
                self.outsider.spawn(self.outsider.resolve(id))
            if chain.posted:
                self.outsider.spawn(self.outsider.post(chain.id, chain.plan, chain.begins_s))
        if self.run.calm:
            return await self.stay_calm()
        await self.make_trouble(seconds=self.run.rng.choice((10, 30, 60)))
        return await self.calm_down()

    # --- lives ------------------------------------------------------------------------------------------------------

    def start_server(self) -> None:
        self.store = self.store.fork()
        self.run.note("server", "starts")
        snapshot = self.store.snapshot()
        self.run.check(self.run.ledger.survives(snapshot))
        self.run.check(invariants.a_task_is_fulfilled_exactly_when_its_promise_is_settled(snapshot))
        self.run.check(invariants.every_suspended_task_awaits_something(snapshot))
        self.network.server = Server(self.run, self.store)
        self.network.server.start()

    @property
    def server(self) -> Server:
        assert self.network.server is not None
        return self.network.server

    def start_worker(self, group: str) -> None:
        worker = Worker(self.run, self.network, group)
        self.workers.append(worker)
        worker.start()
        self.run.note(worker, "starts")
        if group == GROUPS[0] and (self.caller is None or self.caller.killed):
            self.caller = worker
            for chain in self.chains:
                worker.spawn(self._call(worker, chain))

    async def _call(self, worker: Worker, chain: Chain) -> None:
        if chain.result is not None:
            return
        await asyncio.sleep(max(0.0, chain.begins_s - self.run.seconds()))
        call = worker.wait_for(chain.id) if chain.posted else worker.call_durably(chain.id, chain.plan)
        record = await call
        chain.result = record
        expected = outcome(chain.plan)
        right = {"state": "rejected"} if expected is None else {"state": "resolved", "value": {"data": str(expected)}}
        if not right.items() <= record.items():
            self.run.broken.append(f"{chain.id} came to {record}, not to {right}: {encode_plan(chain.plan)}")

    # --- faults -----------------------------------------------------------------------------------------------------

    async def make_trouble(self, seconds: float) -> None:
        end = self.run.loop.time() + seconds
        while self.run.loop.time() < end and not self.run.broken:
            await asyncio.sleep(self.run.rng.expovariate(1 / self.fault_pause_s))
            if any(self.fault_weights) and self.workers:
                await self.fault(self.run.rng.choices(FAULTS, self.fault_weights)[0])

    async def fault(self, fault: str) -> None:
        rng = self.run.rng
        self.run.happened[fault] += 1
        self.run.note("FAULT", fault)
        worker = rng.choice(self.workers)
        match fault:
            case "worker dies":
                self.kill(worker)
                self.run.loop.call_later(rng.random() * 5, self.start_worker, worker.group)
            case "worker freezes":
                self.frozen.append(self.run.loop.create_task(worker.freeze(rng.random() * LEASE_S * 2)))
            case "server dies":
                self.server.crash()
            case "server dies before a commit":
                self.server.store.dies_before_commit = True
                await self.until_dead()
            case "server dies while sending":
                self.server.seam.dies_while_publishing = True
                await self.until_dead()
            case "stream breaks":
                if worker.stream is not None and not worker.stream.ended.is_set():
                    worker.stream.cut()
            case "task is halted":
                self.outsider.spawn(self.outsider.halt_something(rng.random() * 10))
        if not self.server.alive:
            await asyncio.sleep(rng.random() * 5)
            self.start_server()

    def kill(self, worker: Worker) -> None:
        worker.kill()
        self.workers.remove(worker)
        if worker.stream is not None and not worker.stream.ended.is_set():
            worker.stream.cut()

    async def until_dead(self) -> None:
        """At the next commit; where nothing is written for long, in the middle of nothing."""
        for _ in range(200):
            await asyncio.sleep(0.05)
            if not self.server.alive:
                return
        self.server.crash()

    # --- the end ----------------------------------------------------------------------------------------------------

    @property
    def bound_s(self) -> float:
        """The documented time after which all work must be done once there are no more faults: a late copy
        of a request claims a task for nobody, its lease ends, the task is sent again. What functions sleep
        comes on top."""
        sleeps = max(total_sleep_ms(chain.plan) for chain in self.chains) / 1_000
        return LATEST_COPY_S + LEASE_S + RETRY_S + SLACK_S + sleeps

    async def calm_down(self) -> float:
        self.run.calm = True
        self.run.note("FAULTS", "end")
        for worker in self.workers:
            worker.thaw()
        began = self.run.loop.time()
        self.run.loop.call_later(LATEST_COPY_S + 1, lambda: self.outsider.spawn(self.outsider.continue_everything()))
        await self.until(self.is_work_done, self.bound_s)
        calm_s = self.run.loop.time() - began
        await self.until(self.are_callers_told, LISTEN_AGAIN_S + SLACK_S)
        self.final_checks()
        return calm_s

    async def stay_calm(self) -> float:
        """A run without faults: as long as what functions and outsiders take for themselves, and no longer."""
        externals = sum(len(list(external_ids(chain.id, chain.plan))) for chain in self.chains)
        sleeps = max(total_sleep_ms(chain.plan) for chain in self.chains) / 1_000
        begins = max(chain.begins_s for chain in self.chains)
        await self.until(self.is_work_done, begins + sleeps + externals * EXTERNAL_S + PROMPT_S)
        await self.until(self.are_callers_told, PROMPT_S)
        self.final_checks()
        return self.run.seconds()

    async def until(self, is_done: Callable[[], bool], seconds: float) -> None:
        end = self.run.loop.time() + seconds
        while not is_done() and not self.run.broken:
            await asyncio.sleep(0.25)
            if self.run.loop.time() > end:
                self.run.broken.append(f"not done within {seconds:.0f} s: {self.open_work()}")

    def is_work_done(self) -> bool:
        """Also functions that nobody waits for."""
        promises = self.store.snapshot().promises
        known = {promise.id for promise in promises}
        return all(chain.id in known for chain in self.chains) and all(p.state != "pending" for p in promises)

    def are_callers_told(self) -> bool:
        return all(chain.result is not None for chain in self.chains)

    def open_work(self) -> str:
        waiting = [chain.id for chain in self.chains if chain.result is None]
        return f"callers of {waiting} wait; " + "; ".join(invariants.nothing_is_left(self.store.snapshot()))

    def final_checks(self) -> None:
        snapshot = self.store.snapshot()
        self.run.check(self.run.ledger.survives(snapshot))
        if not self.run.broken:
            self.run.check(invariants.nothing_is_left(snapshot))

"""One run: workers, callers, servers, a phase with faults, then a phase without in which all work must get done."""

import asyncio
from collections.abc import Callable

from msgspec import Struct
from simulation import invariants
from simulation.loop import VirtualLoop, run, virtual_time
from simulation.network import LATEST_COPY_S, Network
from simulation.on_sqlite import OnSQLite
from simulation.plans import GROUPS, Plan, encode_plan, external_ids, outcome, random_plan, total_sleep_ms
from simulation.run import Run
from simulation.server import RETRY_S, Cluster
from simulation.worker import LEASE_S, LISTEN_AGAIN_S, Outsider, Worker

FAULTS = ("worker dies", "worker freezes", "stream breaks", "task is halted")
"""The faults besides those of the cluster."""

EXTERNAL_S = 5
"""Longest time until an outsider has found and resolved its promise."""

PROMPT_S = 3
"""Longest time that delivery alone takes."""

SLACK_S = 30
"""Time for workers that are just restarting, for the backoff of a failed call (which may have doubled a few times),
and for a task that was released."""


class Chain(Struct):
    """A function called from outside. ``posted``: the caller does not run it itself. ``begins_s``: seconds from the
    start of the run."""

    id: str
    plan: Plan
    posted: bool
    begins_s: float
    result: object = None


class Report(Struct):
    """The outcome of a run; ``calm_s``: virtual seconds from the end of all faults to the end of all work."""

    seed: int
    broken: list[str]
    happened: dict[str, int]
    calm_s: float
    diary: list[str]

    def told(self, file: str = "") -> str:
        """Describe the run: what broke, how to reproduce it with the tests of ``file``, and the steps to it."""
        command = f"SEED={self.seed} python -m pytest resonate-server/tests/simulation{file}"
        return "\n".join(["", *self.broken, f"again with: {command}", *self.diary[-300:]])


def simulate(
    seed: int,
    trace: bool = False,
    faults: bool = True,
    of: Callable[[Run], Cluster] = OnSQLite,
    loop: VirtualLoop | None = None,
) -> Report:
    """Simulate one run. Without ``faults``, nothing may wait for a timer."""
    loop = loop or VirtualLoop()
    state = Run(seed, loop, trace)
    state.calm = not faults
    with virtual_time(loop, "resonate_server"):
        calm_s = run(loop, World(state, of(state)).live())
    return Report(seed, state.broken, dict(state.happened), calm_s, state.diary or [])


class World:
    def __init__(self, run: Run, cluster: Cluster) -> None:
        self.run = run
        self.cluster = cluster
        self.network = Network(run, cluster)
        self.outsider = Outsider(run, self.network)
        self.workers: list[Worker] = []
        self.caller: Worker | None = None
        self.frozen: list[asyncio.Task[None]] = []
        self.chains = [self._random_chain(number) for number in range(run.rng.randint(1, 3))]
        self.faults = (*FAULTS, *cluster.faults)
        self.fault_weights = [run.rng.choice((0, 1, 1, 4)) for _ in self.faults]
        self.fault_pause_s = run.rng.choice((2.0, 5.0, 15.0))

    def _random_chain(self, number: int) -> Chain:
        rng = self.run.rng
        posted, begins_s = rng.random() < 0.4, rng.choice((0, rng.random() * 20))
        return Chain(f"chain-{number}", random_plan(rng), posted, begins_s)

    async def live(self) -> float:
        try:
            await self.cluster.begin()
            return await self.play()
        finally:
            await self.cluster.close()

    async def play(self) -> float:
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
        await self.make_trouble(seconds=self.run.rng.choice(self.cluster.trouble_s))
        return await self.calm_down()

    # --- lives ------------------------------------------------------------------------------------------------------

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
                await self.fault(self.run.rng.choices(self.faults, self.fault_weights)[0])

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
            case "stream breaks":
                if worker.stream is not None and not worker.stream.ended.is_set():
                    worker.stream.cut()
            case "task is halted":
                self.outsider.spawn(self.outsider.halt_something(rng.random() * 10))
            case _:
                await self.cluster.strike(fault)

    def kill(self, worker: Worker) -> None:
        worker.kill()
        self.workers.remove(worker)
        if worker.stream is not None and not worker.stream.ended.is_set():
            worker.stream.cut()

    # --- the end ----------------------------------------------------------------------------------------------------

    @property
    def bound_s(self) -> float:
        """The documented time within which all work must be done once the faults are over. Worst case: a late duplicate
        claims a task for no one, its lease ends, the task is sent again. The sleeps of functions come on top."""
        sleeps = max(total_sleep_ms(chain.plan) for chain in self.chains) / 1_000
        return LATEST_COPY_S + LEASE_S + RETRY_S + SLACK_S + sleeps + self.cluster.slack_s

    async def calm_down(self) -> float:
        self.run.calm = True
        self.run.note("FAULTS", "end")
        for worker in self.workers:
            worker.thaw()
        await self.cluster.calm_down()
        began = self.run.loop.time()
        self.run.loop.call_later(LATEST_COPY_S + 1, lambda: self.outsider.spawn(self.outsider.continue_everything()))
        await self.until(self.is_work_done, self.bound_s)
        calm_s = self.run.loop.time() - began
        await self.until(self.are_callers_told, LISTEN_AGAIN_S + SLACK_S)
        self.final_checks()
        return calm_s

    async def stay_calm(self) -> float:
        """Play a run without faults: it takes only the time that functions and outsiders take themselves."""
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
        """Return whether all functions are done, including those that no one waits for."""
        promises = self.cluster.snapshot().promises
        known = {promise.id for promise in promises}
        return all(chain.id in known for chain in self.chains) and all(p.state != "pending" for p in promises)

    def are_callers_told(self) -> bool:
        return all(chain.result is not None for chain in self.chains)

    def open_work(self) -> str:
        waiting = [chain.id for chain in self.chains if chain.result is None]
        return f"callers of {waiting} wait; " + "; ".join(invariants.nothing_is_left(self.cluster.snapshot()))

    def final_checks(self) -> None:
        snapshot = self.cluster.inspect()
        if not self.run.broken:
            self.run.check(invariants.nothing_is_left(snapshot))

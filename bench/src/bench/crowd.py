"""Many chains that are all at work at the same time, until a file appears.

`python -m bench.crowd` is their bar.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from harness.basics import wait_until
from resonate.context import Context

from bench.load import WrongAnswers
from bench.stage import Run, Stage
from bench.workers import BAR
from worker import Worker, log_run

POLL_SECONDS = 0.1
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 300
RIGHT_ANSWER = 2
_numbers = count(1)


class Crowd:
    """Chains that are begun together."""

    def __init__(self, stage: Stage, chains: int) -> None:
        """Raises :class:`WrongAnswers` if one is refused."""
        self._stage, self._client = stage, stage.client()
        self._name = f"{stage.folder.name}-crowd-{next(_numbers)}"
        self._gate = stage.folder / self._name
        self._ids = [f"{self._name}-{number}" for number in range(chains)]
        for id in self._ids:
            if (reply := self._client.begin(id, BAR, "bar", str(self._gate))).status != 200:
                raise WrongAnswers(f"{id} is refused: {reply}")

    def by_bar(self) -> dict[str, list[str]]:
        """Return which chains each bar works on, once all chains are being worked on."""
        held: defaultdict[str, list[str]] = defaultdict(list)
        for id, [run] in self._at_work(self._ids, since=0).items():
            held[run.worker].append(id)
        return held

    def goes_on(self, lost: Iterable[str], since: float) -> list[float]:
        """Return when the work of each of these began again, once all have."""
        works = self._at_work(lost, since)
        return [works[id][-1].at for id in lost]

    def end(self, lost: set[str]) -> None:
        """Let all end. Raises :class:`WrongAnswers` for a wrong answer, or if work ran again that was not ``lost``."""
        self._gate.touch()
        works = self._works()
        for id in self._ids:
            answer, seen = self._client.result(id), len(works[id])
            if seen != 1 + (id in lost) or answer != RIGHT_ANSWER:
                raise WrongAnswers(f"{id}: {answer} after {seen} runs of its work; see {self._stage.folder}")

    def _at_work(self, ids: Iterable[str], since: float) -> dict[str, list[Run]]:
        """Wait until the work of each of these has begun since then."""

        def works() -> dict[str, list[Run]]:
            seen = self._works()
            return seen if all(id in seen and seen[id][-1].at > since for id in ids) else {}

        return wait_until(works, "all are at work", PATIENCE_SECONDS, POLL_SECONDS)

    def _works(self) -> dict[str, list[Run]]:
        """Return the runs of each chain's work, in order."""
        works: defaultdict[str, list[Run]] = defaultdict(list)
        for run in sorted(self._stage.runs("work", f"{self._name}-"), key=lambda run: run.at):
            works[run.promise.partition(":")[0]].append(run)
        return works


async def bar(ctx: Context, gate: str) -> int:
    """Work until the file ``gate`` exists, between calling baz and awaiting it."""
    log_run(ctx)
    promise = ctx.options(target="service-baz").rpc("baz")
    await ctx.run(work, gate)
    result: int = await promise
    return result + 1


async def work(ctx: Context, gate: str) -> None:
    log_run(ctx)
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240  nobody in this process opens the gate
        await asyncio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    Worker(BAR, bar).run()

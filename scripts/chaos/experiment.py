"""The program behind chaos.sh: send chains while faults strike, then bring everything back, and print the ledger."""

import asyncio
import contextlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from chaos import ledger, plan
from chaos.ledger import Record, SentChain
from chaos.stack import Stack, StackError, Wrecker
from crash import attempts

UP_AGAIN_S = 90.0
LAST_ANSWERS_S = 90.0
"""After the last fault; longer than the server's longest retry (30 s). A chain without an answer by then is lost."""
HASTY_ANSWERS_S = 3.0
"""The same if somebody ends it early."""
STATUS_S = 0.2

ATTEMPT_S = 20.0
"""A client that has heard nothing for this long tries again."""

STATUS_EVERY_S = 10.0
"""Without a terminal, whose last line could be rewritten."""


class _Body(msgspec.Struct):
    message: object = None


class Display:
    """Shows events, a line each, and a status line, on standard error.

    ``is_gone``: nobody reads it any more, because a terminal was closed, or as with `chaos.sh 2>&1 | head`.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._live = sys.stderr.isatty()
        self._status = ""
        self._next_status = 0.0
        self.is_gone = False

    def event(self, text: str) -> None:
        self._write(f"{self._now():>7.1f} s  {text}\n")

    def status(self, text: str) -> None:
        """Show the status: at once on a terminal, else now and then."""
        self._status = f"{self._now():>7.1f} s  {text}"
        if self._live:
            self._write("")
        elif self._now() >= self._next_status:
            self._next_status = self._now() + STATUS_EVERY_S
            self._write(self._status + "\n")

    def close(self) -> None:
        self._status = ""
        self._write("")

    def _write(self, text: str) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            text = f"\r\x1b[K{text}{self._status[:width]}"
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self.is_gone = True


class Settings(Struct, frozen=True):
    """``services``: the parts of the stack, separated by spaces; ``lease`` and ``seconds``: in seconds."""

    kind: str
    services: str
    foo_port: int
    lease: float
    chains: int
    seconds: float
    seed: int


class Experiment:
    """``interrupt`` ends it early, but still brings back what is struck."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._began = time.monotonic()
        self._display = Display(self._now)
        self._stop = asyncio.Event()
        self._record = Record(settings.kind, settings.seed)
        self._stack = Stack(settings.kind, settings.services.split())
        self._wrecker = Wrecker(self._stack, self._stop, self._now, self._display.event)

    def interrupt(self) -> None:
        self._record.interrupted = True
        self._stop.set()
        self._display.event("ending early: repairing all faults first ...")

    async def play(self) -> Record:
        self._display.event(
            f"seed {self._settings.seed}, as {self._settings.kind}, leases of {self._settings.lease:g} s"
        )
        showing = asyncio.create_task(self._show())
        try:
            await self._wrecker.look_around()
            await self._strike_and_send()
            self._record.down = await self._wrecker.restore(UP_AGAIN_S)
            await self._await_last_answers()
            self._record.faults = self._wrecker.faults
            self._record.runs = await self._stack.runs()
        finally:
            showing.cancel()
            self._display.close()
        return self._record

    async def _strike_and_send(self) -> None:
        waves = plan.waves(self._settings.seed, self._stack.services, self._stack.fault_kinds, self._settings.lease)
        wrecking = asyncio.create_task(self._wrecker.wreak(waves))
        prefix = f"chaos-{self._settings.seed}-{time.strftime('%H%M%S')}-"
        await self._send(plan.chains(self._settings.seed, self._settings.chains, self._settings.seconds, prefix))
        self._stop.set()
        await wrecking

    async def _send(self, chains: Sequence[SentChain]) -> None:
        """Send each chain on time, however many others wait; send no more once the experiment is to end."""
        for chain in chains:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), max(chain.due - self._now(), 0))
                return
            self._record.chains.append(chain)
            threading.Thread(target=self._call, args=[chain], daemon=True).start()

    def _call(self, chain: SentChain) -> None:
        chain.sent = self._now()
        body = {name: seconds for name in ("pause", "running") if (seconds := getattr(chain, name))}
        foo = f"127.0.0.1:{self._settings.foo_port}"
        for answer in attempts(foo, body, chain.id, ATTEMPT_S):
            chain.attempts, chain.status = chain.attempts + 1, answer.status
        with contextlib.suppress(msgspec.MsgspecError):
            chain.message = msgspec.json.decode(answer.text, type=_Body).message
        chain.answered = self._now()  # last, as this marks it as done

    async def _await_last_answers(self) -> None:
        limit = HASTY_ANSWERS_S if self._record.interrupted else LAST_ANSWERS_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while any(chain.answered is None for chain in self._record.chains):  # noqa: ASYNC110  by threads
                    await asyncio.sleep(STATUS_S)

    async def _show(self) -> None:
        while True:
            self._display.status(self._status())
            if self._display.is_gone:
                self.interrupt()
            await asyncio.sleep(STATUS_S)

    def _status(self) -> str:
        sent = self._record.chains
        answered = sum(chain.answered is not None for chain in sent)
        now = ", ".join(f"{fault.service} {fault.kind.struck}" for fault in self._wrecker.faults if fault.ended is None)
        return (
            f"chains {len(sent)}/{self._settings.chains}, {answered} answered, {len(sent) - answered} open; "
            f"faults {len(self._wrecker.faults)}{'; now: ' + now if now else ''}"
        )

    def _now(self) -> float:
        return time.monotonic() - self._began


def main() -> None:
    """Exit with 0 if everything is as expected, 130 if that is so but it was ended early, else 1."""
    try:
        words = dict(word.split("=", 1) for word in sys.argv[1:])
        record = asyncio.run(_play(msgspec.convert(words, Settings, strict=False)))
    except StackError as error:
        sys.exit(f"chaos.sh: {error}")
    judgements = ledger.judge(record)
    sys.stdout.write(ledger.render(record, judgements))
    sys.stdout.flush()
    sys.exit(ledger.exit_status(record, judgements))


async def _play(settings: Settings) -> Record:
    experiment = Experiment(settings)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, experiment.interrupt)
    return await experiment.play()


if __name__ == "__main__":
    main()

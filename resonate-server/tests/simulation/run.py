"""What all parts of a simulated run share: the random number generator, the clock, and the findings."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any

from simulation.invariants import Ledger
from simulation.loop import VirtualLoop

START_MS = 1_700_000_000_000
"""Wall time at the loop's time 0, in ms since the epoch."""


class Run:
    """``seed`` determines everything; ``trace`` keeps a readable diary."""

    def __init__(self, seed: int, loop: VirtualLoop, trace: bool) -> None:
        self.rng = random.Random(seed)
        self.loop = loop
        self.ledger = Ledger()
        self.happened: Counter[str] = Counter()
        self.broken: list[str] = []
        self.calm = False
        """Whether the faults are over."""
        self.diary: list[str] | None = [] if trace else None
        self._began = loop.time()
        self._context = copy_context()
        loop.set_exception_handler(self._unhandled)

    def _unhandled(self, _: object, context: dict[str, Any]) -> None:
        self.broken.append(f"unhandled: {context['message']} {context.get('exception')!r}")

    def later(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        """Call back later, even if the caller is dead by then."""
        self.loop.call_later(seconds, callback, *args, context=self._context)

    def now_ms(self) -> int:
        return START_MS + int(self.loop.time() * 1_000)

    def seconds(self) -> float:
        return self.loop.time() - self._began

    def check(self, broken: Iterable[str]) -> None:
        self.broken += broken

    def note(self, who: object, what: object) -> None:
        if self.diary is not None:
            self.diary.append(f"{self.seconds():9.3f} s  {who}: {what}")

    def happens(self, likelihood: float) -> bool:
        """Decide at random whether a fault happens; never once the faults are over."""
        return not self.calm and self.rng.random() < likelihood

"""An experiment whose stack hangs, or that nobody watches any more."""

import contextlib
import os

import pytest

from chaos import stack
from chaos.experiment import Display
from chaos.stack import Stack, StackError


async def test_an_action_that_takes_too_long_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "ACTION_SECONDS", 0.001)

    assert not await Stack("processes", ["bar"]).is_healthy("bar")
    with pytest.raises(StackError, match=r"^mend bar: not within 0.001 s$"):
        await Stack("processes", ["bar"]).call("mend", "bar")


def test_a_display_that_nobody_reads_raises_nothing_but_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `scripts/chaos.sh 2>&1 | head`: what is struck must be brought back first."""
    reader, writer = os.pipe()
    output = os.fdopen(writer, "w")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", output)
        display = Display(lambda: 0)
        display.event("bar is killed")
        was_gone = display.is_gone
        os.close(reader)
        display.event("bar is started again")
        display.close()
    with contextlib.suppress(BrokenPipeError):
        output.close()

    assert (was_gone, display.is_gone) == (False, True)

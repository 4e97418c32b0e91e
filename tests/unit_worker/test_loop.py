"""Which event loop a worker runs on, and which signals end it."""

import asyncio
import signal
import sys

import pytest
import uvloop

from worker import ending_signals
from worker.loop import new_event_loop


@pytest.mark.parametrize(("installed", "expected"), [(uvloop, uvloop.Loop), (None, asyncio.SelectorEventLoop)])
def test_it_is_uvloops_where_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: object, expected: type[asyncio.AbstractEventLoop]
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", installed)
    loop = new_event_loop()
    loop.close()
    assert isinstance(loop, expected)


def test_a_process_that_nohup_has_started_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in ending_signals()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in ending_signals()

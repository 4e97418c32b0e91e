"""Which event loop a worker runs on."""

import asyncio
import sys

import pytest
import uvloop

from worker.loop import new_event_loop


@pytest.mark.parametrize(("installed", "expected"), [(uvloop, uvloop.Loop), (None, asyncio.SelectorEventLoop)])
def test_it_is_uvloops_where_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: object, expected: type[asyncio.AbstractEventLoop]
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", installed)
    loop = new_event_loop()
    loop.close()
    assert isinstance(loop, expected)

"""`bench record`: record the requests of real chains anew, for `bench server`. Needed when services or SDK change."""

import tempfile
import time
import urllib.request
from pathlib import Path

import click

from bench.load import Generator, Job
from bench.replay.tap import Tap
from bench.replay.template import CHAIN_FILE, PAUSED_CHAIN_FILE, Template, WentAnotherWay, save, template_of
from bench.stack import OwnServer, RunningServer, Stack

QUIET_SECONDS = 1.0
"""After so long without a request everything waits. Heartbeats of a lease of 10 s come every 2.5 s."""
PAUSE_SECONDS = 3_600
ATTEMPTS = 10


@click.command("record")
def command() -> None:
    """Record the requests of one real chain, and of one that pauses, from our services on our server.

    They are kept in the package, beside the code that sends them again. Run it when the services or the SDK have
    changed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-record-") as folder:
        for path, pause in ((CHAIN_FILE, 0), (PAUSED_CHAIN_FILE, PAUSE_SECONDS)):
            template = record(Path(folder) / path.stem, pause)
            save(template, path)
            click.echo(f"{path}: {len(template.steps)} requests")


def record(folder: Path, pause: int) -> Template:
    """Of a chain with a pause of so many seconds what happens until it waits, or else the whole of it."""
    folder.mkdir(parents=True)
    server = OwnServer(folder)
    try:
        with Tap(server.start().url) as tap, Stack(folder, RunningServer("tap", tap.url)) as stack:
            with Generator() as generator:
                generator.run(Job(f"{stack.foo_url}/foo", 1, 0))  # the first of all is not like the others
            return _record_one_of(ATTEMPTS, tap, f"{stack.foo_url}/foo", pause)
    finally:
        server.close()


def _record_one_of(attempts: int, tap: Tap, url: str, pause: int) -> Template:
    """The first that goes the usual way."""
    for left in reversed(range(attempts)):
        time.sleep(QUIET_SECONDS)
        tap.exchanges.clear()
        began_at_ms = int(time.time() * 1_000)
        _post(url, b'{"pause": %d}' % pause, wait=not pause)
        time.sleep(QUIET_SECONDS)
        try:
            return template_of(tap.exchanges, began_at_ms)
        except WentAnotherWay:
            if not left:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _post(url: str, body: bytes, *, wait: bool) -> None:
    headers = {} if wait else {"Prefer": "wait=1"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, body, headers), timeout=30).close()  # noqa: S310  our own URL

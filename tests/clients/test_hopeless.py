"""Tasks that no worker will ever do must not block others, and users must be able to see them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness.basics import wait_until
from harness.page import Page
from harness.server import ServerProcess

from resonate_server.client import main

from .processes import Outcome, Sdk, Site

GROUP = "workers"
UNCLAIMABLE = 70
"""More tasks than a worker is sent at a time."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server without workers that does not resend unclaimed tasks for an hour."""
    server = ServerProcess(tmp_path / "log", tmp_path / "state.sqlite", RESONATE_TASKS__RETRY_TIMEOUT="3600000")
    own = Site(server.start(), tmp_path)
    yield own
    own.close()
    print(own.report())


def leave_unclaimable(site: Site) -> None:
    """Create tasks with control characters in their ids, as older servers allowed; no SDK can send them as a header."""
    client = site.server.client()
    for number in range(UNCLAIMABLE):
        client.create(f"bad-{number}", target=f"poll://any@{GROUP}")
    site.server.stop()
    with closing(sqlite3.connect(site.folder / "state.sqlite")) as db, db:
        for table in ("promises", "tasks"):
            db.execute(f"UPDATE {table} SET id = id || char(1)")
    site.server.start()


def test_tasks_that_cannot_be_claimed_do_not_block_others(site: Site, sdk: Sdk) -> None:
    leave_unclaimable(site)
    with Page(site.server.port).watch() as watching:
        site.worker(sdk, GROUP)
        watching.until("task.sent", id="bad-0\x01")

    assert site.do(sdk, "rpc", GROUP, "good", "add", 1, 2) == Outcome(value=3)


def test_an_unregistered_function_is_reported_everywhere(site: Site, sdk: Sdk) -> None:
    site.worker(sdk, GROUP)
    site.server.client().begin("lost", GROUP, "brew")

    wait_until(lambda: "function brew" in site.server.log.read_text(), "the log tells of it")

    tree = CliRunner().invoke(main, ["tree", "lost", "-S", site.server.url])
    (promise,) = Page(site.server.port).get("/ui/api/chain", id="lost").json["promises"]
    for told in (tree.stdout, promise["task"]["trouble"], site.server.log.read_text()):
        assert "given back each time" in told
    assert promise["func"] == "brew"
    assert "brew" in tree.stdout

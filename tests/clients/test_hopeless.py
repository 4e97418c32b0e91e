"""Tasks that no worker will ever do must not block others, and users must be able to see them."""

import sqlite3
from contextlib import closing

from click.testing import CliRunner
from harness.basics import wait_until
from harness.page import Page

from resonate_server.client import main

from .processes import Outcome, Sdk, Site

GROUP = "workers"
UNCLAIMABLE = 70
"""More tasks than a worker is sent at a time."""


def leave_unclaimable(site: Site) -> None:
    """Create tasks with control characters in their ids, as older servers allowed; no SDK can send them as a header.
    The server will not resend them for an hour."""
    client = site.server.client()
    for number in range(UNCLAIMABLE):
        client.create(f"bad-{number}", target=f"poll://any@{GROUP}")
    site.server.stop()
    with closing(sqlite3.connect(site.folder / "state.sqlite")) as db, db:
        for table in ("promises", "tasks"):
            db.execute(f"UPDATE {table} SET id = id || char(1)")
    site.server.env["RESONATE_TASKS__RETRY_TIMEOUT"] = "3600000"
    site.server.start()


def test_tasks_that_cannot_be_claimed_do_not_block_others(own_site: Site, sdk: Sdk) -> None:
    leave_unclaimable(own_site)
    with Page(own_site.server.port).watch() as watching:
        own_site.worker(sdk, GROUP)
        watching.until("task.sent", id="bad-0\x01")

    assert own_site.do(sdk, "rpc", GROUP, "good", "add", 1, 2) == Outcome(value=3)


def test_an_unregistered_function_is_reported_everywhere(site: Site, sdk: Sdk, id: str) -> None:
    client, function = site.server.client(), f"brew-{sdk.version}"
    client.begin(id, sdk.group, function)

    wait_until(lambda: f"function {function}" in site.server.log.read_text(), "the log tells of it")

    tree = CliRunner().invoke(main, ["tree", id, "-S", site.server.url])
    (promise,) = Page(site.server.port).get("/ui/api/chain", id=id).json["promises"]
    client.call("promise.settle", id=id, state="rejected_canceled")
    for told in (tree.stdout, promise["task"]["trouble"], site.server.log.read_text()):
        assert "given back each time" in told
    assert promise["func"] == function
    assert function in tree.stdout

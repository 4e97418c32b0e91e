"""A function whose code changes while its calls are under way: it stops with a clear error, and completes once the code
fits again. With real workers on a real server; the first worker is killed when its call waits for somebody else."""

import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.basics import wait_until
from harness.process import Process
from harness.server import FAR, Client, ServerProcess

PROGRAM = """
from datetime import timedelta
from worker import Worker

async def pack(ctx) -> str:
    return "packed"

async def wrap(ctx) -> str:
    return "wrapped"

async def {name}(ctx):
{body}

Worker("orders", {name}).run()
"""

ORIGINAL = """
    packed = await ctx.run(pack)
    price = await ctx.options(target="prices").rpc("price", "tea", 2)
    return [packed, price]
"""
RESULT = b64encode(b"7").decode()


class Shop:
    """A server, and the worker of the group ``orders`` whose code a test changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ServerProcess(folder / "server.log", folder / "state.db").start()
        self.worker: Process | None = None
        self.versions = 0

    @property
    def client(self) -> Client:
        return self.server.client()

    def deploy(self, body: str = ORIGINAL, name: str = "order") -> Process:
        """Another version of the code replaces the one that runs."""
        if self.worker is not None:
            self.worker.kill()
        self.versions += 1
        program = self.folder / f"orders_{self.versions}.py"
        program.write_text(PROGRAM.format(body=body, name=name))
        log = self.folder / f"orders_{self.versions}.log"
        self.worker = Process([sys.executable, str(program)], log, {"RESONATE_URL": self.server.url})
        self.worker.launch()
        return self.worker

    def order(self, id: str) -> None:
        param = b64encode(b'{"func": "order", "args": [], "kwargs": {}, "version": 1}').decode()
        tags = {"target": "poll://any@orders", "branch": id, "parent": id, "origin": id, "scope": "global"}
        named = {f"resonate:{tag}": text for tag, text in tags.items()}
        created = self.client.call("promise.create", id=id, timeoutAt=FAR, param={"data": param}, tags=named)
        assert created.status == 200
        wait_until(lambda: self.task_state(id) == "suspended", f"{id} waits for the price")

    def tell_price(self, id: str) -> None:
        value = {"data": RESULT}
        assert self.client.call("promise.settle", id=f"{id}:2", state="resolved", value=value).status == 200

    def task_state(self, id: str) -> str:
        reply = self.client.call("task.get", id=id)
        return str(reply.data["task"]["state"]) if reply.status == 200 else ""

    def tree(self, id: str) -> str:
        """What `resonate tree` shows, on one line."""
        command = [str(Path(sys.executable).with_name("resonate")), "tree", id, "--server", self.server.url]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        return " ".join(shown.split())

    def promise(self, id: str) -> dict[str, object]:
        promise: dict[str, object] = self.client.call("promise.get", id=id).data["promise"]
        return promise

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop()
        self.server.stop()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.stop()


CHANGES = {
    "inserted": (
        '    await ctx.options(target="prices").rpc("discount")' + ORIGINAL,
        "step 1 was run pack, it is rpc discount() to poll://any@prices now",
    ),
    "removed": (
        '    return [None, await ctx.options(target="prices").rpc("price", "tea", 2)]',
        'step 1 was run pack, it is rpc price("tea", 2) to poll://any@prices now',
    ),
    "reordered": (
        '    price = await ctx.options(target="prices").rpc("price", "tea", 2)\n'
        "    return [await ctx.run(pack), price]",
        'step 1 was run pack, it is rpc price("tea", 2) to poll://any@prices now',
    ),
    "a local step renamed": (
        ORIGINAL.replace("ctx.run(pack)", "ctx.run(wrap)"),
        "step 1 was run pack, it is run wrap now",
    ),
    "a remote function renamed": (
        ORIGINAL.replace('"price"', '"cost"'),
        'step 2 was rpc price("tea", 2) to poll://any@prices, it is rpc cost("tea", 2) to poll://any@prices now',
    ),
    "another target": (
        ORIGINAL.replace('"prices"', '"shops"'),
        'step 2 was rpc price("tea", 2) to poll://any@prices, it is rpc price("tea", 2) to poll://any@shops now',
    ),
    "other arguments": (
        ORIGINAL.replace('"tea", 2', '"tea", 3'),
        'step 2 was rpc price("tea", 2) to poll://any@prices, it is rpc price("tea", 3) to poll://any@prices now',
    ),
    "a sleep instead": (
        "    await ctx.run(pack)\n    await ctx.sleep(timedelta(seconds=1))",
        'step 2 was rpc price("tea", 2) to poll://any@prices, it is sleep now',
    ),
    "a question instead": (
        "    await ctx.run(pack)\n    await ctx.promise()",
        'step 2 was rpc price("tea", 2) to poll://any@prices, it is promise now',
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_step_ends_the_attempt_and_the_old_code_completes_it(shop: Shop, change: str) -> None:
    body, difference = CHANGES[change]
    shop.deploy()
    shop.order("tea")
    changed = shop.deploy(body)
    shop.tell_price("tea")
    wait_until(lambda: difference in changed.output(), f"{difference}\nin {changed.output()}")
    assert "the code of order changed while tea was under way" in changed.output()
    assert shop.promise("tea")["state"] == "pending"
    wait_until(lambda: difference in shop.tree("tea"), "whoever looks at the chain is told")

    shop.deploy()
    wait_until(lambda: shop.promise("tea")["state"] == "resolved", "the old code completes it")
    assert shop.promise("tea")["value"] == {"data": b64encode(b'["packed",7]').decode()}


def test_a_renamed_function_waits_until_its_old_name_is_back(shop: Shop) -> None:
    shop.deploy()
    shop.order("tea")
    renamed = shop.deploy(name="purchase")
    shop.tell_price("tea")
    wait_until(lambda: "order" in renamed.output(), "it says which function is missing")
    assert shop.promise("tea")["state"] == "pending"

    shop.deploy()
    wait_until(lambda: shop.promise("tea")["state"] == "resolved", "the old name completes it")


def test_steps_that_are_added_behind_those_that_began_are_no_change(shop: Shop) -> None:
    shop.deploy()
    shop.order("tea")
    shop.deploy(ORIGINAL.replace("return [packed, price]", "return [packed, price, await ctx.run(wrap)]"))
    shop.tell_price("tea")
    wait_until(lambda: shop.promise("tea")["state"] == "resolved", "it completes")
    assert shop.promise("tea")["value"] == {"data": b64encode(b'["packed",7,"wrapped"]').decode()}

"""Calls from programs with and without their own event loop: real programs, a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.server import ServerProcess

from .group import launched

SHOP = """
from worker import Worker, log_run

async def order(ctx, item, count=1):
    log_run(ctx)
    return f"{count} {item}"

async def fail(ctx):
    raise ValueError("sold out")

Worker("shop", order, fail).run()
"""


class Shop:
    """A server, a worker of the group ``shop``, and programs that call it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ServerProcess(folder / "server.log").start()
        self.worker = launched(folder, SHOP, RESONATE_URL=self.server.url)

    def output(self, program: str) -> str:
        """Run a program that has a caller, and return its output."""
        begin = "import asyncio, os, time\nfrom worker import Caller\nshop = Caller('shop')\n"
        process = launched(self.folder, begin + program, RESONATE_URL=self.server.url)
        assert process.wait() == 0, process.output()
        return process.output()

    def runs(self, id: str) -> int:
        return self.worker.output().count(f"running function order  promise={id} ")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    yield shop
    shop.worker.stop()
    shop.server.stop()


def test_a_program_with_or_without_an_event_loop_gets_the_result(shop: Shop) -> None:
    program = """
print(shop.call('script', 'order', 'tea', count=2).result())
async def main():
    return await asyncio.wrap_future(shop.call('loop', 'order', 'tea'))
print(asyncio.run(main()))
"""
    assert shop.output(program) == "2 tea\n1 tea\n"


def test_the_same_id_is_the_same_call_within_one_program_and_across_programs(shop: Shop) -> None:
    program = "print({future.result() for future in [shop.call('same', 'order', 'tea') for _ in range(20)]})"
    assert [shop.output(program) for _ in range(2)] == ["{'1 tea'}\n"] * 2
    assert shop.runs("same") == 1


def test_threads_share_one_connection(shop: Shop) -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(20) as threads:
    print(len(set(threads.map(lambda n: shop.call(f'thread-{n}', 'order', f'tea-{n}').result(), range(20)))))
"""
    before = shop.server.output().count("worker connected: shop-callers/")
    assert shop.output(program) == "20\n"
    assert shop.server.output().count("worker connected: shop-callers/") == before + 1


@pytest.mark.parametrize("before", ["", "shop.call('before', 'order', 'tea').result()"], ids=["first", "later"])
def test_a_program_may_fork_before_or_after_its_first_call(shop: Shop, before: str) -> None:
    program = f"""
{before}
children = []
for number in range(2):
    if not (child := os.fork()):
        print(shop.call(f'fork-{{number}}', 'order', 'tea').result(20), flush=True)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
shop.call('after', 'order', 'tea').result(20)
"""
    assert shop.output(program).count("1 tea\n") == 2


def test_a_call_that_fails_or_is_late_or_is_refused_raises(shop: Shop) -> None:
    program = """
from datetime import timedelta
calls = [
    shop.call('fails', 'fail'),
    Caller('nobody', timedelta(seconds=1)).call('late', 'order'),
    shop.call('large', 'order', 'x' * 5_000_000),
    shop.call('tea:1', 'order'),
]
for call in calls:
    print(type(call.exception()).__name__, call.exception())
"""
    failed, late, refused_by_its_size, refused_by_the_sdk = shop.output(program).splitlines()
    assert failed == "ApplicationError sold out"
    assert late.startswith("ResonateTimeoutError")
    assert refused_by_its_size == (
        "ApplicationError the arguments of order cannot be stored: 6666680 bytes in base64, the limit is 4186112"
    )
    assert "InvalidIdError" in refused_by_the_sdk


def test_a_caller_that_stops_waiting_does_not_disturb_others_of_the_same_call(shop: Shop) -> None:
    program = """
for number in range(20):
    id = f'left-{number}'
    early, late = shop.call(id, 'order', 'tea'), shop.call(id, 'order', 'tea')
    time.sleep(number / 5_000)
    early.cancel()
    assert late.result(timeout=50) == '1 tea'
print('done')
"""
    assert shop.output(program) == "done\n"


def test_nothing_runs_in_its_thread_while_the_program_exits(shop: Shop) -> None:
    program = """
import atexit
def tick():
    ticks.append(1)
    shop._loop.call_later(0.001, tick)
def check():
    before = len(ticks)
    time.sleep(0.2)
    print(len(ticks) - before, before > 0)
ticks = []
atexit.register(check)
shop.call('exits', 'order', 'tea').result()
shop._loop.call_soon_threadsafe(tick)
time.sleep(0.2)
"""
    assert shop.output(program) == "0 True\n"

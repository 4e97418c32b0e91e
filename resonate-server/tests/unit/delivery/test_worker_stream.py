"""One worker's outgoing messages, as the writer of its stream sees them."""

import asyncio

from unit.hubs import execute

from resonate_server.delivery import WorkerStream


def worker() -> WorkerStream:
    return WorkerStream("workers", "w1", 0, taken=lambda *_: None)


async def test_a_message_ends_the_waiting_at_once() -> None:
    connection = worker()
    waiting = asyncio.create_task(connection.wait(60))
    await asyncio.sleep(0)
    connection.offer(execute("t"))
    assert await waiting == [execute("t")]


async def test_once_closed_waiting_ends_at_once() -> None:
    connection = worker()
    connection.close()
    assert await connection.wait(60) == []


async def test_forgetting_returns_the_forgotten_offer() -> None:
    connection = worker()
    connection.offer(execute("t"))
    offer = connection.forget("t")
    assert offer is not None and offer.execute == execute("t")
    assert (connection.forget("t"), connection.forget("other")) == (None, None)

"""One worker's outgoing messages, as whoever writes its stream sees them."""

import asyncio

from unit.hubs import execute, received, unblock

from resonate_server.delivery import WorkerStream


def worker() -> WorkerStream:
    return WorkerStream("workers", "w1", 0, taken=lambda *_: None)


async def test_waiting_gives_all_messages_at_once_and_in_order() -> None:
    connection = worker()
    for id in ("a", "b", "c"):
        connection.offer(execute(id))
    assert await received(connection) == ["a", "b", "c"]
    assert await received(connection) == []


async def test_a_message_ends_the_waiting_at_once() -> None:
    connection = worker()
    waiting = asyncio.create_task(connection.wait(60))
    await asyncio.sleep(0)
    connection.offer(execute("t"))
    assert await waiting == [execute("t")]


async def test_after_the_time_given_nothing_comes() -> None:
    assert await worker().wait(0.01) == []


async def test_closing_ends_the_waiting_at_once() -> None:
    connection = worker()
    waiting = asyncio.create_task(connection.wait(60))
    await asyncio.sleep(0)
    connection.close()
    assert await waiting == []


async def test_once_closed_nobody_waits() -> None:
    connection = worker()
    connection.close()
    assert await connection.wait(60) == []


async def test_a_forgotten_message_does_not_wake_a_second_time() -> None:
    connection = worker()
    connection.offer(execute("t"))
    connection.forget("t")
    assert await connection.wait(0.01) == []


async def test_forgetting_tells_what_it_was() -> None:
    connection = worker()
    connection.offer(execute("t"))
    offer = connection.forget("t")
    assert offer is not None and offer.execute == execute("t")
    assert (connection.forget("t"), connection.forget("other")) == (None, None)


async def test_a_closed_connection_has_no_room() -> None:
    connection = worker()
    connection.close()
    assert connection.room == 0


async def test_both_kinds_of_message_share_the_stream() -> None:
    connection = worker()
    connection.offer(execute("t"))
    connection.queue(unblock("p"), 1)
    assert await received(connection) == ["t", "p"]

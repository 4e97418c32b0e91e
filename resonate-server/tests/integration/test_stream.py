"""A worker's stream byte by byte, and who gets which message (protocol sections 2.4 and 5.3)."""

import re
from collections.abc import Callable

from harness.server import Client
from harness.stream import Stream

Connect = Callable[[str, str], Stream]


def test_the_stream_opens_at_once_without_an_event(connect: Connect, id: str) -> None:
    stream = connect(id, "w")
    assert stream.head.startswith("HTTP/1.1 200")
    assert "text/event-stream" in stream.head
    assert stream.nothing()


def test_a_proxy_is_told_to_pass_messages_on_at_once(connect: Connect, id: str) -> None:
    assert "x-accel-buffering: no" in connect(id, "w").head.lower()


def test_an_execute_names_task_and_version_and_has_a_head(client: Client, connect: Connect, id: str) -> None:
    """It is one data line of ASCII, with LF at its end."""
    stream = connect(id, "w")
    client.create("ünï\u2028cödé", target=f"poll://any@{id}")
    message = stream.message()
    assert (message["kind"], message["data"]) == ("execute", {"task": {"id": "ünï\u2028cödé", "version": 0}})
    assert isinstance(message["head"], dict)
    assert stream.raw.isascii()
    assert b"\r" not in stream.raw


def test_a_listener_receives_the_settled_promise(client: Client, connect: Connect, id: str) -> None:
    stream = connect(id, "w")
    client.create(f"{id}-a")
    client.call("promise.register_listener", awaited=f"{id}-a", address=f"poll://uni@{id}/w")
    settled = client.call("promise.settle", id=f"{id}-a", state="resolved", value={"data": "Mg=="})
    assert stream.message() == {"kind": "unblock", "head": {}, "data": settled.data}


def test_each_message_comes_with_the_time(client: Client, connect: Connect, id: str) -> None:
    """A worker that was busy when its stream began would otherwise be late by as much for ten seconds."""
    stream = connect(id, "w")
    for name in ("first", "second"):
        client.create(f"{id}-{name}", target=f"poll://any@{id}")
        stream.message()
    assert len(re.findall(rb": time [0-9]+\n\ndata: ", stream.raw)) == 2

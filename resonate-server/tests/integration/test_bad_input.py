"""Bad input is answered with a clear 4xx, changes nothing, and leaves the connection and the server alive."""

import gzip
import json
import socket

import pytest
from harness.server import FAR, VERSION, Client, ServerProcess


def envelope(kind: str = "promise.get", data: object = None, **head: object) -> bytes:
    full = {"corrId": "c", "version": VERSION, **head}
    return json.dumps({"kind": kind, "head": full, "data": {"id": "x"} if data is None else data}).encode()


def deep(depth: int) -> bytes:
    nested = b"[" * depth + b"]" * depth
    return envelope(data={"id": "x", "extra": 0}).replace(b'"extra": 0', b'"extra": ' + nested)


BAD_REQUESTS = {
    "not JSON": b"hello",
    "empty": b"",
    "truncated": envelope()[:-3],
    "compressed": gzip.compress(envelope()),
    "not UTF-8": envelope().replace(b'"x"', b'"\xff"'),
    "an array": b"[]",
    "no head": b'{"kind":"promise.get","data":{}}',
    "no data": json.dumps({"kind": "promise.get", "head": {"corrId": "c", "version": VERSION}}).encode(),
    "data is an array": envelope(data=[]),
    "data is a string": envelope(data="x"),
    "empty kind": envelope(kind=""),
    "unknown version": envelope(version="2020-01-01"),
    "corrId is a number": envelope(corrId=5),
    "id is a number": envelope(data={"id": 5}),
    "id is empty": envelope(data={"id": ""}),
    "id with NUL": envelope(data={"id": "a\0b"}),
    "new id with a control character": envelope("promise.create", {"id": "x\x01", "timeoutAt": FAR}),
    "new id with half a character": envelope("promise.create", {"id": "X", "timeoutAt": FAR}).replace(b"X", rb"\ud800"),
    "id of 100,000 characters": envelope(data={"id": "x" * 100_000}),
    "lone surrogate": envelope().replace(b'"x"', rb'"\ud800"'),
    "nested 100,000 deep": deep(100_000),
    "deadline is a string": envelope("promise.create", {"id": "x", "timeoutAt": "1"}),
    "deadline is negative": envelope("promise.create", {"id": "x", "timeoutAt": -1}),
    "deadline beyond 64 bits": envelope("promise.create", {"id": "x", "timeoutAt": 2**63}),
    "tag is a number": envelope("promise.create", {"id": "x", "timeoutAt": FAR, "tags": {"a": 1}}),
    "target is no address": envelope("promise.create", {"id": "x", "timeoutAt": FAR, "tags": {"resonate:target": "x"}}),
    "settled as pending": envelope("promise.settle", {"id": "x", "state": "pending"}),
    "page of none": envelope("promise.search", {"limit": 0}),
    "page of 1,001": envelope("promise.search", {"limit": 1_001}),
}


@pytest.mark.parametrize("body", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_answered_400_with_one_sentence_and_nothing_changed(client: Client, body: bytes) -> None:
    reply = client.post(body)

    assert reply.status == 400
    assert isinstance(reply.data, str)
    assert reply.data
    assert client.call("promise.get", id="x").status == 404


def test_an_unknown_kind_is_answered_501(client: Client) -> None:
    reply = client.post(envelope(kind="promise.destroy"))

    assert (reply.status, reply.data) == (501, "unknown kind 'promise.destroy'")


def test_kind_and_corr_id_are_echoed_even_if_the_rest_is_wrong(server: ServerProcess) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/", b'{"kind":"promise.get","head":{"corrId":"mine"}}')
    answer = json.loads(connection.getresponse().read())

    assert (answer["kind"], answer["head"]["corrId"]) == ("promise.get", "mine")


def test_a_body_over_the_limit_is_answered_413(server: ServerProcess) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/", b"x" * (4 * 1024 * 1024 + 1))

    assert connection.getresponse().status == 413
    assert server.client().call("promise.get", id="x").status == 404


GARBAGE = {
    "no HTTP": b"GARBAGE\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "endless header": b"GET /health HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "wrong method": b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    "unknown path": b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_on_the_wire_is_refused_and_harms_nobody(server: ServerProcess, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4_096)

    assert answer == b"" or answer.split()[1].startswith(b"4")
    assert server.is_ready()


def test_a_tolerant_server_takes_integral_floats_and_nulls(client: Client) -> None:
    reply = client.call("promise.create", id="tolerant", timeoutAt=float(FAR), param=None, value=None, tags=None)

    assert reply.status == 200
    assert reply.data["promise"]["timeoutAt"] == FAR


def test_nothing_of_all_this_left_a_traceback_in_the_log(server: ServerProcess) -> None:
    assert "Traceback" not in server.log.read_text()

"""Delivery to HTTP addresses (protocol section 5.3, end)."""

import json
from pathlib import Path

import pytest
from harness.adapter import running_adapter
from harness.basics import wait_until
from harness.certificate import make_certificate
from integration.servers import Start


@pytest.mark.parametrize("trusts", [False, True])
def test_by_https_only_to_whom_the_system_s_certificates_know(
    start: Start, tmp_path: Path, id: str, trusts: bool
) -> None:
    certificate = tmp_path / "certificate.pem"
    with running_adapter(secured=make_certificate(certificate)) as receiver:
        server = start(RESONATE_TASKS__RETRY_TIMEOUT="600", **({"SSL_CERT_FILE": str(certificate)} if trusts else {}))
        server.client().create(id, target=receiver.url)
        if trusts:
            wait_until(lambda: receiver.posted, "it has got its message")
        else:
            wait_until(lambda: "certificate verify failed" in server.output(), "it does not trust the receiver")


def test_an_execute_is_posted_with_where_to_call_back_and_who_calls(start: Start, id: str) -> None:
    server = start(
        RESONATE_SERVER__URL="http://public.example:8001",
        RESONATE_TRANSPORTS__HTTP_PUSH__AUTH__MODE="bearer",
        RESONATE_TRANSPORTS__HTTP_PUSH__AUTH__TOKEN="secret",
    )
    with running_adapter() as receiver:
        server.client().create(id, target=f"{receiver.url}?a=b")
        wait_until(lambda: receiver.asked, "it has got its message")
        received = receiver.asked[0]

    assert (received.method, received.path) == ("POST", "/actions?a=b")
    assert json.loads(received.body) == {
        "kind": "execute",
        "head": {"serverUrl": "http://public.example:8001"},
        "data": {"task": {"id": id, "version": 0}},
    }
    assert received.headers["content-type"] == "application/json"
    assert received.headers["authorization"] == "Bearer secret"

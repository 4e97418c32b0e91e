"""Delivery addresses: section 2.4."""

import pytest

from resonate_server.protocol.address import Address, PollAddress, PushAddress, group_of, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("poll://any@workers", PollAddress("workers", "", exact=False)),
        ("poll://any@workers/w1", PollAddress("workers", "w1", exact=False)),
        ("poll://uni@workers/w1", PollAddress("workers", "w1", exact=True)),
        ("poll://uni@workers", PollAddress("workers", "", exact=True)),
        ("poll://uni@workers/", PollAddress("workers", "", exact=True)),
        ("poll://any@Workers/W1", PollAddress("Workers", "W1", exact=False)),
        ("poll://any@service-foo.v2_x", PollAddress("service-foo.v2_x", "", exact=False)),
        ("poll://any@workers/a/b", PollAddress("workers", "a/b", exact=False)),
        ("poll://any@a%20b/c%2Fd", PollAddress("a b", "c/d", exact=False)),
        ("http://host:1/path?q=1", PushAddress("http://host:1/path?q=1")),
        ("https://host", PushAddress("https://host")),
    ],
)
def test_valid(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("target", "group"),
    [
        ("poll://any@workers", "workers"),
        ("poll://any@workers/pid-1", "workers"),
        ("poll://uni@a%20b/pid-1", "a b"),
        ("http://host/hook", "http://host/hook"),
        ("nonsense", "nonsense"),
        (None, None),
    ],
)
def test_a_target_is_shown_as_its_group_or_address(target: str | None, group: str | None) -> None:
    assert group_of(target) == group

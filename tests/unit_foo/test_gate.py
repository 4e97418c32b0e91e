"""Which requests foo accepts: the rules of the gate, one by one."""

import pytest
from flask import Flask
from werkzeug.test import Client, create_environ, run_wsgi_app

from foo_web.gate import guard

OWN = {"Origin": "http://localhost:5000", "Sec-Fetch-Site": "same-origin"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
JSON = {"Content-Type": "application/json"}

type Headers = dict[str, str]


def answer(headers: Headers, hosts: str = "", body: bytes | None = None) -> tuple[int, str]:
    """Return the status and text of the answer, to a POST if there is a body, otherwise to a GET."""
    app = Flask(__name__)
    guard(app, hosts)
    app.add_url_rule("/", view_func=lambda: "let in", methods=["GET", "POST"])
    method = "GET" if body is None else "POST"
    response = Client(app).open("/", method=method, data=body or b"", headers={"Host": "localhost:5000"} | headers)
    return response.status_code, response.text


@pytest.mark.parametrize(
    ("hosts", "host", "is_known"),
    [
        ("", "localhost", True),
        ("", "LocalHost:5000", True),
        ("", "127.0.0.1:1", True),
        ("", "127.3.2.1", True),
        ("", "[::1]:5000", True),
        ("", "[::2]", False),
        ("", "192.168.1.5:5000", False),
        ("", "localhost.evil.example", False),
        ("", "evil@localhost", False),
        ("", "localhost:x", False),
        ("", "", False),
        ("", "foo", False),
        (" Foo , demo.example,", "foo:5000", True),
        (" Foo , demo.example,", "demo.example", True),
        (" Foo , demo.example,", "localhost", True),
        (" Foo , demo.example,", "", False),
        ("*", "anybody", True),
        ("*", "", True),
    ],
)
def test_foo_accepts_only_its_own_host_names(hosts: str, host: str, is_known: bool) -> None:
    assert answer({"Host": host}, hosts)[0] == (200 if is_known else 421)


def test_a_request_without_a_host_is_refused() -> None:
    app = Flask(__name__)
    guard(app, "")
    environ = create_environ()
    del environ["HTTP_HOST"]
    _, status_line, _ = run_wsgi_app(app, environ)
    assert status_line.startswith("421 ")


def test_an_unknown_host_is_reported_with_the_variable_that_allows_it() -> None:
    _, text = answer({"Host": "evil.example"})
    assert "the host &#39;evil.example&#39; is unknown; the variable FOO_HOSTS can allow it" in text


@pytest.mark.parametrize(
    ("host", "origin", "is_own"),
    [
        ("localhost:5000", "http://localhost:5000", True),
        ("LOCALHOST:5000", "HTTP://localhost:5000", True),
        ("localhost:5000", "https://evil.example", False),
        ("localhost:5000", "http://localhost:1", False),
        ("localhost:5000", "localhost:5000", False),
        ("localhost:5000", "null", False),
        ("localhost:5000", "", False),
        ("", "http://", False),
        ("localhost:5000", "http://localhost:5000,http://evil.example", False),
    ],
)
def test_only_pages_of_its_own_origin_may_send_requests(host: str, origin: str, is_own: bool) -> None:
    found, text = answer({"Host": host, "Origin": origin}, "*")
    assert found == (200 if is_own else 403)
    assert is_own or ("pages of the origin &#39;" in text and "may not call foo" in text)


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none, cross-site"}, False),
        (LINK, True),
        (LINK | {"Sec-Fetch-Site": "same-site"}, True),
        (LINK | {"Sec-Fetch-Dest": "iframe"}, False),
        (LINK | {"Sec-Fetch-Mode": "no-cors"}, False),
    ],
)
def test_other_sites_may_only_link_to_it(headers: Headers, is_let_in: bool) -> None:
    found, text = answer(headers)
    assert found == (200 if is_let_in else 403)
    assert is_let_in or "pages of other sites may not call foo (Sec-Fetch-Site: &#39;" in text
    assert answer(headers | JSON, body=b"{}")[0] == (403 if "site" in headers["Sec-Fetch-Site"] else 200)


@pytest.mark.parametrize(
    ("headers", "body", "found"),
    [
        (OWN, b"{}", 415),
        ({"Sec-Fetch-Mode": "cors"}, b"{}", 415),
        (OWN | {"Content-Type": "text/plain"}, b"{}", 415),
        (OWN | JSON, b"{}", 200),
        (OWN | {"Content-Type": "application/json; charset=utf-8"}, b"{}", 200),
        (OWN, b"", 200),
        ({}, b"{}", 200),
    ],
)
def test_a_browser_must_declare_json(headers: Headers, body: bytes, found: int) -> None:
    assert answer(headers, body=body)[0] == found


def test_a_refused_value_is_shown_escaped_and_shortened() -> None:
    _, text = answer({"Origin": "http://\xe9" + "x" * 1000})
    assert "http://\\xe9xxx" in text
    assert text.count("x") < 220

"""The plain chain: foo, bar and baz as web services that call each other by HTTP, without any durability.

What most people would write: Flask under gunicorn with threads, and one `requests.Session` that keeps its connections.
"""

import os
import secrets

import requests
from flask import Flask
from requests.adapters import HTTPAdapter

THREADS = 512
CALL_SECONDS = 60

foo, bar, baz = Flask("foo"), Flask("bar"), Flask("baz")
NAMES = tuple(service.name for service in (foo, bar, baz))

_session = requests.Session()
_session.trust_env = False  # looking for proxies in the environment would cost every call
_session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))


@foo.post("/foo")
def answer_foo() -> dict[str, str | int]:
    return {"id": f"foo-{secrets.token_hex(8)}", "message": _call("bar") + 1}


@bar.post("/bar")
def answer_bar() -> dict[str, int]:
    return {"message": _call("baz") + 1}


@baz.post("/baz")
def answer_baz() -> dict[str, int]:
    return {"message": 1}


@foo.get("/health")
@bar.get("/health")
@baz.get("/health")
def health() -> str:
    return "ok\n"


def _call(name: str) -> int:
    url = f"http://127.0.0.1:{os.environ[f'PLAIN_{name.upper()}_PORT']}/{name}"
    response = _session.post(url, json={}, timeout=CALL_SECONDS)
    response.raise_for_status()
    message: int = response.json()["message"]
    return message

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
NAMES = ("foo", "bar", "baz")
CALLED = {"foo": "bar", "bar": "baz"}

app = Flask(__name__)
_session = requests.Session()
_session.trust_env = False  # looking for proxies in the environment would cost every call
_session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))


@app.post("/<name>")
def answer(name: str) -> dict[str, str | int]:
    """Add 1 to what the next service returns."""
    returned = _call(CALLED[name]) if name in CALLED else 0
    return {"id": f"{name}-{secrets.token_hex(8)}", "message": returned + 1}


@app.get("/health")
def health() -> str:
    return "ok\n"


def _call(name: str) -> int:
    url = f"http://127.0.0.1:{os.environ[f'PLAIN_{name.upper()}_PORT']}/{name}"
    response = _session.post(url, json={}, timeout=CALL_SECONDS)
    response.raise_for_status()
    message: int = response.json()["message"]
    return message

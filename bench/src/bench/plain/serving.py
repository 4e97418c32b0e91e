"""gunicorn for the plain services, and the client by which they call each other."""

import os
from typing import Any, override

import requests
from flask import Flask
from gunicorn.app.base import BaseApplication
from requests.adapters import HTTPAdapter

PORT = "PLAIN_PORT"
NEXT_URL = "PLAIN_NEXT_URL"
"""The environment variables: where to listen, and whom to call."""
CALL_SECONDS = 60
THREADS = 576
CONNECTIONS = 2048


class Client:
    """Calls the next service; connections are kept and shared by all threads."""

    def __init__(self) -> None:
        self._url = os.environ[NEXT_URL]
        self._session = requests.Session()
        self._session.trust_env = False  # looking for proxies in the environment would cost every call
        self._session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))

    def call(self) -> int:
        """The ``message`` of the answer."""
        response = self._session.post(self._url, json={}, timeout=CALL_SECONDS)
        response.raise_for_status()
        message: int = response.json()["message"]
        return message


class _Server(BaseApplication):
    def __init__(self, app: Flask) -> None:
        self._app = app
        super().__init__()

    @override
    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": f"127.0.0.1:{os.environ[PORT]}",
            "worker_class": "gthread",
            "workers": 1,
            "threads": THREADS,
            "worker_connections": CONNECTIONS,
            "keepalive": 75,
            "control_socket_disable": True,
            "loglevel": "warning",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    @override
    def load(self) -> Any:
        return self._app


def serve(app: Flask) -> None:
    """Until SIGTERM. ``GET /health`` is answered with 200."""
    app.add_url_rule("/health", view_func=lambda: "ok\n", endpoint="health")
    _Server(app).run()

"""Programs that tests start and stop, and the requests they send to them."""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.basics import answers_200, free_port, wait_until
from harness.server import Client
from resonate_base import PROTOCOL_VERSION

HERE = Path(__file__).parent
PATIENCE = 60.0


class Program:
    """A Python module or file that runs as a process of its own, with its output in a file."""

    def __init__(self, name: str, log: Path, environment: dict[str, str], *arguments: str) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                env=os.environ | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text()

    def count(self, text: str) -> int:
        return self.output.count(text)

    def wait_for(self, text: str) -> None:
        """Until the text is in its output; a program that has ended or says something else fails the test."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.output:
            ended = self._process.poll() is not None
            late = time.monotonic() > deadline
            assert not (ended or late), f"no {text!r} in the output of {self._process.args!r}:\n{self.output}"
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Its exit status, and the seconds it took to end."""
        began = time.monotonic()
        self.send(number)
        return self.wait(), time.monotonic() - began

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        return self._process.wait(PATIENCE)

    def kill(self) -> None:
        """End it, and whatever it started, if it still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.text)
        return document

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "")


@dataclass
class Stack:
    """A server and the programs that belong to it, on ports of their own."""

    folder: Path
    server_port: int = field(default_factory=free_port)
    foo_port: int = field(default_factory=free_port)
    programs: list[Program] = field(default_factory=list)

    def start_server(self, **environment: str) -> Program:
        """With its state in a file, so that it may be started again."""
        server = self._start(
            "server", "-m", "resonate_server", "serve",
            "--host", "127.0.0.1", "--port", str(self.server_port), "--db", str(self.folder / "state.db"),
            **environment,
        )  # fmt: skip
        server.wait_for("listening on")
        wait_until(lambda: answers_200(self.server_port, "/ready"), "the server is ready")
        return server

    def start_worker(self, name: str, *, health_file: Path | None = None, **environment: str) -> Program:
        """One of the services, or a file beside this one."""
        own = HERE / f"{name}.py"
        arguments = [str(own)] if own.exists() else ["-m", name]
        return self._start(name, *arguments, HEALTH_FILE=str(health_file or ""), **environment)

    def start_foo(self, hosts: str = "") -> Program:
        foo = self.start_worker("foo", FOO_HOSTS=hosts)
        wait_until(self.is_healthy, "foo is healthy")
        return foo

    def start_services(self) -> tuple[Program, Program, Program]:
        bar, baz, foo = self.start_worker("bar"), self.start_worker("baz"), self.start_foo()
        bar.wait_for("connected to server")
        baz.wait_for("connected to server")
        return foo, bar, baz

    def program(self, name: str) -> Program:
        """The newest of that name."""
        return next(program for program in reversed(self.programs) if program.name == name)

    def post(self, body: Any = None, *, key: str | None = None, prefer: str | None = None) -> Reply:
        headers = {"Idempotency-Key": key, "Prefer": prefer}
        return self.request(
            "POST",
            "/foo",
            body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b"",
            {name: value for name, value in headers.items() if value is not None},
        )

    def get(self, path: str) -> Reply:
        return self.request("GET", path)

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.foo_port, timeout=120)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A connection to foo, for what no HTTP client would send."""
        return socket.create_connection(("127.0.0.1", self.foo_port), timeout=60)

    def ask_server(self, kind: str, **data: Any) -> dict[str, Any]:
        """What the server answers to a request of the protocol, as the SDK would send it."""
        envelope = {"kind": kind, "head": {"corrId": secrets.token_hex(16), "version": PROTOCOL_VERSION}, "data": data}
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=60)
        try:
            connection.request("POST", "/", json.dumps(envelope).encode(), {"Content-Type": "application/json"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["head"]["status"] == 200, answer
        return answer

    def client(self) -> Client:
        """Of the server."""
        return Client(self.server_port)

    def is_healthy(self) -> bool:
        return answers_200(self.foo_port, "/health")

    def close(self) -> None:
        for program in self.programs:
            program.kill()

    def _start(self, name: str, *arguments: str, **environment: str) -> Program:
        log = self.folder / f"{name}-{len(self.programs)}.log"
        variables = {
            "RESONATE_URL": f"http://127.0.0.1:{self.server_port}",
            "FOO_PORT": str(self.foo_port),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        program = Program(name, log, variables | environment, *arguments)
        self.programs.append(program)
        return program

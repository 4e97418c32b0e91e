"""Drives a stack of its own through the scripts, as processes or as containers, and sends it HTTP requests."""

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Literal

from harness import services
from harness.basics import REPOSITORY, TEST_PREFIX, free_port, wait_until
from harness.foo import Foo
from harness.http import Response
from harness.page import Page
from harness.server import Client

SERVICES = ("resonate-server", *services.SERVICES)
ANSWER_SECONDS = 60.0
SCRIPT_SECONDS = 300.0
# For a script that has been told to end and must first repair what it broke.
END_SECONDS = 120.0
# Between two checks that each run a command or several: checking more often costs more than it gains.
LOOK_SECONDS = 0.3
# Shorter than the usual 10 s, so that tests wait less for the leases of killed workers.
LEASE_SECONDS = 4
TOKEN = f"test-{secrets.token_hex(16)}"
PROCESSES = (sys.executable, "-IS", "scripts/processes.py")
_SERVICE_AND_STATUS = '{{.Label "com.docker.compose.service"}} {{.Status}}'

# The last thing crash.sh and crash-bar.sh print once the fault is in place; by then the request was long enough.
STRUCK = "caller's connection|still waits|acknowledged is on disk|nothing can be recorded"
LONG = 600
"""Seconds: a pause that the test itself ends."""
TOO_SHORT = "give it a longer"
LONGER = (1, 4, 16)
_LENGTH = re.compile(r"(--for|--pause|--running) ([0-9.]+)")

type Kind = Literal["processes", "containers"]


@dataclass(frozen=True)
class Answer:
    """foo's answer; status 0 if the connection broke instead."""

    status: int
    id: str = ""
    message: int | None = None
    state: str = ""


class Stack:
    """A stack with its own ports, folder and Compose project, so that it does not interfere with any other."""

    def __init__(self, kind: Kind, token: str = "", compose_file: str = "docker-compose.yml") -> None:
        """`token`: the token that its server requires, by default none, whatever `.env` contains. `compose_file`: the
        Compose files that tell the scripts what the stack consists of; this also overrides `.env`."""
        self.kind = kind
        self.token, self.compose_file = token, compose_file
        self.services = SERVICES if "postgres" not in compose_file else ("postgres", *SERVICES)
        self.folder = Path(tempfile.mkdtemp(prefix=TEST_PREFIX))
        self.project = TEST_PREFIX + secrets.token_hex(4)
        self.foo_port, self.server_port = free_port(), free_port()
        self._foo = Foo(self.foo_port)
        self.disturbed = False
        """Whether anything was killed, started or stopped since all services were last up."""
        (self.folder / ".curlrc").write_text("include\n")
        self._scripts: list[subprocess.Popen[str]] = []
        self._callers = ThreadPoolExecutor(max_workers=64)

    # ── the scripts ──

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "STACK_DIR": str(self.folder),
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": self.compose_file,
            "FOO_PORT": str(self.foo_port),
            "RESONATE_PORT": str(self.server_port),
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "DEMO_FAULTS": "1",
            "RESONATE_TOKEN": self.token,
            # Settings of a user's shell, which must not disturb the scripts: bash's `read` gives up after a second,
            # curl also prints the headers of an answer, and a proxy cannot reach this machine's own ports.
            "TMOUT": "1",
            "CURL_HOME": str(self.folder),
            "http_proxy": "http://127.0.0.1:9",
            "no_proxy": "",
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        script = self.begin(*command)
        try:
            output, errors = script.communicate(timeout=SCRIPT_SECONDS)
        finally:
            _end(script)
            self._scripts.remove(script)
        return subprocess.CompletedProcess(command, script.returncode, output, errors)

    def begin(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in its own process group, as a terminal does."""
        script = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._scripts.append(script)
        return script

    # Whether the request of crash.sh or crash-bar.sh is still running when the fault happens depends on the speed of
    # the machine. If it is not, the scripts ask for a longer request, and these methods retry with a longer one.

    def crash(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run one of the two scripts; its request lasts as long as the command says, or longer if necessary."""
        for longer in LONGER:
            done = self.run(*_lengthened(command, longer))
            if TOO_SHORT not in done.stderr:
                break
        return done

    def begin_crash(self, command: str, *, until: str = STRUCK) -> tuple[subprocess.Popen[str], str]:
        """Start one of the two scripts likewise; return it and its output once it has printed the pattern."""
        self.disturbed = True
        for longer in LONGER:
            script = self.begin(*_lengthened(command, longer))
            try:
                return script, read_until(script.stdout, until)
            except EOFError as ended:
                shown = str(ended)
            _, said = script.communicate(timeout=END_SECONDS)
            assert TOO_SHORT in said, shown + said
        raise AssertionError(said)

    def end_scripts(self) -> None:
        """Send Ctrl-C to all scripts still running and wait until they have repaired what they broke."""
        for script in self._scripts:
            self.disturbed = _end(script) or self.disturbed
        self._scripts.clear()

    def succeed(self, *command: str) -> str:
        """Run a command that must succeed, and return its standard output."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def compose(self, *arguments: str) -> str:
        return self.succeed("docker", "compose", *arguments)

    def _act(self, verb: str, argument: str) -> str:
        """Call this function of `scripts/lib.sh`. For processes this works without bash."""
        if self.kind == "processes":
            return self.succeed(*PROCESSES, verb, argument)
        return self.succeed("bash", "-c", '. scripts/lib.sh; containers "$@"', "containers", verb, argument)

    def _containers(self, *options: str, service: str = "") -> list[str]:
        """List them with `docker ps`, in a tenth of the time that `docker compose ps` takes."""
        labels = {"project": self.project} | ({"service": service} if service else {})
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        return self.succeed("docker", "ps", "--no-trunc", *filters, *options).splitlines()

    def up(self) -> None:
        self.succeed("scripts/up.sh", "--processes" if self.kind == "processes" else "--docker")

    def down(self) -> None:
        self.disturbed = True
        self.succeed("scripts/down.sh")

    def remove(self) -> None:
        self.end_scripts()
        self.run("scripts/down.sh", "--volumes")
        if self.kind == "containers":
            self.run("docker", "compose", "down", "--volumes", "--remove-orphans", "--rmi", "local")
        self._callers.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    # ── its services ──

    def kill(self, service: str) -> None:
        self.act("kill", service)

    def instances(self, service: str) -> list[str]:
        if self.kind == "containers":
            return self._containers("--quiet", service=service)
        return self._act("of", service).split()

    def act(self, verb: str, service: str) -> None:
        """Call this function of `scripts/lib.sh` for each instance of the service."""
        self.disturbed = True
        for instance in self.instances(service):
            self._act(verb, instance)

    def start(self, *services: str) -> None:
        """Start these without waiting for them."""
        self.disturbed = True
        if self.kind == "containers":
            self.compose("up", "--detach", "--no-build", "--no-deps", "--no-recreate", *services)
        else:
            self.succeed(*PROCESSES, "start", *services)

    def restore(self) -> None:
        """Bring back everything that a test has ended, frozen or cut off, with one instance of each service."""
        if self.kind == "containers":
            self.succeed("bash", "-c", ". scripts/lib.sh; loosen_containers")
            self.compose("up", "--detach", "--no-build")
            wait_until(self.is_whole, "all services are healthy", seconds=180, every=LOOK_SECONDS)
        else:
            self.succeed(*PROCESSES, "up", *self.services)  # thaws those that are frozen
        self.disturbed = False

    def is_complete(self) -> bool:
        """Return whether its containers, dead ones included, are one for each service. Processes are not looked at."""
        if self.kind == "processes":
            return True
        listed = self._containers("--all", '--format={{.Label "com.docker.compose.service"}}')
        return sorted(listed) == sorted(self.services)

    def is_whole(self) -> bool:
        """Return whether every service is there with all its instances healthy."""
        if self.kind == "containers":
            listed = [line.split(maxsplit=1) for line in self._containers(f"--format={_SERVICE_AND_STATUS}")]
            are_healthy = all("(healthy)" in status for _, status in listed)
            return are_healthy and {service for service, _ in listed} == set(self.services)
        running = self.succeed(*PROCESSES, "running").split()
        are_there = set(self.services) == {name.rpartition("-")[0] if name[-1].isdigit() else name for name in running}
        return are_there and self.run(*PROCESSES, "healthy", *running).returncode == 0

    def assert_whole(self) -> None:
        """Wait until everything works again, so that nothing needs to be restored before the next test."""
        wait_until(self.is_whole, "all services are up", every=LOOK_SECONDS)
        self.disturbed = False

    def begin_anew(self) -> None:
        """Start with an empty database, for when `restore` cannot help."""
        self.run("scripts/down.sh", "--volumes")  # fails if the user has no access to an engine that is there
        self.up()
        self.disturbed = False

    def log(self, service: str) -> str:
        """Return the output of all its instances, including those that are gone."""
        if self.kind == "processes":
            name = re.compile(rf"{service}(-\d+)?\.log(\.1)?")
            files = [file for file in sorted((self.folder / "log").iterdir()) if name.fullmatch(file.name)]
            return "".join(file.read_text(errors="replace") for file in files)
        logs = [self.run("docker", "logs", id) for id in self._containers("--all", "--quiet", service=service)]
        return "".join(log.stdout + log.stderr for log in logs)

    def runs(self, service: str, id: str) -> int:
        """Return how often the service's function ran for the request with that id."""
        wanted = f"running function {service}  promise={id}"
        lines = [line.partition(" ")[2] for line in self.log(service).splitlines()]  # without timestamps
        return sum(line == wanted or line.startswith((wanted + ":", wanted + " ")) for line in lines)

    # ── requests to foo ──

    def post(self, id: str, body: dict[str, float] | None = None, *, wait: bool = True) -> Answer:
        return _answer(lambda: self._foo.post(body or {}, key=id, prefer=None if wait else "respond-async"))

    def assert_serves(self) -> None:
        """For a moment after a fault, foo may refuse a request: it is not connected to another server yet."""
        wait_until(lambda: self.post(id := new_id()) == Answer(200, id, 3), "foo answers", every=LOOK_SECONDS)

    def post_in_background(self, id: str, body: dict[str, float] | None = None) -> Future[Answer]:
        return self._callers.submit(self.post, id, body)

    def newest(self) -> str:
        """Return the id of the newest request."""
        return str(Page(self.server_port, self.token).get("/ui/api/chains").json["chains"][0]["id"])

    def look_up(self, id: str) -> Answer:
        return _answer(lambda: self._foo.get(f"/foo/{id}"))

    def is_healthy(self) -> bool:
        return self._foo.is_healthy()

    def end_sleep(self, id: str) -> None:
        """End bar's sleep in the chain with that id."""
        Client(self.server_port, token=self.token).end_sleep(id)


def _answer(ask: Callable[[], Response]) -> Answer:
    try:
        reply = ask()
    except (OSError, HTTPException):
        return Answer(0)
    fields = reply.json if reply.status < 400 else {}
    return Answer(reply.status, fields.get("id", ""), fields.get("message"), fields.get("state", ""))


def _lengthened(command: str, longer: int) -> list[str]:
    return shlex.split(_LENGTH.sub(lambda length: f"{length[1]} {float(length[2]) * longer:g}", command))


def read_until(stream: IO[str] | None, pattern: str) -> str:
    """Return the output up to the line with the pattern. Raises ``EOFError`` with all of it if it ends before."""
    assert stream is not None
    shown = ""
    while not re.search(pattern, shown):
        if not (line := stream.readline()):
            raise EOFError(shown)
        shown += line
    return shown


def _end(script: subprocess.Popen[str]) -> bool:
    """End the script; return whether it was still running."""
    if script.poll() is not None:
        return False
    for number in (signal.SIGINT, signal.SIGKILL):
        os.killpg(script.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            script.communicate(timeout=END_SECONDS)
            break
    return True


def workers(stack: Stack, group: str) -> list[str]:
    """Return the addresses of the connected workers, as the page writes them."""
    with Page(stack.server_port, stack.token).watch() as watching:
        groups = watching.hello["groups"]
    return [
        f"poll://any@{group}/{worker['pid']}"
        for one in groups
        if one["name"] == group
        for worker in one["workers"]
        if worker["state"] == "connected"
    ]


def ask_server(port: int | str, token: str) -> int:
    """Return the status of the server's answer to somebody with that token."""
    return Page(int(port), token).get("/ui/api/chains").status


def new_id() -> str:
    return f"test-{secrets.token_hex(8)}"

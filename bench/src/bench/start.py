"""`bench start`: how soon everything is ready, as processes and as containers, and how big the images are.

Seconds count from the moment before the start until the program itself says that it is ready.
"""

import os
import random
import secrets
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from harness.basics import TEST_PREFIX, answers_200, free_port
from harness.services import SERVICES
from harness.stack import Stack

from bench.report import DEFAULT_SEED, MEGABYTE, Figure, Report, Samples, Table, Target, median, quantile
from bench.stack import OwnServer
from bench.stage import moment_when

REPOSITORY = Path(__file__).parents[3]
IMAGES = (*SERVICES, "resonate-server")
COMMAND_SECONDS = 600

SERVER = "server exec to ready"
WORKER = "worker exec to connected"
FOO = "foo exec to health"
UP = "docker compose up --wait, images built"
DOWN = "docker compose down"
TARGETS = {SERVER: Target(0.3), UP: Target(4), DOWN: Target(2)}
IMAGE_TARGET = Target(40)

type Seconds = dict[str, list[float]]
"""One by one, by what was started or stopped."""


def measure(seed: int = DEFAULT_SEED, repeats: int = 10, container_repeats: int = 3) -> Report:
    """``container_repeats``: 0 leaves containers alone. Raises if anything does not come up."""
    report = Report("start", seed)
    _add_times(report, "as processes", _start_processes(repeats, random.Random(seed)))
    if container_repeats and (obstacle := docker_obstacle()):
        report.figures += [Figure(name, "s", None, None, TARGETS[name], note=obstacle) for name in (UP, DOWN)]
    elif container_repeats:
        seconds, sizes = _start_containers(container_repeats)
        _add_times(report, "as containers", seconds)
        for service, size in sizes.items():
            name = f"image size beyond the base, {service}"
            report.figures.append(Figure(name, "MB", size / MEGABYTE, target=IMAGE_TARGET))
    return report


def _add_times(report: Report, title: str, seconds: Seconds) -> None:
    table = Table(title, ["what", "times", "median s", "p90 s", "max s"])
    for what, values in seconds.items():
        table.rows.append([what, len(values), median(values), quantile(values, 0.9), max(values)])
        report.figures.append(Figure.of_rounds(what, "s", values, TARGETS.get(what)))
        report.samples.append(Samples(what, "s", values))
    report.tables.append(table)


# ── as processes ──


def _start_processes(repeats: int, chance: random.Random) -> Seconds:
    """Time each start by itself, in random order; the server and workers that it waits for run already."""
    with tempfile.TemporaryDirectory(prefix=TEST_PREFIX) as name:
        folder = Path(name)
        with Stack(folder, OwnServer(folder)) as stack:
            starts: dict[str, Callable[[], float]] = {
                SERVER: lambda: _start_server(folder / "alone"),
                WORKER: lambda: _start_worker(stack),
                FOO: lambda: _start_foo(stack),
            }
            seconds: Seconds = {what: [] for what in starts}
            for what in chance.sample([*starts] * repeats, repeats * len(starts)):
                seconds[what].append(starts[what]())
    return seconds


def _start_server(folder: Path) -> float:
    """Start a server on a database that exists from the second time on."""
    server = OwnServer(folder)
    try:
        return _seconds_until(server.launch, server.is_ready)
    finally:
        server.kill()


def _start_worker(stack: Stack) -> float:
    bar, before = stack.programs["bar"], stack.connections("bar")
    bar.kill()
    return _seconds_until(bar.launch, lambda: stack.connections("bar") > before)


def _start_foo(stack: Stack) -> float:
    stack.programs["foo"].stop()
    return _seconds_until(stack.programs["foo"].launch, lambda: answers_200(stack.foo_port, "/health"))


def _seconds_until(start: Callable[[], object], condition: Callable[[], object]) -> float:
    began = time.time()
    start()
    return moment_when(condition, "what was started is there") - began


# ── as containers ──


class Compose:
    """The stack as containers, with ports and a Compose project of its own."""

    def __init__(self) -> None:
        self.project = TEST_PREFIX + secrets.token_hex(4)
        self.base_image = _output("scripts/base-image.sh")
        self._environment = {
            "COMPOSE_PROJECT_NAME": self.project,
            "PYTHON_IMAGE": self.base_image,
            "FOO_PORT": str(free_port()),
            "RESONATE_PORT": str(free_port()),
        }

    def run(self, *arguments: str) -> float:
        """Run a command, and return the seconds that it took."""
        began = time.time()
        _output("docker", "compose", *arguments, env=self._environment)
        return time.time() - began

    def bytes_beyond_base(self, service: str) -> int:
        return _image_bytes(f"{self.project}-{service}") - _image_bytes(self.base_image)


def _start_containers(repeats: int) -> tuple[Seconds, dict[str, int]]:
    """Return the times, and the sizes of the images beyond their base, in bytes."""
    seconds: Seconds = defaultdict(list)
    compose = Compose()
    try:
        compose.run("build")
        for _ in range(repeats):
            seconds[UP].append(compose.run("up", "--detach", "--no-build", "--wait"))
            seconds[DOWN].append(compose.run("down"))
        return seconds, {service: compose.bytes_beyond_base(service) for service in IMAGES}
    finally:
        compose.run("down", "--volumes", "--rmi", "local")


def docker_obstacle() -> str:
    """Return why containers cannot be used here; empty if they can."""
    return _output("bash", "-c", ". scripts/lib.sh; docker_obstacle")


def _image_bytes(image: str) -> int:
    return int(_output("docker", "image", "inspect", "--format", "{{.Size}}", image))


def _output(*command: str, env: dict[str, str] | None = None) -> str:
    """Return what a command prints, run in the repository. Raises ``RuntimeError`` with its error output."""
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout.strip()

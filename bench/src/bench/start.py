"""`bench start`: how soon everything is there, as processes and as containers, and how big the images are.

Seconds are counted from the moment before the start; a program's own word that it is there is watched for.
"""

import os
import random
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import click
from harness.basics import answers_200, free_port

from bench.options import DEFAULT_SEED, reporting, seed_option, typed_command
from bench.report import Figure, Report, Samples, Spread, Table, Target
from bench.stack import CONNECTED, OwnServer, Stack
from bench.stats import quantiles
from bench.witness import moment_when

REPOSITORY = Path(__file__).parents[3]
SERVICES = ("foo", "bar", "baz", "resonate-server")
COMMAND_SECONDS = 600
MEGABYTE = 1_000_000

SERVER = "server exec to ready"
WORKER = "worker exec to connected"
FOO = "foo exec to health"
UP = "docker compose up --wait, images built"
DOWN = "docker compose down"
TARGETS = {SERVER: Target(0.5), UP: Target(4), DOWN: Target(2)}
IMAGE_TARGET = Target(40)

type Seconds = dict[str, list[float]]
"""One by one, by what was started or stopped."""


def measure(seed: int = DEFAULT_SEED, repeats: int = 10, container_repeats: int = 3) -> Report:
    """``container_repeats`` 0 leaves containers alone. Raises if anything does not come up."""
    report = Report("start", typed_command(), seed)
    _add_times(report, "as processes", _start_processes(repeats, random.Random(seed)))
    if container_repeats:
        obstacle = docker_obstacle()
        if obstacle:
            report.figures += [Figure(name, "s", None, None, TARGETS[name], note=obstacle) for name in (UP, DOWN)]
        else:
            _measure_containers(report, container_repeats)
    return report


# ── as processes ──


def _start_processes(repeats: int, chance: random.Random) -> Seconds:
    """Each start by itself, in an order drawn by chance; server and workers that are waited for run already."""
    seconds: Seconds = {SERVER: [], WORKER: [], FOO: []}
    with tempfile.TemporaryDirectory(prefix="bench-start-") as name:
        folder = Path(name)
        with Stack(folder, OwnServer(folder)) as stack:
            starts: dict[str, Callable[[], float]] = {
                SERVER: lambda: _start_server(folder / "alone"),
                WORKER: lambda: _start_worker(stack),
                FOO: lambda: _start_foo(stack),
            }
            for what in chance.sample([what for what in starts for _ in range(repeats)], repeats * len(starts)):
                seconds[what].append(starts[what]())
    return seconds


def _start_server(folder: Path) -> float:
    """On a database that exists from the second time on."""
    folder.mkdir(exist_ok=True)
    server = OwnServer(folder)
    try:
        return _seconds_until(server.launch, server.is_ready, SERVER)
    finally:
        server.kill()


def _start_worker(stack: Stack) -> float:
    bar = stack.services["bar"]
    bar.kill()
    before = bar.output().count(CONNECTED)
    return _seconds_until(bar.launch, lambda: bar.output().count(CONNECTED) > before, WORKER)


def _start_foo(stack: Stack) -> float:
    foo = stack.services["foo"]
    foo.stop()
    return _seconds_until(foo.launch, lambda: answers_200(stack.foo_port, "/health"), FOO)


def _seconds_until(start: Callable[[], object], condition: Callable[[], object], what: str) -> float:
    began = time.time()
    start()
    return moment_when(condition, what) - began


# ── as containers ──


class Compose:
    """The stack as containers, with ports and a Compose project of its own, of which nothing stays behind."""

    def __init__(self) -> None:
        self.project = f"bench-start-{secrets.token_hex(4)}"
        self.base_image = _output("scripts/base-image.sh")
        self._environment = {
            "COMPOSE_PROJECT_NAME": self.project,
            "PYTHON_IMAGE": self.base_image,
            "FOO_PORT": str(free_port()),
            "RESONATE_PORT": str(free_port()),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.run("down", "--volumes", "--rmi", "local")

    def run(self, *arguments: str) -> float:
        """The seconds it took."""
        began = time.time()
        _output("docker", "compose", *arguments, env=self._environment)
        return time.time() - began

    def bytes_beyond_base(self, service: str) -> int:
        return _image_bytes(f"{self.project}-{service}") - _image_bytes(self.base_image)


def _measure_containers(report: Report, repeats: int) -> None:
    seconds: Seconds = {UP: [], DOWN: []}
    with Compose() as compose:
        compose.run("build")
        for _ in range(repeats):
            seconds[UP].append(compose.run("up", "--detach", "--no-build", "--wait"))
            seconds[DOWN].append(compose.run("down"))
        sizes = {service: compose.bytes_beyond_base(service) / MEGABYTE for service in SERVICES}
    _add_times(report, "as containers", seconds)
    report.figures += [
        Figure(f"image size beyond the base, {service}", "MB", size, target=IMAGE_TARGET)
        for service, size in sizes.items()
    ]


def docker_obstacle() -> str:
    """Why containers cannot be used here; empty if they can."""
    return _output("bash", "-c", ". scripts/lib.sh; docker_obstacle")


def _image_bytes(image: str) -> int:
    return int(_output("docker", "image", "inspect", "--format", "{{.Size}}", image))


def _output(*command: str, env: dict[str, str] | None = None) -> str:
    """What a command prints, run in the repository. Raises ``RuntimeError`` with what it complains of."""
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout.strip()


# ── the report ──


def _add_times(report: Report, title: str, seconds: Seconds) -> None:
    table = Table(title, ["what", "times", "median s", "p90 s", "max s"])
    for what, values in seconds.items():
        of = quantiles(values)
        table.rows.append([what, len(values), of.p50, of.p90, of.max])
        report.figures.append(Figure(what, "s", of.p50, Spread(min(values), of.max), TARGETS.get(what)))
        report.samples.append(Samples(what, "s", values))
    report.tables.append(table)


# ── the command ──


@click.command("start")
@seed_option
@click.option("--repeats", type=click.IntRange(min=1), default=10, show_default=True, help="Of each process.")
@click.option(
    "--container-repeats",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Of docker compose up and down; 0 leaves containers alone.",
)
@reporting
def command(seed: int, repeats: int, container_repeats: int) -> Report:
    """Seconds from exec to ready, of each program and of all as containers; sizes of the images.

    Containers get ports and a Compose project of their own, and leave nothing behind.
    """
    return measure(seed, repeats, container_repeats)

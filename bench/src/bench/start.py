"""How soon everything is ready, as processes and as containers, and how big the images are.

Seconds count from the moment before the start until the program itself says that it is ready.
"""

import os
import random
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.basics import REPOSITORY, TEST_PREFIX, docker_obstacle, free_port
from harness.services import SERVICES
from harness.stack import Stack

from bench.report import DEFAULT_SEED, MEGABYTE, Figure, Report, Samples, Table, Target, median, quantile
from bench.stack import OwnServer
from bench.stage import moment_when

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
        seconds, sizes = _start_containers(container_repeats, TEST_PREFIX + secrets.token_hex(4))
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


def _start_processes(repeats: int, chance: random.Random) -> Seconds:
    """Time each start by itself, in random order; the server and workers that it waits for run already."""
    with tempfile.TemporaryDirectory(prefix=TEST_PREFIX) as name:
        folder = Path(name)
        alone = OwnServer(folder / "alone")  # its database exists from the second time on
        with Stack(folder, OwnServer(folder)) as stack:
            bar, foo = stack.programs["bar"], stack.programs["foo"]
            seconds: Seconds = {SERVER: [], WORKER: [], FOO: []}
            for what in chance.sample([*seconds] * repeats, repeats * len(seconds)):
                if what == SERVER:
                    seconds[what].append(_seconds_until(alone.launch, alone.is_ready))
                    alone.kill()
                elif what == WORKER:
                    bar.kill()
                    before = stack.connections("bar")
                    seconds[what].append(_seconds_until(bar.launch, lambda: stack.connections("bar") > before))  # noqa: B023
                else:
                    foo.stop()
                    seconds[what].append(_seconds_until(foo.launch, stack.is_healthy))
    return seconds


def _seconds_until(start: Callable[[], object], condition: Callable[[], object]) -> float:
    began = time.time()
    start()
    return moment_when(condition, "what was started is there") - began


def _start_containers(repeats: int, project: str) -> tuple[Seconds, dict[str, int]]:
    """Return the times, and the sizes of the images beyond their base, in bytes. ``project``: for Compose."""
    base_image = _output("scripts/base-image.sh")
    ports = {name: str(free_port()) for name in ("FOO_PORT", "RESONATE_PORT")}
    environment = {"COMPOSE_PROJECT_NAME": project, "PYTHON_IMAGE": base_image, **ports}

    def compose(*arguments: str) -> float:
        """Run a command, and return the seconds that it took."""
        began = time.time()
        _output("docker", "compose", *arguments, env=environment)
        return time.time() - began

    seconds: Seconds = {UP: [], DOWN: []}
    try:
        compose("build")
        for _ in range(repeats):
            seconds[UP].append(compose("up", "--detach", "--no-build", "--wait"))
            seconds[DOWN].append(compose("down"))
        base = _image_bytes(base_image)
        return seconds, {service: _image_bytes(f"{project}-{service}") - base for service in IMAGES}
    finally:
        compose("down", "--volumes", "--rmi", "local")


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

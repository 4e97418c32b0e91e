"""The stack as processes: starts them, and looks at their health. scripts/lib.sh finds them, and ends them.

    processes.py start NAME...    those that do not run yet
    processes.py up NAME...       likewise, and waits until all are healthy; has the settings from the environment
    processes.py healthy NAME     tells by the exit status

NAME is that of a service; a second process of the same service has a number: bar-2. It needs no package.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

HEALTHY_SECONDS = 90
"""How long a start may take."""
END_SECONDS = 15
"""The children of a foo that was killed hold its port until they have told the last of the requests that wait."""
LOOK_SECONDS = 0.2

REPOSITORY = Path(__file__).parents[1]
FOLDER = Path(os.environ["STACK_DIR"])
SETTINGS = FOLDER / "run/settings"
MARK = f"durable-rpc-stack={os.environ['COMPOSE_PROJECT_NAME']}/"
"""On the command line of each process, before its name."""
NAMES = ("FOO_PORT", "RESONATE_PORT", "LEASE_SECONDS", "DEMO_FAULTS", "RESONATE_TOKEN")


def log_file(name: str) -> Path:
    return FOLDER / "log" / f"{name}.log"


def health_file(name: str) -> Path:
    return FOLDER / "run" / f"{name}.health"


def service_of(name: str) -> str:
    return re.sub(r"-\d+$", "", name)


def settings() -> dict[str, str]:
    return dict(line.split("=", 1) for line in SETTINGS.read_text().splitlines())


def keep_settings() -> None:
    """For this user only, as there may be a token among them."""
    SETTINGS.parent.mkdir(parents=True, exist_ok=True)
    SETTINGS.touch(0o600)
    SETTINGS.chmod(0o600)
    SETTINGS.write_text("".join(f"{name}={os.environ[name]}\n" for name in NAMES))


# ── starting ──


def groups(name: str) -> Iterator[tuple[int, int]]:
    """Process and process group of each process with that name; what a service has started shares both."""
    listed = subprocess.check_output(["ps", "-A", "-ww", "-o", "pid=,pgid=,command="], text=True)  # noqa: S607
    for line in listed.splitlines():
        pid, group, command = line.split(None, 2)
        if f" -X {MARK}{name} " in f"{command} ":
            yield int(pid), int(group)


def runs(name: str) -> bool:
    return any(pid == group for pid, group in groups(name))


def await_end(name: str) -> None:
    """Of what one that was killed has left behind."""
    end = time.monotonic() + END_SECONDS
    while left := {group for _, group in groups(name)}:
        if time.monotonic() > end:
            for group in left:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)


def metrics_port(given: dict[str, str]) -> str:
    """The server's usual one, or none where it is taken for something else."""
    port = given.get("RESONATE_OBSERVABILITY__METRICS_PORT") or "9090"
    return "0" if port in (given["FOO_PORT"], given["RESONATE_PORT"]) else port


def environment(name: str, given: dict[str, str]) -> dict[str, str]:
    """What the process gets: all that this one has, and the settings under the names of the program."""
    return {
        **given,
        "HEALTH_FILE": str(health_file(name)),
        "PYTHONUNBUFFERED": "1",
        "RESONATE_AUTH__TOKEN": given["RESONATE_TOKEN"],
        "RESONATE_LOG_FILE": str(log_file(name)),
        "RESONATE_OBSERVABILITY__METRICS_PORT": metrics_port(given),
        "RESONATE_SERVER__BIND": "127.0.0.1",
        "RESONATE_SERVER__PORT": given["RESONATE_PORT"],
        "RESONATE_STORAGE__SQLITE__PATH": str(FOLDER / "resonate.sqlite"),
        "RESONATE_UI__ACTIONS_URL": f"http://127.0.0.1:{given['FOO_PORT']}/actions",
        "RESONATE_URL": f"http://127.0.0.1:{given['RESONATE_PORT']}",
    }


def start(name: str) -> None:
    """In a session of its own, so that it outlives the script and its terminal. If it runs, nothing happens."""
    if runs(name):
        return
    await_end(name)
    health_file(name).unlink(missing_ok=True)
    log_file(name).parent.mkdir(parents=True, exist_ok=True)
    service = service_of(name)
    serve = ["serve"] if service == "resonate-server" else []
    # By -P the folder in which this runs is no place to look for modules.
    command = [sys.executable, "-X", MARK + name, "-P", "-m", service.replace("-", "_"), *serve]
    with log_file(name).open("ab") as output:
        subprocess.Popen(  # noqa: S603
            command,
            env=environment(name, {**os.environ, **settings()}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def up(names: list[str]) -> None:
    keep_settings()
    for name in names:
        start(name)
    for name in names:
        end = time.monotonic() + HEALTHY_SECONDS
        while not healthy(name):
            if time.monotonic() > end or not runs(name):
                lines = log_file(name).read_text(errors="replace").splitlines(keepends=True)
                sys.stderr.write("".join(lines[-15:]))
                sys.exit(
                    f"up.sh: {name} did not become healthy; the last lines of its log ({log_file(name)}) are above."
                )
            time.sleep(LOOK_SECONDS)


# ── looking ──


def kind_of(service: str) -> str:
    """Which one the list of services says; the server is not in it."""
    listed = (REPOSITORY / "services/services.txt").read_text()
    return next((line.split()[2] for line in listed.splitlines() if line.startswith(service + " ")), "server")


def healthy(name: str) -> bool:
    match kind_of(service_of(name)):
        case "worker":
            check = [sys.executable, "-I", str(REPOSITORY / "worker/src/worker/health.py")]
            look = subprocess.run(check, env={"HEALTH_FILE": str(health_file(name))}, capture_output=True, check=False)  # noqa: S603
            return look.returncode == 0
        case "web":
            return answers(settings()["FOO_PORT"], "/health")
        case _:
            return answers(settings()["RESONATE_PORT"], "/ready")


def answers(port: str, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", int(port), timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def main(verb: str, *arguments: str) -> None:
    match verb:
        case "start":
            for name in arguments:
                start(name)
        case "up":
            up(list(arguments))
        case "healthy":
            sys.exit(not healthy(arguments[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])

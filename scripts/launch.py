"""Starts a process of the stack: `launch.py MARK SERVICE`. scripts/lib.sh calls it and gives it the settings.

It comes back when the process is there, in a session of its own, so that it outlives the script and its terminal, and
with the mark on its command line, for which the launcher itself must not be taken.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def metrics_port(given: Mapping[str, str]) -> str:
    """The server's usual one, or none where it is taken for something else."""
    port = given.get("RESONATE_OBSERVABILITY__METRICS_PORT") or "9090"
    return "0" if port in (given["FOO_PORT"], given["RESONATE_PORT"]) else port


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """What the process gets: all that this one has, and the settings under the names of the program."""
    return {
        **given,
        "RESONATE_URL": f"http://127.0.0.1:{given['RESONATE_PORT']}",
        "RESONATE_SERVER__BIND": "127.0.0.1",
        "RESONATE_SERVER__PORT": given["RESONATE_PORT"],
        "RESONATE_OBSERVABILITY__METRICS_PORT": metrics_port(given),
        "RESONATE_STORAGE__SQLITE__PATH": f"{given['STACK_DIR']}/resonate.sqlite",
        "RESONATE_UI__ACTIONS_URL": f"http://127.0.0.1:{given['FOO_PORT']}/actions",
        "RESONATE_AUTH__TOKEN": given["RESONATE_TOKEN"],
        "RESONATE_LOG_FILE": given["LOG_FILE"],
        "PYTHONUNBUFFERED": "1",
    }


def launch(mark: str, service: str) -> None:
    log, health = Path(os.environ["LOG_FILE"]), Path(os.environ["HEALTH_FILE"])
    for folder in (log.parent, health.parent):
        folder.mkdir(parents=True, exist_ok=True)
    health.unlink(missing_ok=True)
    serve = ["serve"] if service == "resonate-server" else []
    # By -P the folder in which this runs is no place to look for modules.
    command = [sys.executable, "-X", mark, "-P", "-m", service.replace("-", "_"), *serve]
    with log.open("ab") as output:
        subprocess.Popen(  # noqa: S603
            command,
            env=environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


if __name__ == "__main__":
    launch(*sys.argv[1:])

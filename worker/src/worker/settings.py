"""The environment variables that configure a worker."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """How a worker reaches its server, and what it promises to it."""

    server_url: str
    """RESONATE_URL"""
    token: str | None
    """RESONATE_TOKEN: a bearer token, if the server asks for one."""
    lease: timedelta
    """LEASE_SECONDS: how long after its last sign of life a dead worker's task is given to another one."""
    max_tasks: int
    """MAX_TASKS: how many tasks run in this process at a time; one that waits for a call or a time does not count."""
    health_file: Path | None
    """HEALTH_FILE: a file that is fresh while the server can reach this worker."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the variables; a value that cannot be used ends the program with a clear message."""
        return cls(
            server_url=environment.get("RESONATE_URL") or "http://localhost:8001",
            token=_token("RESONATE_TOKEN", environment.get("RESONATE_TOKEN")),
            lease=_seconds("LEASE_SECONDS", environment.get("LEASE_SECONDS") or "10"),
            max_tasks=_number("MAX_TASKS", environment.get("MAX_TASKS") or "64"),
            health_file=_writable("HEALTH_FILE", environment.get("HEALTH_FILE")),
        )


def _token(name: str, text: str | None) -> str | None:
    """The value is a secret, and not shown."""
    if text and not re.fullmatch("[!-~]+", text):
        raise SystemExit(f"{name} is no token: it has spaces, line ends or letters that no header can carry")
    return text or None


def _seconds(name: str, text: str) -> timedelta:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 86_400:
        raise SystemExit(f"{name} must be a number of seconds from 1 to 86400, not {text!r}")
    return timedelta(seconds=value)


def _number(name: str, text: str) -> int:
    if not (re.fullmatch("[0-9]{1,4}", text) and 1 <= int(text) <= 1000):
        raise SystemExit(f"{name} must be a whole number from 1 to 1000, not {text!r}")
    return int(text)


def _writable(name: str, text: str | None) -> Path | None:
    if not text:
        return None
    path = Path(text)
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        raise SystemExit(f"{name} names a file that cannot be written: {error}") from error
    return path

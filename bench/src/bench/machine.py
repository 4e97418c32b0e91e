"""The machine that figures come from, in words: a figure means nothing without it."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil
from msgspec import Struct


class Machine(Struct, frozen=True):
    """``cores`` are those that this process may use."""

    processor: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    packages: dict[str, str]


PACKAGES = ("resonate-sdk", "aiohttp", "uvloop", "msgspec", "flask", "gunicorn")


def describe() -> Machine:
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} ({platform.machine()})",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: version(name) for name in PACKAGES},
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

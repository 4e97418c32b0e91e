"""Adds a service to this checkout: `add_service.py NAME`. scripts/add-service.sh calls it. Any Python 3 will do."""

import fcntl
import importlib.util
import keyword
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

SOURCES = "Dockerfile docker-compose.yml pyproject.toml requirements.lock services/services.txt services/baz/baz.py"
"""Files that a service is made from, or entered in."""

RESERVED = """attr bench build chaos dateutil dist google harness jwt mypyc opentelemetry postgres py pylab re2 resonate
    rpds ruamel server target tests worker xdist"""
"""Names that the stack uses itself, modules whose packages have another name, folders that Git or Docker ignore."""

NEXT = """services/{name} is there, and in services/services.txt, docker-compose.yml and pyproject.toml. Next:

  write its function:             services/{name}/{name}.py
  start it, beside what runs:     scripts/up.sh
  call it from another service:   await ctx.options(target="service-{name}").rpc("{name}")
  kill it during a request:       scripts/crash.sh {name}
  add a package that it needs:    in services/{name}/pyproject.toml; then scripts/lock.sh"""


def refuse(reason: str, status: int = 1) -> NoReturn:
    print("add-service.sh: " + reason, file=sys.stderr)
    sys.exit(status)


def check(name: str) -> None:
    if not re.fullmatch("[a-z][a-z0-9]{0,30}", name):
        refuse(f"NAME must be 1 to 31 lower-case letters and digits, a letter first, not {name!r}", 2)
    if Path("services", name).exists():
        refuse(f"service {name!r} already exists, in services/{name}", 2)
    if is_taken(name):
        refuse(f"{name!r} is a Python keyword, a module that services may import, or another part of the stack", 2)


def is_taken(name: str) -> bool:
    """Return whether the name is in use: a service would shadow a module or package of its name, or never be found."""
    locked = re.search(f"^{name}==", Path("requirements.lock").read_text(), re.MULTILINE)
    is_known = name in RESERVED.split() or keyword.iskeyword(name)
    return is_known or locked is not None or importlib.util.find_spec(name) is not None


def with_entry(before: str, text: str, content: str, file: str) -> str:
    """Return the file's content with the text before the first line that begins with ``before``."""
    start, found, end = content.partition("\n" + before)
    return f"{start}\n{text}{found}{end}" if found else refuse(f"{file} has no line that starts with {before!r}.")


def add(name: str) -> None:
    folder, baz = Path("services", name), Path("services/baz")
    project, compose, listed = Path("pyproject.toml"), Path("docker-compose.yml"), Path("services/services.txt")
    files = {
        folder / file: (baz / file).read_text().replace("baz", name) for file in (project.name, "requirements.lock")
    }
    function = (baz / "baz.py").read_text().partition("\n")[2].replace("baz", name)
    files[folder / f"{name}.py"] = f'"""{name}: what it does, in one sentence."""\n{function}'
    source = f"demo-{name} = {{ workspace = true }}"
    member = with_entry('    "demo-worker",', f'    "demo-{name}",', project.read_text(), project.name)
    files[project] = with_entry("demo-worker = ", source, member, project.name)
    build = f"build: {{ context: ., target: worker, args: {{ <<: *build-args, SERVICE: {name} }} }}"
    service = f"  {name}:\n    <<: *worker\n    {build}\n"
    files[compose] = with_entry("  resonate-server:", service, compose.read_text(), compose.name)
    files[listed] = f"{listed.read_text()}{name:7} {'service-' + name:12} worker  {name}\n"
    write(files)


def write(files: dict[Path, str]) -> None:
    """Write all of them, or none: the disk may be full."""
    with TemporaryDirectory(dir=".") as folder:
        coming = {file: Path(folder, str(number)) for number, file in enumerate(files)}
        for file, text in files.items():
            coming[file].write_text(text)
        for file in files:
            file.parent.mkdir(exist_ok=True)
            coming[file].replace(file)


if __name__ == "__main__":
    if missing := [source for source in SOURCES.split() if not Path(source).exists()]:
        refuse(f"{missing[0]} is missing; new services are copied from it, so use a complete checkout.")
    fcntl.flock(os.open("services", os.O_RDONLY), fcntl.LOCK_EX)  # two at once would lose an entry
    check(sys.argv[1])
    try:
        add(sys.argv[1])
    except OSError as error:
        refuse(f"nothing was added: {error}")
    print(NEXT.format(name=sys.argv[1]))

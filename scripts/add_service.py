"""Adds a service to this checkout: `add_service.py NAME`. scripts/add-service.sh calls it. Any Python 3 will do."""

import importlib.util
import keyword
import re
import sys
from pathlib import Path
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


def insert_before(line: str, text: str, file: Path) -> None:
    """Insert the text before the first line that begins with ``line``."""
    before, found, after = file.read_text().partition("\n" + line)
    if not found:
        refuse(f"{file} has no line that starts with {line!r}; add the service there by hand.")
    file.write_text(f"{before}\n{text}{found}{after}")


def add(name: str) -> None:
    folder, baz = Path("services", name), Path("services/baz")
    folder.mkdir()
    for file in ("pyproject.toml", "requirements.lock"):
        (folder / file).write_text((baz / file).read_text().replace("baz", name))
    function = (baz / "baz.py").read_text().partition("\n")[2].replace("baz", name)
    (folder / f"{name}.py").write_text(f'"""{name}: what it does, in one sentence."""\n{function}')
    project = Path("pyproject.toml")
    insert_before('    "demo-worker",', f'    "demo-{name}",', project)
    insert_before("demo-worker = ", f"demo-{name} = {{ workspace = true }}", project)
    build = f"build: {{ context: ., target: worker, args: {{ <<: *build-args, SERVICE: {name} }} }}"
    service = f"  {name}:\n    <<: *worker\n    {build}\n"
    insert_before("  resonate-server:", service, Path("docker-compose.yml"))
    with Path("services/services.txt").open("a") as services:
        services.write(f"{name:7} {'service-' + name:12} worker  {name}\n")


if __name__ == "__main__":
    if missing := [source for source in SOURCES.split() if not Path(source).exists()]:
        refuse(f"{missing[0]} is missing; new services are copied from it, so use a complete checkout.")
    check(sys.argv[1])
    add(sys.argv[1])
    print(NEXT.format(name=sys.argv[1]))

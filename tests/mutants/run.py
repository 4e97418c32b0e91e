"""Let mutmut change the code of a package, one place at a time, and its tests judge each change: scripts/mutants.sh.

Surviving mutants are printed, unless `equivalent.txt` says why no test could tell them from the original.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

REPOSITORY = Path(__file__).parents[2]
WORKPLACE = REPOSITORY / ".local/mutants"
EQUIVALENT = Path(__file__).with_name("equivalent.txt")

SOURCES = ["resonate-server/src/resonate_server", "worker/src/worker", "services/foo/foo_web"]
UNIT = "resonate-server/tests/unit"

TEXT_FOR_PEOPLE = [r"\blogger\.", r"^\s*raise\b"]
"""Lines that are not mutated."""

OPTIONS = ["-p", "no:cacheprovider", "-m", "not long", "-k", "not TestScale and not nothing_of_ours"]
"""Skips tests with a time limit, which mutmut's overhead breaks, and tests that look at the whole repository."""

SURVIVED, NO_TEST = 0, 33
"""mutmut's codes for a surviving mutant. ``None`` means that it was not tried; any other code, that a test failed."""


class Package(Struct, frozen=True):
    """``code``: what is mutated, relative to the folder prepared for mutmut. ``tests``: fast ones, in one process."""

    code: str
    tests: list[str]
    options: list[str] = []
    spared: list[str] = []
    """Code that runs in a process of its own, out of reach of the fast tests."""


PACKAGES = {
    "kernel": Package("resonate_server/kernel/*", [f"{UNIT}/kernel"]),
    "engine": Package("resonate_server/engine/*", [f"{UNIT}/engine"]),
    "store": Package("resonate_server/store/*", [f"{UNIT}/store", f"{UNIT}/engine"]),
    "delivery": Package("resonate_server/delivery/*", [f"{UNIT}/delivery"]),
    "worker": Package("worker/*", ["tests/unit_worker"], ["--ignore=tests/unit_worker/test_changed_code.py"]),
    "foo": Package("foo_web/*", ["tests/unit_foo"], spared=["foo_web/server.py", "foo_web/tracing.py"]),
}


class Mutant(Struct, frozen=True, order=True):
    """``function``: where it is. ``lines``: the removed and added lines, each with its sign."""

    function: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.function, *self.lines])


class Workshop:
    """A folder that contains one package for mutmut, and everything that the package and its tests import."""

    def __init__(self, name: str) -> None:
        self._folder = WORKPLACE / name
        self._package = PACKAGES[name]

    def prepare(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._folder / "src").mkdir(parents=True)
        for source in map(REPOSITORY.joinpath, SOURCES):
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, self._folder / "src" / source.name)
        (self._folder / "resonate-server").mkdir()
        for tests in ("tests", "resonate-server/tests"):
            (self._folder / tests).symlink_to(REPOSITORY / tests)
        shutil.copy(REPOSITORY / "pyproject.toml", self._folder)  # has the options of pytest
        (self._folder / "setup.cfg").write_text(self._settings())

    def _settings(self) -> str:
        settings = {
            "source_paths": ["src"],
            "only_mutate": [f"src/{self._package.code}"],
            "do_not_mutate": [f"src/{file}" for file in self._package.spared],
            "also_copy": ["resonate-server/tests"],
            "pytest_add_cli_args_test_selection": self._package.tests,
            "pytest_add_cli_args": [*OPTIONS, f"--basetemp={self._folder}/tmp", *self._package.options],
            "do_not_mutate_patterns": TEXT_FOR_PEOPLE,
            "timeout_multiplier": ["2"],
            "timeout_constant": ["5"],
            "track_dependencies": ["false"],
            "use_git_change_detection": ["false"],
            "process_isolation": ["forkserver"],  # else a result cached in one test keeps the mutant from being called
        }
        return "[mutmut]\n" + "".join(f"{key} = {'\n  '.join(values)}\n" for key, values in settings.items())

    def make_mutants(self) -> list[str]:
        """Return the names of all mutants. mutmut makes them only in a run; with an unknown name, that ends at once."""
        self._mutmut("run", "none", "--max-children", "1")
        return sorted(self._results())

    def judge(self, names: Iterable[str]) -> None:
        done = self._mutmut("run", "--max-children", "1", *names)
        if done.returncode:
            sys.exit(f"mutmut failed:\n{done.stdout[-4_000:]}{done.stderr[-4_000:]}")

    def survivors(self) -> list[str]:
        return [name for name, result in self._results().items() if result in (SURVIVED, NO_TEST)]

    def describe(self, name: str) -> Mutant:
        shown = self._mutmut("show", name).stdout.splitlines()
        changed = [line for line in shown if line[:1] in ("-", "+") and not line.startswith(("---", "+++"))]
        return Mutant(readable(name), tuple(f"{line[0]} {line[1:].strip()}" for line in changed))

    def _results(self) -> dict[str, int | None]:
        results: dict[str, int | None] = {}
        for path in (self._folder / "mutants/src").rglob("*.meta"):
            results |= json.loads(path.read_text())["exit_code_by_key"]
        return results

    def _mutmut(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()", *arguments]
        return subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)


def readable(name: str) -> str:
    """Turn ``package.module.xǁClassǁmethod__mutmut_3`` into a readable name without the number."""
    module, _, function = name.partition("__mutmut_")[0].rpartition(".")
    return f"{module}.{function.removeprefix('x_').removeprefix('xǁ').replace('ǁ', '.')}"


def equivalents() -> Iterator[Mutant]:
    """Read the blocks of the file, without their reasons."""
    for block in EQUIVALENT.read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        if lines:
            yield Mutant(lines[0], tuple(line for line in lines[1:] if line[:2] in ("- ", "+ ")))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("packages", nargs="*")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    options = parser.parse_args()
    known, table = set(equivalents()), []
    for package in options.packages or PACKAGES:
        workshop = Workshop(package)
        workshop.prepare()
        names = workshop.make_mutants()
        tried = random.Random(options.seed).sample(names, min(options.sample or len(names), len(names)))
        print(f"{package}: {len(tried)} of {len(names)} mutants, seed {options.seed} ...", file=sys.stderr, flush=True)
        workshop.judge(tried)
        alive = [workshop.describe(name) for name in workshop.survivors()]
        new = sorted(mutant for mutant in alive if mutant not in known)
        print(*new, sep="\n\n", end="\n\n" if new else "", flush=True)
        table.append((package, len(tried), len(tried) - len(alive), len(new), len(alive) - len(new)))
    print("package   mutants  killed  survived  equivalent  score")
    for package, count, killed, survived, equivalent in table:
        score = 100 * killed / max(killed + survived, 1)
        print(f"{package:9} {count:7} {killed:7} {survived:9} {equivalent:11} {score:5.1f}%")


if __name__ == "__main__":
    main()

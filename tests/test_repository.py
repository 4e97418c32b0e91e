"""What the repository publishes, and what it expects of its users' machines: scripts, workflows, pins."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from harness.basics import TEST_PREFIX
from mutants.run import OPTIONS, PACKAGES
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
SCRIPTS = [".ci/run", *(f"scripts/{path.name}" for path in sorted((REPOSITORY / "scripts").glob("*.sh")))]
LINES_OF_BASH = 1_300
FOR_DEBIAN = {"scripts/docker-engine.sh", "scripts/browser.sh"}
AFTER_BASH_3_2 = re.compile(
    r"\b(?:declare|local|typeset) -\w*[AnluU]|\b(?:mapfile|readarray|coproc|BASHPID|EPOCH\w+)\b|\bwait -[np]"
    r"|\|&|&>>|;;?&|%\([^)]*\)T|\[ -v |\$\{\w+(?:\[.\])?(?:,,?|\^\^?|@[A-Z])"
)
OF_GNU_ALONE = re.compile(
    r"\bpaste\b[^|]*'\)|\bbase64 -w|\bgrep -\w*P|\bsed -\w*[ir]\b|\bstat -c|\bdate -[dI]|\breadlink -[em]"
    r"|\bxargs -\w*r|\bhead -n -|\bsort -\w*V|\b(?:tac|nproc|realpath|numfmt|setsid|pgrep) "
)
WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
PROJECTS = [REPOSITORY / "pyproject.toml", *sorted(REPOSITORY.glob("*/pyproject.toml"))]
PROJECTS += [*sorted(REPOSITORY.glob("services/*/pyproject.toml")), REPOSITORY / "tests/harness/pyproject.toml"]

SEVERAL = {"resonate-server": 3, "bar": 2}
"""Instances with PostgreSQL."""

of_each_project = pytest.mark.parametrize("project", PROJECTS, ids=lambda path: str(path.relative_to(REPOSITORY)))


def complaints(tool: str, *arguments: str | Path) -> str:
    """Run a tool of this environment; return its output if it fails."""
    command = [TOOLS / tool, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.skipif(not (TOOLS / "shellcheck").exists(), reason="shellcheck is not packaged for this platform")
def test_shellcheck_finds_nothing(pytestconfig: pytest.Config) -> None:
    """It takes nine seconds of a core, so scripts that passed are not looked at again until one changes."""
    content = b"".join((REPOSITORY / path).read_bytes() for path in [*SCRIPTS, "requirements.lock"])
    digest, cache = hashlib.sha256(content).hexdigest(), getattr(pytestconfig, "cache", None)
    if not cache or cache.get("shellcheck/passed", "") != digest:
        assert complaints("shellcheck", "--external-sources", "--extended-analysis=false", *SCRIPTS) == ""
    if cache:
        cache.set("shellcheck/passed", digest)


def test_there_is_little_bash() -> None:
    """Bash starts and kills processes; anything that needs logic is Python."""
    lines = {path: len((REPOSITORY / path).read_text().splitlines()) for path in SCRIPTS[1:]}

    assert sum(lines.values()) <= LINES_OF_BASH, lines


@pytest.mark.parametrize("newer", [AFTER_BASH_3_2, OF_GNU_ALONE], ids=["bash 3.2", "tools of BSD"])
def test_scripts_for_every_system_use_only_what_a_mac_has(newer: re.Pattern[str]) -> None:
    texts = {path: (REPOSITORY / path).read_text() for path in SCRIPTS[1:] if path not in FOR_DEBIAN}

    assert {path: found for path, text in texts.items() if (found := newer.findall(text))} == {}


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("renovate", [REPOSITORY / "renovate.json"]),
        ("compose-spec", [REPOSITORY / "docker-compose.yml"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_for_other_programs_match_their_schemas(schema: str, files: list[Path]) -> None:
    assert complaints("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files) == ""


has_docker = pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker command")


def composed(*files: str, **env: str) -> Any:
    """Return the services as docker compose resolves them."""
    command = ["docker", "compose", *(f"--file={file}" for file in ("docker-compose.yml", *files)), "config"]
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("OTEL_", "RESONATE_"))}
    done = subprocess.run(
        [*command, "--format=json"], cwd=REPOSITORY, env=inherited | env, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)["services"]


@has_docker
def test_the_official_server_is_the_published_image_and_is_not_built() -> None:
    server = composed("compose.official.yml")["resonate-server"]

    assert server["image"] == "resonatehqio/resonate:v0.9.8"
    assert "build" not in server
    assert "wget" in server["healthcheck"]["test"]


@has_docker
def test_with_postgresql_several_servers_share_a_database_that_is_as_confined_as_they_are() -> None:
    services = composed("compose.postgres.yml")
    server, postgres = services["resonate-server"], services["postgres"]

    assert {name: service["scale"] for name, service in services.items() if "scale" in service} == SEVERAL
    assert "volumes" not in server
    assert "ports" not in postgres
    assert server["environment"]["PGPASSWORD"] == postgres["environment"]["POSTGRES_PASSWORD"]
    confined = ("cap_drop", "init", "logging", "read_only", "restart", "security_opt", "pids_limit")
    assert {name: postgres[name] for name in confined} == {name: server[name] for name in confined}


@has_docker
@pytest.mark.parametrize("given", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}], ids=["unset", "set"])
def test_every_container_gets_the_collector_that_is_set(given: dict[str, str]) -> None:
    environments = [service["environment"] for service in composed(**given).values()]
    told = [{name: value for name, value in each.items() if "OTEL_" in name} for each in environments]

    assert [{name: value for name, value in each.items() if value is not None} for each in told] == [given] * 4


def test_the_base_image_is_pinned_by_its_digest_and_the_same_everywhere() -> None:
    named = {
        image
        for file in ("Dockerfile", "docker-compose.yml", "scripts/lib.sh")
        for image in re.findall(r"\bpython:[\w.@:-]+", (REPOSITORY / file).read_text())
    }

    assert len(named) == 1
    assert re.fullmatch(r"python:3\.13-slim@sha256:[0-9a-f]{64}", named.pop())


def test_every_action_is_pinned_to_a_commit() -> None:
    used = [name for path in WORKFLOWS for name in re.findall(r"uses: (\S+)", path.read_text())]

    assert [name for name in used if not re.fullmatch(r"\./.*|[\w/-]+@[0-9a-f]{40}", name)] == []


def output_of_step(job: str, id: str, folder: Path, **env: str) -> dict[str, str]:
    """Run a shell step of the release workflow and return its outputs."""
    steps = YAML(typ="safe").load(REPOSITORY / ".github/workflows/release.yml")["jobs"][job]["steps"]
    script = next(step["run"] for step in steps if step.get("id") == id)
    env = os.environ | env | {"GITHUB_OUTPUT": str(folder / "output")}
    (folder / "output").unlink(missing_ok=True)
    subprocess.run(["bash", "-e", "-c", script], cwd=REPOSITORY, env=env, check=True)
    return dict(line.split("=", 1) for line in (folder / "output").read_text().splitlines())


def test_a_release_publishes_an_image_of_each_service_and_of_the_server(tmp_path: Path) -> None:
    targets = {}
    names = json.loads(output_of_step("services", "list", tmp_path)["names"])
    for name in names:
        env = {"SERVICE": name, "GITHUB_REPOSITORY": "Some/Body", "GITHUB_REF_NAME": "v1.2.3"}
        output = output_of_step("publish", "name", tmp_path, **env)
        assert (output["name"], output["version"]) == (f"ghcr.io/some/body-{name}", "1.2.3")
        targets[name] = output["target"]

    assert targets.items() >= {"foo": "foo", "bar": "worker", "baz": "worker", "resonate-server": "server"}.items()
    assert set(targets.values()) <= set(
        re.findall(r"^FROM .* AS (\S+)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    )


@of_each_project
def test_every_package_names_the_licence(project: Path) -> None:
    assert tomllib.loads(project.read_text())["project"]["license"] == "Apache-2.0"


@of_each_project
def test_the_lock_file_contains_the_versions_that_a_project_requires(project: Path) -> None:
    content = tomllib.loads(project.read_text())
    extras = content["project"].get("optional-dependencies", {}).values()
    asked = [*content["project"]["dependencies"], *chain(*extras), *content.get("dependency-groups", {}).get("dev", [])]
    pins = [re.sub(r"\[.*\]|;.*", "", requirement).strip() for requirement in asked if "==" in requirement]
    lock = project.with_name("requirements.lock")
    locked = (lock if lock.exists() else REPOSITORY / "requirements.lock").read_text()

    assert [pin for pin in pins if not re.search(rf"^{re.escape(pin)}\b", locked, re.MULTILINE)] == []


def test_ci_removes_only_what_tests_of_this_checkout_leave_behind() -> None:
    [line] = re.findall(r"^TEST_PREFIX=.*", (REPOSITORY / ".ci/run").read_text(), re.MULTILINE)
    said = subprocess.check_output(["bash", "-c", f"{line}; echo $TEST_PREFIX"], cwd=REPOSITORY, text=True)
    assert said.strip() == TEST_PREFIX


def test_nothing_is_tracked_that_git_is_told_to_ignore() -> None:
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]

    assert subprocess.check_output(command, cwd=REPOSITORY, text=True) == ""


def test_mutants_are_judged_by_tests_that_pytest_finds() -> None:
    """Nobody notices otherwise: ``scripts/mutants.sh`` is run by hand."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", *OPTIONS, *PACKAGES["engine"].tests]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr

"""What the scripts print when asked for help, called with bad arguments, or run without a stack."""

import pwd
import subprocess
import sys
from functools import partial
from pathlib import Path

import postgres
import pytest
from harness.basics import REPOSITORY, TEST_PREFIX

from stack.checkouts import FULL_DISK, Checkout, free_ports

SCRIPTS = sorted(path for path in (REPOSITORY / "scripts").glob("*.sh") if not path.name.startswith("lib"))


run = partial(Checkout(REPOSITORY).run_in, Path("/"))


def script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(REPOSITORY / "scripts" / name, *arguments, **environment)


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    return {
        "STACK_DIR": str(tmp_path / TEST_PREFIX),
        "COMPOSE_PROJECT_NAME": f"{TEST_PREFIX}nowhere",
        **free_ports(),
    }


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_help(path: Path) -> None:
    done = run(path, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: scripts/{path.name}")
    assert done.stderr == ""


@pytest.mark.parametrize(
    "path", [path for path in SCRIPTS if path.name not in ("test.sh", "mutants.sh")], ids=lambda path: path.name
)
def test_an_unknown_option_is_named_and_refused(path: Path) -> None:
    """Those two pass what they do not know on."""
    done = run(path, "--no-such-option")
    assert done.returncode != 0
    assert "--no-such-option" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("trigger.sh", "--pause"),
        ("trigger.sh", "--pause", "soon"),
        ("trigger.sh", "--pause", "1", "--running", "1"),
        ("trigger.sh", "--id", ""),
        ("trigger.sh", "--id", "a\r\nPrefer: respond-async"),
        ("trigger.sh", "--max-time", "0"),
        ("trigger.sh", "--flow", "saga"),
        ("trigger.sh", "--flow", "fan-out", "--pause", "1"),
        ("trigger.sh", "--async", "--flow", "detached"),
        ("example.sh",),
        ("example.sh", "quux"),
        ("example.sh", "../services/bar/bar"),
        ("example.sh", "saga", "--id", "a:b"),
        ("example.sh", "schedule", "--id", "a"),
        ("crash-bar.sh", "--pause", "0"),
        ("crash.sh",),
        ("crash.sh", "quux"),
        ("crash.sh", "foo", "bar"),
        ("crash.sh", "bar", "--when", "later"),
        ("crash.sh", "bar", "--kill", "--freeze"),
        ("crash.sh", "bar", "--for", "0"),
        ("crash.sh", "bar", "--down", "x"),
        ("crash.sh", "bar", "--down", "99999999999999999999"),
        ("chaos.sh", "--chains", "0"),
        ("chaos.sh", "--chains", "1.5"),
        ("watch.sh", ""),
        ("watch.sh", "--", "a", "b"),
        ("down.sh", "--volumes", "x"),
        ("up.sh", "--docker", "--processes"),
        ("up.sh", "--ports", "5050"),
        ("logs.sh", "quux"),
    ],
    ids=" ".join,
)
def test_bad_arguments_are_refused(arguments: tuple[str, ...]) -> None:
    done = script(*arguments)
    assert done.returncode == 2
    assert f"{arguments[0]}: " in done.stderr
    assert "--help" in done.stderr


@pytest.mark.parametrize(
    ("files", "known"),
    [
        ("docker-compose.yml", "resonate-server, foo, bar and baz"),
        ("docker-compose.yml:compose.postgres.yml", "postgres, resonate-server, foo, bar and baz"),
    ],
)
def test_an_unknown_service_is_answered_with_the_known_ones(files: str, known: str) -> None:
    done = script("logs.sh", "quux", COMPOSE_FILE=files)
    assert done.returncode == 2
    assert f"unknown service 'quux'; the services are {known}" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LEASE_SECONDS", "0", "LEASE_SECONDS must be"),
        ("MAX_TASKS", "0", "MAX_TASKS must be"),
        ("RESONATE_TOKEN", "a\nb", "RESONATE_TOKEN must be a single line"),
        ("FOO_PORT", "abc", "FOO_PORT must be a port number, 1 to 65535, not 'abc'."),
        ("FOO_PORT", "0", "not '0'."),
        ("RESONATE_PORT", "70000", "not '70000'."),
        ("RESONATE_PORT", "1.5", "not '1.5'."),
        ("RESONATE_PORT", "FOO_PORT", "must differ"),
    ],
)
def test_a_setting_that_nobody_would_accept_is_refused_before_anything_starts(
    nowhere: dict[str, str], name: str, value: str, said: str
) -> None:
    done = script("up.sh", "--processes", **nowhere | {name: nowhere.get(value, value)})
    assert (done.returncode in (1, 2), said in done.stderr) == (True, True), done.stderr
    assert "Starting" not in done.stderr


@pytest.mark.parametrize("name", ["trigger.sh", "watch.sh", "crash-bar.sh"])
def test_without_a_stack_there_is_nobody_to_ask_and_nothing_to_strike(nowhere: dict[str, str], name: str) -> None:
    done = script(name, **nowhere)
    assert done.returncode == 1
    assert "scripts/up.sh" in done.stderr


def test_scripts_started_by_an_init_system_need_no_home() -> None:
    done = run("env", "-u", "HOME", REPOSITORY / "scripts/venv.sh", "--uv")
    assert done.returncode == 0, done.stderr


def test_down_without_a_stack(nowhere: dict[str, str]) -> None:
    done = script("down.sh", **nowhere)
    assert done.returncode == 0 or "cannot tell whether containers of the stack are running" in done.stderr


def test_a_full_disk_leaves_no_half_of_the_access_to_postgresql(tmp_path: Path) -> None:
    ask = f"import sys; sys.path.append('scripts'); from postgres import *; print(*access(Path({str(tmp_path)!r})))"
    run = [sys.executable, "-c", ask]
    full = ["bash", "-c", f'{FULL_DISK}; exec "$@"', "full", *run]

    assert subprocess.run(full, cwd=REPOSITORY, capture_output=True, check=False).returncode == 1
    assert subprocess.check_output(run, cwd=REPOSITORY, text=True) == "PGPORT PGPASSWORD\n"


def test_postgresql_sees_root_as_an_existing_user(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [pwd.struct_passwd(("it", "", uid, uid, "", "", "")) for uid in (0, 7)]
    monkeypatch.setattr(pwd, "getpwall", lambda: known)

    assert postgres.as_another_user()[2:] == ["--map-user=7", "--map-group=7"]

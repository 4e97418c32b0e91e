"""Each checkout is a stack of its own, wherever it is and however its scripts are called; they report what is wrong."""

import json
import marshal
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.basics import REPOSITORY, free_port

from stack.checkouts import AS_NOBODY, FULL_DISK, Checkout, engine, free_ports, tools
from stack.driver import SERVICES

NAME = re.compile(r"durable-rpc-[0-9a-f]{8}")
NAMED = f"durable-rpc-{secrets.token_hex(4)}"
"""Processes are found by it, on the whole machine: others may run these tests at the same time."""
NOTED = ["COMPOSE_PROJECT_NAME", "RESONATE_TOKEN"]
HOSTILE = (
    *("PIP_REQUIRE_VIRTUALENV", "PIP_USER", "PIP_PREFIX", "PIP_TARGET", "PIP_ONLY_BINARY"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTHONSTARTUP", "PYTHONOPTIMIZE"),
    *("UV_PYTHON", "UV_PROJECT", "UV_REQUIRE_HASHES", "UV_NO_BUILD", "UV_SYSTEM_PYTHON"),
)
PERMISSION_DENIED = "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1"
OBSTACLES = {
    "an engine that hangs": ({"*": "sleep 600"}, "no Docker engine answers"),
    "an engine that denies access": ({"*": PERMISSION_DENIED}, "the Docker engine refuses"),
    "a container that stays": (
        engine(
            {f"ps * label=com.docker.compose.project={NAMED} *": f"echo {NAMED}-foo-1"}
            | dict.fromkeys(("compose down *", "compose * down *"), "exit 1")
        ),
        f"{NAMED}-foo-1 could not be removed",
    ),
}

has_compose = pytest.mark.skipif(
    subprocess.run("docker compose version", shell=True, capture_output=True, check=False).returncode != 0,
    reason="there is no docker compose",
)


def open_to_all(folder: Path) -> None:
    """Let every user reach the folder and run what is in it, whatever the umask."""
    for each in folder.parents[:-2]:
        each.chmod(0o755)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout.make(tmp_path / "checkout")


@pytest.fixture
def named(checkout: Checkout) -> Checkout:
    """A checkout whose stack has a name."""
    checkout.add_to_env(f"COMPOSE_PROJECT_NAME={NAMED} # by scripts/up.sh for {checkout.folder}\n")
    return checkout


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with an engine that cannot build: up.sh does everything up to the build, and ends there."""
    return tools(tmp_path / "tools", docker=engine())


def up(checkout: Checkout, path: str, *arguments: str, **env: str) -> str:
    """Return what up.sh prints before it fails to build."""
    done = checkout.run("scripts/up.sh", "--docker", *arguments, **{**free_ports(), **env, "PATH": path})
    assert "no builder here" in done.stderr, done.stderr
    return done.stderr


def compose_config(folder: Path, **env: str) -> dict[str, object]:
    """Return the configuration that plain docker compose sees there."""
    done = Checkout(folder).run("docker", "compose", "config", "--format", "json", PWD=str(folder), **env)
    assert done.returncode == 0, done.stderr
    config: dict[str, object] = json.loads(done.stdout)
    return config


class TestName:
    @pytest.mark.parametrize("how", ["copied", pytest.param("moved", marks=pytest.mark.long)])
    def test_a_copied_or_moved_checkout_gets_another_and_mentions_the_first(
        self, checkout: Checkout, path: str, tmp_path: Path, how: str
    ) -> None:
        up(checkout, path)
        first = checkout.name
        other = getattr(checkout, how)(tmp_path / "other")
        assert f"COMPOSE_PROJECT_NAME={first} scripts/down.sh" in other.run("scripts/down.sh", PATH=path).stderr
        volumes = {
            f"volume ls * label=com.docker.compose.project={first} *": f"echo '  volume     {first}_resonate-data'"
        }
        said = up(other, tools(tmp_path / "more tools", docker=engine(volumes)))

        assert NAME.fullmatch(first) and NAME.fullmatch(other.name) and other.name != first
        for expected in (f"{first}_resonate-data", f"COMPOSE_PROJECT_NAME={first} scripts/down.sh", other.name):
            assert expected in said
        assert first not in up(other, path), "it is told once"
        if how == "copied":
            up(checkout, path)
            assert checkout.name == first

    def test_a_name_from_the_environment_is_not_saved(self, checkout: Checkout, path: str) -> None:
        up(checkout, path, COMPOSE_PROJECT_NAME="for-now")

        assert not (checkout.folder / ".env").exists()

    @has_compose
    def test_plain_compose_uses_the_same_name_also_in_a_subfolder_and_through_a_symlink(
        self, checkout: Checkout, path: str, tmp_path: Path
    ) -> None:
        up(checkout, path)
        (tmp_path / "link").symlink_to(checkout.folder)

        for folder in (checkout.folder, checkout.folder / "scripts", tmp_path / "link"):
            assert compose_config(folder)["name"] == checkout.name

    @has_compose
    def test_plain_compose_tells_two_clones_apart_before_any_script_has_run(self, tmp_path: Path) -> None:
        names = [compose_config(Checkout.make(tmp_path / parent / "same").folder)["name"] for parent in ("a", "b")]

        assert names[0] != names[1]

    @pytest.mark.parametrize("started", ["through a symlink", "by hand"])
    def test_containers_of_this_folder_are_those_of_its_stack(
        self, checkout: Checkout, tmp_path: Path, started: str
    ) -> None:
        """`.env` may be lost, as after `git clean`, or may never have existed."""
        (tmp_path / "link").symlink_to(checkout.folder)
        by_hand = "durable-rpc-" + re.sub(r"[^a-z0-9_-]", "", str(checkout.folder).lower())
        name, folder = {"through a symlink": (NAMED, tmp_path / "link"), "by hand": (by_hand, checkout.folder)}[started]
        shown = f"echo 'other-1 {tmp_path}'; echo 'durable-rpc-test-1 {folder}'; echo '{name} {folder}'"
        up(checkout, tools(tmp_path / "tools", docker=engine({"ps *working_dir*": shown})))

        assert checkout.name == name


class TestFolder:
    def test_neither_its_name_nor_settings_of_the_shell_matter(self, path: str, tmp_path: Path) -> None:
        checkout = Checkout.make(tmp_path / """it's "so", $HOME; a & b *""")
        other = Checkout.make(tmp_path / "other")
        (checkout.folder / "greeting").write_text("echo hello; cd /\n")
        shell = {
            "BASH_ENV": "greeting",
            "BASH_FUNC_sed%%": "() { echo no; }",
            "CDPATH": f"{other.folder}:.",
            "SHELLOPTS": "noclobber:noglob",
        }
        up(checkout, path, "--token", **shell)
        env = checkout.env
        up(checkout, path, "--token", **shell)

        assert checkout.env == env
        assert re.findall(r"^([A-Z_]+)=[\w-]+ # by scripts/up.sh", env, re.MULTILINE) == NOTED
        assert len(env.splitlines()) == len(NOTED)
        assert not (other.folder / ".env").exists()

    def test_cdpath_does_not_lead_ci_into_another_clone(self, checkout: Checkout, tmp_path: Path) -> None:
        other = Checkout.make(tmp_path / "other")
        for clone in (checkout, other):
            (clone.folder / "scripts/lib.sh").write_text("pwd; exit 3\n")
        done = checkout.run("bash", ".ci/run", CDPATH=str(other.folder))

        assert (done.returncode, done.stdout) == (3, f"{checkout.folder}\n")

    def test_scripts_run_from_a_folder_that_is_gone(self, checkout: Checkout, tmp_path: Path) -> None:
        command = f"mkdir gone && cd gone && rmdir ../gone && exec '{checkout.folder}/scripts/trigger.sh' --help"
        done = checkout.run_in(tmp_path, "bash", "-c", command)

        assert (done.returncode, done.stdout.splitlines()[0][:27]) == (0, "usage: scripts/trigger.sh [")

    def test_a_symlink_to_a_script_acts_where_the_script_is(
        self, checkout: Checkout, path: str, tmp_path: Path
    ) -> None:
        other = Checkout.make(tmp_path / "other")
        link = other.folder / "scripts" / "mine.sh"
        link.symlink_to(checkout.folder / "scripts/up.sh")
        done = other.run(link, "--docker", PATH=path, **free_ports())

        assert "no builder here" in done.stderr
        assert NAME.fullmatch(checkout.name)
        assert not (other.folder / ".env").exists()

    def test_lines_that_end_with_cr_lf_are_reported(self, checkout: Checkout) -> None:
        for script in (checkout.folder / "scripts").glob("*.sh"):
            script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))
        done = checkout.run("scripts/up.sh")

        assert done.returncode == 1
        assert done.stderr.startswith("Lines in scripts/*.sh end with CR LF")

    def test_git_checks_out_all_text_with_lf(self) -> None:
        listed = subprocess.check_output(["git", "ls-files", "--eol"], cwd=REPOSITORY, text=True).splitlines()
        other = [line for line in listed if "attr/text=auto eol=lf" not in line and "attr/-text" not in line]

        assert listed
        assert other == []


class TestSettings:
    def test_the_two_ports_after_taken_ones_in_env_are_suggested_and_ports_auto_saves_them(
        self, checkout: Checkout, path: str
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            foo = free_port()
            checkout.add_to_env(f"FOO_PORT={foo}\nRESONATE_PORT={port}\n")
            done = checkout.run("scripts/up.sh", "--docker", PATH=path)
            auto = checkout.run("scripts/up.sh", "--docker", "--ports", "auto", PATH=path)

        assert done.returncode == 1
        assert f"port {port} is taken" in done.stderr
        proposed = re.search(r"FOO_PORT=(\d+) RESONATE_PORT=(\d+) scripts/up.sh", done.stderr)
        assert proposed, done.stderr
        assert 1 <= int(proposed[1]) - foo == int(proposed[2]) - port
        assert "--ports auto" in done.stderr
        assert "no builder here" in auto.stderr
        assert re.findall(r"_PORT=(\d+) # by", checkout.env) == list(proposed.groups())

    @has_compose
    @pytest.mark.parametrize("line", ["some/python:3.13 # by scripts/up.sh", 'FOO_PORT="5'], ids=["no name", "no end"])
    def test_a_line_in_env_that_compose_cannot_read_is_reported(
        self, checkout: Checkout, tmp_path: Path, line: str
    ) -> None:
        real = {"compose config *": f'exec {shutil.which("docker")} "$@"'}
        checkout.add_to_env(line + "\n")
        done = checkout.run("scripts/up.sh", "--docker", PATH=tools(tmp_path / "tools", docker=engine(real)))

        assert done.returncode == 1
        assert ".env" in done.stderr
        assert checkout.env == line + "\n"

    def test_a_full_disk_leaves_env_as_it_was(self, checkout: Checkout) -> None:
        checkout.add_to_env("FOO_PORT=5050\nPYTHON_IMAGE=mine\n")
        env = checkout.env
        done = checkout.run("bash", "-c", f"{FULL_DISK}; . scripts/lib.sh; rewrite_env PYTHON_IMAGE")

        assert (done.returncode, checkout.env) == (1, env)
        assert f"cannot write the file .env in {checkout.folder}." in done.stderr
        assert list(checkout.folder.glob(".env.*")) == []

    def test_a_shared_env_behind_a_symlink_is_kept_whatever_its_encoding(
        self, checkout: Checkout, path: str, tmp_path: Path
    ) -> None:
        shared, mine = tmp_path / "shared", "# f\xfcr mich\nTZ=UTC\n".encode("latin-1")
        shared.write_bytes(mine)
        (checkout.folder / ".env").symlink_to("../shared")
        for _ in range(2):
            up(checkout, path, LC_ALL="C.UTF-8")

        assert (checkout.folder / ".env").is_symlink()
        assert re.fullmatch(re.escape(mine) + rb"COMPOSE_PROJECT_NAME=durable-rpc-\w+ # .*\n", shared.read_bytes())

    def test_what_the_user_chose_in_env_is_kept_and_nothing_saved_beside_it(
        self, checkout: Checkout, path: str
    ) -> None:
        checkout.add_to_env(mine := "COMPOSE_PROJECT_NAME=mine\nPYTHON_IMAGE=mine\n")
        up(checkout, path, "--ports", "auto")

        assert checkout.env == mine

    def test_no_port_beyond_the_last_one_is_suggested(self, checkout: Checkout, path: str) -> None:
        with socket.create_server(("127.0.0.1", 65_535)):
            done = checkout.run(
                "scripts/up.sh", "--docker", PATH=path, FOO_PORT="65535", RESONATE_PORT=str(free_port())
            )

        assert done.returncode == 1
        assert "port 65535 is taken by another program, and so are those that follow it" in done.stderr

    def test_a_user_without_a_home_needs_no_cache_there(self, checkout: Checkout) -> None:
        checkout.share_uv()
        done = checkout.run("scripts/venv.sh", "--python", "9.99", HOME="/dev/null")

        assert "cache" not in done.stderr

    def test_python_settings_of_the_shell_do_not_reach_it(self, checkout: Checkout) -> None:
        hostile = dict.fromkeys(HOSTILE, "1")
        kept = {"PIP_INDEX_URL": "a", "PIP_CERT": "b", "PIP_FIND_LINKS": "c", "PIP_DEFAULT_TIMEOUT": "9", "PYTHON": "d"}
        kept |= {"UV_DEFAULT_INDEX": "e", "UV_INDEX_X_PASSWORD": "f", "UV_SYSTEM_CERTS": "1", "UV_CACHE_DIR": "g"}
        done = checkout.run("bash", "-c", ". scripts/lib.sh; env", HTTPS_PROXY="h", **hostile, **kept)
        seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

        assert hostile.keys() & seen.keys() == set()
        assert {name: seen.get(name) for name in kept} == kept
        assert seen["HTTPS_PROXY"] == "h"


class TestMissing:
    def test_a_missing_command_is_named_with_its_package(self, checkout: Checkout, tmp_path: Path) -> None:
        path = tools(tmp_path / "tools", without="curl", docker=engine())
        done = checkout.run("scripts/up.sh", PATH=path)

        assert done.returncode == 1
        assert "the command 'curl' is missing. On Debian: apt-get install curl" in done.stderr

    @pytest.mark.parametrize(
        "script", ["up.sh --docker", "trigger.sh", "crash-bar.sh", "watch.sh", "logs.sh", "chaos.sh", "down.sh"]
    )
    def test_denied_access_to_the_engine_is_reported_with_a_remedy_and_not_as_if_nothing_ran(
        self, checkout: Checkout, tmp_path: Path, script: str
    ) -> None:
        denied = dict.fromkeys(("version *", "*ps *"), PERMISSION_DENIED)
        done = checkout.run("bash", "-c", f"scripts/{script}", PATH=tools(tmp_path / "tools", docker=engine(denied)))

        assert done.returncode == 1
        assert "the Docker engine refuses" in done.stderr
        assert "usermod -aG docker" in done.stderr


class TestEnvironment:
    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        """A PATH with a uv that installs nothing."""
        path = tools(tmp_path / "tools", docker=engine())
        uv = tmp_path / "tools/uv"
        python = shlex.quote(sys.executable)
        make = f'mkdir -p "${{@: -1}}/bin" && ln -s {python} "${{@: -1}}/bin/python"'
        uv.write_text(f'#!/bin/bash -p\ncase "$1" in\npython) echo {python} ;;\nvenv) {make} ;;\nesac\n')
        uv.chmod(0o755)
        return path

    def test_none_is_half_there_after_a_full_disk(self, path: str, tmp_path: Path) -> None:
        """Python before 3.13.1 leaves the halves of compiled modules, and then fails to load them."""
        checkout = Checkout.make(tmp_path / "checkout", whole=True)
        left = checkout.folder / ".venv/left"
        full = checkout.run("bash", "-c", "trap '' XFSZ; ulimit -f 1; scripts/venv.sh", PATH=path)
        left.touch()
        again = checkout.run("scripts/venv.sh", PATH=path)
        compiled = list((checkout.folder / "worker").rglob("*.pyc"))
        for file in compiled:
            marshal.loads(file.read_bytes()[16:])

        assert (full.returncode, again.returncode) == (1, 0), full.stderr + again.stderr
        assert "the disk is full" in full.stderr
        assert compiled
        assert not left.exists(), "it was made anew"


class TestNothingRuns:
    def test_a_stranger_on_the_default_or_the_saved_port_gets_no_request(self, checkout: Checkout, path: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            other.settimeout(0)
            checkout.add_to_env(f"FOO_PORT={other.getsockname()[1]}\n")
            done = checkout.run("scripts/trigger.sh", PATH=path)
            with pytest.raises(BlockingIOError):
                other.accept()

        assert done.returncode == 1
        assert "the stack is not up; scripts/up.sh starts it." in done.stderr

    @pytest.mark.long
    @pytest.mark.parametrize("script", ["trigger.sh", "crash-bar.sh", "down.sh", "logs.sh"])
    def test_no_script_claims_that_nothing_runs_when_the_engine_takes_too_long_to_answer(
        self, named: Checkout, tmp_path: Path, script: str
    ) -> None:
        done = named.run(f"scripts/{script}", PATH=tools(tmp_path / "tools", docker=engine({"*ps *": "sleep 600"})))

        assert done.returncode == 1
        assert ": Docker has not answered within 10 s" in done.stderr


class TestPostgres:
    def test_it_is_saved_for_plain_compose_and_for_the_next_time(self, checkout: Checkout, path: str) -> None:
        up(checkout, path, "--postgres", RESONATE_PORT="18001")
        up(checkout, path, RESONATE_PORT="18001")

        assert "COMPOSE_FILE=docker-compose.yml:compose.postgres.yml " in checkout.env
        assert "SERVER_PORTS=18001-18003 " in checkout.env

    def test_a_stack_running_without_it_stays_as_it_is(self, named: Checkout, path: str) -> None:
        bar = named.begin_process("bar", NAMED)
        done = named.run("scripts/up.sh", "--postgres", PATH=path)
        anew = named.run("scripts/up.sh", PATH=path)
        bar.kill()
        bar.wait()

        assert done.returncode == 1
        assert "running without PostgreSQL" in done.stderr
        assert "COMPOSE_FILE" not in named.env
        assert "the settings of what runs are gone" in anew.stderr, "a checkout made again in the place of another"


class TestKind:
    """Each kind of stack has its own database; up.sh does not start a second, empty one unless told to."""

    @pytest.fixture
    def last_run(self, named: Checkout) -> Path:
        (named.folder / ".local" / NAMED).mkdir(parents=True)
        return named.folder / ".local" / NAMED / "last-run"

    def test_containers_are_not_replaced_by_processes_when_no_engine_answers(
        self, named: Checkout, last_run: Path, tmp_path: Path
    ) -> None:
        last_run.write_text("containers with SQLite\n")
        done = named.run("scripts/up.sh", PATH=tools(tmp_path / "tools", docker={"*": "exit 1"}))

        assert done.returncode == 1
        assert "no Docker engine answers, but the stack last ran as containers, which have its database" in done.stderr
        assert "scripts/up.sh --processes" in done.stderr

    def test_another_kind_or_database_is_started_on_request_with_a_warning(
        self, named: Checkout, last_run: Path, path: str
    ) -> None:
        for last, warned in (("processes with SQLite", True), ("containers with SQLite", False)):
            last_run.write_text(f"{last}\n")
            said = up(named, path)
            assert (f"last time it ran as {last}, which has another database" in said) == warned, said


class TestDown:
    @pytest.fixture
    def bar(self, named: Checkout) -> Iterator[subprocess.Popen[bytes]]:
        bar = named.begin_process("bar", NAMED)
        yield bar
        bar.kill()
        bar.wait()

    def down(self, checkout: Checkout, path: str, **env: str) -> subprocess.CompletedProcess[str]:
        return checkout.run("scripts/down.sh", PATH=path, **env)

    def assert_stopped(self, done: subprocess.CompletedProcess[str], bar: subprocess.Popen[bytes]) -> None:
        assert (done.returncode, "The stack is down" in done.stderr) == (0, True), done.stderr
        assert bar.wait(timeout=60) != 0

    @pytest.mark.parametrize("line", [None, 'FOO_PORT="5', "COMPOSE_PROJECT_NAME=No Name"])
    def test_finds_processes_whatever_has_become_of_env(
        self, named: Checkout, bar: subprocess.Popen[bytes], path: str, line: str | None
    ) -> None:
        if line is None:  # as after `git clean`
            (named.folder / ".env").unlink()
        else:
            named.add_to_env(f"{line}\n")
        self.assert_stopped(self.down(named, path), bar)

    def test_stops_them_even_if_it_cannot_say_so(
        self, named: Checkout, bar: subprocess.Popen[bytes], path: str
    ) -> None:
        """As on a full disk."""
        done = named.run("bash", "-c", "scripts/down.sh 2>/dev/full", PATH=path)

        assert (done.returncode, bar.wait(timeout=60)) == (0, -15)

    def test_finds_them_in_a_folder_with_any_letters_in_any_language(self, path: str, tmp_path: Path) -> None:
        """Without `.env` they are found by that folder, among all processes of the machine."""
        checkout = Checkout.make(tmp_path / "Prüfung")
        bar = checkout.begin_process("bar", NAMED)
        neighbour = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)", "a\u2028b\x85\x1ec\nd", b"\xff"]
        )
        try:
            self.assert_stopped(self.down(checkout, path, LC_ALL="C"), bar)
        finally:
            for process in (bar, neighbour):
                process.kill()
                process.wait()

    def test_does_not_mention_containers_if_there_are_none(
        self, named: Checkout, bar: subprocess.Popen[bytes], path: str
    ) -> None:
        done = named.run("scripts/down.sh", "--volumes", PATH=path)

        self.assert_stopped(done, bar)
        assert "stopping the processes" in done.stderr
        assert "container" not in done.stderr

    def test_leaves_processes_of_another_stack_alone(
        self, named: Checkout, bar: subprocess.Popen[bytes], path: str, tmp_path: Path
    ) -> None:
        other = named.copied(tmp_path / "other")
        assert self.down(other, path).returncode == 0
        assert bar.poll() is None

    def test_says_that_env_cannot_be_read(self, named: Checkout, bar: subprocess.Popen[bytes], path: str) -> None:
        (named.folder / ".env").unlink()
        (named.folder / ".env").mkdir()
        done = self.down(named, path)

        assert done.returncode == 1
        assert ".env cannot be read" in done.stderr
        assert bar.wait(timeout=60) != 0, "it is stopped all the same"

    @pytest.mark.parametrize(("docker", "said"), OBSTACLES.values(), ids=OBSTACLES)
    def test_says_what_is_in_its_way(self, named: Checkout, tmp_path: Path, docker: dict[str, str], said: str) -> None:
        began = time.monotonic()
        done = self.down(named, tools(tmp_path / "tools", docker=docker))

        assert done.returncode == 1
        assert said in done.stderr
        assert "is down" not in done.stderr
        assert time.monotonic() - began < 60

    @pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/bin/python3").exists(), reason="only root can be two users")
    def test_a_user_who_cannot_run_the_environment_can_crash_nothing_and_learns_why(
        self, named: Checkout, path: str, tmp_path: Path
    ) -> None:
        started = [named.begin_process(service, NAMED) for service in SERVICES]
        open_to_all(tmp_path)
        (named.folder / ".venv").chmod(0o700)
        done = named.run(*AS_NOBODY, "scripts/crash-bar.sh", PATH=path)
        for process in started:
            process.kill()
            process.wait()

        assert done.returncode == 1
        assert done.stderr == (
            f"crash-bar.sh: the stack runs with {named.folder}/.venv/bin/python, which nobody may not execute.\n"
        )

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
    def test_says_which_processes_belong_to_another_user(
        self, named: Checkout, bar: subprocess.Popen[bytes], path: str, tmp_path: Path
    ) -> None:
        open_to_all(tmp_path)
        (named.folder / ".env").chmod(0o600)
        health_file = named.folder / ".local" / NAMED / "run/bar.health"
        health_file.parent.mkdir(parents=True)
        health_file.touch()
        done = named.run(*AS_NOBODY, "scripts/down.sh", PATH=path)

        assert done.returncode == 1
        assert f"bar could not be stopped: process {bar.pid} of root" in done.stderr
        assert "Traceback" not in done.stderr
        assert bar.poll() is None

        for verb in ("kill", "freeze"):
            done = named.run(*AS_NOBODY, "bash", "-c", f". scripts/lib.sh; find_stack; processes {verb} bar", PATH=path)
            assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
            assert "the stack is of root, this is nobody" in done.stderr

"""Controls the stack as processes, as `docker` does for containers. scripts/lib.sh calls it.

    processes.py up SERVICE...  start those that do not run, and wait until all are healthy; settings: the environment
    processes.py stop           stop the whole stack; report what could not be stopped
    processes.py list           "PID, NAME" of each
    processes.py running        the names of those that run
    processes.py metrics        where the metrics are
    processes.py hold PORT...   see ports.py
    processes.py stacks         the names of the stacks that run with this checkout's environment
    processes.py VERB NAME...   lib.sh describes the other verbs

A process has the name of its service; a second one of the same service has a number: bar-2. Any Python from 3.10 on
will do, without packages.
"""

import contextlib
import fcntl
import os
import pwd
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

HEALTHY_SECONDS = 90
"""How long a start may take."""
STOP_SECONDS = 5
END_SECONDS = 15
"""The children of a killed foo hold its port until they have answered the last of the waiting requests."""
LOOK_SECONDS = 0.2
MOMENT_SECONDS = 2
"""How long the owner of a port may be unknown."""

REPOSITORY = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("STACK_DIR", ""))
SETTINGS = FOLDER / "run/settings"
METRICS_PORT = "RESONATE_OBSERVABILITY__METRICS_PORT"
USUAL_METRICS_PORT = 9_090
NAMES = ("FOO_PORT", "RESONATE_PORT", "LEASE_SECONDS", "DEMO_FAULTS", "RESONATE_TOKEN")
SERVER, POSTGRES = "resonate-server", "postgres"
SOMEBODY_ELSE = ""
HAS_POSTGRES = "compose.postgres.yml" in os.environ.get("COMPOSE_FILE", "")
INSTANCES = {SERVER: 3, "bar": 2} if HAS_POSTGRES else {}
"""Services with more than one instance, as in that file."""

PROC = "/proc"
"""Where Linux lists processes."""
# Every process has this on its command line, with the name of its stack and its own. So all of them are found without
# notes, and another program is not taken for one of them because it has the same pid.
MARK = " -X durable-rpc-stack="
STACK = os.environ.get("COMPOSE_PROJECT_NAME", "")


class Process(NamedTuple):
    """``group``: shared with the processes that it started, which have its name, too."""

    pid: int
    parent: int
    group: int
    uid: int
    stack: str
    name: str
    interpreter: str

    @property
    def is_leader(self) -> bool:
        """A child that outlives its parent for a moment is not a leader."""
        return self.pid == self.group


def user_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def every_process(containing: str = "") -> list[Process]:
    """Return all processes with that on their command lines; those that belong to no stack have no name."""
    processes = []
    found = from_proc(containing) if Path(f"{PROC}/self/stat").exists() else from_ps(containing)
    for (pid, parent, group, uid), command in found:
        interpreter, _, rest = command.partition(MARK)
        stack, _, name = rest.partition(" ")[0].partition("/")
        processes.append(Process(pid, parent, group, uid, stack, name, interpreter))
    return processes


def from_proc(containing: str) -> Iterator[tuple[list[int], str]]:
    """Yield pid, parent, group and user of each, and its command, in a fifth of the time that `ps` takes."""
    for folder in os.scandir(PROC):
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile, or is hidden
                command = content(f"{folder.path}/cmdline").replace(b"\0", b" ").decode(errors="replace")
                if containing not in command:
                    continue
                _, parent, group, _ = content(f"{folder.path}/stat").rpartition(b") ")[2].split(b" ", 3)
                yield [int(folder.name), int(parent), int(group), folder.stat().st_uid], command


def content(file: str) -> bytes:
    with open(file, "rb", buffering=0) as opened:  # noqa: PTH123  five times as fast as a Path, for hundreds of files
        return opened.read()


def from_ps(containing: str) -> Iterator[tuple[list[int], str]]:
    """Yield the same where there is no `/proc`. Without the locale, `ps` may write "?" for letters of a path."""
    import subprocess

    ps = ["ps", "-A", "-ww", "-o", "pid=,ppid=,pgid=,uid=,command="]
    listed = subprocess.check_output(ps, encoding="utf-8", errors="replace", env={**os.environ, "LC_ALL": "C.UTF-8"})  # noqa: S603
    for line in listed.removesuffix("\n").split("\n"):  # splitlines() would also split at other characters
        *numbers, command = (*line.split(None, 4), "")[:5]
        if containing in command:
            yield list(map(int, numbers)), command


def ours(name: str | None = None) -> list[Process]:
    """Return the processes of this stack, or those with the given name."""
    return [each for each in every_process(MARK) if each.name and each.stack == STACK and name in (None, each.name)]


def family(name: str) -> list[Process]:
    """Return the processes of that name and all their descendants, parents first. Some descendants, such as
    PostgreSQL's connections, are in sessions of their own and have no name."""
    everybody = every_process()
    found = [each for each in everybody if each.name == name and each.stack == STACK]
    for parent in found:  # the list grows meanwhile
        found += [each for each in everybody if each.parent == parent.pid and each not in found]
    return found


def running() -> list[str]:
    return sorted(each.name for each in ours() if each.is_leader)


def log_file(name: str) -> Path:
    return FOLDER / "log" / f"{name}.log"


def health_file(name: str) -> Path:
    return FOLDER / "run" / f"{name}.health"


def service_of(name: str) -> str:
    return re.sub(r"-\d+$", "", name)


def settings() -> dict[str, str]:
    return dict(line.split("=", 1) for line in SETTINGS.read_text().splitlines())


def keep_settings() -> None:
    """Keep them for this user only, as there may be a token among them."""
    kept = settings() if SETTINGS.exists() else {}
    postgres().write_privately(SETTINGS, kept | {name: os.environ[name] for name in NAMES})


def choose_metrics_port() -> None:
    """Choose it for the server that is about to start: the given one, or its last one if still free, or the next."""
    kept = settings()
    port = os.environ.get(METRICS_PORT) or kept.get(METRICS_PORT, "")
    stays_free = port and within(MOMENT_SECONDS, lambda: ports().is_free(int(port))) and ports().hold_free(int(port))
    if port != "0" and not stays_free:
        others = {int(kept["FOO_PORT"]), *(int(kept["RESONATE_PORT"]) + more for more in range(3))}
        port = str(ports().next_free(USUAL_METRICS_PORT, but=others))
    postgres().write_privately(SETTINGS, kept | {METRICS_PORT: port})


# ── starting and ending ──


def send(number: int, name: str) -> None:
    """Signal a process and all its descendants, including those started meanwhile. Raises ``PermissionError``."""
    reached: set[int] = set()
    while left := [each.pid for each in family(name) if each.pid not in reached]:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        reached.update(left)


def ask_to_end(name: str) -> None:
    """Signal only its group, as PostgreSQL ends its connections itself. Other users' processes are reported later."""
    for group in {each.group for each in ours(name)}:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)


def kill(name: str) -> None:
    """Return when nothing is left: a process about to end would pass for a running one, and not be started again."""
    send(signal.SIGKILL, name)
    within(END_SECONDS, lambda: not ours(name))


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def await_end(name: str, seconds: float) -> None:
    if not within(seconds, lambda: not ours(name)):
        with contextlib.suppress(PermissionError):
            send(signal.SIGKILL, name)
        time.sleep(LOOK_SECONDS)


def environment(name: str, given: dict[str, str]) -> dict[str, str]:
    """Return the environment of a process: this one's, and the settings under the program's names."""
    is_worker = service_of(name) not in (SERVER, POSTGRES)
    return {
        **given,
        **({"LOG_FILE": str(log_file(name))} if is_worker else of_server(name, given)),
        "HEALTH_FILE": str(health_file(name)),
        "PYTHONUNBUFFERED": "1",
        "RESONATE_URL": f"http://127.0.0.1:{given['RESONATE_PORT']}",
    }


def of_server(name: str, given: dict[str, str]) -> dict[str, str]:
    return {
        **(state_in_postgres() if HAS_POSTGRES else {}),
        "RESONATE_AUTH__TOKEN": given["RESONATE_TOKEN"],
        "RESONATE_LOG_FILE": str(log_file(name)),
        METRICS_PORT: given.get(METRICS_PORT, "0") if name == SERVER else "0",  # only one of several
        "RESONATE_SERVER__BIND": "127.0.0.1",
        "RESONATE_SERVER__PORT": given["RESONATE_PORT"],
        "RESONATE_STORAGE__SQLITE__PATH": str(FOLDER / "resonate.sqlite"),
        "RESONATE_UI__ACTIONS_URL": f"http://127.0.0.1:{given['FOO_PORT']}/actions",
    }


def module(name: str, folder: str = "scripts") -> ModuleType:
    """Import a module from a folder that is not on the path, as Python runs in isolated mode."""
    sys.path.append(str(REPOSITORY / folder))
    return import_module(name)


postgres, ports = partial(module, "postgres"), partial(module, "ports")


def state_in_postgres() -> dict[str, str]:
    """Return the settings for servers that share a database and a port."""
    access = postgres().access(FOLDER / POSTGRES)
    return {
        **access,
        "RESONATE_SERVER__SHARED_PORT": "true",
        "RESONATE_STORAGE__POSTGRES__URL": f"postgresql://resonate@127.0.0.1:{access['PGPORT']}/postgres",
        "RESONATE_STORAGE__TYPE": "postgres",
    }


def program(service: str) -> list[str]:
    """Return the arguments for Python. -P keeps the current folder off the module path."""
    if service == POSTGRES:
        return ["-IS", str(REPOSITORY / "scripts/postgres.py"), str(FOLDER / POSTGRES)]
    return ["-P", "-m", service.replace("-", "_"), *(["serve"] if service == SERVER else [])]


def start(name: str) -> None:
    """Start it, unless it runs, in a session of its own, so that it outlives the script and its terminal."""
    import subprocess  # it takes as long as all that most verbs do

    with only_here(name):
        present = ours(name)
        if any(each.is_leader for each in present):
            return
        if present:
            await_end(name, END_SECONDS)
        if reason := intruder(name):
            sys.exit(f"{name} cannot be started: {reason}")
        if name == SERVER:
            choose_metrics_port()
        health_file(name).unlink(missing_ok=True)
        log_file(name).parent.mkdir(parents=True, exist_ok=True)
        mark = f"{MARK}{STACK}/{name}".split()
        command = [sys.executable, *mark, *program(service_of(name))]
        with log_file(name).open("ab") as output:
            process = subprocess.Popen(  # noqa: S603
                command,
                env=environment(name, {**os.environ, **settings()}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Its command line is empty at first, and who looks for it now would start another one.
        within(END_SECONDS, lambda: bool(ours(name)) or process.poll() is not None)


@contextlib.contextmanager
def only_here(name: str) -> Iterator[None]:
    """Keep other scripts from starting it at the same time."""
    health_file(name).parent.mkdir(parents=True, exist_ok=True)
    with health_file(name).with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def instances(service: str) -> list[str]:
    return [service, *(f"{service}-{number}" for number in range(2, INSTANCES.get(service, 1) + 1))]


def up(services: list[str]) -> None:
    """Start the database first: servers would complain that it is missing."""
    keep_settings()
    names = [name for service in services for name in instances(service)]
    for together in ([name for name in names if name == POSTGRES], [name for name in names if name != POSTGRES]):
        start_all(together)
    print(metrics())


def start_all(names: list[str]) -> None:
    up_already = running()
    for name in names:
        if name in up_already:
            send(signal.SIGCONT, name)
        else:
            start(name)
    for name in names:
        end = time.monotonic() + HEALTHY_SECONDS
        while not healthy(name):
            if time.monotonic() > end or name not in running():
                reason = intruder(name)
                lines = log_file(name).read_text(errors="replace").splitlines(keepends=True)
                sys.stderr.write("".join(lines[-15:]))
                sys.exit(
                    f"up.sh: {name} did not become healthy{reason and f' ({reason})'}; the last lines of its log "
                    f"({log_file(name)}) are above."
                )
            time.sleep(LOOK_SECONDS)


def finish(names: Iterable[str]) -> None:
    """Ask all to end at the same time; kill what does not, as it may be frozen."""
    names = set(names)
    for name in names:
        ask_to_end(name)
    for name in names:
        await_end(name, STOP_SECONDS)
        with contextlib.suppress(PermissionError):
            health_file(name).unlink(missing_ok=True)


def stop() -> None:
    """Stop workers first, so that they release their tasks while the server is still there."""
    asked: set[str] = set()
    for kept in ((SERVER, POSTGRES), (POSTGRES,), ()):
        names = {each.name for each in ours() if service_of(each.name) not in kept} - asked
        finish(names)
        asked |= names
    left = [f"{each.name} could not be stopped: process {each.pid} of {user_of(each.uid)}" for each in ours()]
    if left:
        sys.exit("\n".join(f"down.sh: {reason}, and this is {user_of(os.getuid())}." for reason in left))


# ── looking ──


def kind_of(service: str) -> str:
    """Return the kind in the list of services; server and database are not in it, and are kinds of their own."""
    listed = (REPOSITORY / "services/services.txt").read_text()
    return next((line.split()[2] for line in listed.splitlines() if line.startswith(service + " ")), service)


def healthy(name: str) -> bool:
    """Return whether it does its job, and not some other program on its port."""
    kind = kind_of(service_of(name))
    if kind == "worker":
        return bool(module("health", "worker/src/worker").is_fresh(health_file(name)))
    if kind != POSTGRES and not answers(port_of(name), "/health" if kind == "web" else "/ready"):
        return False
    heard = listening(port_of(name))
    if name not in running() if heard is None else name not in heard or SOMEBODY_ELSE in heard:
        return False
    return kind != POSTGRES or bool(postgres().is_ready(FOLDER / POSTGRES))


def port_of(name: str) -> str:
    """Return its port; empty for a worker."""
    kind = kind_of(service_of(name))
    if kind == POSTGRES:
        return str(postgres().access(FOLDER / POSTGRES)["PGPORT"])
    return settings()[{"web": "FOO_PORT", SERVER: "RESONATE_PORT"}[kind]] if kind != "worker" else ""


def listening(port: str) -> set[str] | None:
    """Return the names of those that listen, `SOMEBODY_ELSE` included; None if this system does not tell."""
    names = {each.pid: each.name for each in ours()}
    if HAS_POSTGRES:
        names |= {each.pid: POSTGRES for each in family(POSTGRES)}
    pids = ports().listeners(int(port), names)
    return None if pids is None else {names.get(pid, SOMEBODY_ELSE) for pid in pids}


def intruder(name: str) -> str:
    """Return why it cannot have its port, or would share it with the servers of another stack; else empty.

    A process that ends loses its name before its port, and one that starts may have its port before it is listed: for
    a moment, the owner of the port is unknown.
    """
    port = port_of(name)
    is_own = within(MOMENT_SECONDS, lambda: not port or SOMEBODY_ELSE not in (listening(port) or ()))
    return "" if is_own else f"port {port} is taken by another program"


def metrics() -> str:
    """Return where they are, if it is our server that serves them there."""
    port = settings()[METRICS_PORT]
    heard = listening(port) if port != "0" else set()
    return f"http://127.0.0.1:{port}/metrics" if heard is None or SERVER in heard else "none"


def answers(port: str, path: str) -> bool:
    """Without `http.client`, whose import takes longer than all else here."""
    import socket

    request = f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), timeout=2) as connection:
        connection.sendall(request.encode())
        return connection.makefile("rb").readline().split()[1:2] == [b"200"]
    return False


def show(name: str) -> None:
    for file in (log_file(name).with_suffix(".log.1"), log_file(name)):  # .1: the lines before the last rotation
        if file.exists():
            sys.stdout.flush()
            sys.stdout.buffer.write(file.read_bytes())


def show_all(service: str) -> None:
    for name in sorted({file.name.partition(".")[0] for file in (FOLDER / "log").glob("*.log")}):
        if service_of(name) == service:
            show(name)


def second(service: str) -> None:
    start(f"{service}-2")
    print(f"{service}-2")


def mend(name: str) -> None:
    send(signal.SIGCONT, name)
    start(name)


VERBS: dict[str, Callable[[str], object]] = {
    "of": lambda service: print(*(name for name in running() if service_of(name) == service), sep="\n"),
    "said": show_all,
    "log": show,
    "healthy": lambda name: healthy(name) or sys.exit(1),
    "family": lambda name: print(*(each.pid for each in family(name)), sep="\n"),
    "kill": kill,
    "start": start,
    "freeze": lambda name: send(signal.SIGSTOP, name),
    "thaw": lambda name: send(signal.SIGCONT, name),
    "mend": mend,
    "second": second,
    "remove": lambda name: finish([name]),
}


def main(verb: str, *names: str) -> None:
    if verb in VERBS:
        for name in names:
            VERBS[verb](name)
    elif verb == "hold":
        ports().hold_for_reader([int(port) for port in names])
    elif verb == "up":
        up(list(names))
    elif verb == "stop":
        stop()
    else:
        mine = f"{REPOSITORY}/.venv/bin/python"
        lines: dict[str, Callable[[], list[str]]] = {
            "list": lambda: [f"{each.pid}, {each.name}" for each in ours()],
            "running": running,
            "metrics": lambda: [metrics()],
            "stacks": lambda: sorted(
                {each.stack for each in every_process(MARK) if each.name and each.interpreter == mine}
            ),
        }
        sys.stdout.writelines(line + "\n" for line in lines[verb]())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    try:
        main(*sys.argv[1:])
    except PermissionError as error:
        owners = sorted({user_of(each.uid) for each in ours()})
        sys.exit(
            f"{' '.join(sys.argv[1:3])}: {error}; the stack is of {', '.join(owners)}, this is {user_of(os.getuid())}."
        )
    except OSError as error:  # such as a full disk
        sys.exit(f"{' '.join(sys.argv[1:3])}: {error}")

"""The list of services that scripts and tests read, and the script that adds to it."""

import itertools
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import add_service
import pytest
from harness.basics import REPOSITORY, TEST_PREFIX
from harness.services import LISTED, SERVICES

from chaos import plan
from chaos.stack import faults_of
from resonate_server.client.account import FaultKind
from stack.checkouts import FULL_DISK, Checkout, free_ports
from stack.conftest import require_docker

TOOLS = Path(sys.executable).parent


def ask(function: str, *arguments: str) -> tuple[int, str]:
    """Call a function of the scripts' library; return its status and output."""
    command = ["bash", "-c", '. scripts/lib.sh; "$@"', "ask", function, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_library_names_all_services_and_those_that_are_workers() -> None:
    assert ask("services") == (0, "".join(f"{name}\n" for name, *_ in LISTED))
    assert ask("services", "worker") == (0, "".join(f"{name}\n" for name, _, kind, _ in LISTED if kind == "worker"))


def test_the_library_knows_the_fields_of_a_service() -> None:
    name, *fields = LISTED[0]
    assert [ask("service_field", name, field) for field in ("group", "kind", "image")] == [
        (0, f"{each}\n") for each in fields
    ]
    for asked in (("qux", "kind"), ("foo", "colour"), ("resonate-server", "kind")):
        assert ask("service_field", *asked) == (1, "")


def test_a_parallel_action_fails_if_it_fails_for_one_instance() -> None:
    """`wait` proves that they run at once: the first ends only when the second has begun."""
    act = 'case "$2" in wait) until [ -e "$F" ]; do sleep 0.01; done ;; touch) : >"$F" ;; *) false ;; esac'
    begin = f"instance() {{ {act}; }}; . scripts/lib.sh; . scripts/lib-crash.sh; F=$(mktemp -u)"
    for instances, status in (["wait touch", 0], ["wait no touch", 1], ["", 0]):
        assert (
            subprocess.run(
                ["bash", "-c", f'{begin}; at_once instance "" {instances}'], cwd=REPOSITORY, timeout=60, check=False
            ).returncode
            == status
        )


def test_each_service_listens_in_the_group_of_the_list() -> None:
    for name, group, *_ in LISTED:
        assert f'Worker("{group}", {name})' in (REPOSITORY / "services" / name / f"{name}.py").read_text()


@pytest.fixture(scope="module", params=["processes", "containers"])
def with_qux(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A running stack in its own checkout, to which a service was added."""
    if request.param == "containers":
        require_docker()
    checkout = Checkout.make(tmp_path_factory.mktemp("qux") / "checkout", whole=True)
    checkout.share_uv()
    checkout.add_to_env(
        f"COMPOSE_PROJECT_NAME={TEST_PREFIX}{secrets.token_hex(4)}\n"
    )  # so that .ci/run finds its images
    kind = "--docker" if request.param == "containers" else "--processes"
    try:
        checkout.succeed("scripts/add-service.sh", "qux")
        checkout.succeed("scripts/up.sh", kind, **free_ports())
        yield checkout
    finally:
        if request.param == "containers":
            checkout.run("docker", "compose", "down", "--volumes", "--rmi", "local")
        checkout.run("scripts/down.sh", "--volumes")


@pytest.mark.long
def test_an_added_service_runs_answers_calls_and_survives_a_crash(with_qux: Checkout) -> None:
    port = with_qux.succeed("bash", "-c", ". scripts/lib.sh; look_at_stack; of_stack RESONATE_PORT").strip()
    call = ("invoke", "qux-1", "--func", "qux", "--target", "poll://any@service-qux")
    with_qux.succeed(TOOLS / "resonate", *call, RESONATE_URL=f"http://127.0.0.1:{port}")

    assert "result: 1" in with_qux.succeed("scripts/watch.sh", "qux-1")
    assert "running function qux  promise=qux-1" in with_qux.succeed("scripts/logs.sh", "qux")
    assert "qux is killed (SIGKILL)" in with_qux.succeed("scripts/crash.sh", "qux", "--when", "idle", "--down", "1")


@pytest.mark.long
def test_chaos_strikes_an_added_service_too(with_qux: Checkout) -> None:
    services = ("resonate-server", *SERVICES, "qux")

    def strikes_qux(seed: int) -> bool:
        """In its first wave, on either kind of stack."""
        waves = [next(plan.waves(seed, services, faults_of(kind), lease=10)) for kind in ("processes", "containers")]
        return all(("qux", FaultKind.KILL) in [(each.service, each.kind) for each in wave.strikes] for wave in waves)

    seed = next(filter(strikes_qux, itertools.count()))
    # On a busy machine the run may end before the first wave has struck.
    ledgers = (
        with_qux.succeed("scripts/chaos.sh", "--chains", "5", "--seconds", seconds, "--seed", str(seed))
        for seconds in ("5", "30", "120")
    )

    assert any("qux killed, started again" in ledger for ledger in ledgers)


def test_a_module_that_the_stack_may_load_is_not_accepted_as_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = sys.stdlib_module_names | packages_distributions().keys() - {name for name, *_ in LISTED}
    names = [name for name in modules if re.fullmatch("[a-z][a-z0-9]*", name) and find_spec(name)]
    monkeypatch.chdir(REPOSITORY)

    assert [name for name in names if not add_service.is_taken(name)] == []


@pytest.mark.parametrize(
    "name", ["", "Qux", "1qux", "my-qux", "../qux", "foo", "worker", "import", "postgres", "build", "tests"]
)
def test_an_invalid_or_taken_name_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as refused:
        add_service.check(name)
    assert refused.value.code == 2


def test_next_steps_are_printed_and_the_same_name_is_refused(tmp_path: Path) -> None:
    checkout = Checkout.make(tmp_path / "checkout")
    said = checkout.succeed("scripts/add-service.sh", "qux")

    for expected in ("services/qux/qux.py", 'ctx.options(target="service-qux").rpc("qux")', "scripts/crash.sh qux"):
        assert expected in said
    assert checkout.run("scripts/add-service.sh", "qux").returncode == 2


def test_services_added_at_once_are_all_there_and_a_full_disk_adds_none(tmp_path: Path) -> None:
    folder = Checkout.make(tmp_path / "checkout").folder
    add = (sys.executable, "-IS", "scripts/add_service.py")
    names = [f"qux{number}" for number in range(8)]
    at_once = [subprocess.Popen([*add, name], cwd=folder, stdout=subprocess.DEVNULL) for name in names]
    assert [each.wait(timeout=60) for each in at_once] == [0] * len(names)
    full = ["bash", "-c", f'{FULL_DISK}; exec "$@"', "full", *add, "late"]
    done = subprocess.run(full, cwd=folder, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr[:35]) == (1, "add-service.sh: nothing was added: ")
    assert list(folder.rglob("*late*")) + list(folder.glob("tmp*")) == []
    for file in ("services/services.txt", "docker-compose.yml", "pyproject.toml"):
        assert [name for name in names if f"{name} " not in (folder / file).read_text()] == [], file

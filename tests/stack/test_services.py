"""One list of services, which scripts and tests read."""

import subprocess

import pytest
from stack.driver import LISTED, REPOSITORY


def ask(function: str, *arguments: str) -> tuple[int, str]:
    """What a function of the scripts' library answers: its status, and what it prints."""
    command = ["bash", "-c", '. scripts/lib.sh; "$@"', "ask", function, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_library_names_all_services_and_those_that_are_workers() -> None:
    assert ask("services") == (0, "foo\nbar\nbaz\n")
    assert ask("workers") == (0, "bar\nbaz\n")


@pytest.mark.parametrize(("name", "group", "kind", "image"), LISTED)
def test_the_library_knows_the_fields_of_a_service(name: str, group: str, kind: str, image: str) -> None:
    for field, value in (("group", group), ("kind", kind), ("image", image)):
        assert ask("service_field", name, field) == (0, f"{value}\n")


@pytest.mark.parametrize("asked", [("qux", "kind"), ("foo", "colour"), ("resonate-server", "kind")])
def test_what_is_not_in_the_list_has_no_fields(asked: tuple[str, str]) -> None:
    assert ask("service_field", *asked) == (1, "")


@pytest.mark.parametrize(("name", "group"), [(name, group) for name, group, *_ in LISTED])
def test_each_service_listens_in_the_group_of_the_list(name: str, group: str) -> None:
    assert f'Worker("{group}", {name})' in (REPOSITORY / "services" / name / f"{name}.py").read_text()

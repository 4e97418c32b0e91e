"""`bench start`: real starts, and what the report says about them."""

import subprocess

import pytest
from harness.basics import TEST_PREFIX, docker_obstacle

from bench import start
from bench.start import DOWN, FOO, SERVER, UP, WORKER

pytestmark = pytest.mark.long


def test_every_program_is_started_the_requested_number_of_times() -> None:
    report = start.measure(repeats=2, container_repeats=0)

    assert {samples.name: len(samples.values) for samples in report.samples} == {SERVER: 2, WORKER: 2, FOO: 2}
    assert all(value > 0 for samples in report.samples for value in samples.values)


def test_without_docker_its_figures_are_missing_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "docker_obstacle", lambda: "no Docker engine answers")
    monkeypatch.setattr(start, "_start_processes", lambda *_: {})
    report = start.measure(repeats=1, container_repeats=1)

    for name in (UP, DOWN):
        (figure,) = [figure for figure in report.figures if figure.name == name]
        assert (figure.value, figure.note) == (None, "no Docker engine answers")


def test_the_stack_as_containers_comes_up_goes_down_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    if obstacle := docker_obstacle():
        pytest.skip(obstacle)
    monkeypatch.setattr("bench.start.secrets.token_hex", lambda _: "measured")
    report = start.measure(repeats=1, container_repeats=1)

    sizes = [figure.value or 0 for figure in report.figures if figure.name.startswith("image size")]
    assert len(sizes) == len(start.IMAGES) and min(sizes) > 0
    assert {UP, DOWN} <= {samples.name for samples in report.samples}
    for kind in ("container", "volume", "network", "image"):
        everything = ["--all"] if kind in ("container", "image") else []
        listed = subprocess.run(["docker", kind, "ls", *everything], capture_output=True, text=True, check=True).stdout
        assert f"{TEST_PREFIX}measured" not in listed, kind


def test_a_failing_command_is_reported_with_its_error_output() -> None:
    with pytest.raises(RuntimeError, match="no-such-image"):
        start._image_bytes("no-such-image")

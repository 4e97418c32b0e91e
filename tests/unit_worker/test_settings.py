"""The environment variables of a worker."""

from datetime import timedelta
from pathlib import Path

import pytest

from worker import settings
from worker.settings import Settings


def test_defaults() -> None:
    defaults = Settings("http://localhost:8001", None, timedelta(seconds=10), 64, None)
    assert Settings.from_environment({}) == Settings.from_environment({"DEMO_FAULTS": "0"}) == defaults


def test_all_of_them(tmp_path: Path) -> None:
    health_file = tmp_path / "health"
    environment = {
        "RESONATE_URL": "https://resonate.example",
        "RESONATE_TOKEN": "secret",
        "LEASE_SECONDS": "2.5",
        "MAX_TASKS": "128",
        "HEALTH_FILE": str(health_file),
        "DEMO_FAULTS": "1",
    }
    expected = Settings("https://resonate.example", "secret", timedelta(seconds=2.5), 128, health_file)
    assert Settings.from_environment(environment) == expected._replace(offers_faults=True)


def test_an_empty_variable_is_not_set() -> None:
    names = ["RESONATE_URL", "RESONATE_TOKEN", "LEASE_SECONDS", "MAX_TASKS", "HEALTH_FILE", "DEMO_FAULTS"]
    assert Settings.from_environment(dict.fromkeys(names, "")) == Settings.from_environment({})


@pytest.mark.parametrize("seconds", ["1", "1.", "1.5", "86400"])
@pytest.mark.parametrize("tasks", ["1", "1000"])
def test_numbers_have_limits(seconds: str, tasks: str) -> None:
    settings = Settings.from_environment({"LEASE_SECONDS": seconds, "MAX_TASKS": tasks})
    assert (settings.lease, settings.max_tasks) == (timedelta(seconds=float(seconds)), int(tasks))


REFUSED = {
    "RESONATE_URL must be a URL": ["localhost:8001", "server", "ftp://server", "http://", "http://a:b", "http://a\nb"],
    "RESONATE_URL must not have a user name": ["http://user:secret@server", "http://token@server:8001"],
    "DEMO_FAULTS must be 1 or 0": ["yes", "true", "2", "1 "],
    "LEASE_SECONDS": ["ten", "0", "0.9", "86400.1", "-1", "nan", "inf", "1e9", "10s"],
    "MAX_TASKS": ["many", "0", "-1", "1001", "1e2", "6.4", "\u0664", " 64"],
    "RESONATE_TOKEN": ["two words", "secret\n", " secret", "t\u00f6ken", "t\u20acken"],
    "HEALTH_FILE": ["/nowhere/health"],
    "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL": ["localhost:4318"],
}


@pytest.mark.parametrize(("told", "text"), [(told, text) for told, texts in REFUSED.items() for text in texts])
def test_an_invalid_value_is_reported_without_showing_a_secret(told: str, text: str) -> None:
    variable = told.partition(" ")[0]
    with pytest.raises(SystemExit, match=told) as ended:
        Settings.from_environment({variable: text})
    assert ("secret" not in text and variable != "RESONATE_TOKEN") or text not in str(ended.value)


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_spans_are_recorded_if_a_collector_is_set(name: str) -> None:
    assert Settings.from_environment({name: "http://collector:4318"}).tracing
    assert not Settings.from_environment({name: ""}).tracing


def test_a_missing_span_exporter_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "EXPORTER", "a-package-that-nobody-has")
    assert not Settings.from_environment({}).tracing
    with pytest.raises(SystemExit, match="the extra `otel`"):
        Settings.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"})

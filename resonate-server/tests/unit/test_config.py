"""Settings: which values the sources may have, and what they become."""

import os
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from resonate_server import official
from resonate_server.build import build
from resonate_server.config import ServerSettings, Settings, WrongSetting, load
from resonate_server.kernel.model import Rules

PUSH = "RESONATE_TRANSPORTS__HTTP_PUSH__AUTH__"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_any_source_all_settings_have_their_defaults() -> None:
    assert load({}, {}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "setting", "value"),
    [
        ("RESONATE_DEBUG", "true", "debug", True),
        ("RESONATE_TASKS__WORKER_GRACE", "5000", "tasks.worker_grace", 5_000),
        ("resonate_storage__sqlite__path", "/data/x.db", "storage.sqlite.path", Path("/data/x.db")),
        (
            "RESONATE_STORAGE__SQLITE__PATH",
            os.fsdecode(b"\xff.db"),
            "storage.sqlite.path",
            Path(os.fsdecode(b"\xff.db")),
        ),
        ("RESONATE_SERVER__CORS__ALLOW_ORIGINS", "*", "server.cors.allow_origins", ["*"]),
        ("RESONATE_SERVER__CORS__ALLOW_ORIGINS", "https://a, null", "server.cors.allow_origins", ["https://a", "null"]),
        ("RESONATE_SERVER__CORS__ALLOW_ORIGINS", '["https://a"]', "server.cors.allow_origins", ["https://a"]),
        ("RESONATE_SERVER__HOSTS", "a, b.example", "server.hosts", ["a", "b.example"]),
        ("RESONATE_SERVER__HOSTS", "", "server.hosts", []),
        ("RESONATE_SERVER__HOST", "a", "server.public_url", "http://a:8001"),
        ("RESONATE_SERVER__HOST", "::1", "server.public_url", "http://[::1]:8001"),
        ("RESONATE_SERVER__HOST", "[::1]", "server.public_url", "http://[::1]:8001"),
    ],
)
def test_values_of_the_environment_are_converted(variable: str, text: str, setting: str, value: Any) -> None:
    assert attrgetter(setting)(load({}, {variable: text})) == value


NO_PUSH_TOKEN = "AUTH__TOKEN: the mode bearer needs a token"
REFUSED: dict[str, list[tuple[dict[str, str], str]]] = {
    "what is no address": [
        ({f"RESONATE_SERVER__{setting}": text}, f"RESONATE_SERVER__{setting}: ")
        for setting, texts in {
            "HOSTS": ("http://a", "a, https://b.example/", '["a/b"]'),
            "HOST": ("", " ", "http://a", "a b", "\udcff"),
            "URL": (" ", "a:8001", "ftp://a", "http://", "http://a b", "http://\udcff"),
            "CORS__ALLOW_ORIGINS": ("a", "https://a/", "https://a, b", '["https://a/page"]'),
        }.items()
        for text in texts
    ],
    "what is no text or far too long": [
        ({f"RESONATE_{setting}": text}, f"^setting RESONATE_{setting}: ")
        for setting in ("LEVEL", "SERVER__PORT", "DEBUG", "UI__ACTIONS_URL")
        for text in ("\udcff", "x" * 100_000, "9" * 5_000)
    ],
    "a push token that no header can hold": [
        ({f"{PUSH}MODE": "bearer", f"{PUSH}TOKEN": token}, NO_PUSH_TOKEN) for token in ("", " ", "sesame\n", "sésame")
    ],
    "what is no name of a header": [
        ({f"{PUSH}HEADER": header}, "AUTH__HEADER: expected the name of a header")
        for header in ("", "X Proof", "X-Proof:", "X\nProof")
    ],
    "a misspelt name": [
        ({f"RESONATE_{name}": "7"}, rf"^setting RESONATE_{name}: unknown setting; did you mean RESONATE_{meant}\?")
        for name, meant in {
            "LEVL": "LEVEL",
            "SERVER_PORT": "SERVER__PORT",
            "SERVR__PORT": "SERVER__PORT",
            "TASKS__RETRYTIMEOUT": "TASKS__RETRY_TIMEOUT",
            "GATEWAYS__GATEWAY_HTTP__BINDS": "GATEWAYS__GATEWAY_HTTP__BIND",
            "RETRY_TIMEOUT": "TASKS__RETRY_TIMEOUT",
            "TOKN": "TOKEN",
        }.items()
    ],
    "a misspelt name of what may be a secret": [
        ({f"RESONATE_{name}": "sesame"}, f"RESONATE_{name}: unknown setting")
        for name in ("AUTH__TOKN", "TOKN", "ATUH__TOKEN", "X__Y")
    ],
    "an unknown name": [
        ({f"RESONATE_{name}": "7"}, r"^setting RESONATE_SERVER(__|:).*got .*7")
        for name in ("SERVER__CORS__ORIGINS", "SERVER", "SERVER__PORT__X")
    ],
    "what is out of range or no choice": [
        ({f"RESONATE_{name}": text}, f"^setting RESONATE_{name}: .*{text}")
        for name, texts in {
            "SERVER__PORT": ("70000", "-1"),
            "SERVER__MAX_BODY_BYTES": ("10",),
            "TASKS__RETRY_TIMEOUT": ("0", "30s", "9223372036854775807"),
            "RETENTION__SETTLED_AFTER": ("-1", "9223372036854775807"),
            "LEVEL": ("loud",),
            "LOG_FORMAT": ("xml",),
            "DEBUG": ("perhaps",),
            "STORAGE__TYPE": ("oracle",),
            "STORAGE__SQLITE__SYNCHRONOUS": ("OFF",),
            "TRANSPORTS__HTTP_PUSH__AUTH__MODE": ("basic",),
        }.items()
        for text in texts
    ],
    "PostgreSQL without a database or connections": [
        ({"RESONATE_STORAGE__TYPE": "postgres"}, r"RESONATE_STORAGE__POSTGRES__URL: .* the URL of a database"),
        ({"RESONATE_STORAGE__POSTGRES__POOL_SIZE": "0"}, "POOL_SIZE"),
    ],
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_setting_is_reported_in_a_sentence_without_secrets(what: str) -> None:
    for environment, reason in REFUSED[what]:
        with pytest.raises(WrongSetting, match=reason) as caught:
            load({}, environment)
        assert len(str(caught.value)) < 500
        assert "same" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *[(f"RESONATE_{name.upper()}", "x") for name in official.OF_OTHERS],
        ("RESONATE_SERVICE_HOST", "10.0.0.1"),
        ("RESONATE_SERVER_SERVICE_PORT_API", "8001"),
        ("RESONATE_SERVER_PORT", "tcp://10.0.0.1:8001"),
        ("RESONATE_PORT_8001_TCP_ADDR", "10.0.0.1"),
        ("RESONATE_TEAM", "of somebody else"),
        ("HOME", "/"),
    ],
)
def test_variables_of_others_are_ignored(variable: str, text: str) -> None:
    """Variables of clients, of Compose, and those that Kubernetes sets for a service of that name."""
    assert load({}, {variable: text}) == Settings()


def test_a_database_s_password_is_shown_in_no_message() -> None:
    settings = load({"storage.type": "postgres", "storage.postgres.url": "postgresql://u:secret@[h/d"}, {})
    with pytest.raises(WrongSetting, match="not a database URL") as caught:
        build(settings)
    assert "secret" not in str(caught.value)


# --- as on the official server --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newer", "text", "setting", "value"),
    [
        ("SHUTDOWN_TIMEOUT", "5", "server.shutdown_timeout", 5),
        ("SERVERS__ACTIVE", "server_sqlite", "storage.type", "sqlite"),
        ("SERVERS__SERVER_SQLITE__PATH", "/x.db", "storage.sqlite.path", Path("/x.db")),
        ("SERVERS__SERVER_SQLITE__SERVER_URL", "http://a", "server.url", "http://a"),
        ("SERVERS__SERVER_SQLITE__RETRY_TIMEOUT", "500", "tasks.retry_timeout", 500),
        ("GATEWAYS__GATEWAY_HTTP__BIND", "0.0.0.0:3000", "server.bind", "0.0.0.0"),
        ("GATEWAYS__GATEWAY_HTTP__BIND", "[::1]:3000", "server.bind", "::1"),
        ("GATEWAYS__GATEWAY_HTTP__BIND", "0.0.0.0:3000", "server.port", 3_000),
        ("GATEWAYS__GATEWAY_HTTP__CORS_ALLOW_ORIGINS", '["https://a"]', "server.cors.allow_origins", ["https://a"]),
        ("GATEWAYS__GATEWAY_HTTP__AUTH__PUBLICKEY", "none", "auth.publickey", "none"),
        ("GATEWAYS__GATEWAY_WEB__ENABLED", "false", "ui.enabled", False),
        ("GATEWAYS__GATEWAY_METRICS__BIND", "0.0.0.0:9191", "observability.metrics_port", 9_191),
        ("GATEWAYS__GATEWAY_METRICS__ENABLED", "false", "observability.metrics_port", 0),
        ("WORKERS__TRANSPORT_HTTP_POLL__MAX_CONNECTIONS", "7", "transports.http_poll.max_connections", 7),
        ("WORKERS__TRANSPORT_HTTP_PUSH__AUTH__HEADER", "X-Proof", "transports.http_push.auth.header", "X-Proof"),
    ],
)
def test_newer_names_of_the_official_server_are_understood(newer: str, text: str, setting: str, value: Any) -> None:
    assert attrgetter(setting)(load({}, {f"RESONATE_{newer}": text})) == value


def test_if_a_setting_has_two_names_the_stronger_source_wins() -> None:
    environment = {"RESONATE_GATEWAYS__GATEWAY_HTTP__BIND": "0.0.0.0:3000"}
    assert load({"server.port": "4000"}, environment).server == ServerSettings(bind="0.0.0.0", port=4_000)


@pytest.mark.parametrize(
    ("chosen", "by", "url"),
    [
        ("STORAGE__TYPE", "postgres", "STORAGE__POSTGRES__URL"),
        ("SERVERS__ACTIVE", "server_postgres", "SERVERS__SERVER_POSTGRES__URL"),
    ],
)
def test_postgresql_is_chosen_by_the_official_names(chosen: str, by: str, url: str) -> None:
    storage = load({}, {f"RESONATE_{chosen}": by, f"RESONATE_{url}": "postgresql://h/d"}).storage
    assert storage.is_postgres
    assert (storage.postgres.url, storage.place) == ("postgresql://h/d", "PostgreSQL")


@pytest.mark.parametrize("name", official.WITHOUT_EFFECT)
def test_settings_that_tune_other_implementations_are_accepted_without_effect(name: str) -> None:
    assert load({name: "5"}, {}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("STORAGE__TYPE", "mysql", "keeps its state in SQLite or PostgreSQL"),
        ("STORAGE__MYSQL__URL", "mysql://h", "keeps its state in SQLite"),
        ("SERVERS__ACTIVE", "server_mysql", "keeps its state in SQLite or PostgreSQL"),
        ("SERVERS__SERVER_MYSQL__URL", "mysql://h", "keeps its state in SQLite or PostgreSQL"),
        ("TRANSPORTS__GCPS__PROJECT", "p", "Pub/Sub is not supported"),
        ("WORKERS__TRANSPORT_GCPS__ENABLED", "true", "Pub/Sub is not supported"),
        ("TRANSPORTS__BASH_EXEC__ENABLED", "true", "does not run scripts"),
        ("GATEWAYS__GATEWAY_HTTP__WORKOS__API_KEY", "k", "WorkOS is not supported"),
        ("OBSERVABILITY__OTLP_ENDPOINT", "h:4317", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("MCP__ENABLED", "true", "does not speak MCP"),
    ],
)
def test_settings_without_meaning_here_are_refused_with_a_sentence(name: str, text: str, why: str) -> None:
    with pytest.raises(WrongSetting, match=f"^setting RESONATE_.*: .*{why}"):
        load({}, {f"RESONATE_{name}": text})


@pytest.mark.parametrize(("name", "text"), [("TRANSPORTS__GCPS__ENABLED", "false"), ("STORAGE__POSTGRES__URL", "")])
def test_disabling_an_unsupported_setting_is_accepted(name: str, text: str) -> None:
    assert load({}, {f"RESONATE_{name}": text}) == Settings()


async def test_the_engine_gets_the_rules_that_are_set() -> None:
    given = {"storage.sqlite.path": ":memory:", "tasks.retry_timeout": "600", "schedules.catch_up": "3"}
    engine = build(load(given, {})).parts.engine
    assert engine._rules == Rules(retry_timeout_ms=600, catch_up_runs=3)

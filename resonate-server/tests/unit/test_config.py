"""Settings: which values the sources may have, and what they become."""

import os
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from resonate_server import official
from resonate_server.build import build
from resonate_server.config import ServerSettings, Settings, WrongSetting, load


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_any_source_all_settings_have_their_defaults() -> None:
    assert load({}, {}) == Settings()


@pytest.mark.parametrize(
    ("text", "origins"),
    [("*", ["*"]), ("https://a, https://b", ["https://a", "https://b"]), ('["https://a"]', ["https://a"]), ("", [])],
)
def test_origins_are_a_list_with_commas_or_in_json(text: str, origins: list[str]) -> None:
    assert load({}, {"RESONATE_SERVER__CORS__ALLOW_ORIGINS": text}).server.cors.allow_origins == origins


@pytest.mark.parametrize(("text", "hosts"), [("*", ["*"]), ("a, b.example", ["a", "b.example"]), ("", [])])
def test_hosts_are_a_list_like_origins(text: str, hosts: list[str]) -> None:
    assert load({}, {"RESONATE_SERVER__HOSTS": text}).server.hosts == hosts


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        *[("HOSTS", text) for text in ("http://a", "a, https://b.example/", '["a/b"]')],
        *[("HOST", text) for text in ("", " ", "http://a", "a b", "\udcff")],
        *[("URL", text) for text in (" ", "a:8001", "ftp://a", "http://", "http://a b", "http://\udcff")],
        *[("CORS__ALLOW_ORIGINS", text) for text in ("a", "https://a/", "https://a, b", '["https://a/page"]')],
    ],
)
def test_what_is_no_address_is_refused(setting: str, text: str) -> None:
    with pytest.raises(WrongSetting, match=f"RESONATE_SERVER__{setting}: "):
        load({}, {f"RESONATE_SERVER__{setting}": text})


@pytest.mark.parametrize("text", ["\udcff", "x" * 100_000, "9" * 5_000])
@pytest.mark.parametrize("setting", ["LEVEL", "SERVER__PORT", "DEBUG", "UI__ACTIONS_URL"])
def test_what_is_no_text_or_far_too_long_is_reported_in_a_sentence(setting: str, text: str) -> None:
    with pytest.raises(WrongSetting, match=f"^setting RESONATE_{setting}: ") as caught:
        load({}, {f"RESONATE_{setting}": text})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("host", "url"), [("a", "http://a:8001"), ("::1", "http://[::1]:8001"), ("[::1]", "http://[::1]:8001")]
)
def test_the_url_in_messages_is_one(host: str, url: str) -> None:
    assert ServerSettings(host=host).public_url == url


def test_values_of_the_environment_are_converted() -> None:
    environment = {
        "RESONATE_DEBUG": "true",
        "resonate_storage__sqlite__path": "/data/x.db",
        "RESONATE_TASKS__WORKER_GRACE": "5000",
    }
    settings = load({}, environment)
    assert settings.debug is True
    assert (settings.storage.sqlite.path, settings.tasks.worker_grace) == (Path("/data/x.db"), 5_000)


def test_a_path_need_not_be_unicode() -> None:
    path = os.fsdecode(b"/data/\xff.db")
    assert load({}, {"RESONATE_STORAGE__SQLITE__PATH": path}).storage.sqlite.path == Path(path)


@pytest.mark.parametrize("token", ["", " ", "sesame\n", "sésame"])
def test_a_push_token_that_no_header_can_hold_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(WrongSetting, match="AUTH__TOKEN: the mode bearer needs a token") as caught:
        load({"transports.http_push.auth.mode": "bearer", "transports.http_push.auth.token": token}, {})
    assert "same" not in str(caught.value)


@pytest.mark.parametrize("header", ["", "X Proof", "X-Proof:", "X\nProof"])
def test_what_is_no_name_of_a_header_is_refused(header: str) -> None:
    with pytest.raises(WrongSetting, match="AUTH__HEADER: expected the name of a header"):
        load({"transports.http_push.auth.header": header}, {})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("RESONATE_LEVL", "RESONATE_LEVEL"),
        ("RESONATE_SERVER_PORT", "RESONATE_SERVER__PORT"),
        ("RESONATE_SERVR__PORT", "RESONATE_SERVER__PORT"),
        ("RESONATE_TASKS__RETRYTIMEOUT", "RESONATE_TASKS__RETRY_TIMEOUT"),
        ("RESONATE_GATEWAYS__GATEWAY_HTTP__BINDS", "RESONATE_GATEWAYS__GATEWAY_HTTP__BIND"),
        ("RESONATE_RETRY_TIMEOUT", "RESONATE_TASKS__RETRY_TIMEOUT"),
        ("RESONATE_TOKN", "RESONATE_TOKEN"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_proposes_the_right_one(variable: str, meant: str) -> None:
    with pytest.raises(WrongSetting, match=rf"^setting {variable}: unknown setting; did you mean {meant}\?"):
        load({}, {variable: "7"})


def test_a_misspelt_key_of_the_file_is_an_error_that_proposes_the_right_one(empty_folder: Path) -> None:
    (empty_folder / "resonate.toml").write_text("[server]\nprot = 1\n")
    with pytest.raises(WrongSetting, match=r"RESONATE_SERVER__PROT: unknown setting; did you mean .*__PORT\?"):
        load({}, {})


@pytest.mark.parametrize("variable", ["RESONATE_AUTH__TOKN", "RESONATE_TOKN", "RESONATE_ATUH__TOKEN", "RESONATE_X__Y"])
def test_a_possible_secret_is_not_shown_when_its_name_is_misspelt(variable: str) -> None:
    with pytest.raises(WrongSetting) as caught:
        load({}, {variable: "sesame"})
    assert "sesame" not in str(caught.value)


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


@pytest.mark.parametrize("name", ["RESONATE_SERVER__CORS__ORIGINS", "RESONATE_SERVER", "RESONATE_SERVER__PORT__X"])
def test_an_unknown_name_is_reported_with_its_value(name: str) -> None:
    with pytest.raises(WrongSetting, match=r"^setting RESONATE_SERVER(__|:).*got .*7"):
        load({}, {name: "7"})


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


class TestPostgres:
    @pytest.mark.parametrize(
        ("chosen", "by", "url"),
        [
            ("STORAGE__TYPE", "postgres", "STORAGE__POSTGRES__URL"),
            ("SERVERS__ACTIVE", "server_postgres", "SERVERS__SERVER_POSTGRES__URL"),
        ],
    )
    def test_postgresql_is_chosen_by_the_official_names(self, chosen: str, by: str, url: str) -> None:
        storage = load({}, {f"RESONATE_{chosen}": by, f"RESONATE_{url}": "postgresql://h/d"}).storage
        assert storage.is_postgres
        assert (storage.postgres.url, storage.place) == ("postgresql://h/d", "PostgreSQL")

    def test_the_database_must_be_named(self) -> None:
        with pytest.raises(WrongSetting, match=r"RESONATE_STORAGE__POSTGRES__URL: .* the URL of a database"):
            load({"storage.type": "postgres"}, {})

    def test_its_password_is_shown_in_no_message(self) -> None:
        settings = load({"storage.type": "postgres", "storage.postgres.url": "postgresql://u:secret@[h/d"}, {})
        with pytest.raises(WrongSetting, match="not a database URL") as caught:
            build(settings)
        assert "secret" not in str(caught.value)

    def test_it_has_at_least_one_connection(self) -> None:
        with pytest.raises(WrongSetting, match="POOL_SIZE"):
            load({"storage.postgres.pool_size": 0}, {})


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

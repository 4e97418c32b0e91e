"""Settings: what sources may say, and what they become."""

from pathlib import Path

import pytest

from resonate_server.config import Cors, Settings, WrongSetting, load


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_any_source_everything_is_as_by_default() -> None:
    assert load({}, {}) == Settings()


@pytest.mark.parametrize(
    ("text", "origins"),
    [("*", ["*"]), ("https://a, https://b", ["https://a", "https://b"]), ('["https://a"]', ["https://a"]), ("", [])],
)
def test_origins_are_a_list_with_commas_or_in_json(text: str, origins: list[str]) -> None:
    settings = load({}, {"RESONATE_SERVER__CORS__ALLOW_ORIGINS": text})

    assert settings.server.cors.origins == origins


@pytest.mark.parametrize(("text", "hosts"), [("*", ["*"]), ("a, b.example", ["a", "b.example"]), ("", [])])
def test_hosts_are_a_list_like_origins(text: str, hosts: list[str]) -> None:
    assert load({}, {"RESONATE_SERVER__HOSTS": text}).server.other_hosts == hosts


@pytest.mark.parametrize("text", ["http://a", "a, https://b.example/", '["a/b"]'])
def test_a_host_is_no_address_of_a_page(text: str) -> None:
    with pytest.raises(WrongSetting, match="RESONATE_SERVER__HOSTS"):
        load({}, {"RESONATE_SERVER__HOSTS": text})


def test_values_of_the_environment_become_what_they_are_meant_to_be() -> None:
    environment = {
        "RESONATE_DEBUG": "true",
        "resonate_storage__sqlite__path": "/data/x.db",
        "RESONATE_TASKS__WORKER_GRACE": "5000",
    }
    settings = load({}, environment)

    assert (settings.debug, settings.storage.sqlite.path, settings.tasks.worker_grace) == (
        True,
        Path("/data/x.db"),
        5_000,
    )


def test_a_group_nobody_knows_is_refused_in_the_file_and_ignored_in_the_environment(empty_folder: Path) -> None:
    environment = {"RESONATE_URL": "http://elsewhere", "RESONATE_TIMEOUTS__POLL_INTERVAL": "1", "HOME": "/"}
    assert load({}, environment) == Settings()

    (empty_folder / "resonate.toml").write_text("[timeouts]\npoll_interval = 1\n")
    with pytest.raises(WrongSetting, match="RESONATE_TIMEOUTS: there is no such setting"):
        load({}, {})


@pytest.mark.parametrize("name", ["RESONATE_SERVER__CORS__ORIGINS", "RESONATE_SERVER", "RESONATE_SERVER__PORT__X"])
def test_a_name_that_leads_nowhere_is_told_with_its_value(name: str) -> None:
    with pytest.raises(WrongSetting, match=r"^setting RESONATE_SERVER(__|:).*got .*7"):
        load({}, {name: "7"})


def test_a_list_in_the_file_is_one_of_texts(empty_folder: Path) -> None:
    (empty_folder / "resonate.toml").write_text('[server.cors]\nallow_origins = ["a", "b"]\n')

    assert load({}, {}).server.cors == Cors(allow_origins=["a", "b"])

"""Where settings come from, which source wins, how a wrong one is reported, and the log that they choose."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from click.testing import CliRunner
from harness.basics import answers_200, free_port, wait_until
from harness.server import FAR, ServerProcess
from harness.stream import Stream
from integration.calls import request
from integration.servers import Start

from resonate_server import cli
from resonate_server.config import load

Connect = Callable[[ServerProcess, str, str], Stream]


class Started(Exception):
    """The settings were accepted."""


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return the standard error of a server that refuses to start; raises :class:`Started` if it would start."""

    def would_start(*_: object) -> None:
        raise Started

    monkeypatch.setattr(cli, "_run", would_start)

    def run(*arguments: str, **env: str) -> str:
        result = CliRunner(env=env).invoke(cli.main, arguments)
        if isinstance(result.exception, Started):
            raise Started
        assert (result.exit_code, result.stdout) == (2, "")
        return result.stderr

    return run


def unstarted(*arguments: str, port: int | None = None, **env: str) -> ServerProcess:
    """Return a server without the flags of the harness."""
    server = ServerProcess(Path("log"), None, port, **env)
    server.command[3:] = arguments
    return server


def run(*arguments: str, port: int, **env: str) -> str:
    """Run a server that is reached at ``port`` and return its log."""
    server = unstarted(*arguments, port=port, **env).start()
    server.stop()
    return server.output()


OPEN = {"server.bind": "0.0.0.0"}


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        pytest.param({}, False, id="loopback unless told otherwise"),
        pytest.param(OPEN, True, id="open to others"),
        pytest.param({**OPEN, "auth.publickey": "none"}, True, id="tokens that are not verified do not count"),
        pytest.param({**OPEN, "auth.publickey": "key.pem"}, False, id="with tokens"),
        pytest.param({**OPEN, "server.published_on": "127.0.0.1"}, False, id="a container on loopback"),
        pytest.param({**OPEN, "server.published_on": "0.0.0.0"}, True, id="a container open to others"),
    ],
)
def test_a_server_open_to_others_without_tokens_warns(
    caplog: pytest.LogCaptureFixture, given: dict[str, str], warned: bool
) -> None:
    cli._warn_if_exposed(load(given, {}))
    assert ("without tokens: whoever can reach this server" in caplog.text) == warned


@pytest.mark.parametrize(("flags", "address"), [([], "127.0.0.1"), (["--host", "0.0.0.0"], "0.0.0.0")])
def test_the_metrics_listen_where_the_server_does(flags: list[str], address: str) -> None:
    ports = {"RESONATE_OBSERVABILITY__METRICS_PORT": str(free_port())}
    server = unstarted("dev", "--port", str(port := free_port()), *flags, port=port, **ports).start()
    sockets = psutil.Process(server.pid).net_connections("tcp")
    listening = [each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN]
    server.stop()
    assert listening == [address] * 2
    assert server.output().count("without tokens") == len(flags) / 2


@pytest.mark.parametrize(
    "env",
    [{"RESONATE_SERVER__BIND": ""}, {"RESONATE_GATEWAYS__GATEWAY_HTTP__BIND": ":0"}],
    ids=["blank", "only a port"],
)
def test_no_address_does_not_stand_for_all_addresses(refused: Callable[..., str], env: dict[str, str]) -> None:
    assert "0.0.0.0 stands for all" in refused("dev", **env)


def test_dev_keeps_its_state_in_the_file_that_any_flag_names() -> None:
    port = free_port()
    run("dev", "--port", str(port), "--set", "servers.server_sqlite.path=kept.db", port=port)
    assert Path("kept.db").exists()


def test_flags_override_the_environment_which_overrides_the_file_member_by_member(open_stream: Connect) -> None:
    port = free_port()
    Path("resonate.toml").write_text(
        f'log_format = "json"\n[server]\nport = {free_port()}\nbind = "127.0.0.1"\n'
        '[storage.sqlite]\npath = "from-file.db"\nsynchronous = "NORMAL"\n'
        "[transports.http_poll]\nmax_connections = 5\n"
    )
    env = {"RESONATE_SERVER__PORT": str(free_port()), "RESONATE_TRANSPORTS__HTTP_POLL__MAX_CONNECTIONS": "1"}
    server = unstarted("serve", "--db", "from-flag.db", "--port", str(port), port=port, **env).start()
    heads = [open_stream(server, "g", f"{number}").head.split("\r\n")[0] for number in range(2)]
    server.stop()

    assert Path("from-flag.db").exists()
    assert not Path("from-file.db").exists()
    assert ["200" in heads[0], "503" in heads[1]] == [True, True]
    assert json.loads(server.output().splitlines()[0])["message"].startswith("listening on http://127.0.0.1:")


@pytest.mark.parametrize(
    "text",
    [
        "[server]\nport = 'http'\n",
        "[server\n",
        "[server]\nprot = 1\n",
        "server = 1\n",
        "[sever]\nport = 1\n",
        'log_file = "a\\u0000b"',
    ],
)
def test_an_invalid_file_is_reported_in_one_sentence(refused: Callable[..., str], text: str) -> None:
    Path("resonate.toml").write_text(text)
    error = refused("dev")
    assert error.count("\n") == 1
    assert error.startswith("resonate-server: ")
    assert ("did you mean RESONATE_SERVER__PORT?" in error) == ("prot =" in text or "[sever]" in text)


OFFICIAL_FLAGS = """
    --level warn --debug --server-host localhost --server-port 1 --server-bind 127.0.0.1 --server-shutdown-timeout 1
    --server-url http://a --server-cors-allow-origin http://a --server-cors-allow-origin http://b --storage-type sqlite
    --storage-sqlite-path x.db --auth-publickey none --auth-iss i --auth-aud a --tasks-lease-timeout 1
    --tasks-retry-timeout 1 --timeouts-poll-interval 1 --messages-poll-interval 1 --messages-batch-size 1
    --transports-http-push-enabled true --transports-http-push-concurrency 1 --transports-http-push-connect-timeout 1
    --transports-http-push-request-timeout 1 --transports-http-push-auth-mode none --transports-http-push-auth-token t
    --transports-http-push-auth-header h --transports-http-poll-enabled true --transports-http-poll-max-connections 1
    --transports-http-poll-buffer-size 1 --transports-http-poll-keepalive-interval 1 --console-enabled false
    --observability-metrics-port 0 --observability-metrics-bind 127.0.0.1:1 --observability-metrics-enabled false
    --set servers.server_sqlite.path=y.db --set level=debug
"""


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_the_official_flags_are_understood(refused: Callable[..., str], command: str) -> None:
    with pytest.raises(Started):
        refused(command, *OFFICIAL_FLAGS.split())


def test_a_misspelt_flag_is_reported_with_the_right_one(refused: Callable[..., str]) -> None:
    assert "Did you mean" in (error := refused("dev", "--server-prot", "1"))
    assert "'--server-port'" in error


@pytest.mark.parametrize(("flags", "debug"), [(["--debug"], "false"), ([], "true")])
def test_a_debug_flag_that_is_not_given_overrides_nothing(flags: list[str], debug: str) -> None:
    server = ServerProcess(Path("log"), RESONATE_DEBUG=debug)
    server.command += flags
    server.start()
    status = server.client().call("debug.snap").status
    server.stop()
    assert status == 200


def test_a_time_in_the_head_is_ignored_without_that_flag(server: ServerProcess) -> None:
    body = request("promise.create", {"resonate:debug_time": 5}, id="ignored", timeoutAt=FAR)
    assert server.client().post(body).data["promise"]["createdAt"] > 1_000_000_000_000


def test_the_settings_may_be_in_another_file(refused: Callable[..., str]) -> None:
    Path("other.toml").write_text("[server]\nport = 'x'\n")
    assert "It is set in other.toml, as server.port." in refused("dev", "--config", "other.toml")
    assert "other.toml" not in refused("dev", "--config", "other.toml", "--server-port", "70000")
    assert "cannot read the settings in missing.toml: " in refused("dev", "--config", "missing.toml")


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--level", "loud"], ["--nonsense"], ["--set", "auth.token"]])
def test_an_invalid_flag_is_reported(refused: Callable[..., str], arguments: list[str]) -> None:
    assert "Error: " in refused("dev", *arguments)


# ── the log ──


FORGED = "\n12:00:00 INFO forged\x1b[2K\u2028\u202e"


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_worker_s_group_and_id_cannot_forge_lines(start: Start, style: str) -> None:
    server = start(RESONATE_LOG_FORMAT=style, RESONATE_LEVEL="debug")
    Stream(server.port, quote("workers" + FORGED), quote("w1" + FORGED)).close()
    wait_until(lambda: "worker gone" in server.output(), "the worker's end is told")
    server.client().post(b"{")
    server.stop()

    lines = server.log.read_text().split("\n")[:-1]
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith("12:00:00 INFO forged")]
    if style == "json":
        objects = [json.loads(line) for line in lines]
        assert all({"time", "level", "logger", "message"} == each.keys() for each in objects)
        assert {each["level"] for each in objects} <= {"debug", "info", "warning", "error"}
        assert f"worker connected: workers{FORGED}/{('w1' + FORGED)[:8]}" in [each["message"] for each in objects]


def test_where_the_locale_is_not_utf_8_nothing_is_lost(start: Start) -> None:
    """Neither a setting nor a line of the log."""
    Path("resonate.toml").write_text('# größe\nlog_format = "text"\n', encoding="utf-8-sig")
    server = start(LC_ALL="C", PYTHONUTF8="0")
    Stream(server.port, quote("größe"), "w").close()
    wait_until(lambda: "worker gone" in server.output(), "the worker's end is told")
    server.stop()
    assert "worker connected: gr\\xf6\\xdfe/w" in server.output()
    assert "Logging error" not in server.output()


def test_the_log_format_is_a_flag_and_a_log_file_is_rotated() -> None:
    file, port = Path("server.log"), free_port()
    file.write_text("x" * 10_000_000 + "\n")
    file.chmod(0o600)
    run("dev", "--port", str(port), "--log-format", "json", port=port, RESONATE_LOG_FILE="server.log")
    old = Path("server.log.1").stat()
    assert (old.st_size, old.st_mode & 0o777) == (10_000_001, 0o600)
    assert json.loads(file.read_text().splitlines()[0])["message"].startswith("listening on")


def test_an_unwritable_log_file_is_reported() -> None:
    result = CliRunner(env={"RESONATE_LOG_FILE": "nowhere/server.log"}).invoke(cli.main, ["dev", "--port", "0"])
    assert result.stderr.startswith("resonate-server: cannot write the log: ")


@pytest.mark.parametrize(
    ("file", "reason"), [("", "Broken pipe"), ("/dev/full", "No space left on device")], ids=["no reader", "full disk"]
)
def test_lines_that_cannot_be_written_are_reported_once(file: str, reason: str) -> None:
    server = unstarted("dev", "--port", str(port := free_port()), "--level", "debug", RESONATE_LOG_FILE=file)
    with subprocess.Popen(server.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=server.env) as running:
        assert running.stdout is not None
        wait_until(lambda: answers_200(port, "/ready"), "it is ready")
        running.stdout.close()
        for number in range(3):
            Stream(port, "g", f"w{number}").close()
        running.terminate()
        assert running.stderr is not None
        assert running.stderr.read().decode() == f"resonate-server: cannot write the log: {reason}\n"
        assert running.wait(60) == 0

"""The command line tool against a real server: what it sends, what it prints, how it fails."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from harness.adapter import Reply, running_adapter
from harness.basics import free_port
from harness.server import FAR, Client, ServerProcess
from integration.calls import RESONATE
from integration.servers import Start, server_with_a_clock_off_by

from resonate_server import cli
from resonate_server.client import main

Run = Callable[..., Result]
TARGET = '{"resonate:target": "poll://any@nobody"}'


@pytest.fixture
def run(server: ServerProcess) -> Run:
    return lambda *arguments: CliRunner().invoke(main, ["--server", server.url, *arguments])


@pytest.fixture
def shown(run: Run) -> Callable[..., Any]:
    """What a command prints, read as JSON."""

    def succeed(*arguments: str) -> Any:
        result = run(*arguments)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return succeed


def decoded(value: dict[str, str]) -> str:
    return base64.b64decode(value["data"]).decode()


# --- promises -------------------------------------------------------------------------------------------------------


def test_create_and_get_a_promise(shown: Callable[..., Any], id: str) -> None:
    created = shown("promises", "create", id, "--timeout", "1h30m", "--param", '{"data": "hi"}', "--tags", '{"a": "b"}')
    promise = shown("promises", "get", id, "--json")["promise"]

    assert created == {"promise": promise}
    assert promise["state"] == "pending"
    assert promise["tags"] == {"a": "b", "resonate:external": "true"}
    assert decoded(promise["param"]) == "hi"
    assert abs(promise["timeoutAt"] - promise["createdAt"] - 5_400_000) < 5_000


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b'{"func": "add", "args": [1, "two"]}', {"func": "add", "args": [1, "two"]}),
        (b"3", 3),
        (b"plain text", "plain text"),
        (b'{"__type": "error", "message": "no", "__py_pickle": "gASV"}', {"type": "error", "message": "no"}),
        (
            b'{"__type": "error", "name": "TypeError", "message": "no", "stack": "at"}',
            {"type": "TypeError", "message": "no"},
        ),
    ],
    ids=["a call", "a number", "text", "an error from Python", "an error from TypeScript"],
)
def test_get_shows_param_and_value_decoded(
    shown: Callable[..., Any], client: Client, id: str, data: bytes, read: Any
) -> None:
    value = {"data": base64.b64encode(data).decode(), "headers": {"h": "1"}}
    client.call("promise.create", id=id, timeoutAt=FAR, param=value)
    client.call("promise.settle", id=id, state="rejected", value=value)
    promise = shown("promises", "get", id)["promise"]
    verbatim = shown("promises", "get", id, "--json")["promise"]

    assert promise["param"] == promise["value"] == {"data": read, "headers": {"h": "1"}}
    assert verbatim["param"] == verbatim["value"] == value


@pytest.mark.parametrize("data", ["not base64", base64.b64encode(b"\xff\xfe").decode()])
def test_get_shows_undecodable_data_unchanged(shown: Callable[..., Any], client: Client, id: str, data: str) -> None:
    client.call("promise.create", id=id, timeoutAt=FAR, param={"data": data})
    assert shown("promises", "get", id)["promise"]["param"] == {"data": data}


def test_text_from_strangers_cannot_control_the_terminal(run: Run, client: Client, id: str) -> None:
    evil = base64.b64encode("\x1b[31m \u009b31m \u202e".encode()).decode()
    client.call("promise.create", id=id, timeoutAt=FAR, param={"data": evil})
    result = run("promises", "get", id)
    assert result.stdout.replace("\n", "").isprintable()
    assert json.loads(result.stdout)["promise"]["param"]["data"] == "\x1b[31m \u009b31m \u202e"


@pytest.mark.parametrize(
    ("command", "state"), [("resolve", "resolved"), ("reject", "rejected"), ("cancel", "rejected_canceled")]
)
def test_settle_a_promise(shown: Callable[..., Any], id: str, command: str, state: str) -> None:
    shown("promises", "create", id, "--timeout", "1h")
    promise = shown("promises", command, id, "--value", '{"data": "v", "headers": {"h": "1"}}')["promise"]
    assert promise["state"] == state
    assert decoded(promise["value"]) == "v"
    assert promise["value"]["headers"] == {"h": "1"}


@pytest.mark.parametrize(
    ("later", "note"),
    [
        (["resolve", "--value", '{"data": true}'], ""),
        (["resolve", "--value", '{"data": false}'], "Note: it was settled before, as resolved; nothing has changed\n"),
        (["reject"], "Note: it was settled before, as resolved; nothing has changed\n"),
    ],
)
def test_who_settles_a_promise_too_late_is_told_so(run: Run, id: str, later: list[str], note: str) -> None:
    run("promises", "create", id, "--timeout", "1h")
    assert run("promises", "resolve", id, "--value", '{"data": true}').stderr == ""
    assert run("promises", later[0], id, *later[1:]).stderr == note


def test_search_promises_page_by_page(shown: Callable[..., Any], id: str) -> None:
    tags = json.dumps({"of": id})
    for number in range(3):
        shown("promises", "create", f"{id}-{number}", "--timeout", "1h", "--tags", tags)
    first = shown("promises", "search", "--tags", tags, "--state", "pending", "--limit", "2")
    second = shown("promises", "search", "--tags", tags, "--limit", "2", "--cursor", first["cursor"])

    assert [promise["id"] for promise in first["promises"] + second["promises"]] == [f"{id}-{n}" for n in range(3)]
    assert "cursor" not in second


def test_create_an_internal_promise(shown: Callable[..., Any], id: str) -> None:
    assert shown("promises", "create", id, "--timeout", "1h", "--internal")["promise"]["tags"] == {}


# --- tasks ----------------------------------------------------------------------------------------------------------


def test_release_halt_and_continue(shown: Callable[..., Any], client: Client, id: str) -> None:
    shown("invoke", id, "-f", "f")
    client.call("task.acquire", id=id, version=0, pid="p", ttl=60_000)
    states = []
    for step in (["release", id, "--version", "1"], ["halt", id], ["continue", id]):
        assert shown("tasks", *step) == {}
        states.append(shown("tasks", "get", id)["task"]["state"])

    assert states == ["pending", "halted", "pending"]


def test_search_tasks(shown: Callable[..., Any], id: str) -> None:
    shown("invoke", id, "-f", "f")
    shown("tasks", "halt", id)
    assert id in [task["id"] for task in shown("tasks", "search", "--state", "halted", "--limit", "1000")["tasks"]]


# --- schedules ------------------------------------------------------------------------------------------------------


YEARLY = ["--cron", "0 0 1 1 *", "--promise-id", "{{.id}}-{{.timestamp}}", "--promise-timeout", "30s"]


def test_create_find_and_delete_a_schedule(shown: Callable[..., Any], run: Run, id: str) -> None:
    template = ["--promise-tags", TARGET, "--promise-param", '{"data": "x"}']
    created = shown("schedules", "create", id, *YEARLY, *template)["schedule"]
    found = shown("schedules", "search", "--tags", TARGET, "--limit", "1000")["schedules"]

    assert created == shown("schedule", "get", id)["schedule"]
    assert (created["promiseTimeout"], decoded(created["promiseParam"])) == (30_000, "x")
    assert created in found
    assert shown("schedules", "delete", id) == {}
    assert run("schedules", "get", id).exit_code == 1


def test_a_schedule_without_a_target_is_warned_of(run: Run, id: str) -> None:
    for command in (["create", id, *YEARLY], ["get", id]):
        result = run("schedules", *command)
        assert result.exit_code == 0
        assert result.stderr == "Warning: without the tag resonate:target nobody runs its promises\n"


# --- invoke ---------------------------------------------------------------------------------------------------------


def test_invoke_writes_what_the_sdks_read(shown: Callable[..., Any], id: str) -> None:
    shown("invoke", id, "--func", "add", "--arg", "1", "--arg", "two", "--arg", '{"a": 3}')
    promise = shown("promises", "get", id, "--json")["promise"]
    assert json.loads(decoded(promise["param"])) == {"func": "add", "args": [1, "two", {"a": 3}], "version": 1}
    assert promise["tags"] == {"resonate:target": "poll://any@default"}
    assert abs(promise["timeoutAt"] - promise["createdAt"] - 3_600_000) < 5_000


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_deadline_is_one_by_the_clock_of_the_server_which_judges_it(start: Start, hours: int) -> None:
    url = start(program=server_with_a_clock_off_by(hours)).url

    def created(*arguments: str) -> Any:
        result = CliRunner().invoke(main, ["--server", url, *arguments])
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)["promise"]

    for promise in (created("invoke", "a", "-f", "f", "-t", "1h"), created("promises", "create", "b", "--timeout=1h")):
        assert promise["state"] == "pending"
        assert abs(promise["timeoutAt"] - promise["createdAt"] - 3_600_000) < 10_000


@pytest.mark.parametrize("target", ["g", "poll://any@g"])
def test_invoke_with_every_option(shown: Callable[..., Any], id: str, target: str) -> None:
    where = ["--target", target, "--delay", "30s"]
    promise = shown("invoke", id, "-f", "g", "--json-args", "[1, [2]]", "--version", "3", "-t", "2h", *where)["promise"]
    assert promise["param"]["data"] == {"func": "g", "args": [1, [2]], "version": 3}
    assert promise["tags"]["resonate:target"] == "poll://any@g"
    assert abs(int(promise["tags"]["resonate:delay"]) - promise["createdAt"] - 30_000) < 5_000


def test_the_time_to_finish_begins_after_the_delay(shown: Callable[..., Any], id: str) -> None:
    promise = shown("invoke", id, "-f", "g", "-t", "10s", "--delay", "1m")["promise"]
    assert promise["timeoutAt"] == int(promise["tags"]["resonate:delay"]) + 10_000


# --- both commands --------------------------------------------------------------------------------------------------


def test_the_server_s_program_sends_requests_to_the_server_in_the_environment(server: ServerProcess, id: str) -> None:
    command = [sys.executable, "-m", "resonate_server", "promises", "create", id, "--timeout", "1h"]
    env = {**os.environ, "RESONATE_URL": server.url}
    assert subprocess.run(command, capture_output=True, env=env, check=False, timeout=60).returncode == 0


def test_resonate_runs_a_server(start: Start) -> None:
    assert start(program=RESONATE[-1]).client().create("x").status == 200


def test_unsupported_commands_of_the_official_tool_are_refused_with_a_sentence(run: Run) -> None:
    result = run("mcp", "serve", "--anything")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: this server does not speak MCP")


# --- failing --------------------------------------------------------------------------------------------------------


def test_a_refusal_is_one_line_on_stderr_and_status_1(run: Run) -> None:
    result = run("promises", "get", "unknown")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Error: promise unknown does not exist (status 404)\n"


@pytest.mark.parametrize("command", ["chains", "promises get x", "tree x"])
def test_a_path_in_the_url_is_doubted_if_somebody_else_answers(server: ServerProcess, command: str) -> None:
    result = CliRunner().invoke(main, [*command.split(), "-S", f"{server.url}/api/"])
    assert result.exit_code == 1
    assert result.stderr.endswith("; should the URL end before /api?\n")


@pytest.mark.parametrize("program", [main, cli.main])
def test_the_list_of_commands_cuts_no_sentence_off(program: click.Command) -> None:
    assert "..." not in CliRunner().invoke(program, ["--help"]).stdout.replace("[ARGS]...", "")


def test_an_unreachable_server_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = CliRunner().invoke(main, ["promises", "get", "x", "-S", url])
    assert result.exit_code == 1
    assert result.stderr == f"Error: cannot reach the server at {url}: Connection refused\n"


@pytest.mark.parametrize("url", ["localhost:8001", "ftp://host", "http://", "http://host:port", "http://[::1"])
def test_an_invalid_url_is_named(url: str) -> None:
    result = CliRunner().invoke(main, ["promises", "get", "x", "-S", url])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: not a server's URL: ")


@pytest.mark.parametrize("duration", ["5", "1x", "h", "1h 30m", "-1s", "1.5h", ""])
def test_a_wrong_duration_is_a_usage_error(run: Run, duration: str) -> None:
    result = run("promises", "create", "x", f"--timeout={duration}")
    assert result.exit_code == 2
    assert "is not a duration" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        (["promises", "resolve", "x", "--value=true"], '{"data": true}'),
        (["promises", "create", "x", "--timeout=1h", "--tags=[]"], '{"name": "value"}'),
        (["invoke", "x", "--func=order", "--json-args={}"], '["tea", 2]'),
    ],
)
def test_json_of_another_kind_is_answered_with_an_example(run: Run, arguments: list[str], example: str) -> None:
    assert f"expected JSON like {example}" in run(*arguments).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["promises", "create", "x", "--timeout", "1h", "--param", "[]"],
        ["promises", "create", "x", "--timeout", "1h", "--tags", "{"],
        ["invoke", "x", "-f", "f", "--json-args", "{}"],
        ["invoke", "x", "-f", "f", "--json-args", "[]", "--arg", "1"],
        ["invoke", "x"],
    ],
)
def test_wrong_usage_is_reported_and_nothing_is_sent(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_flag_at_any_level_names_the_server_otherwise_the_environment_does(server: ServerProcess, id: str) -> None:
    elsewhere = f"http://127.0.0.1:{free_port()}"
    create = ["create", id, "--timeout", "1h"]
    for url, arguments in (
        (server.url, ["promises", *create]),
        (elsewhere, ["-S", server.url, "promises", *create]),
        (elsewhere, ["-S", elsewhere, "promises", "-S", elsewhere, *create, "-S", server.url]),
    ):
        assert CliRunner(env={"RESONATE_URL": url}).invoke(main, arguments).exit_code == 0, arguments


@pytest.mark.parametrize(("flags", "env"), [(["-T", "jwt"], {}), ([], {"RESONATE_TOKEN": "jwt"})])
def test_the_token_is_sent_both_ways(flags: list[str], env: dict[str, str]) -> None:
    answer = {"kind": "", "head": {"corrId": "", "status": 200, "version": ""}, "data": {}}
    with running_adapter() as server:
        server.replies["POST"] = Reply(json.dumps(answer).encode())
        url = server.url.removesuffix("/actions")
        result = CliRunner(env=env).invoke(main, ["promises", "get", "x", "-S", url, *flags])

    (asked,) = server.asked
    sent = asked.headers["authorization"], json.loads(asked.body)["head"]["auth"]
    assert (result.exit_code, sent) == (0, ("Bearer jwt", "jwt"))


COMMANDS = "dev serve invoke tree promises promise tasks task schedules schedule"


@pytest.mark.parametrize("path", ["", "tasks release", *COMMANDS.split()])
def test_the_official_commands_are_understood_and_every_level_has_help(path: str) -> None:
    result = CliRunner().invoke(main, [*path.split(), "--help"])
    assert result.exit_code == 0
    assert f" {path}" in result.stdout.splitlines()[0]
    assert "--server" in result.stdout

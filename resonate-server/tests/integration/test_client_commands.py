"""The command line tool against a real server: what it sends, and what it prints."""

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
from integration.calls import RESONATE, create, resonate, settle
from integration.servers import Start, server_with_a_clock_off_by

from resonate_server import cli
from resonate_server.client import main

type Run = Callable[..., Result]
type Shown = Callable[..., Any]

TARGET = '{"resonate:target": "poll://any@nobody"}'


@pytest.fixture
def shown(run: Run) -> Shown:
    """What a command prints, read as JSON. Text from strangers cannot control the terminal."""

    def succeed(line: str, *more: str) -> Any:
        result = run(line, *more)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.replace("\n", "").isprintable()
        return json.loads(result.stdout)

    return succeed


def base64_of(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


# --- promises -------------------------------------------------------------------------------------------------------


def test_create_and_get_a_promise(shown: Shown, id: str) -> None:
    created = shown(f"promises create {id} --timeout 1h30m", "--param", '{"data": "hi"}', "--tags", '{"a": "b"}')
    promise = shown(f"promises get {id} --json")["promise"]

    assert created == {"promise": promise}
    assert promise["state"] == "pending"
    assert promise["tags"] == {"a": "b", "resonate:external": "true"}
    assert promise["param"]["data"] == base64_of("hi")
    assert abs(promise["timeoutAt"] - promise["createdAt"] - 5_400_000) < 5_000


DATA: dict[str, tuple[str, Any]] = {
    "a call": (base64_of('{"func": "add", "args": [1, "two"]}'), {"func": "add", "args": [1, "two"]}),
    "a number": (base64_of("3"), 3),
    "text": (base64_of("plain text"), "plain text"),
    "text that would control a terminal": (base64_of("\x1b[31m \u009b31m \u202e"), "\x1b[31m \u009b31m \u202e"),
    "an error from Python": (
        base64_of('{"__type": "error", "message": "no", "__py_pickle": "gASV"}'),
        {"type": "error", "message": "no"},
    ),
    "an error from TypeScript": (
        base64_of('{"__type": "error", "name": "TypeError", "message": "no", "stack": "at"}'),
        {"type": "TypeError", "message": "no"},
    ),
    "what is not base64": ("not base64", "not base64"),
    "what is not text": (base64_of(b"\xff\xfe"), base64_of(b"\xff\xfe")),
}


@pytest.mark.parametrize(("data", "read"), DATA.values(), ids=DATA)
def test_get_shows_param_and_value_decoded(shown: Shown, client: Client, id: str, data: str, read: Any) -> None:
    value = {"data": data, "headers": {"h": "1"}}
    client.call("promise.create", id=id, timeoutAt=FAR, param=value)
    client.call("promise.settle", id=id, state="rejected", value=value)
    promise, verbatim = shown(f"promises get {id}")["promise"], shown(f"promises get {id} --json")["promise"]

    assert promise["param"] == promise["value"] == {"data": read, "headers": {"h": "1"}}
    assert verbatim["param"] == verbatim["value"] == value


@pytest.mark.parametrize(
    ("command", "state"), [("resolve", "resolved"), ("reject", "rejected"), ("cancel", "rejected_canceled")]
)
def test_settle_a_promise(shown: Shown, client: Client, id: str, command: str, state: str) -> None:
    create(client, id)
    promise = shown(f"promises {command} {id}", "--value", '{"data": "v", "headers": {"h": "1"}}')["promise"]
    assert (promise["state"], promise["value"]) == (state, {"data": base64_of("v"), "headers": {"h": "1"}})


@pytest.mark.parametrize(
    ("later", "note"),
    [
        ('resolve {id} --value {{"data":true}}', ""),
        ('resolve {id} --value {{"data":false}}', "Note: it was settled before, as resolved; nothing has changed\n"),
        ("reject {id}", "Note: it was settled before, as resolved; nothing has changed\n"),
    ],
)
def test_who_settles_a_promise_too_late_is_told_so(run: Run, client: Client, id: str, later: str, note: str) -> None:
    create(client, id)
    assert run(f'promises resolve {id} --value {{"data":true}}').stderr == ""
    assert run(f"promises {later.format(id=id)}").stderr == note


def test_search_promises_page_by_page(shown: Shown, id: str) -> None:
    tags = f'--tags {{"of":"{id}"}}'
    for number in range(3):
        shown(f"promises create {id}-{number} --timeout 1h {tags}")
    first = shown(f"promises search {tags} --state pending --limit 2")
    second = shown(f"promises search {tags} --limit 2 --cursor {first['cursor']}")

    assert [promise["id"] for promise in first["promises"] + second["promises"]] == [f"{id}-{n}" for n in range(3)]
    assert "cursor" not in second


def test_create_an_internal_promise(shown: Shown, id: str) -> None:
    assert shown(f"promises create {id} --timeout 1h --internal")["promise"]["tags"] == {}


# --- tasks ----------------------------------------------------------------------------------------------------------


def test_release_halt_find_and_continue_a_task(shown: Shown, client: Client, id: str) -> None:
    shown(f"invoke {id} -f f")
    client.call("task.acquire", id=id, version=0, pid="p", ttl=60_000)
    states = []
    for step in (f"release {id} --version 1", f"halt {id}", f"continue {id}"):
        assert shown(f"tasks {step}") == {}
        states.append(shown(f"tasks get {id}")["task"]["state"])
        found = [task["id"] for task in shown("tasks search --state halted --limit 1000")["tasks"]]
        assert (id in found) == (states[-1] == "halted")

    assert states == ["pending", "halted", "pending"]


# --- schedules ------------------------------------------------------------------------------------------------------


YEARLY = ["--cron", "0 0 1 1 *", "--promise-id", "{{.id}}-{{.timestamp}}", "--promise-timeout", "30s"]


def test_create_find_and_delete_a_schedule(shown: Shown, run: Run, id: str) -> None:
    template = ["--promise-tags", TARGET, "--promise-param", '{"data": "x"}']
    created = shown(f"schedules create {id}", *YEARLY, *template)["schedule"]
    found = shown("schedules search --limit 1000", "--tags", TARGET)["schedules"]

    assert created == shown(f"schedule get {id}")["schedule"]
    assert (created["promiseTimeout"], created["promiseParam"]["data"]) == (30_000, base64_of("x"))
    assert created in found
    assert shown(f"schedules delete {id}") == {}
    assert run(f"schedules get {id}").exit_code == 1


def test_a_schedule_without_a_target_is_warned_of(run: Run, id: str) -> None:
    for result in (run(f"schedules create {id}", *YEARLY), run(f"schedules get {id}")):
        assert result.exit_code == 0
        assert result.stderr == "Warning: without the tag resonate:target nobody runs its promises\n"


# --- invoke ---------------------------------------------------------------------------------------------------------


def test_invoke_writes_what_the_sdks_read(shown: Shown, id: str) -> None:
    shown(f"invoke {id} --func add --arg 1 --arg two", "--arg", '{"a": 3}')
    promise = shown(f"promises get {id} --json")["promise"]
    call = json.loads(base64.b64decode(promise["param"]["data"]))
    assert call == {"func": "add", "args": [1, "two", {"a": 3}], "version": 1}
    assert promise["tags"] == {"resonate:target": "poll://any@default"}
    assert abs(promise["timeoutAt"] - promise["createdAt"] - 3_600_000) < 5_000


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_deadline_is_one_by_the_clock_of_the_server_which_judges_it(start: Start, hours: int) -> None:
    url = start(program=server_with_a_clock_off_by(hours)).url
    for line in ("invoke a -f f -t 1h", "promises create b --timeout=1h"):
        promise = json.loads(resonate(url, line).stdout)["promise"]
        assert promise["state"] == "pending"
        assert abs(promise["timeoutAt"] - promise["createdAt"] - 3_600_000) < 10_000


@pytest.mark.parametrize("target", ["g", "poll://any@g"])
def test_invoke_with_every_option_where_the_time_to_finish_begins_after_the_delay(
    shown: Shown, id: str, target: str
) -> None:
    options = f"-f g --json-args [1,[2]] --version 3 -t 2h --target {target} --delay 30s"
    promise = shown(f"invoke {id} {options}")["promise"]
    assert promise["param"]["data"] == {"func": "g", "args": [1, [2]], "version": 3}
    assert promise["tags"]["resonate:target"] == "poll://any@g"
    begin = int(promise["tags"]["resonate:delay"])
    assert abs(begin - promise["createdAt"] - 30_000) < 5_000
    assert promise["timeoutAt"] == begin + 7_200_000


# --- chains ---------------------------------------------------------------------------------------------------------


def test_the_newest_chain_comes_first(client: Client, run: Run, id: str) -> None:
    newer = f"zz-größe-{id}"
    for each in (id, newer):
        settle(client, create(client, each, "foo"))
    assert run("chains").stdout.splitlines()[:2] == [newer, id]
    one = run("chains --limit 1", charset="ascii")
    assert one.stdout_bytes == f"{newer}\n".encode(), "whatever the locale: it is passed on as an argument"


# --- both commands --------------------------------------------------------------------------------------------------


def test_the_server_s_program_sends_requests_to_the_server_in_the_environment(server: ServerProcess, id: str) -> None:
    command = [sys.executable, "-m", "resonate_server", "promises", "create", id, "--timeout", "1h"]
    env = {**os.environ, "RESONATE_URL": server.url}
    assert subprocess.run(command, capture_output=True, env=env, check=False, timeout=60).returncode == 0


def test_resonate_runs_a_server(start: Start) -> None:
    assert start(program=RESONATE[-1]).client().create("x").status == 200


# --- which server, and what for -------------------------------------------------------------------------------------


def test_a_flag_at_any_level_names_the_server_otherwise_the_environment_does(server: ServerProcess, id: str) -> None:
    elsewhere = f"http://127.0.0.1:{free_port()}"
    creates = f"create {id} --timeout 1h"
    for url, line in (
        (server.url, f"promises {creates}"),
        (elsewhere, f"-S {server.url} promises {creates}"),
        (elsewhere, f"-S {elsewhere} promises -S {elsewhere} {creates} -S {server.url}"),
    ):
        assert CliRunner(env={"RESONATE_URL": url}).invoke(main, line).exit_code == 0, line


@pytest.mark.parametrize(("flags", "env"), [("-T jwt", {}), ("", {"RESONATE_TOKEN": "jwt"})])
def test_the_token_is_sent_both_ways(flags: str, env: dict[str, str]) -> None:
    answer = {"kind": "", "head": {"corrId": "", "status": 200, "version": ""}, "data": {}}
    with running_adapter() as server:
        server.replies["POST"] = Reply(json.dumps(answer).encode())
        result = resonate(server.url.removesuffix("/actions"), f"promises get x {flags}", **env)

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


@pytest.mark.parametrize("program", [main, cli.main])
def test_the_list_of_commands_cuts_no_sentence_off(program: click.Command) -> None:
    assert "..." not in CliRunner().invoke(program, ["--help"]).stdout.replace("[ARGS]...", "")

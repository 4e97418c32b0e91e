"""What a command prints and returns when a server is slow, cut off, hostile, or no Resonate server at all."""

import itertools
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from harness.server import Client, ServerProcess
from integration.calls import RESONATE, create, resonate, settle
from integration.servers import Start

from resonate_server.client import calls, server_connection
from resonate_server.client.calls import CallTree
from resonate_server.client.server_connection import CallFailed, ServerConnection

type Answer = Callable[[bytes], Iterator[bytes]]
"""What a server sends, part by part, for the head of a request."""

type Serve = Callable[[Answer], str]
type Run = Callable[..., Result]


def answer(body: bytes, kind: str = "application/json", status: str = "200 OK", length: int | None = None) -> bytes:
    fields = {"Content-Type": kind, "Content-Length": len(body) if length is None else length, "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def envelope(data: object, status: int = 200) -> bytes:
    return answer(
        msgspec.json.encode({"kind": "", "head": {"corrId": "", "status": status, "version": ""}, "data": data})
    )


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that answer one request for each connection, and close it."""
    with ExitStack() as opened:

        def start(answer_to: Answer) -> str:
            listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            opened.callback(listener.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=_serve, args=(listener, answer_to)).start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start


def _serve(listener: socket.socket, answer_to: Answer) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                for part in answer_to(connection.recv(100_000)):
                    connection.sendall(part)


def always(*parts: bytes) -> Answer:
    return lambda _: iter(parts)


NOBODY = "http://127.0.0.1:1"
"""Where no server is."""


def refused(url: str, line: str, *more: str, status: int = 1) -> str:
    """Run a command that fails, and return the line in which it says why."""
    result = resonate(url, line, *more)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    said = result.stderr.splitlines()[-1]
    assert said.startswith("Error: ") and said.isprintable()
    return said


# ── what answers ──


COMMANDS = [
    "promises get x",
    "schedules get x",
    "tree x",
    "wait x --timeout 1s",
    "report x",
    "chains",
    "backup copy.db",
]

PAGE = b"<!DOCTYPE html>\n<title>Not here</title>" + b"<p>no" * 1_000

GARBAGE = {
    "nothing": b"",
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a page": answer(PAGE, "text/html"),
    "a page of a proxy": answer(PAGE, "text/html", "502 Bad Gateway"),
    "an empty body": answer(b""),
    "a redirect": b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "text that is not UTF-8": answer(b'{"head":{"status":200},"data":"\xff","chains":[{"id":"\xff"}]}'),
    "excessive nesting": answer(b'{"head":{"status":200},"chains":[],"data":' + b"[" * 100_000),
    "a length that no memory has": answer(b"{}", length=10**18),
    "a chunk that no memory has": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n{}",
    "half of an answer": answer(b'{"head":{"status":200},"data":{}', length=100),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_reported_in_one_line(
    serve: Serve, garbage: bytes, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(serve(always(garbage)), command)
    assert "<" not in said and len(said) < 1_000 and "Error:  " not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [{}, [], "x", None, {"promise": {}}, {"schedule": 1}])
def test_an_answer_of_another_shape_is_no_traceback(serve: Serve, data: object) -> None:
    url = serve(always(envelope(data)))
    refused(url, "tree x")
    resonate(url, "schedules get x")


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for_forever(serve: Serve) -> None:
    def drip(_: bytes) -> Iterator[bytes]:
        yield answer(b"", length=1_000)
        for _number in range(100):
            time.sleep(0.1)
            yield b" "

    began = time.monotonic()
    said = refused(serve(drip), "wait x --timeout 0", status=4)
    assert time.monotonic() - began < 8
    assert re.search(r"no answer within (1|0\.9\d*) s", said)


def test_an_endless_answer_is_not_kept_in_memory(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_end(_: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield b" " * 65_536

    monkeypatch.setattr(server_connection, "MAX_ANSWER_BYTES", 2**20)
    assert refused(serve(without_end), "promises get x").endswith(" answers with more than 1 MiB")


def test_the_time_to_wait_counts_for_all_requests_together(serve: Serve) -> None:
    """A look at a chain takes at least four of them."""

    def slowly(_: bytes) -> Iterator[bytes]:
        time.sleep(0.9)
        yield envelope({"promise": PROMISE, "promises": [PROMISE]})

    began = time.monotonic()
    refused(serve(slowly), "wait x --timeout 1s", status=4)
    assert time.monotonic() - began < 2.5


PROMISE = {"id": "x", "state": "pending", "param": {}, "value": {}, "tags": {}, "timeoutAt": 2**62, "createdAt": 1}


def test_pages_that_lead_in_a_circle_or_never_end_are_not_read_forever(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MAX_CALLS", 20)

    def paged(ids: Iterator[str]) -> str:
        """Start a server that has the next of these promises on its next page."""
        return serve(
            lambda _: iter([envelope({"promise": PROMISE, "promises": [PROMISE | {"id": next(ids)}], "cursor": "x"})])
        )

    assert "pending" in resonate(paged(itertools.cycle("xy")), "tree x").stdout
    assert refused(paged(map(str, itertools.count())), "tree x") == "Error: the chain has more than 20 calls"


HISTORY = msgspec.json.encode({"promises": [{"id": "x", "phases": [{"kind": "running", "from": 1}]}]})


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (answer(HISTORY[:20], length=len(HISTORY)), "did not send all of it"),
        (answer(HISTORY, status="429 Too Many Requests"), "status 429"),
    ],
    ids=["cut off", "of a busy server"],
)
def test_a_history_that_did_not_come_is_asked_for_again(serve: Serve, first: bytes, reason: str) -> None:
    histories = iter([first, answer(HISTORY)])

    def later(head: bytes) -> Iterator[bytes]:
        yield next(histories) if head.startswith(b"GET") else envelope({"promise": PROMISE, "promises": [PROMISE]})

    tree = CallTree(ServerConnection(serve(later)), "x")
    with pytest.raises(CallFailed, match=reason):
        tree.read()
    assert [phase.kind for phase in tree.read()[0].phases] == ["running"]


@pytest.mark.parametrize("status", ["302 Found", "404 Not Found", "501 Not Implemented"])
def test_a_server_that_has_no_histories_may_say_so_in_any_way(serve: Serve, status: str) -> None:
    def without(head: bytes) -> Iterator[bytes]:
        has_no = answer(b"<p>no</p>", "text/html", status)
        yield has_no if head.startswith(b"GET") else envelope({"promise": PROMISE, "promises": [PROMISE]})

    assert "pending for" in resonate(serve(without), "tree x").stdout


def test_an_unreachable_busy_or_unready_server_is_waited_for_and_a_refusal_is_final() -> None:
    transient = [status for status in (0, 400, 401, 403, 404, 429, 500, 501, 502, 503, 504) if is_transient(status)]
    assert transient == [0, 429, 500, 502, 503, 504]


def is_transient(status: int) -> bool:
    return CallFailed("", status).is_transient


# ── refusals ──


REFUSED = [
    ("", "promises get unknown", "promise unknown does not exist (status 404)"),
    ("", f"tasks release x --version {'9' * 30}", "Expected `int` <= "),
    ("", "mcp serve --anything", "this server does not speak MCP"),
    (NOBODY, "promises get x", f"cannot reach the server at {NOBODY}: Connection refused"),
    ("localhost:8001", "promises get x", "not a server's URL: "),
    ("ftp://host", "promises get x", "not a server's URL: "),
    ("http://", "promises get x", "not a server's URL: "),
    ("http://host:port", "promises get x", "not a server's URL: "),
    ("http://[::1", "promises get x", "not a server's URL: "),
]


@pytest.mark.parametrize(("url", "line", "said"), REFUSED)
def test_a_refusal_is_one_line(server: ServerProcess, url: str, line: str, said: str) -> None:
    result = resonate(url or server.url, line)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"Error: {said}")


@pytest.mark.parametrize("command", ["chains", "promises get x", "tree x"])
def test_a_path_in_the_url_is_doubted_if_somebody_else_answers(server: ServerProcess, command: str) -> None:
    assert refused(f"{server.url}/api/", command).endswith("; should the URL end before /api?")


@pytest.mark.parametrize("token", ["sesame\n", "sesame open", "sesame\x00", "sésame", "\udcffsesame"])
def test_a_token_that_no_header_can_hold_is_not_shown(token: str) -> None:
    said = "Error: the token has a blank, a line end or another character that no token has"
    assert refused(NOBODY, "promises get x", "-T", token) == said


@pytest.mark.parametrize("url", ["http://u:sesame@127.0.0.1:1", "ftp://u:sesame@h", "http://u:sesame@h:port"])
def test_a_password_in_the_url_is_not_shown(url: str) -> None:
    assert "sesame" not in refused(url, "promises get x")


def test_a_refused_download_is_a_sentence(start: Start) -> None:
    url = start(RESONATE_AUTH__TOKEN="sesame").url
    assert refused(url, "chains").endswith("(status 401)")
    said = "keeps its state in memory: there is nothing to copy (status 409)"
    assert said in refused(url, "backup x -T sesame")


# ── what cannot be sent, or shown ──


DEEP = "[" * 100_000
DURATIONS = ("5", "1x", "h", "1h 30m", "-1s", "1.5h", "", "9" * 5_000 + "d")
GOALS = ("", "done", "bar=", "=running", "bar=done", "running=bar")

WRONG = [
    *(("promises create x", f"--timeout={text}", "is not a duration") for text in DURATIONS),
    *((f"wait x --until={goal}", "", "write it like settled or ship=running") for goal in GOALS),
    ("promises create x --timeout=999999999999d", "", "is longer than any server can count"),
    ("promises create x --timeout=1h --tags=[]", "", 'expected JSON like {"name": "value"}'),
    ("promises create x --timeout=1h --tags={", "", "not JSON: "),
    (f"promises create x --timeout=1h --tags={DEEP}", "", "not JSON: "),
    ("promises create x --timeout=1h --param=[]", "", 'expected JSON like {"data": true}'),
    ("promises resolve x --value=true", "", 'expected JSON like {"data": true}'),
    ('promises resolve x --value={"data":NaN}', "", "not JSON: "),
    ('promises resolve x --value={"data":"\\ud800"}', "", "not JSON: "),
    ("invoke x -f f --json-args={}", "", 'expected JSON like ["tea", 2]'),
    ("invoke x -f f --json-args=[] --arg 1", "", "--arg and --json-args cannot be combined"),
    ("invoke x", "", "Missing option '-f' / '--func'"),
    ("report x --fault kill", "", "--fault needs --struck, --struck-at and --over-at"),
    ("report x --fault flood", "", "'flood' is not one of"),
    ("report x --struck-at soon", "", "'soon' is not a valid integer"),
    ("report x --takes long", "", "'long' is not a duration"),
]


@pytest.mark.parametrize(("line", "option", "said"), WRONG, ids=lambda text: text[:60])
def test_wrong_usage_is_reported_and_nothing_is_sent(line: str, option: str, said: str) -> None:
    assert said in refused(NOBODY, line, *filter(None, [option]), status=2)


@pytest.mark.parametrize("line", ["promises get \udcff", "tree \udcff"])
def test_what_no_request_can_hold_is_not_sent(line: str) -> None:
    assert refused(NOBODY, line).startswith("Error: this cannot be sent: ")


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", DEEP], ids=lambda text: text[:9])
def test_data_that_is_no_json_is_shown_as_text(run: Run, id: str, text: str) -> None:
    result = run(f'promises create {id} --timeout 1h --param {{"data":"{text}"}}')
    assert result.exit_code == 0, result.output
    assert msgspec.json.decode(run(f"promises get {id}").stdout)["promise"]["param"]["data"] == text


def test_deeply_nested_data_does_not_flood_the_terminal(run: Run, id: str) -> None:
    deep = "[" * 5_000 + "]" * 5_000
    run(f'promises create {id} --timeout 1h --param {{"data":"{deep}"}}')
    shown = run(f"promises get {id}").stdout
    assert deep in shown
    assert len(shown) < 20_000


@pytest.mark.parametrize(
    ("command", "status", "out", "said"),
    [
        ("tree {id} >&-", 0, "", ""),
        ("wait {id} >/dev/full", 1, "", "Error: the disk is full: the answer could not be written\n"),
        ("promises get {id} | head --bytes 1", 0, "{", ""),
    ],
    ids=["closed", "full", "a reader that has gone"],
)
def test_an_output_that_takes_nothing(
    server: ServerProcess, client: Client, id: str, command: str, status: int, out: str, said: str
) -> None:
    settle(client, create(client, id, "f"), value="x" * 1_000_000)
    words = " ".join(f"'{word}'" for word in [*RESONATE, "-S", server.url])
    shell = ["bash", "-c", f"{words} {command.format(id=id)}"]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, said)


@pytest.mark.parametrize("columns", ["1", "30"])
def test_a_narrow_terminal_gets_everything(run: Run, client: Client, id: str, columns: str) -> None:
    settle(client, create(client, f"{id}.1", "g"), "rejected", {"message": "it has failed"})
    settle(client, create(client, id, "f"))
    drawn = run(f"tree {id}", COLUMNS=columns).stdout.splitlines()
    assert max(map(len, drawn)) <= max(int(columns), 60)


# ── backups ──


@pytest.fixture
def copy(start: Start, tmp_path: Path) -> bytes:
    """The bytes of a usable backup."""
    server = start("state.db")
    server.client().create("p")
    assert resonate(server.url, "backup", str(tmp_path / "first.db")).exit_code == 0
    return (tmp_path / "first.db").read_bytes()


@contextmanager
def held_up(serve: Serve, body: bytes, target: Path) -> Iterator[tuple[subprocess.Popen[str], threading.Event]]:
    """Begin a backup whose server sends half of the body, and the rest after the event."""
    asked, go_on = threading.Event(), threading.Event()

    def in_halves(_: bytes) -> Iterator[bytes]:
        asked.set()  # by now the file is locked
        yield answer(body)[: len(body) // 2]
        go_on.wait(60)
        yield answer(body)[len(body) // 2 :]

    command = [*RESONATE, "backup", str(target), "-S", serve(in_halves)]
    begun = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert asked.wait(60)
    yield begun, go_on
    go_on.set()


def test_two_backups_to_one_file_do_not_write_into_each_other(serve: Serve, copy: bytes, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    with held_up(serve, copy, target) as (begun, go_on):
        second = refused(serve(always(answer(copy))), "backup", str(target))
        assert "another backup is being written" in second
        go_on.set()
        _, errors = begun.communicate(timeout=60)
    assert begun.returncode == 0, errors
    assert target.read_bytes() == copy


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_backup_that_is_ended_leaves_the_earlier_one(
    serve: Serve, copy: bytes, tmp_path: Path, number: signal.Signals
) -> None:
    target = tmp_path / "copy.db"
    target.write_text("the earlier one")
    with held_up(serve, copy, target) as (begun, _):
        begun.send_signal(number)
        assert begun.wait(60) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    assert target.read_text() == "the earlier one"
    assert target.with_name("copy.db.part").exists() == (number == signal.SIGKILL)
    assert "did not send all of it" in refused(serve(always(answer(copy)[:-1])), "backup", str(target))
    assert target.read_text() == "the earlier one"
    assert resonate(serve(always(answer(copy))), "backup", str(target)).exit_code == 0
    assert list(tmp_path.glob("copy.db*")) == [target]


def test_a_backup_through_a_proxy_that_sends_chunks(serve: Serve, copy: bytes, tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    url = serve(always(head, b"%x\r\n%b\r\n0\r\n\r\n" % (len(copy), copy)))
    assert resonate(url, "backup", str(tmp_path / "copy.db")).exit_code == 0
    assert (tmp_path / "copy.db").read_bytes() == copy


def test_a_backup_whose_end_is_unknown_is_refused(serve: Serve, copy: bytes) -> None:
    url = serve(always(b"HTTP/1.1 200 OK\r\n\r\n", copy))
    assert "does not say where the answer ends" in refused(url, "backup copy.db")


@pytest.mark.parametrize("path", ["", ".", "/", "folder"])
def test_a_backup_needs_the_name_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    refused(NOBODY, "backup", path, status=2)

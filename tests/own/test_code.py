"""The code in docs/your-own.md, with a real server and real workers: correct code works, and wrong code fails with the
message that the document shows."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from harness.basics import wait_until
from harness.process import Process
from harness.server import ServerProcess

from own.document import FILES, FUNCTIONS, MESSAGE, quoted, shop

WRONG, ORDER_2, PAY = FUNCTIONS


class Project:
    """A folder with a server and one worker at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ServerProcess(folder / "server.log", folder / "shop.db").start()
        self.worker = Process([sys.executable, "shop.py"], folder / "shop.log", {"RESONATE_URL": self.server.url})

    def start(self, code: str) -> None:
        """Kill the running worker and start one with this code. The tests end its sleeps."""
        self.worker.kill()
        program = self.folder / "shop.py"
        program.write_text(code.replace("timedelta(seconds=10)", "timedelta(days=1)"))
        self.worker.command = [sys.executable, str(program)]
        self.worker.launch()

    def order(self, id: str, function: str = "order") -> None:
        assert self.server.client().begin(id, "shop", function, "tea").status == 200

    def result(self, id: str) -> Any:
        return self.server.client().result(id)

    def resonate(self, *arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("resonate")), *arguments, "--server", self.server.url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def tree(self, id: str) -> str:
        """Return the output of `resonate tree` as one line."""
        return " ".join(self.resonate("tree", id).split())

    def stop(self) -> None:
        self.worker.kill()
        self.server.kill()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    print(project.worker.output())
    project.stop()


def without_numbers(text: str) -> str:
    return " ".join(re.sub(r"[\d.]+\d", "N", text).split())


def test_a_nondeterministic_function_is_stopped_with_the_documented_message(project: Project) -> None:
    project.start(f"import time\n{shop(WRONG)}")
    project.order("order-7")
    wait_until(lambda: "given back" in project.worker.output(), "the replay differs")

    assert without_numbers(MESSAGE) in without_numbers(project.worker.output())
    wait_until(lambda: "is not deterministic" in project.tree("order-7"), "whoever looks at the call is told")

    project.resonate(*quoted("resonate (promises cancel order-7)").split())
    assert project.server.client().state("order-7") == "rejected_canceled"


def test_an_old_call_ends_with_the_old_function_and_a_new_one_with_the_new_function(project: Project) -> None:
    project.start(shop())
    project.order("old")
    wait_until(lambda: "suspended" in project.worker.output(), "the old call has begun")
    project.start(
        shop(ORDER_2).replace('Worker("shop", order, pack)', quoted('(Worker\\("shop", order, order_2, pack\\))'))
    )
    project.order("new", "order_2")

    assert project.result("new") == "tea is packed, tea is paid"
    project.server.client().end_sleep("old")
    assert project.result("old") == "tea is paid, tea is packed"


class Bank(ThreadingHTTPServer):
    """Charges once for each key, and answers once it is allowed to."""

    daemon_threads = True

    def __init__(self, *statuses: int) -> None:
        """`statuses`: the first answers, instead of 200."""
        super().__init__(("127.0.0.1", 0), Teller)
        self.statuses = list(statuses)
        self.requests = 0
        self.charges: dict[str, int] = {}
        self.may_answer = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def code(self) -> str:
        """Return the lines that shop.py needs at its top to pay here."""
        return f"import aiohttp\nfrom resonate.retry import Exponential\nBANK_URL = 'http://127.0.0.1:{self.server_port}'\n"


class Teller(BaseHTTPRequestHandler):
    server: Bank

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        key = self.headers["Idempotency-Key"]
        if status == 200:
            self.server.charges.setdefault(key, 70 + len(self.server.charges))
        self.server.requests += 1
        self.server.may_answer.wait()
        self.send_response(status)
        self.end_headers()
        with suppress(OSError):  # the client may have been killed
            self.wfile.write(str(self.server.charges.get(key, "")).encode())

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def test_a_worker_killed_between_the_payment_and_its_record_has_paid_once(project: Project) -> None:
    bank = Bank()
    project.start(bank.code() + shop(PAY))
    project.order("once")
    wait_until(lambda: bank.requests, "the bank is asked")
    project.start(bank.code() + shop(PAY))
    wait_until(lambda: bank.requests == 2, "the bank is asked again")
    bank.may_answer.set()
    project.server.client().end_sleep("once")

    assert project.result("once") == "tea is paid, receipt 70, tea is packed"
    assert bank.charges == {"once:1": 70}


@pytest.mark.parametrize(
    ("statuses", "paid"),
    [((402,), "tea is not paid: declined"), ((503,), "tea is paid, receipt 70")],
    ids=["what is final is a result", "what may work later is tried again"],
)
def test_an_answer_of_the_bank(project: Project, statuses: tuple[int, ...], paid: str) -> None:
    bank = Bank(*statuses)
    bank.may_answer.set()
    patiently = shop(PAY).replace("ctx.run(pay, item)", quoted(r"await (ctx\.options\(retry_policy=[^`]*)"))
    assert patiently != shop(PAY)
    project.start(bank.code() + patiently)
    project.order("paid")
    project.server.client().end_sleep("paid")

    assert project.result("paid") == f"{paid}, tea is packed"


def test_the_code_is_formatted_and_free_of_mistakes(tmp_path: Path) -> None:
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    for number, code in enumerate(FUNCTIONS):
        (tmp_path / f"function_{number}.py").write_text(code)
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    width = ["--isolated", "--line-length", "120"]
    rules = ["--select", "A,ASYNC,B,C4,E,F,N,PIE,PT,RET,RUF,SIM,UP,W", "--per-file-ignores", "function_*:F821"]

    for command in (["format", "--check", *width], ["check", *width, *rules]):
        done = subprocess.run([*ruff, *command, tmp_path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

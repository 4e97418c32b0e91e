"""The SDK alone: foo, bar and baz of the services in one process, on the SDK's own `LocalConnection`, without a server.

`measure` runs it in a fresh process (`python -m bench.in_process IN_FLIGHT SECONDS`), because that connection keeps
everything it has ever seen.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from resonate.connections import LocalConnection
from resonate.resonate import Resonate

from bar import bar
from baz import baz
from bench.load import Result, WrongAnswers
from foo import foo
from worker.logs import configure_logging, filter_sdk
from worker.values import PlainValues

ANSWER = 3


def measure(in_flight: int, seconds: float, log: Path) -> Result:
    """Keep ``in_flight`` chains going for ``seconds``; what they print goes to ``log``, as the services' lines do."""
    command = [sys.executable, "-m", __name__, str(in_flight), str(seconds)]
    result_file = log.with_suffix(".json")
    with log.open("ab") as output:
        subprocess.run([*command, str(result_file)], stdout=output, stderr=subprocess.STDOUT, check=True)
    result = msgspec.json.decode(result_file.read_bytes(), type=Result)
    if result.failures:
        raise WrongAnswers(f"the SDK alone: {result.failures[0]}")
    return result


async def _run(in_flight: int, seconds: float) -> Result:
    resonate = Resonate(network=LocalConnection(group="service-foo"), group="service-foo", encryptor=PlainValues())
    configure_logging()
    filter_sdk(lambda: True)
    for function in (foo, bar, baz):
        resonate.register(function)
    result = Result()
    began, cpu_before = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_call(resonate, f"{number}", began + seconds, result) for number in range(in_flight)))
    result.elapsed_s = time.perf_counter() - began
    result.cpu_seconds = time.process_time() - cpu_before
    await resonate.stop()
    return result


async def _call(resonate: Resonate, name: str, end: float, result: Result) -> None:
    count = 0
    while (sent_at := time.perf_counter()) < end:
        answer = await resonate.run(f"chain-{name}-{count}", foo).result()
        result.latencies_s.append(time.perf_counter() - sent_at)
        if answer != ANSWER:
            result.failures.append(f"answered {answer!r}")
        count += 1


def main(in_flight: str, seconds: str, result_file: str) -> None:
    result = asyncio.run(_run(int(in_flight), float(seconds)))
    Path(result_file).write_bytes(msgspec.json.encode(result))


if __name__ == "__main__":
    main(*sys.argv[1:])

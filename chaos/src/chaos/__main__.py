"""`python -m chaos`: the options that `scripts/chaos.sh` passes, signals, and the exit status."""

import argparse
import asyncio
import signal
import sys

from chaos import ledger
from chaos.experiment import Experiment, Settings
from chaos.records import Record
from chaos.stack import StackError

INTERRUPTED = 130


def main() -> None:
    """Exit with 0 if everything is as expected, 130 if that is so but it was ended early, else 1."""
    try:
        record = asyncio.run(_play(_settings()))
    except StackError as error:
        sys.exit(f"chaos.sh: {error}")
    judgements = ledger.judge(record)
    sys.stdout.write(ledger.render(record, judgements))
    sys.stdout.flush()
    sys.exit(exit_status(record, judgements))


def exit_status(record: Record, judgements: list[ledger.Judgement]) -> int:
    if not ledger.is_as_it_should_be(record, judgements):
        return 1
    return INTERRUPTED if record.interrupted else 0


async def _play(settings: Settings) -> Record:
    experiment = Experiment(settings)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, experiment.interrupt)
    return await experiment.play()


def _settings() -> Settings:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--kind", choices=["processes", "containers"], required=True)
    parser.add_argument("--services", type=str.split, required=True)
    parser.add_argument("--foo-port", type=int, required=True)
    parser.add_argument("--lease", type=float, required=True)
    parser.add_argument("--chains", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    return Settings(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

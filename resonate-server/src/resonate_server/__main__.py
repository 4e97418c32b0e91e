"""``python -m resonate_server``, and the ``resonate-server`` command.

What is loaded here stays for good, so the garbage collector need not scan it: not during loading, which takes a tenth
of the start, and not later, when it would hold up requests.
"""

import gc
import sys

gc.disable()

from resonate_server.certificates import import_aiohttp  # noqa: E402

import_aiohttp()

from resonate_server import cli  # noqa: E402

gc.freeze()
gc.enable()

OWN = {*cli.main.commands, "--help", "-h", "--version"}


def main() -> None:
    """Pass commands of ``resonate`` on to its client, which is loaded only then."""
    if sys.argv[1:2] and sys.argv[1] not in OWN:
        from resonate_server.client import main as client

        client()
    cli.main()


if __name__ == "__main__":
    main()

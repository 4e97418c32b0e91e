"""``python -m resonate_server``: the same as the ``resonate-server`` command."""

from resonate_server.cli import main

main()

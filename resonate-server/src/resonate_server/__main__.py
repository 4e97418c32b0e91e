"""``python -m resonate_server``, and the ``resonate-server`` command.

What is loaded here stays for ever, so the garbage collector need not look at it: not while it is loaded, which takes
a tenth of the start, and not later, when it would hold up requests.
"""

import gc

gc.disable()

from resonate_server.cli import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main()

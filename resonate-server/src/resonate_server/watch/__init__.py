"""The live view of the server: a ring of events, the workers, and the chains.

Watching has no side effects: nothing in here is stored, and nothing else depends on it. Whatever happens is kept only
as a small event, in a ring of bounded size; payloads are decoded and events encoded when somebody reads them.
"""

from resonate_server.watch.watch import Watch

__all__ = ["Watch"]

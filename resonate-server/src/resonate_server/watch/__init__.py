"""What people see of the server, live: a ring of events, the workers, and the chains.

Watching is free of consequences: nothing in here is stored, and nothing else depends on it. Of what happens only a
small event is kept, in a ring of bounded size; payloads are decoded and events encoded when somebody reads them.
"""

from resonate_server.watch.watch import Watch

__all__ = ["Watch"]

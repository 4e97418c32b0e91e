"""All rules of the protocol. A rule takes a request and the rows it touches, and returns a decision.

The kernel is deterministic and does no I/O: no clock, network, SQL, randomness or threads; time is an argument. It has
one dispatch point (:mod:`.apply`), one rule per wire kind, named after the kind, one table of task states
(:mod:`.states`), and one place that propagates a settlement (:mod:`.settlement`).
"""

from resonate_server.kernel.apply import answering, due, recalling, releasing, renewing, setting_aside

__all__ = ["answering", "due", "recalling", "releasing", "renewing", "setting_aside"]

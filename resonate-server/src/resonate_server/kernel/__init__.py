"""Every rule of the protocol: a request and the rows it touches in, a decision out.

Deterministic and without IO: no clock, network, SQL, randomness or threads; time is an argument. One dispatch point
(:mod:`.apply`), one rule per wire kind named after it, one table of states (:mod:`.states`), one place where a
settlement spreads (:mod:`.settlement`).
"""

from resonate_server.kernel.apply import answering, due, recalling, releasing, renewing, setting_aside

__all__ = ["answering", "due", "recalling", "releasing", "renewing", "setting_aside"]

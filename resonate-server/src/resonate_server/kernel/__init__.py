"""Every rule of the protocol: a request and the rows it touches in, a decision out.

Deterministic and without IO: no clock, network, SQL, randomness or threads; time is an argument. One dispatch point
(:func:`apply`), one rule per wire kind named after it, one table of states (:mod:`.states`), one place where a
settlement spreads (:mod:`.settlement`).
"""

from resonate_server.kernel.apply import (
    apply,
    due_footprint,
    footprint,
    link_footprint,
    recall,
    release_leases,
    renew_leases,
    set_aside,
    tick,
)

__all__ = [
    "apply",
    "due_footprint",
    "footprint",
    "link_footprint",
    "recall",
    "release_leases",
    "renew_leases",
    "set_aside",
    "tick",
]

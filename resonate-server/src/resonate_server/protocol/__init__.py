"""The wire format: envelopes, request kinds, records, messages and addresses, with their validation. Nothing else.

Section numbers in this package refer to the wire protocol as described in ``docs/protocol.md``.
"""

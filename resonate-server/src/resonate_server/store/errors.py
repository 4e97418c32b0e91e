"""Errors of a store. Their texts are for people."""

STOPS = "the server stops; this was not done to its end"


class ReadFailed(Exception):
    """Nothing was read or done, because the store failed, is stopping, or has no room."""


class StoreFailed(Exception):
    """The database cannot work at the moment, for example because the disk is full."""


class StoreUnusable(Exception):
    """The store cannot be opened: locked by another server, made by another version, not a database, not writable."""


class StoreLost(StoreFailed):
    """The database was taken away while in use.

    Anything written from now on is lost, and so may be the latest writes. The server cannot continue.
    """

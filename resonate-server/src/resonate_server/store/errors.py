"""What can be wrong with a store."""

STOPS = "the server stops; this was not done to its end"


class ReadFailed(Exception):
    """Nothing was read or done, because the store failed, stops, or has no room. The text is for people."""


class StoreFailed(Exception):
    """The database cannot do what it should, now: a full disk, say. The text is for people."""


class StoreLost(StoreFailed):
    """Somebody took the database away while it was in use; its text is for people.

    What is written from now on is lost, and so may be what was written last. There is nothing to go on with.
    """

"""Values are data: what a worker writes contains no code, and what it reads cannot run any.

The SDK puts a pickle of an exception beside its message, and unpickles the one it finds: whoever may settle a promise
could run code in the process that awaits it. Its codec passes the bytes of every value through an encryptor, in both
directions, and looks for a pickle only among the members of the outermost object.
"""

from typing import Any, Final

import msgspec
from resonate.error import SerializationError

from worker.runs import described, message_of, shortened

PICKLE: Final = "__py_pickle"
MAX_MESSAGE_CHARACTERS: Final = 50_000
"""Of an error. The server refuses requests that are too large, so a caller would never hear of it."""


class PlainValues:
    """A `resonate.codec.Encryptor` that encrypts nothing, and lets no pickle pass.

    So an error arrives as the SDK's `ApplicationError` with its message.
    """

    def decrypt(self, data: bytes) -> bytes:
        """Return the JSON without a pickle. Other data raises the error that the SDK expects for unreadable values."""
        try:
            value = msgspec.json.decode(data)
        except (ValueError, RecursionError) as error:  # also for bytes that are not UTF-8, and for endless nesting
            raise SerializationError(error) from error
        if not isinstance(value, dict) or PICKLE not in value:
            return data
        del value[PICKLE]
        return msgspec.json.encode(value)

    encrypt = decrypt


def value_of(error: Exception) -> dict[str, Any]:
    """Return what to write for an error. The name of its class is for people, as in the SDK for TypeScript, and all
    that a caller learns of an error without a message, like most `TimeoutError`s."""
    name = type(error).__name__
    text = described(error) if isinstance(error, KeyError) else message_of(error)  # its message is only the key
    message = shortened(text, MAX_MESSAGE_CHARACTERS) or name
    return {"__type": "error", "message": message, "name": name}

"""Values are data: what a worker writes contains no code, and what it reads cannot run any.

The SDK puts a pickle of an exception beside its message, and unpickles the one it finds: whoever may settle a promise
could run code in the process that awaits it. Its codec passes the bytes of every value through an encryptor, in both
directions, and looks for a pickle only among the members of the outermost object.
"""

import base64
import pickletools
from typing import Any, Final

import msgspec
from resonate.error import SerializationError

PICKLE: Final = "__py_pickle"
NAME: Final = "name"
"""The member for the name of an error's class, as in the SDK for TypeScript."""
MAX_MESSAGE_CHARACTERS: Final = 50_000
"""Of an error. The server refuses requests that are too large, so a caller would never hear of it."""


class PlainValues:
    """A `resonate.codec.Encryptor` that encrypts nothing, and lets no pickle pass.

    So an error arrives as the SDK's `ApplicationError` with its message. The name of its class is added for people.
    """

    def decrypt(self, data: bytes) -> bytes:
        """Return the JSON without a pickle. Other data raises the error that the SDK expects for unreadable values."""
        value = _read(data)
        if not isinstance(value, dict) or PICKLE not in value:
            return data
        del value[PICKLE]
        return msgspec.json.encode(value)

    def encrypt(self, data: bytes) -> bytes:
        value = _read(data)
        if not isinstance(value, dict) or PICKLE not in value:
            return data
        if name := _class_name(value.pop(PICKLE)):
            value.setdefault(NAME, name)
        if len(message := str(value.get("message", ""))) > MAX_MESSAGE_CHARACTERS:
            value["message"] = message[: MAX_MESSAGE_CHARACTERS - 1] + "…"
        return msgspec.json.encode(value)


def _read(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:  # also for bytes that are not UTF-8, and for endless nesting
        raise SerializationError(error) from error


def _class_name(pickle: Any) -> str:
    """Read the name from the instructions, without executing any: it is the last string before a class lookup."""
    name = ""
    try:
        for instruction, argument, _ in pickletools.genops(base64.b64decode(pickle)):
            if instruction.name == "STACK_GLOBAL":
                return name
            name = argument if isinstance(argument, str) else name
    except (ValueError, TypeError):
        pass
    return ""

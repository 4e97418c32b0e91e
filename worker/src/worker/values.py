"""Values are data: what a worker writes carries no code, and what it reads can run none.

The SDK puts a pickle of an exception beside its message, and unpickles the one it finds: whoever may settle a promise
could run code in whoever awaits it. Its codec shows the bytes of every value to an encryptor, in both directions, and
looks for a pickle among the members of the outermost object only.
"""

import base64
import pickletools
from typing import Any, Final

import msgspec
from resonate.error import SerializationError

PICKLE: Final = "__py_pickle"
NAME: Final = "name"
"""Of an error's class: the member in which the SDK for TypeScript writes it."""


class PlainValues:
    """See `resonate.codec.Encryptor`: encrypts nothing, and lets no pickle pass.

    So an error arrives as the SDK's `ApplicationError` with its message. For people, the name of its class is written
    beside that.
    """

    def decrypt(self, data: bytes) -> bytes:
        """The same JSON. What is none raises the error that the SDK expects of a value it cannot read."""
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
        return msgspec.json.encode(value)


def _read(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:  # also for bytes that are no UTF-8, and for nesting without end
        raise SerializationError(error) from error


def _class_name(pickle: Any) -> str:
    """Read from the instructions, of which none is carried out: the last string before a class is looked up."""
    name = ""
    try:
        for instruction, argument, _ in pickletools.genops(base64.b64decode(pickle)):
            if instruction.name == "STACK_GLOBAL":
                return name
            name = argument if isinstance(argument, str) else name
    except (ValueError, TypeError):
        pass
    return ""

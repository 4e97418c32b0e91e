"""Values are data: what a worker writes carries no code, and what it reads can run none.

The SDK puts a pickle of an exception beside its message, and unpickles the one it finds: whoever may settle a promise
could run code in whoever awaits it. Its codec shows the bytes of every value to an encryptor, in both directions, and
looks for a pickle among the members of the outermost object only.
"""

from typing import Final

import msgspec
from resonate.codec import Codec
from resonate.error import SerializationError

PICKLE: Final = "__py_pickle"


class PlainValues:
    """See `resonate.codec.Encryptor`: encrypts nothing, and lets no pickle pass.

    So an error arrives as the SDK's `ApplicationError` with its message.
    """

    def decrypt(self, data: bytes) -> bytes:
        """The same JSON. What is none raises the error that the SDK expects of a value it cannot read."""
        try:
            value = msgspec.json.decode(data)
        except (ValueError, RecursionError) as error:  # also for bytes that are no UTF-8, and for nesting without end
            raise SerializationError(error) from error
        if not isinstance(value, dict) or PICKLE not in value:
            return data
        del value[PICKLE]
        return msgspec.json.encode(value)

    encrypt = decrypt


CODEC: Final = Codec(PlainValues())

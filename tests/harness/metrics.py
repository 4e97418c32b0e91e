"""Figures of a running server, read as an operator would."""

import re
from collections import Counter
from http.client import HTTPConnection

_REFUSED = re.compile(r'^resonate_refused_total\{reason="(\w+)"\} (\S+)$', re.MULTILINE)


def refusals(metrics_port: int) -> Counter[str]:
    """How many requests were not let in so far, by reason."""
    connection = HTTPConnection("127.0.0.1", metrics_port, timeout=60)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return Counter({reason: int(float(count)) for reason, count in _REFUSED.findall(text)})

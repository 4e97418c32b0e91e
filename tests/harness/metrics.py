"""Metrics of a running server, read as an operator would read them."""

import re
from collections import Counter

from harness.http import request

_ANSWERED = re.compile(r'^resonate_request_total\{.*status="(?!503)\d+".*\} (\S+)$', re.MULTILINE)
_REFUSED = re.compile(r'^resonate_refused_total\{reason="(\w+)"\} (\S+)$', re.MULTILINE)


def refusals(metrics_port: int) -> Counter[str]:
    """Return the number of requests refused so far, by reason."""
    return Counter({reason: int(float(count)) for reason, count in _REFUSED.findall(_figures(metrics_port))})


def requests_answered(metrics_port: int) -> int:
    """Return the number of requests answered so far with a status other than 503."""
    return sum(int(float(count)) for count in _ANSWERED.findall(_figures(metrics_port)))


def _figures(metrics_port: int) -> str:
    return request(metrics_port, "GET", "/metrics").text

"""Metrics of a running server, read as an operator would read them."""

import re
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from harness.http import request

_ANSWERED = re.compile(r'^resonate_request_total\{.*status="(?!503)\d+".*\} (\S+)$', re.MULTILINE)
_REFUSED = re.compile(r'^resonate_refused_total\{reason="(\w+)"\} (\S+)$', re.MULTILINE)


def refusals(metrics_port: int) -> Counter[str]:
    """Return the number of requests refused so far, by reason."""
    return Counter({reason: int(float(count)) for reason, count in _REFUSED.findall(figures(metrics_port))})


def requests_answered(metrics_port: int) -> int:
    """Return the number of requests answered so far with a status other than 503."""
    return sum(int(float(count)) for count in _ANSWERED.findall(figures(metrics_port)))


def sample(metrics_port: int, name: str, **labels: str) -> float | None:
    """Return the value of a sample, parsed as Prometheus would; ``None`` if there is none."""
    samples = [each for family in text_string_to_metric_families(figures(metrics_port)) for each in family.samples]
    return next((each.value for each in samples if each.name == name and each.labels == labels), None)


def figures(metrics_port: int) -> str:
    return request(metrics_port, "GET", "/metrics").text

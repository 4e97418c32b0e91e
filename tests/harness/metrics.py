"""Metrics of a running server, read and parsed as Prometheus would."""

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from harness.http import request


def refusals(metrics_port: int) -> Counter[str]:
    """Return the number of requests refused so far, by reason."""
    refused = [each for each in samples(metrics_port) if each.name == "resonate_refused_total"]
    return Counter({each.labels["reason"]: int(each.value) for each in refused})


def requests_answered(metrics_port: int) -> int:
    """Return the number of requests answered so far with a status other than 503."""
    requests = [each for each in samples(metrics_port) if each.name == "resonate_request_total"]
    return sum(int(each.value) for each in requests if each.labels["status"] != "503")


def sample(metrics_port: int, name: str, **labels: str) -> float | None:
    """Return the value of a sample; ``None`` if there is none."""
    found = (each.value for each in samples(metrics_port) if each.name == name and each.labels == labels)
    return next(found, None)


def samples(metrics_port: int) -> list[Sample]:
    return [each for family in text_string_to_metric_families(figures(metrics_port)) for each in family.samples]


def figures(metrics_port: int) -> str:
    return request(metrics_port, "GET", "/metrics").text

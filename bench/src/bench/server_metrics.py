"""What our server says about itself: requests and commits, from its Prometheus figures."""

import urllib.request

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

REQUESTS = "resonate_request_total"
COMMITS = "resonate_commit_batch_size_count"

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Counts(Struct, frozen=True):
    """Since the server's start."""

    requests: float
    commits: float

    def since(self, before: "Counts") -> "Counts":
        return Counts(requests=self.requests - before.requests, commits=self.commits - before.commits)


def read(metrics_url: str) -> Counts:
    with _direct.open(metrics_url, timeout=10) as response:
        text = response.read().decode()
    totals = {REQUESTS: 0.0, COMMITS: 0.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in totals:
                totals[sample.name] += sample.value
    return Counts(requests=totals[REQUESTS], commits=totals[COMMITS])

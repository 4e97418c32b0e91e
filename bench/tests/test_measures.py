"""Small parts that read what others say: commits, fsyncs, CPU, order."""

import os
import time

from bench.fsyncs import count_in
from bench.overload import overtaking_s
from bench.server_metrics import Counts
from bench.usage import Meter, rss_bytes


def test_calls_are_counted_from_the_table_of_strace() -> None:
    table = """
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 98.00    0.123456          12        97           fdatasync
  2.00    0.000456           9         3         1 fsync
------ ----------- ----------- --------- --------- ----------------
100.00    0.123912          12       100         1 total
"""
    assert count_in(table) == 100


def test_counts_of_a_phase_are_differences() -> None:
    assert Counts(requests=30, commits=8).since(Counts(requests=10, commits=3)) == Counts(requests=20, commits=5)


def test_answers_in_the_order_of_the_requests_overtake_nothing() -> None:
    assert overtaking_s([(0.0, 1.0), (0.1, 1.0), (0.2, 2.0)]) == [0.0, 0.0, 0.0]


def test_a_request_is_overtaken_for_as_long_as_a_later_one_was_answered_before_it() -> None:
    assert max(overtaking_s([(0.0, 5.0), (0.1, 2.0), (0.2, 3.0)])) == 3.0


def test_a_meter_sees_the_work_of_a_process() -> None:
    meter = Meter({"this": os.getpid()})
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass

    used = meter.read()["this"]

    assert used.cpu_seconds >= 0.15
    assert used.peak_rss_bytes >= rss_bytes(os.getpid()) > 0

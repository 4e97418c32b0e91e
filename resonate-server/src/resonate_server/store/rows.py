"""Conversion between table rows, as tuples, and the kernel's structs. Columns hold tags and payloads as JSON."""

from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import astuple

from resonate_server.kernel.model import LinkChange, PutSpreading, Task, Unread
from resonate_server.protocol import records
from resonate_server.protocol.address import PollAddress, parse_address
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import EMPTY, Promise, PromiseState, Schedule, Tags, TaskState, Value

type Row = tuple[Any, ...]

_values = msgspec.json.Decoder(Value)
read_tags = msgspec.json.Decoder(Tags).decode


def is_external(tags: str) -> bool:
    """SQL function: whether a promise with these tags may be awaited."""
    return records.is_external(read_tags(tags))


def payload_data(value: Value) -> bytes | None:
    """Return the bytes to store for ``value``; ``None`` if it is empty or already stored."""
    return None if value == EMPTY or isinstance(value, Unread) else msgspec.json.encode(value)


def payload(data: bytes | int | None) -> Value:
    """Return the payload for its stored bytes, for its size if it was not read, or for none."""
    match data:
        case None:
            return EMPTY
        case int():
            return Unread(size=data)
    return _values.decode(data)


def whole_promise_row(promise: Promise, caller: str | None, with_param: bool) -> Row:
    """Return a row with the payloads that are to be stored. ``caller``: the task that created a promise that names no
    parent."""
    return (
        promise.id,
        str(promise.state),
        msgspec.json.encode(promise.tags).decode(),
        promise.timeout_at,
        promise.created_at,
        None if promise.settled_at is UNSET else promise.settled_at,
        promise.branch,
        caller or promise.parent,
        promise.origin,
        promise.state is PromiseState.PENDING and promise.is_external,
        payload_data(promise.param) if with_param else None,
        payload_data(promise.value),
    )


def promise(row: Row) -> Promise:
    """Convert a row that ends with its payloads or their sizes."""
    id, state, tags, timeout_at, created_at, settled_at, param, value = row
    return Promise(
        id=id,
        state=PromiseState(state),
        param=payload(param),
        value=payload(value),
        tags=read_tags(tags),
        timeout_at=timeout_at,
        created_at=created_at,
        settled_at=UNSET if settled_at is None else settled_at,
    )


PROMISE_COLUMNS = 8


def pair(row: Row) -> tuple[Promise, Task | None]:
    """Convert a row that has a promise and its task."""
    task_row = row[PROMISE_COLUMNS:]
    return promise(row[:PROMISE_COLUMNS]), None if task_row[0] is None else task(task_row)


def whole_schedule_row(schedule: Schedule) -> Row:
    return (
        schedule.id,
        schedule.cron,
        schedule.promise_id,
        schedule.promise_timeout,
        msgspec.json.encode(schedule.promise_tags).decode(),
        schedule.created_at,
        schedule.next_run_at,
        None if schedule.last_run_at is UNSET else schedule.last_run_at,
        payload_data(schedule.promise_param),
    )


def schedule(row: Row) -> Schedule:
    id, cron, promise_id, promise_timeout, tags, created_at, next_run_at, last_run_at, param = row
    return Schedule(
        id=id,
        cron=cron,
        promise_id=promise_id,
        promise_timeout=promise_timeout,
        promise_param=payload(param),
        promise_tags=read_tags(tags),
        created_at=created_at,
        next_run_at=next_run_at,
        last_run_at=UNSET if last_run_at is None else last_run_at,
    )


def task_row(task: Task) -> Row:
    """The columns are the members of a task, in their order, and the group that it is for."""
    id, target, state, *others = astuple(task)
    address = parse_address(target)
    return id, target, str(state), *others, address.group if isinstance(address, PollAddress) else None


def task(row: Row) -> Task:
    id, target, state, *times, queued, releases, lost_at, unclaimed, reason = row
    members = (id, target, TaskState(state), *times, bool(queued), releases, lost_at, unclaimed, reason)
    return Task(*members)


def link_row(link: LinkChange) -> Row:
    """The columns are the members of a change, as far as it has them."""
    return (*astuple(link.spreading), link.turn_at) if isinstance(link, PutSpreading) else astuple(link)


def unblock_row(unblock: Unblock, now: int) -> Row:
    address = parse_address(unblock.address)
    group, member = (address.group, address.member) if isinstance(address, PollAddress) else ("", "")
    return unblock.promise.id, unblock.address, group, member, now

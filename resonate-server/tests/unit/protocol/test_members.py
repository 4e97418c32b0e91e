"""The members of each kind, and which of their values are refused (sections 3.1 and 3.2; section 9, item 15)."""

import copy
import json
from itertools import product
from typing import Any

import pytest
from unit.reading import Refused, read

from resonate_server.protocol.envelope import VERSION, CheckedRequest
from resonate_server.protocol.requests import (
    MAX_AWAITED,
    MAX_ID_CHARACTERS,
    MAX_INTEGER,
    MAX_TAGS_CHARACTERS,
    Request,
)

TARGET = {"resonate:target": "poll://any@workers"}
CREATE = {"id": "p", "timeoutAt": 1_000, "tags": TARGET}
SETTLE = {"id": "t", "state": "resolved"}


def action(kind: str, data: Any) -> dict[str, Any]:
    return {"kind": kind, "head": {"corrId": "inner", "version": VERSION}, "data": data}


AWAIT_P = action("promise.register_callback", {"awaited": "p", "awaiter": "t"})
SETTLE_P = action("promise.settle", SETTLE | {"id": "p"})
SCHEDULE = {"id": "s", "cron": "* * * * *", "promiseId": "p", "promiseTimeout": 1}

VALID: dict[str, dict[str, Any]] = {
    "promise.get": {"id": "p"},
    "promise.create": CREATE,
    "promise.settle": SETTLE,
    "promise.register_callback": {"awaited": "p", "awaiter": "t"},
    "promise.register_listener": {"awaited": "p", "address": "poll://uni@callers/1"},
    "promise.search": {"limit": 5},
    "task.get": {"id": "t"},
    "task.create": {"pid": "w", "ttl": 1, "action": action("promise.create", CREATE)},
    "task.acquire": {"id": "t", "version": 0, "pid": "w", "ttl": 1},
    "task.release": {"id": "t", "version": 1},
    "task.fulfill": {"id": "t", "version": 1, "action": action("promise.settle", SETTLE)},
    "task.suspend": {"id": "t", "version": 1, "actions": [AWAIT_P]},
    "task.fence": {"id": "t", "version": 1, "action": action("promise.create", CREATE)},
    "task.heartbeat": {"pid": "w", "tasks": [{"id": "t", "version": 1}]},
    "task.halt": {"id": "t"},
    "task.continue": {"id": "t"},
    "task.search": {"limit": 5},
    "schedule.create": SCHEDULE | {"promiseTags": TARGET},
    "schedule.search": {"limit": 5},
}

OPTIONAL = {"tags", "param", "value", "head", "kind", "promiseTags", "limit"}
MISSING = object()

CREATIONS: list[tuple[str, tuple[str, ...]]] = [
    ("promise.create", ()),
    ("task.create", ("action", "data")),
    ("task.fence", ("action", "data")),
]
"""The requests that create a promise, and where."""
LISTENER: tuple[str, tuple[str | int, ...]] = ("promise.register_listener", ("address",))


def raw(kind: str, data: Any) -> bytes:
    return json.dumps({"kind": kind, "head": {"corrId": "c", "version": VERSION}, "data": data}).encode()


def accepted(kind: str, data: Any) -> Request:
    result = read(raw(kind, data))
    assert isinstance(result, CheckedRequest), f"{kind}: {result}"
    return result.request


def refused(kind: str, data: Any) -> str:
    result = read(raw(kind, data))
    assert isinstance(result, Refused), f"{kind}: {result}"
    return result.message


def changed(kind: str, path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """Return the valid data of ``kind`` with another ``value`` at ``path``, or without it."""
    data = copy.deepcopy(VALID[kind])
    place: Any = data
    for step in path[:-1]:
        place = place[step]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


def paths(data: Any, prefix: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of all members, at any depth."""
    found: list[tuple[str | int, ...]] = []
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        found += [(*prefix, key), *paths(value, (*prefix, key))]
    return found


def shown(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


def members(*names: str) -> list[tuple[str, tuple[str | int, ...]]]:
    """Return (kind, path) of every member named one of ``names``, in all kinds."""
    found = [
        (kind, path) for kind, data in VALID.items() for path in paths(data) if path[-1] in names and "head" not in path
    ]
    assert {path[-1] for _, path in found} == set(names)
    return found


DEMANDED = [
    pytest.param(kind, path, id=f"{kind} {shown(path)}")
    for kind, data in VALID.items()
    for path in paths(data)
    if isinstance(path[-1], str) and not OPTIONAL.intersection(map(str, path))
]


@pytest.mark.parametrize("kind", VALID)
def test_valid(kind: str) -> None:
    accepted(kind, VALID[kind])


@pytest.mark.parametrize(("kind", "path"), DEMANDED)
def test_a_member_that_is_missing_or_of_another_type_is_refused(kind: str, path: tuple[str | int, ...]) -> None:
    for wrong in (MISSING, None, True, 1.5, [1], {"x": 1}):
        refused(kind, changed(kind, path, wrong))


def awaiting(count: int) -> list[Any]:
    return [{"data": {"awaited": f"p{number}", "awaiter": "t"}} for number in range(count)]


type Places = list[tuple[str, tuple[str | int, ...]]]

IDS, INTEGERS = members("id", "awaited", "awaiter"), members("timeoutAt", "version", "ttl")
CREATED: Places = [
    ("promise.create", ("id",)),
    ("task.create", ("action", "data", "id")),
    ("task.create", ("pid",)),
    ("task.acquire", ("pid",)),
    ("schedule.create", ("id",)),
    ("schedule.create", ("promiseId",)),
]
"""Ids of what may not exist yet. SDKs send them in a header, which cannot hold a control character: no worker could
claim the task of such an id."""

TAGS, SUSPEND, FENCE = ("promise.create", ("tags",)), ("task.suspend", ("actions",)), ("task.fence", ("action",))

WRONG: dict[str, tuple[Places, list[Any]]] = {
    "processes": ([(kind, ("pid",)) for kind in ("task.create", "task.acquire", "task.heartbeat")], [""]),
    "leases": (members("ttl"), [0]),
    "cursors": ([("promise.search", ("cursor",))], [1, [], {}]),
    "a promise that awaits itself": ([("promise.register_callback", ("awaiter",))], ["p"]),
    "a delay without a target": ([TAGS], [{"resonate:delay": "1"}]),
    "a task without a target": ([("task.create", ("action", "data", "tags"))], [{}]),
    "fulfilling another promise": ([("task.fulfill", ("action", "data", "id"))], ["other"]),
    "suspending another task": ([("task.suspend", ("actions", 0, "data", "awaiter"))], ["other"]),
    "suspending on itself": ([("task.suspend", ("actions", 0, "data", "awaited"))], ["t"]),
    "suspensions": ([SUSPEND], [[AWAIT_P, AWAIT_P], [], [None], awaiting(MAX_AWAITED + 1)]),
    "heartbeats": ([("task.heartbeat", ("tasks",))], [[None]]),
    "fencing the own promise": ([("task.fence", ("action", "data", "id"))], ["t"]),
    "fences": (
        [FENCE],
        [action("promise.settle", {"id": "p", "state": "pending"}), action("promise.create", {"id": "p"})],
    ),
    "kinds of fences": ([("task.fence", ("action", "kind"))], ["promise.get", "task.create", "", "x", None, 1]),
    "ids": (IDS, ["", "\x00", "a\x00b", "a\x00", "x" * 100_000]),
    "new ids": (CREATED, ["\x01", "a\nb", "a\t", "\x1b[31m", "\x7f", "\x80", "a\x85", "\x9b"]),
    "long new ids": (CREATED, [character * (MAX_ID_CHARACTERS + 1) for character in "xé数😀"]),
    "integers": (INTEGERS, [-1, -1.0, 0.5, 2**63, 2**64, 2**63 + 0.0, 10**400, "1", True]),
    "limits": (members("limit"), [0, -1, 1_001, 1.5, "10", True]),
    "states of promises": ([("promise.search", ("state",))], ["", "PENDING", "done", 1, ["pending"], "acquired"]),
    "states of tasks": ([("task.search", ("state",))], ["", "PENDING", "done", 1, ["pending"], "resolved"]),
    "payloads": (
        [("promise.create", ("param",)), ("promise.settle", ("value",))],
        [[], "x", 1, True, {"data": 1}, {"data": {}}, {"headers": []}, {"headers": {"a": 1}}, {"headers": {"a": None}}],
    ),
    "tags": (
        [("promise.create", ("tags",)), ("promise.search", ("tags",))],
        [[], "x", 1, {"a": 1}, {"a": True}, {"a": []}, {"a": 1.0}, {"a": None}],
    ),
    "settlements": (
        [("promise.settle", ("state",)), ("task.fulfill", ("action", "data", "state"))],
        ["pending", "rejected_timedout", "timedout", "RESOLVED", "", "canceled"],
    ),
    "delays": (
        [("promise.create", ("tags", "resonate:delay"))],
        ["", "x", "-1", "1.5", "1e3", " 1", "1_0", "+1", "\u0661", "1000", "9" * 30],
    ),
    "addresses": (
        [*((kind, (*path, "tags", "resonate:target")) for kind, path in CREATIONS), LISTENER],
        [
            *("", "workers", "any@workers", "poll:any@workers", "poll://", "poll:///", "poll://workers"),
            *("poll://@workers", "poll://any@", "poll://any@/w1", "poll://uni@/w1", "poll://all@workers"),
            *("poll://ANY@workers", "poll://any:x@workers", "poll://x@any@workers", "://any@workers", "http:host"),
            *("ftp://h/", "gcps://project/topic", "bash://", "http://", "http:///path", "x" * 10_000),
            *("poll://any@a\nb", "poll://uni@workers/a\x7f", "poll://any@a\ud800", "https://h/\x00"),
            *("http://[", "http://h:65536", "http://h:0", "http://h:x", "http://user@", "http://a b/", "http://?x"),
            "https://h/" + "x" * (MAX_ID_CHARACTERS - 9),
        ],
    ),
}
RIGHT: dict[str, tuple[Places, list[Any]]] = {
    "zero": ([("promise.create", ("timeoutAt",)), ("task.acquire", ("version",))], [0]),
    "states of promises": ([("promise.search", ("state",))], ["rejected_timedout"]),
    "states of tasks": ([("task.search", ("state",))], ["halted"]),
    "a timer with a target (section 7.2, item 4)": ([TAGS], [TARGET | {"resonate:timer": "true"}]),
    "suspensions": ([SUSPEND], [awaiting(MAX_AWAITED)]),
    "heartbeats": ([("task.heartbeat", ("tasks",))], [[], [{"id": id, "version": 1} for id in ("a.1", "b:1")]]),
    "fences": ([FENCE], [SETTLE_P, {"data": CREATE, "kind": "promise.create"}]),
    "heads of fences": ([("task.fence", ("action", "head"))], [None]),
    "ids": (
        [("promise.get", ("id",))],
        [" ", "\n", "a\nb\n", "/", "foo.1", "foo:1.1", "é", "😀", "\u2028", "x" * 1_000, "\x01"],
    ),
    "long new ids": (CREATED, [character * MAX_ID_CHARACTERS for character in "xé数😀"]),
    "integers": (INTEGERS, [MAX_INTEGER]),
    "limits": (members("limit"), [1, 1_000]),
    "settlements": ([("promise.settle", ("state",))], ["resolved", "rejected", "rejected_canceled"]),
    "delays": ([("promise.create", ("tags", "resonate:delay"))], ["0", "999", "0999"]),
    "addresses": (
        [("promise.create", ("tags", "resonate:target")), LISTENER],
        ["poll://any@a%0Ab", "https://h/" + "x" * (MAX_ID_CHARACTERS - 10)],
    ),
}


@pytest.mark.parametrize(("places", "values"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_refused_briefly_wherever_it_is(places: Places, values: list[Any]) -> None:
    for (kind, path), value in product(places, values):
        assert len(refused(kind, changed(kind, path, value))) < 1_000


@pytest.mark.parametrize(("places", "values"), RIGHT.values(), ids=RIGHT)
def test_any_other_value_is_accepted(places: Places, values: list[Any]) -> None:
    for (kind, path), value in product(places, values):
        accepted(kind, changed(kind, path, value))


NO_TEXT = (
    b"\\ud800",
    b"\\udc00",
    b"\\ud800x",
    b"\\udc00\\ud800",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xf8\x88\x80\x80\x80",
)
"""Lone surrogates have no encoding in UTF-8: they could be neither stored nor sent."""
NO_NUMBER = (b"1e400", b"-1e400", b"1e9999999999", b"NaN", b"Infinity", b"1" * 5_000, b"01", b"+1")


@pytest.mark.parametrize("text", [b'"%b"' % text for text in NO_TEXT])
def test_what_is_no_unicode_is_refused(text: bytes) -> None:
    assert isinstance(read(raw("promise.get", {"id": "X"}).replace(b'"X"', text)), Refused)


@pytest.mark.parametrize("number", NO_NUMBER)
def test_what_is_no_number_is_refused(number: bytes) -> None:
    assert isinstance(read(raw("promise.create", CREATE).replace(b"1000", number)), Refused)


PLAIN = {"id": "p", "timeoutAt": 5}
ACQUIRE = VALID["task.acquire"]
SAME: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    **{
        f"a float in {kind} {path}": (kind, changed(kind, path, 9.0), changed(kind, path, 9)) for kind, path in INTEGERS
    },
    "an exponent": ("promise.create", PLAIN | {"timeoutAt": 1.7e12}, PLAIN | {"timeoutAt": 1_700_000_000_000}),
    "unread numbers beside a float": ("task.acquire", ACQUIRE | {"version": 0.0, "x": 10**30, "y": 0.5}, ACQUIRE),
    "null for a payload and tags": ("promise.create", PLAIN | {"param": None, "tags": None}, PLAIN),
    "null within a payload": ("promise.create", PLAIN | {"param": {"headers": None, "data": None}}, PLAIN),
    "null in a settlement": ("promise.settle", SETTLE | {"value": None}, SETTLE),
    "null in a search for promises": (
        "promise.search",
        {"state": None, "tags": None, "limit": None, "cursor": None},
        {},
    ),
    "null in a search for tasks": ("task.search", {"state": None, "limit": None, "cursor": None}, {}),
    "the usual limit": ("promise.search", {"limit": 100}, {}),
    "the usual limit of schedules": ("schedule.search", {"limit": 10}, {}),
    "an unknown member of a payload": ("promise.create", CREATE | {"param": {"more": 1}}, CREATE),
}
"""What loosely typed clients write, and what that means (section 1.3 [SHOULD])."""


@pytest.mark.parametrize(("kind", "loose", "strict"), SAME.values(), ids=SAME)
def test_what_is_written_loosely_means_the_same(kind: str, loose: dict[str, Any], strict: dict[str, Any]) -> None:
    assert accepted(kind, loose) == accepted(kind, strict)


def test_an_exponent_makes_an_integer_too() -> None:
    body = raw("promise.create", CREATE)
    assert read(body.replace(b"1000", b"1e3")) == read(body)


def test_a_float_does_not_hide_another_mistake() -> None:
    refused("task.acquire", ACQUIRE | {"version": 0.0, "pid": ""})


def test_tags_are_small() -> None:
    """They are stored where promises are looked up; payloads are not."""
    fits = TARGET | {"note": ""}
    fits["note"] = "x" * (MAX_TAGS_CHARACTERS - sum(map(len, [*fits, *fits.values()])))
    for tags, judge in ((fits, accepted), (fits | {"note": fits["note"] + "x"}, refused)):
        judge("promise.create", CREATE | {"tags": tags})
        judge("schedule.create", SCHEDULE | {"promiseTags": tags})


@pytest.mark.parametrize("name", ["origin", "branch", "parent"])
def test_tags_that_are_ids_are_as_long_as_ids(name: str) -> None:
    longest = "x" * MAX_ID_CHARACTERS
    accepted("promise.create", CREATE | {"id": longest, "tags": {f"resonate:{name}": longest}})
    refused("promise.create", CREATE | {"id": longest, "tags": {f"resonate:{name}": longest + "x"}})


def created(id: str, **tags: str) -> dict[str, Any]:
    """Return the data of a promise.create; ``tags`` omit ``resonate:``."""
    return CREATE | {"id": id, "tags": TARGET | {f"resonate:{name}": text for name, text in tags.items()}}


def creations(id: str, caller: str = "r", **tags: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the three requests that create such a promise, as a call of task ``caller``."""
    create = action("promise.create", created(id, **tags))
    return [
        ("promise.create", create["data"]),
        ("task.create", changed("task.create", ("action",), create)),
        ("task.fence", {"id": caller, "version": 1, "action": create}),
    ]


ANCESTORS = ("origin", "parent", "branch")

OLDER: dict[str, tuple[str, dict[str, str]]] = {
    "SDK 0.7 joins with dots and sends a prefix": (
        "r.1.1", {"origin": "r", "parent": "r.1", "branch": "r.1", "prefix": "r"}
    ),
    "SDK 0.7 detaches to below the root, whoever calls": (
        "r.d1", {"origin": "r.d1", "branch": "r.d1", "parent": "r.1", "prefix": "r"}
    ),
    "SDK 0.7 has a colon in its prefix in a chain that 0.8 began": (
        "r:1.1", {"origin": "r", "parent": "r:1", "branch": "r:1.1", "prefix": "r:1"}
    ),
    "SDK 0.7 detaches there, too": (
        "r:1.d1", {"origin": "r:1.d1", "branch": "r:1.d1", "parent": "r:1.2", "prefix": "r:1"}
    ),
    "SDK 0.7 with RESONATE_PREFIX has a colon in its roots": (
        "mine:r", {"origin": "mine:r", "branch": "mine:r", "parent": "mine:r", "prefix": "mine:r"}
    ),
    "Go detaches to below the root, whoever calls": ("r.d1", {"origin": "r", "branch": "r.d1", "parent": "r.1.1"}),
    "TypeScript 0.11.4 names the caller of a call with an id of its own": (
        "own", {"origin": "own", "branch": "own", "parent": "r", "prefix": "r"}
    ),
    "TypeScript gives a call an id and a tree of its own": ("own", {"origin": "own", "branch": "own", "parent": "own"}),
}  # fmt: skip
"""Tolerated deviations, as seen on the wire; ``docs/protocol.md`` lists them (section 7)."""


ALLOWED: dict[str, tuple[str, dict[str, str]]] = OLDER | {
    f"{id} with {tag} r": (id, {tag: "r"}) for tag in ANCESTORS for id in ("r", "r:1", "r:1.1", "r.1", "r.1:1", "r:")
}


@pytest.mark.parametrize(("id", "tags"), ALLOWED.values(), ids=ALLOWED)
def test_is_accepted(id: str, tags: dict[str, str]) -> None:
    """A promise belongs to the tree that its tags name (section 3.1): its id begins with that of its ancestor."""
    for kind, create in creations(id, "q" if id == "r" else "r", **tags):
        accepted(kind, create)


def test_sdk_0_8_continues_below_a_call_that_0_7_detached() -> None:
    origin = "r:1.dd1051cb84a8cdd208"
    for kind, create in creations(f"{origin}.1", origin, origin=origin, parent=origin, branch=f"{origin}.1"):
        accepted(kind, create)


@pytest.mark.parametrize(
    ("id", "tags", "reason"),
    [
        *[(id, {tag: "r"}, f"resonate:{tag}") for tag in ANCESTORS for id in ("s", "r1", "s:r", "R:1", "r-1")],
        ("a:b", {"origin": "a:b"}, "':'"),
        ("r:1", {"prefix": "r:2"}, "resonate:prefix"),
        ("r.2", {"origin": "r", "branch": "r.2", "parent": "s.1"}, "resonate:parent"),
    ],
)
def test_a_promise_of_another_tree_is_refused_with_the_tag_s_name(id: str, tags: dict[str, str], reason: str) -> None:
    for kind, create in creations(id, **tags):
        assert reason in refused(kind, create)


def test_the_promises_of_a_schedule_get_tags_of_their_own() -> None:
    for tag in (*ANCESTORS, "prefix"):
        accepted("schedule.create", SCHEDULE | {"promiseTags": TARGET | {f"resonate:{tag}": "any"}})


@pytest.mark.parametrize(("tag", "value"), [("resonate:delay", "5"), ("resonate:timer", "true")])
def test_task_create_accepts_nothing_that_cannot_run_at_once(tag: str, value: str) -> None:
    tags = TARGET | {tag: value}
    assert tag in refused("task.create", changed("task.create", ("action", "data", "tags"), tags))


def test_fence_creates_within_the_task_s_tree() -> None:
    fence = VALID["task.fence"] | {"action": action("promise.create", created("s:1", origin="s"))}
    assert "tree" in refused("task.fence", fence | {"id": "t:1"})
    accepted("task.fence", fence | {"id": "s:2.1"})


@pytest.mark.parametrize("id", ["a:b", ":", "a.b:c"])
def test_the_id_of_a_schedule_has_no_colon(id: str) -> None:
    assert "':'" in refused("schedule.create", VALID["schedule.create"] | {"id": id})


@pytest.mark.parametrize("kind", ["task.create", "task.fulfill", "task.suspend"])
@pytest.mark.parametrize("change", [{"kind": 5}, {"kind": "promise.get"}, {"head": 5}, {"head": {"version": "x"}}, {}])
def test_kind_and_head_of_other_actions_are_never_read(kind: str, change: dict[str, Any]) -> None:
    """Section 1.2: only ``task.fence`` reads the inner kind. Both may also be missing."""
    data = copy.deepcopy(VALID[kind])
    inner = data["actions"][0] if kind == "task.suspend" else data["action"]
    if not change:
        del inner["kind"], inner["head"]
    inner |= change
    accepted(kind, data)


class TestDepth:
    """Nesting that would exhaust the stack is refused wherever it occurs; none of this may crash."""

    DEEP = 1_000_000

    @pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
    @pytest.mark.parametrize("place", ["body", "head", "data", "ignored", "param", "endless"])
    def test_deep_nesting(self, place: str, opening: bytes, closing: bytes) -> None:
        deep = opening * self.DEEP + (b"1" if closing == b"}" else b"") + closing * self.DEEP
        bodies = {
            "body": deep,
            "head": b'{"kind":"promise.get","data":{"id":"p"},"head":%b}' % deep,
            "data": b'{"kind":"promise.get","head":{"corrId":"c","version":"2026-04-01"},"data":%b}' % deep,
            "ignored": raw("promise.get", {"id": "p", "x": "DEEP"}).replace(b'"DEEP"', deep),
            "param": raw("promise.create", CREATE | {"param": "DEEP"}).replace(b'"DEEP"', deep),
            "endless": b'{"kind":"promise.get","data":' + opening * self.DEEP,
        }

        assert isinstance(read(bodies[place]), Refused)

    def test_wide_is_not_deep(self) -> None:
        accepted("promise.get", {"id": "p", "x": [[]] * 10_000})

"""The members of each kind: which are required, which values are refused (400) and which are tolerated; the `data`
columns of sections 3.1 and 3.2, the field checks below them, and section 9, item 15."""

import copy
import json
from typing import Any

import pytest
from unit.reading import read

from resonate_server.protocol.envelope import VERSION, CheckedRequest, UnreadableRequest
from resonate_server.protocol.records import EMPTY, Value
from resonate_server.protocol.requests import (
    MAX_AWAITED,
    MAX_ID_CHARACTERS,
    MAX_INTEGER,
    MAX_TAGS_CHARACTERS,
    PromiseCreate,
    PromiseSearch,
    Request,
    ScheduleSearch,
    TaskAcquire,
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
    "promise.search": {},
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
    "task.search": {},
    "schedule.create": SCHEDULE | {"promiseTags": TARGET},
}

OPTIONAL = {"tags", "param", "value", "head", "kind", "promiseTags"}


def raw(kind: str, data: Any) -> bytes:
    return json.dumps({"kind": kind, "head": {"corrId": "c", "version": VERSION}, "data": data}).encode()


def accepted(kind: str, data: Any) -> Request:
    result = read(raw(kind, data))
    assert isinstance(result, CheckedRequest), f"{kind}: {result}"
    return result.request


def refused(kind: str, data: Any) -> str:
    result = read(raw(kind, data))
    assert isinstance(result, UnreadableRequest), f"{kind}: {result}"
    return result.message


def changed(kind: str, path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """Return the valid data of ``kind`` with another ``value`` at ``path``."""
    data = copy.deepcopy(VALID[kind])
    place: Any = data
    for step in path[:-1]:
        place = place[step]
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
def test_a_missing_member_is_refused(kind: str, path: tuple[str | int, ...]) -> None:
    data = copy.deepcopy(VALID[kind])
    place: Any = data
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    refused(kind, data)


@pytest.mark.parametrize(("kind", "path"), DEMANDED)
def test_a_member_of_another_type_is_refused(kind: str, path: tuple[str | int, ...]) -> None:
    for wrong in (None, True, 1.5, [1], {"x": 1}):
        refused(kind, changed(kind, path, wrong))


CREATED: list[tuple[str, tuple[str, ...]]] = [
    ("promise.create", ("id",)),
    ("task.create", ("action", "data", "id")),
    ("task.create", ("pid",)),
    ("task.acquire", ("pid",)),
    ("task.fence", ("action", "data", "id")),
    ("schedule.create", ("id",)),
    ("schedule.create", ("promiseId",)),
]
"""Where a request holds the id of something to be created."""


class TestIds:
    EVERY = members("id", "awaited", "awaiter")

    @pytest.mark.parametrize("bad", ["", "\x00", "a\x00b", "a\x00", "x" * 100_000], ids=lambda text: repr(text[:5]))
    def test_an_empty_or_too_long_id_or_one_with_nul_is_refused(self, bad: str) -> None:
        for kind, path in self.EVERY:
            refused(kind, changed(kind, path, bad))

    @pytest.mark.parametrize(
        "id", [" ", "\n", "a\nb\n", "/", "foo.1", "foo:1.1", "é", "😀", "\u2028", "x" * 1_000, "\x01"]
    )
    def test_anything_else_is_an_id(self, id: str) -> None:
        accepted("promise.get", {"id": id})

    @pytest.mark.parametrize("bad", ["\x01", "a\nb", "a\t", "\x1b[31m", "\x7f", "\x80", "a\x85", "\x9b"], ids=ascii)
    def test_an_id_with_a_control_character_cannot_be_created(self, bad: str) -> None:
        """SDKs send ids in a header, where a control character is not allowed: no worker could claim the task."""
        for kind, path in CREATED:
            assert "control characters" in refused(kind, changed(kind, path, bad))

    @pytest.mark.parametrize("character", ["x", "é", "数", "😀"])
    def test_the_limit_counts_characters_not_bytes(self, character: str) -> None:
        for kind, path in CREATED:
            accepted(kind, changed(kind, path, character * MAX_ID_CHARACTERS))
            refused(kind, changed(kind, path, character * (MAX_ID_CHARACTERS + 1)))

    def test_a_refusal_does_not_repeat_a_very_long_id(self) -> None:
        assert len(refused("promise.get", {"id": "x" * 100_000})) < 1_000

    SURROGATES = (b"\\ud800", b"\\udc00", b"\\ud800x", b"\\udc00\\ud800")
    """They have no UTF-8 encoding and could be neither stored nor sent."""

    @pytest.mark.parametrize("text", [*SURROGATES, b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88\x80\x80\x80"])
    def test_lone_surrogates_and_invalid_utf_8_are_refused(self, text: bytes) -> None:
        assert isinstance(read(raw("promise.get", {"id": "X"}).replace(b"X", text)), UnreadableRequest)


class TestIntegers:
    EVERY = members("timeoutAt", "version", "ttl")

    @pytest.mark.parametrize(
        "bad", [-1, -1.0, 0.5, 2**63, 2**64, 2**63 + 0.0, 10**400, "1", True], ids=lambda x: repr(x)[:9]
    )
    def test_a_negative_or_fractional_number_or_one_beyond_64_bits_is_refused(self, bad: Any) -> None:
        for kind, path in self.EVERY:
            refused(kind, changed(kind, path, bad))

    @pytest.mark.parametrize(
        "number", [b"1e400", b"-1e400", b"1e9999999999", b"NaN", b"Infinity", b"1" * 5_000, b"01", b"+1"]
    )
    def test_a_value_that_is_not_a_number_is_refused(self, number: bytes) -> None:
        result = read(raw("promise.create", {"id": "p", "timeoutAt": "X"}).replace(b'"X"', number))
        assert isinstance(result, UnreadableRequest)

    def test_integral_floats_are_integers(self) -> None:
        """Section 1.3 [SHOULD]."""
        for kind, path in self.EVERY:
            assert accepted(kind, changed(kind, path, 1_000.0)) == accepted(kind, changed(kind, path, 1_000))

    def test_an_exponent_makes_an_integer_too(self) -> None:
        result = read(raw("promise.create", {"id": "p", "timeoutAt": "X"}).replace(b'"X"', b"1.7e12"))
        assert isinstance(result, CheckedRequest)
        assert result.request == PromiseCreate("p", 1_700_000_000_000)

    def test_the_largest_is_accepted(self) -> None:
        for kind, path in self.EVERY:
            accepted(kind, changed(kind, path, MAX_INTEGER))

    def test_an_integral_float_does_not_hide_another_mistake(self) -> None:
        refused("task.acquire", {"id": "t", "version": 0.0, "pid": "", "ttl": 1})

    def test_unread_numbers_do_not_matter(self) -> None:
        assert accepted("task.acquire", VALID["task.acquire"] | {"version": 0.0, "x": 10**30, "y": 0.5}) == TaskAcquire(
            "t", 0, "w", 1
        )


class TestNulls:
    """Section 1.3 [SHOULD]: ``null`` for an optional member counts as absent."""

    @pytest.mark.parametrize(
        "nulls", [{"param": None, "tags": None}, {"param": {"headers": None, "data": None}}], ids=str
    )
    def test_null_counts_as_absent_in_a_creation(self, nulls: dict[str, Any]) -> None:
        assert accepted("promise.create", {"id": "p", "timeoutAt": 5} | nulls) == PromiseCreate("p", 5, EMPTY)

    @pytest.mark.parametrize("kind", ["promise.search", "task.search"])
    def test_null_counts_as_absent_in_a_search(self, kind: str) -> None:
        assert accepted(kind, {"state": None, "tags": None, "limit": None, "cursor": None}) == accepted(kind, {})

    @pytest.mark.parametrize(
        "members",
        [{"tags": {"a": None}}, {"tags": {"resonate:target": None}}, {"param": {"headers": {"a": None}}}],
        ids=str,
    )
    def test_null_is_refused_as_the_value_of_a_tag_or_header(self, members: dict[str, Any]) -> None:
        """A value that the sender believes to be set must not vanish silently."""
        refused("promise.create", {"id": "p", "timeoutAt": 5} | members)


class TestValues:
    @pytest.mark.parametrize(
        "payload", [[], "x", 1, True, {"data": 1}, {"data": {}}, {"headers": []}, {"headers": {"a": 1}}], ids=str
    )
    def test_a_payload_of_another_shape_is_refused(self, payload: Any) -> None:
        refused("promise.create", CREATE | {"param": payload})
        refused("promise.settle", SETTLE | {"value": payload})

    @pytest.mark.parametrize("tags", [[], "x", 1, {"a": 1}, {"a": True}, {"a": []}, {"a": 1.0}])
    def test_tags_of_another_shape_are_refused(self, tags: Any) -> None:
        refused("promise.create", CREATE | {"tags": tags})
        refused("promise.search", {"tags": tags})

    def test_tags_are_small(self) -> None:
        """They are stored where promises are looked up; payloads are not."""
        fits = {"resonate:target": TARGET["resonate:target"], "note": ""}
        fits["note"] = "x" * (MAX_TAGS_CHARACTERS - sum(map(len, [*fits, *fits.values()])))
        for tags, judge in ((fits, accepted), (fits | {"note": fits["note"] + "x"}, refused)):
            judge("promise.create", CREATE | {"tags": tags})
            judge("schedule.create", SCHEDULE | {"promiseTags": tags})

    @pytest.mark.parametrize("name", ["origin", "branch", "parent"])
    def test_tags_that_are_ids_are_as_long_as_ids(self, name: str) -> None:
        longest = {f"resonate:{name}": "x" * MAX_ID_CHARACTERS}
        own = {"id": "x" * MAX_ID_CHARACTERS}
        accepted("promise.create", CREATE | own | {"tags": longest})
        refused("promise.create", CREATE | own | {"tags": {f"resonate:{name}": "x" * (MAX_ID_CHARACTERS + 1)}})

    def test_unknown_members_of_a_value_are_ignored(self) -> None:
        request = accepted("promise.create", CREATE | {"param": {"data": "x", "more": 1}})
        assert isinstance(request, PromiseCreate)
        assert request.param == Value(data="x")

    @pytest.mark.parametrize("state", ["pending", "rejected_timedout", "timedout", "RESOLVED", "", "canceled"])
    def test_settling_accepts_only_three_states(self, state: str) -> None:
        refused("promise.settle", SETTLE | {"state": state})
        refused("task.fulfill", changed("task.fulfill", ("action", "data", "state"), state))
        refused("task.fence", changed("task.fence", ("action",), action("promise.settle", {"id": "p", "state": state})))


class TestTargetAndDelay:
    BAD: tuple[str, ...] = (
        *("", "workers", "poll://", "poll://any@", "poll://all@workers", "poll://workers", "ftp://h/", "any@workers"),
        *("poll://any@a\nb", "poll://uni@workers/a\x7f", "poll://any@a\ud800", "https://h/\x00"),
        *("http://[", "http://h:65536", "http://h:0", "http://h:x", "http://user@", "http://a b/", "http://?x"),
    )

    @pytest.mark.parametrize("address", BAD)
    def test_an_invalid_address_is_refused_in_each_create_and_of_a_listener(self, address: str) -> None:
        for kind, create in creations("r:1", target=address).items():
            refused(kind, create)
        refused("promise.register_listener", {"awaited": "p", "address": address})

    def test_an_address_may_be_as_long_as_an_id(self) -> None:
        longest = "https://h/" + "x" * (MAX_ID_CHARACTERS - len("https://h/"))
        for address, judge in ((longest, accepted), (longest + "x", refused)):
            judge("promise.create", CREATE | {"tags": {"resonate:target": address}})
            judge("promise.register_listener", {"awaited": "p", "address": address})

    @pytest.mark.parametrize("delay", ["", "x", "-1", "1.5", "1e3", " 1", "1_0", "+1", "\u0661", "1000", "9" * 30])
    def test_a_delay_not_before_the_deadline_is_refused(self, delay: str) -> None:
        refused("promise.create", CREATE | {"tags": TARGET | {"resonate:delay": delay}})


def created(id: str, **tags: str) -> dict[str, Any]:
    """Return the data of a promise.create; ``tags`` omit ``resonate:``."""
    return CREATE | {"id": id, "tags": TARGET | {f"resonate:{name}": text for name, text in tags.items()}}


def creations(id: str, **tags: str) -> dict[str, dict[str, Any]]:
    """Return the three requests that create such a promise, as a call of task ``r``."""
    create = action("promise.create", created(id, **tags))
    return {
        "promise.create": create["data"],
        "task.create": changed("task.create", ("action",), create),
        "task.fence": {"id": "r", "version": 1, "action": create},
    }


FORMS = ("promise.create", "task.create", "task.fence")


@pytest.mark.parametrize("kind", FORMS)
class TestLineage:
    """A promise belongs to the tree that its tags name (section 3.1)."""

    @pytest.mark.parametrize("tag", ["origin", "parent", "branch"])
    def test_its_id_is_that_of_its_ancestor_or_begins_with_it(self, kind: str, tag: str) -> None:
        for id in ("r", "r:1", "r:1.1", "r.1", "r.1:1", "r:"):
            if (kind, id) != ("task.fence", "r"):
                accepted(kind, creations(id, **{tag: "r"})[kind])

    @pytest.mark.parametrize("tag", ["origin", "parent", "branch"])
    def test_any_other_is_refused_with_the_tag_s_name(self, kind: str, tag: str) -> None:
        for id in ("s", "r1", "s:r", "R:1", "r-1"):
            assert f"resonate:{tag}" in refused(kind, creations(id, **{tag: "r"})[kind])

    def test_a_root_has_no_colon(self, kind: str) -> None:
        assert "':'" in refused(kind, creations("a:b", origin="a:b")[kind])

    def test_a_prefix_with_a_colon_begins_the_id(self, kind: str) -> None:
        assert "resonate:prefix" in refused(kind, creations("r:1", prefix="r:2")[kind])

    @pytest.mark.parametrize("tag", ["origin", "parent", "branch", "prefix"])
    def test_the_promises_of_a_schedule_get_their_own(self, kind: str, tag: str) -> None:
        del kind
        tags = TARGET | {f"resonate:{tag}": "any"}
        accepted("schedule.create", VALID["schedule.create"] | {"promiseTags": tags})


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
    "TypeScript gives a call an id and a tree of its own": ("own", {"origin": "own", "branch": "own", "parent": "own"}),
}  # fmt: skip
"""Tolerated deviations, as seen on the wire; ``docs/protocol.md`` lists them (section 7)."""


@pytest.mark.parametrize("kind", FORMS)
class TestLineageOfOlderClients:
    @pytest.mark.parametrize(("id", "tags"), OLDER.values(), ids=OLDER)
    def test_is_accepted(self, kind: str, id: str, tags: dict[str, str]) -> None:
        accepted(kind, creations(id, **tags)[kind])

    def test_sdk_0_8_continues_below_a_call_that_0_7_detached(self, kind: str) -> None:
        origin = "r:1.dd1051cb84a8cdd208"
        below = creations(f"{origin}.1", origin=origin, parent=origin, branch=f"{origin}.1")
        accepted(kind, below[kind] | ({"id": origin} if kind == "task.fence" else {}))

    def test_a_parent_in_another_tree_is_still_refused(self, kind: str) -> None:
        assert "resonate:parent" in refused(kind, creations("r.2", origin="r", branch="r.2", parent="s.1")[kind])


def awaiting(count: int) -> list[Any]:
    return [{"data": {"awaited": f"p{number}", "awaiter": "t"}} for number in range(count)]


type Change = tuple[str, tuple[str | int, ...], Any]

REFUSED: dict[str, Change] = {
    **{f"an empty pid: {kind}": (kind, ("pid",), "") for kind in ("task.create", "task.acquire", "task.heartbeat")},
    "zero as the ttl of a claim": ("task.acquire", ("ttl",), 0),
    "zero as the ttl of a creation": ("task.create", ("ttl",), 0),
    "a delay without a target": ("promise.create", ("tags",), {"resonate:delay": "1"}),
    "task.create without a target": ("task.create", ("action", "data", "tags"), {}),
    "fulfill settles the task's own promise": ("task.fulfill", ("action", "data", "id"), "other"),
    "suspend registers the task itself": ("task.suspend", ("actions", 0, "data", "awaiter"), "other"),
    "suspend on the own promise": ("task.suspend", ("actions", 0, "data", "awaited"), "t"),
    "suspend on the same promise twice": ("task.suspend", ("actions",), [AWAIT_P, AWAIT_P]),
    "suspend on nothing": ("task.suspend", ("actions",), []),
    "suspend on too many": ("task.suspend", ("actions",), awaiting(MAX_AWAITED + 1)),
    "suspend on null": ("task.suspend", ("actions",), [None]),
    "a heartbeat of null": ("task.heartbeat", ("tasks",), [None]),
    "fence on the own promise": ("task.fence", ("action", "data", "id"), "t"),
    "a mistake inside a fence": ("task.fence", ("action", "data", "timeoutAt"), "soon"),
    "a search for promises in a state of tasks": ("promise.search", ("state",), "acquired"),
    "a search for tasks in a state of promises": ("task.search", ("state",), "resolved"),
    "a search with a number as its cursor": ("promise.search", ("cursor",), 1),
    "a search with a list as its cursor": ("promise.search", ("cursor",), []),
    "a search with an object as its cursor": ("promise.search", ("cursor",), {}),
    "a promise that awaits itself": ("promise.register_callback", ("awaiter",), "p"),
    **{
        f"fence with {kind!r}": ("task.fence", ("action", "kind"), kind)
        for kind in ("promise.get", "task.create", "", "x", None, 1)
    },
}

ACCEPTED: dict[str, Change] = {
    "suspend on very many": ("task.suspend", ("actions",), awaiting(MAX_AWAITED)),
    "a timer with a target (section 7.2, item 4)": ("promise.create", ("tags",), TARGET | {"resonate:timer": "true"}),
    "a search for promises in a state of theirs": ("promise.search", ("state",), "rejected_timedout"),
    "a search for tasks in a state of theirs": ("task.search", ("state",), "halted"),
    "an encoded name, which is one that a worker can have": (
        "promise.create",
        ("tags", "resonate:target"),
        "poll://any@a%0Ab",
    ),
    "null as the value of a settlement": ("promise.settle", ("value",), None),
    **{
        f"a settlement as {state}": ("promise.settle", ("state",), state)
        for state in ("resolved", "rejected", "rejected_canceled")
    },
    **{
        f"a delay before the deadline: {delay}": ("promise.create", ("tags", "resonate:delay"), delay)
        for delay in ("0", "999", "0999")
    },
    "zero as a deadline": ("promise.create", ("timeoutAt",), 0),
    "zero as a version": ("task.acquire", ("version",), 0),
    "fence with a settlement": ("task.fence", ("action",), SETTLE_P),
    "fence with its kind behind its data": ("task.fence", ("action",), {"data": CREATE, "kind": "promise.create"}),
    "fence with null for a head": ("task.fence", ("action", "head"), None),
    "an empty heartbeat": ("task.heartbeat", ("tasks",), []),
    "a heartbeat over several trees": (
        "task.heartbeat",
        ("tasks",),
        [{"id": id, "version": 1} for id in ("a.1", "b:1")],
    ),
}


class TestWholeRequests:
    @pytest.mark.parametrize(("kind", "path", "value"), REFUSED.values(), ids=REFUSED)
    def test_refused(self, kind: str, path: tuple[str | int, ...], value: Any) -> None:
        refused(kind, changed(kind, path, value))

    @pytest.mark.parametrize(("kind", "path", "value"), ACCEPTED.values(), ids=ACCEPTED)
    def test_accepted(self, kind: str, path: tuple[str | int, ...], value: Any) -> None:
        accepted(kind, changed(kind, path, value))

    def test_task_create_accepts_no_delay(self) -> None:
        tags = TARGET | {"resonate:delay": "5"}
        assert "delay" in refused("task.create", changed("task.create", ("action", "data", "tags"), tags))

    def test_fence_creates_within_the_task_s_tree(self) -> None:
        fence = VALID["task.fence"] | {"action": action("promise.create", created("s:1", origin="s"))}
        assert "tree" in refused("task.fence", fence | {"id": "t:1"})
        accepted("task.fence", fence | {"id": "s:2.1"})

    @pytest.mark.parametrize("id", ["a:b", ":", "a.b:c"])
    def test_the_id_of_a_schedule_has_no_colon(self, id: str) -> None:
        assert "':'" in refused("schedule.create", VALID["schedule.create"] | {"id": id})

    @pytest.mark.parametrize("kind", ["task.create", "task.fulfill", "task.suspend"])
    @pytest.mark.parametrize(
        "change", [{"kind": 5}, {"kind": "promise.get"}, {"head": 5}, {"head": {"version": "x"}}, {}]
    )
    def test_kind_and_head_of_other_actions_are_never_read(self, kind: str, change: dict[str, Any]) -> None:
        """Section 1.2: only ``task.fence`` reads the inner kind. Both may also be missing."""
        data = copy.deepcopy(VALID[kind])
        inner = data["actions"][0] if kind == "task.suspend" else data["action"]
        if not change:
            del inner["kind"], inner["head"]
        inner |= change
        accepted(kind, data)


class TestSearch:
    def test_without_members_it_asks_for_100_and_of_schedules_for_10(self) -> None:
        request, schedules = accepted("promise.search", {}), accepted("schedule.search", {})
        assert isinstance(request, PromiseSearch) and isinstance(schedules, ScheduleSearch)
        assert (request.limit, request.state, request.tags, request.cursor) == (100, None, {}, None)
        assert schedules.limit == 10

    @pytest.mark.parametrize("kind", ["promise.search", "task.search", "schedule.search"])
    @pytest.mark.parametrize("limit", [0, -1, 1_001, 1.5, "10", True])
    def test_the_limit_is_1_to_1000(self, kind: str, limit: Any) -> None:
        refused(kind, {"limit": limit})
        accepted(kind, {"limit": 1})
        accepted(kind, {"limit": 1_000})

    @pytest.mark.parametrize("kind", ["promise.search", "task.search"])
    @pytest.mark.parametrize("state", ["", "PENDING", "done", 1, ["pending"]])
    def test_an_unknown_state_is_refused(self, kind: str, state: Any) -> None:
        refused(kind, {"state": state})


class TestDepth:
    """Nesting that would exhaust the stack is refused wherever it occurs; none of this may crash."""

    DEEP = 100_000

    @pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
    @pytest.mark.parametrize("place", ["body", "head", "data", "ignored", "param"])
    def test_deep_nesting(self, place: str, opening: bytes, closing: bytes) -> None:
        deep = opening * self.DEEP + (b"1" if closing == b"}" else b"") + closing * self.DEEP
        bodies = {
            "body": deep,
            "head": b'{"kind":"promise.get","data":{"id":"p"},"head":%b}' % deep,
            "data": b'{"kind":"promise.get","head":{"corrId":"c","version":"2026-04-01"},"data":%b}' % deep,
            "ignored": raw("promise.get", {"id": "p", "x": "DEEP"}).replace(b'"DEEP"', deep),
            "param": raw("promise.create", CREATE | {"param": "DEEP"}).replace(b'"DEEP"', deep),
        }

        assert isinstance(read(bodies[place]), UnreadableRequest)

    def test_endless_nesting(self) -> None:
        assert isinstance(read(b'{"kind":"promise.get","data":' + b"[" * 1_000_000), UnreadableRequest)

    def test_wide_is_not_deep(self) -> None:
        accepted("promise.get", {"id": "p", "x": [[]] * 10_000})

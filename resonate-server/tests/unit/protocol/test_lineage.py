"""The call tree that tags describe, whatever they say."""

from unit.rows import promise

from resonate_server.protocol.lineage import Row, rows
from resonate_server.protocol.records import Promise


def tree(*promises: Promise) -> list[Row[Promise]]:
    return [*rows(promises, "foo", "foo")]


def made(id: str, parent: str = "foo", **more: str) -> Promise:
    return promise(id, tags={f"resonate:{name}": text for name, text in {"parent": parent, **more}.items()})


FOO = made("foo", target="poll://any@foo")


def test_parents_come_before_children_and_siblings_by_number() -> None:
    placed = tree(made("foo:10"), made("foo:9.1", "foo:9"), made("foo:9"), FOO)
    assert [row.node.id for row in placed] == ["foo", "foo:9", "foo:9.1", "foo:10"]
    assert [(row.depth, row.follows) for row in placed] == [(0, False), (1, True), (2, False), (1, False)]


def test_a_step_is_hosted_by_the_call_above_it_however_deep_but_not_by_one_that_is_not_its_parent() -> None:
    bar, stray = made("foo:1", target="poll://any@bar"), made("stray", "nowhere")
    placed = tree(FOO, bar, made("foo:1.1", "foo:1"), made("foo:1.1.1", "foo:1.1"), made("foo:2"), stray)
    hosts = {row.node.id: row.host and row.host.id for row in placed}
    steps = {"foo:1.1": "foo:1", "foo:1.1.1": "foo:1", "foo:2": "foo", "stray": None}
    assert hosts == {"foo": None, "foo:1": None, **steps}


def test_circles_are_cut_and_depth_does_not_matter() -> None:
    circle = [made("a", "b"), made("b", "a"), made("c", "c")]
    deep = [made(f"p{n}", f"p{n - 1}" if n else "foo") for n in range(20_000)]
    placed = tree(FOO, *circle, *deep)
    assert len(placed) == 1 + 3 + 20_000
    assert max(row.depth for row in placed) == 20_000

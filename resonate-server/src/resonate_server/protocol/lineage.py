"""The call tree that the tags of promises describe. Tags are free text: a parent may be unknown, or a descendant."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from msgspec import Struct

from resonate_server.protocol.records import Role


class Node(Protocol):
    """A promise, however much of it is known."""

    @property
    def id(self) -> str: ...

    @property
    def parent(self) -> str | None: ...

    @property
    def role(self) -> Role: ...

    @property
    def created_at(self) -> int: ...


class Row[T: Node](Struct, frozen=True):
    """A promise in its place. ``depth``: levels below the topmost one. ``follows``: whether a sibling follows.
    ``host``: the call that runs it, if it is a step."""

    node: T
    depth: int
    follows: bool
    host: T | None


def rows[T: Node](nodes: Iterable[T], root: str, top: str) -> Iterator[Row[T]]:
    """Yield ``top`` and all below it: parents before children, siblings by age, then by number.

    ``root``: the root of the whole tree. What does not lead there counts as its child, but is not hosted by it. This
    does not recurse: a tree may be thousands of levels deep.
    """
    by_id = {node.id: node for node in nodes}
    parents = {id: node.parent or root for id, node in by_id.items() if id != root}
    _cut_circles(parents, root)
    children: dict[str, list[T]] = {}
    for node in sorted(by_id.values(), key=lambda node: (node.created_at, len(node.id), node.id)):
        if node.id != root:
            children.setdefault(parents[node.id], []).append(node)
    stack: list[tuple[T, int, bool, T | None]] = [(by_id[top], 0, False, None)]
    while stack:
        node, depth, follows, above = stack.pop()
        yield Row(node, depth, follows, above if node.role is Role.STEP else None)
        within = node if node.role is Role.CALL else above
        below = children.get(node.id, [])
        for child in reversed(below):
            host = within if child.parent == node.id else None
            stack.append((child, depth + 1, child is not below[-1], host))


def _cut_circles(parents: dict[str, str], root: str) -> None:
    """Make every promise lead to the root."""
    leading = {root}
    for id in parents:
        path: dict[str, None] = {}
        at = id
        while at not in leading:
            path[at] = None
            if (parents[at] not in parents and parents[at] != root) or parents[at] in path:
                parents[at] = root
            at = parents[at]
        leading.update(path)

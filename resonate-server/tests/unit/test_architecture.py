"""The shape of the server's source: layers import downwards only, in no circles, and the kernel is pure."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import resonate_server

ROOT = Path(resonate_server.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

TEXTS = [path for path in sorted(ROOT.rglob("*")) if path.suffix in {".py", ".html", ".css", ".js", ".svg"}]
"""With the page's files."""

OUTSIDE_IN = [re.findall(r"``(\w+)``", line) for line in (resonate_server.__doc__ or "").splitlines()]
"""The layers as the package's docstring tells them, a line each; what stands on one line has one rank."""

RANKS = {layer: -number for number, names in enumerate(OUTSIDE_IN) for layer in names}


IMPURE = {
    "asyncio", "concurrent", "contextvars", "http", "io", "logging", "multiprocessing", "os", "pathlib", "queue",
    "random", "secrets", "select", "selectors", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile",
    "threading", "time", "urllib", "uuid", "zoneinfo",
}  # fmt: skip
LONGEST_RULE = 25
"""Lines of a function of the kernel, without its docstring."""


PATHS = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES
}
"""Of each module, by its dotted name."""

PARTS = {
    "SQLiteStore", "PostgresStore", "Engine", "Presence", "Hub", "Push", "Dispatcher", "Peers", "Watch", "Survey",
    "Guard", "Metrics", "Pulse", "Trace",
}  # fmt: skip
"""Of which a server has one each."""

SAME_CLASSES = {"Phase"}
"""What this server tells of a call's life, and as much of it as the command line reads of any server's answer."""

SAME_MODULES = {
    "backup",  # the command, the route that it asks, and the copy of the file
    "errors",  # of the wire, and of stores
    "promises", "schedules", "tasks",  # the rules for the protocol's objects, and the commands for them
}  # fmt: skip
"""Which stand in several layers, each with its layer's share of one thing."""


def name_of(module: Path) -> str:
    return str(module.relative_to(ROOT))


def layer_of(module: Path) -> str:
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def tree_of(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def nodes(module: Path) -> Iterator[ast.AST]:
    return ast.walk(tree_of(module))


def imports(module: Path) -> Iterator[str]:
    """Dotted names of everything that ``module`` imports, at any depth of its code."""
    for node in nodes(module):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(source), names=names, level=0):
                yield from (f"{source}.{each.name}" for each in names)
            case ast.ImportFrom():
                pytest.fail(f"{name_of(module)} imports relatively")


def layers_used(module: Path) -> set[str]:
    """Layers of this package that ``module`` imports from."""
    inner = (name.split(".") for name in imports(module) if name.startswith("resonate_server."))
    return {parts[1] for parts in inner} - {"__version__"}


def modules_used(module: Path) -> set[str]:
    """Modules of this package that ``module`` imports, also where only type checkers or functions see it."""
    return {_module_of(name) for name in imports(module) if name.startswith("resonate_server")}


def _module_of(name: str) -> str:
    """``name`` may be that of something inside the module."""
    return name if name in PATHS else name.rpartition(".")[0]


def circle(users: dict[str, set[str]]) -> list[str]:
    """One of those that there are, from a module back to itself; empty if there is none."""
    try:
        TopologicalSorter(users).prepare()
    except CycleError as error:
        return [*error.args[1]]
    return []


KERNEL = [module for module in MODULES if layer_of(module) == "kernel"]
PURE = [module for module in MODULES if layer_of(module) in ("kernel", "protocol")]


def offenders(modules: Iterable[Path], faults: Callable[[Path], Iterable[object]]) -> dict[str, list[object]]:
    """What is wrong with each, if there is something."""
    found = {name_of(module): [*faults(module)] for module in modules}
    return {name: wrong for name, wrong in found.items() if wrong}


def test_layers_import_downwards_only() -> None:
    def above(module: Path) -> Iterator[str]:
        rank = RANKS.get(layer_of(module), 0)
        return (layer for layer in layers_used(module) if RANKS.get(layer, rank) > rank)

    assert offenders([module for module in MODULES if layer_of(module) in RANKS], above) == {}


def test_no_module_is_imported_by_what_it_imports() -> None:
    assert circle({name: modules_used(path) for name, path in PATHS.items()}) == []


def test_a_circle_is_found_wherever_it_begins() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}})) == {"b", "c", "d"}
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_part_of_a_server_is_made_in_the_composition_root() -> None:
    made = {
        (name_of(module), node.func.id)
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PARTS
    }

    assert made == {("build.py", part) for part in PARTS}


def test_a_class_has_a_name_of_its_own() -> None:
    """Whether it is for its module alone (``_Name``) or not."""
    classes = [node for module in MODULES for node in nodes(module) if isinstance(node, ast.ClassDef)]
    assert repeated(node.name.lstrip("_") for node in classes) == SAME_CLASSES


def test_a_module_has_a_name_of_its_own_but_for_the_shares_of_one_thing() -> None:
    assert repeated(module.stem for module in MODULES if not module.stem.startswith("__")) == SAME_MODULES


def test_shares_of_one_thing_are_in_different_layers() -> None:
    assert not repeated(f"{layer_of(module)}: {module.stem}" for module in MODULES if module.stem in SAME_MODULES)


def repeated(names: Iterable[str]) -> set[str]:
    return {name for name, times in Counter(names).items() if times > 1}


def test_protocol_and_kernel_do_no_io_and_know_no_clock_or_chance() -> None:
    impure = offenders(PURE, lambda module: sorted({name.split(".")[0] for name in imports(module)} & IMPURE))
    assert impure == {"protocol/address.py": ["urllib"]}


def test_protocol_and_kernel_do_not_ask_for_the_time() -> None:
    """Types of the module ``datetime`` serve to compute with times that are given."""

    def asked(module: Path) -> Iterator[str]:
        calls = (node.func for node in nodes(module) if isinstance(node, ast.Call))
        return (
            call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in ("now", "utcnow", "today")
        )

    assert offenders(PURE, asked) == {}


def test_the_kernel_imports_the_protocol_and_itself_alone() -> None:
    assert offenders(KERNEL, lambda module: layers_used(module) - {"kernel", "protocol"}) == {}


def test_rules_are_short() -> None:
    def long(module: Path) -> Iterator[str]:
        functions = (node for node in nodes(module) if isinstance(node, ast.FunctionDef))
        return (f"{each.name}: {lines(each)} lines" for each in functions if lines(each) > LONGEST_RULE)

    assert offenders(KERNEL, long) == {}


def lines(function: ast.FunctionDef) -> int:
    """Without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_the_kernel_keeps_no_state_between_requests() -> None:
    """No ``global`` statement; tables are constants."""
    assert (
        offenders(KERNEL, lambda module: [n for n in nodes(module) if isinstance(n, ast.Global | ast.Nonlocal)]) == {}
    )


def test_every_module_says_what_belongs_in_it() -> None:
    silent = [name_of(module) for module in MODULES if module.read_text() and not ast.get_docstring(tree_of(module))]
    assert silent == []


def test_every_layer_is_told_in_the_package_s_docstring() -> None:
    assert {layer_of(module) for module in MODULES} - {"__init__", "__main__"} == set(RANKS)


def test_only_the_store_speaks_sql() -> None:
    assert {layer_of(module) for module in MODULES if "sqlite3" in set(imports(module))} == {"store"}


def test_the_server_does_not_know_the_demo() -> None:
    """Whose services are foo, bar and baz: no word, and no part of a name, is one of these."""

    def names(file: Path) -> set[str]:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", file.read_text())
        return {word.lower() for word in words} & {"foo", "bar", "baz"}

    assert offenders(TEXTS, names) == {}

"""The shape of the server's source: layers import downwards only, without import cycles, and the kernel is pure."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import resonate_server

ROOT = Path(resonate_server.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

TEXTS = [path for path in sorted(ROOT.rglob("*")) if path.suffix in {".py", ".html", ".css", ".js", ".svg"}]
"""All source files, including the page's."""

OUTSIDE_IN = [re.findall(r"``(\w+)``", line) for line in (resonate_server.__doc__ or "").splitlines()]
"""The layers as the package's docstring lists them, one line per rank."""

RANKS = {layer: -number for number, names in enumerate(OUTSIDE_IN) for layer in names}


IMPURE = {
    "asyncio", "concurrent", "contextvars", "http", "io", "logging", "multiprocessing", "os", "pathlib", "queue",
    "random", "secrets", "select", "selectors", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile",
    "threading", "time", "urllib", "uuid", "zoneinfo",
}  # fmt: skip
LONGEST_RULE = 25
"""Longest function of the kernel, in lines without its docstring."""


PATHS = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES
}
"""The path of each module, by its dotted name."""

PARTS = {
    "SQLiteStore", "PostgresStore", "Engine", "Presence", "Hub", "Push", "Peers", "Watch", "Survey",
    "Guard", "Metrics", "Pulse", "Trace",
}  # fmt: skip
"""Classes of which a server has exactly one instance each."""

SAME_CLASSES = {"Phase"}
"""Class names used twice: the ``Phase`` of this server's answers, and the part of it that the command line reads."""

SAME_MODULES = {
    "backup",  # the command, the route that it asks, and the copy of the file
    "errors",  # of the wire, and of stores
}  # fmt: skip
"""Module names that occur in several layers, each with its layer's share of one thing."""


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
    """Yield the dotted names of everything that ``module`` imports, at any depth of its code."""
    for node in nodes(module):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(source), names=names, level=0):
                yield from (f"{source}.{each.name}" for each in names)
            case ast.ImportFrom():
                pytest.fail(f"{name_of(module)} imports relatively")


def layers_used(module: Path) -> set[str]:
    """Return the layers of this package that ``module`` imports from."""
    inner = (name.split(".") for name in imports(module) if name.startswith("resonate_server."))
    return {parts[1] for parts in inner} - {"__version__"}


def modules_used(module: Path) -> set[str]:
    """Return the modules of this package that ``module`` imports, even within functions or for type checkers only."""
    names = (name for name in imports(module) if name.startswith("resonate_server"))
    return {name if name in PATHS else name.rpartition(".")[0] for name in names}


KERNEL = [module for module in MODULES if layer_of(module) == "kernel"]
PURE = [module for module in MODULES if layer_of(module) in ("kernel", "protocol")]


def offenders(modules: Iterable[Path], faults: Callable[[Path], Iterable[object]]) -> dict[str, list[object]]:
    """Return the faults of each module that has any."""
    found = {name_of(module): [*faults(module)] for module in modules}
    return {name: wrong for name, wrong in found.items() if wrong}


def test_layers_import_downwards_only() -> None:
    def above(module: Path) -> Iterator[str]:
        rank = RANKS.get(layer_of(module), 0)
        return (layer for layer in layers_used(module) if RANKS.get(layer, rank) > rank)

    assert offenders([module for module in MODULES if layer_of(module) in RANKS], above) == {}


def test_no_module_is_imported_by_what_it_imports() -> None:
    TopologicalSorter({name: modules_used(path) for name, path in PATHS.items()}).prepare()  # raises CycleError


def test_every_part_of_a_server_is_made_in_the_composition_root() -> None:
    made = {
        (name_of(module), node.func.id)
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PARTS
    }

    assert made == {("build.py", part) for part in PARTS}


def test_class_names_are_unique() -> None:
    """Whether it is private to its module (``_Name``) or not."""
    classes = [node for module in MODULES for node in nodes(module) if isinstance(node, ast.ClassDef)]
    assert repeated(node.name.lstrip("_") for node in classes) == SAME_CLASSES


def test_module_names_are_unique_except_for_shares_of_one_thing() -> None:
    assert repeated(module.stem for module in MODULES if not module.stem.startswith("__")) == SAME_MODULES


def test_shares_of_one_thing_are_in_different_layers() -> None:
    assert not repeated(f"{layer_of(module)}: {module.stem}" for module in MODULES if module.stem in SAME_MODULES)


def repeated(names: Iterable[str]) -> set[str]:
    return {name for name, times in Counter(names).items() if times > 1}


def test_protocol_and_kernel_do_no_io_and_use_no_clock_or_randomness() -> None:
    impure = offenders(PURE, lambda module: sorted({name.split(".")[0] for name in imports(module)} & IMPURE))
    assert impure == {"protocol/address.py": ["urllib"]}


def test_protocol_and_kernel_do_not_ask_for_the_time() -> None:
    """The types of the module ``datetime`` are allowed for computing with given times."""

    def asked(module: Path) -> Iterator[str]:
        for node in nodes(module):
            match node:
                case ast.Call(func=ast.Attribute(attr="now" | "utcnow" | "today" as asks)):
                    yield asks

    assert offenders(PURE, asked) == {}


def test_the_kernel_imports_only_the_protocol_and_itself() -> None:
    assert offenders(KERNEL, lambda module: layers_used(module) - {"kernel", "protocol"}) == {}


def test_rules_are_short() -> None:
    def long(module: Path) -> Iterator[str]:
        functions = (node for node in nodes(module) if isinstance(node, ast.FunctionDef))
        return (f"{each.name}: {lines(each)} lines" for each in functions if lines(each) > LONGEST_RULE)

    assert offenders(KERNEL, long) == {}


def lines(function: ast.FunctionDef) -> int:
    """Count the lines of a function without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_the_kernel_keeps_no_state_between_requests() -> None:
    """No ``global`` statement; tables are constants."""
    kept = offenders(KERNEL, lambda module: [n for n in nodes(module) if isinstance(n, ast.Global | ast.Nonlocal)])
    assert kept == {}


def test_every_module_says_what_belongs_in_it() -> None:
    silent = [name_of(module) for module in MODULES if module.read_text() and not ast.get_docstring(tree_of(module))]
    assert silent == []


def test_the_package_s_docstring_lists_every_layer() -> None:
    assert {layer_of(module) for module in MODULES} - {"__init__", "__main__"} == set(RANKS)


def test_only_the_store_speaks_sql() -> None:
    assert {layer_of(module) for module in MODULES if "sqlite3" in set(imports(module))} == {"store"}


def test_the_server_does_not_know_the_demo() -> None:
    """The demo's services are foo, bar and baz: these occur neither as words nor as parts of names."""

    def names(file: Path) -> set[str]:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", file.read_text())
        return {word.lower() for word in words} & {"foo", "bar", "baz"}

    assert offenders(TEXTS, names) == {}

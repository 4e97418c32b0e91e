"""Documents are true and plain English, as far as a machine can tell: what they name exists. So are comments."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import proselint.checks  # type: ignore[import-untyped]
import pytest
from proselint.config import DEFAULT  # type: ignore[import-untyped]
from proselint.registry import CheckRegistry  # type: ignore[import-untyped]
from proselint.registry.checks import Check, types  # type: ignore[import-untyped]
from proselint.tools import LintFile  # type: ignore[import-untyped]

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
DOCUMENTS += [REPOSITORY / package / "README.md" for package in ("resonate-server", "worker")]
README_LINES = 100
FOLDERS = (
    ".ci/",
    "bench/",
    "docs/",
    "examples/",
    "resonate-server/",
    "scripts/",
    "services/",
    "tests/",
    "worker/",
)


@cache
def usage(script: str) -> str:
    """Return what the script prints for --help."""
    return subprocess.run(
        [REPOSITORY / script, "--help"], capture_output=True, text=True, timeout=120, check=True
    ).stdout


of_each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))


@of_each_document
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    words = re.findall(r"[\w./-]+", document.read_text())
    named = {word.rstrip("./") for word in words if word.startswith(FOLDERS)}

    assert [path for path in sorted(named) if not (REPOSITORY / path).exists()] == []


@cache
def functions_in(path: str) -> frozenset[str]:
    """Return the functions of a file whose path is relative to the repository or to the server's tests."""
    folders = (REPOSITORY, REPOSITORY / "resonate-server/tests")
    files = [folder / path for folder in folders if (folder / path).exists()]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@of_each_document
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    named = re.findall(r"([\w./-]+\.py)::(\w+)", document.read_text())

    assert [f"{path}::{test}" for path, test in named if test not in functions_in(path)] == []


def test_every_test_that_foo_s_source_names_for_an_override_exists() -> None:
    source = "".join(path.read_text() for path in (REPOSITORY / "services/foo/foo_web").glob("*.py"))
    folders = (REPOSITORY / "tests/unit_foo", REPOSITORY / "tests/unit_services")
    there = {name for folder in folders for path in folder.glob("test_*.py") for name in functions_in(str(path))}

    assert set(re.findall(r"\btest_\w+", source)) - there == set()


def test_the_answer_sheet_names_a_test_for_each_question() -> None:
    sheet = (REPOSITORY / "docs/conformance.md").read_text().partition("## The answer sheet")[2].partition("\n## ")[0]
    rows = [
        line for line in sheet.splitlines() if line.startswith("| ") and "---" not in line and "| test |" not in line
    ]

    assert [row.split()[1] for row in rows][:12] == [f"C{number}" for number in range(1, 13)]
    assert len(rows) == 12 + 7 + 12
    assert [row for row in rows if "::test_" not in row] == []


@of_each_document
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text())

    assert [target for target in targets if not (document.parent / target).exists()] == []


@of_each_document
def test_every_option_that_a_document_gives_to_a_script_exists(document: Path) -> None:
    for script, rest in re.findall(r"(scripts/[\w-]+\.sh)((?: +[^\s`#]+)*)", document.read_text()):
        for option in re.findall(r"--[a-z]+", rest):
            assert re.search(rf"{option}\b", usage(script)), f"{script} {option}"


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= README_LINES


def test_no_file_says_where_packages_were_downloaded_from() -> None:
    """Lock files contain names, versions and hashes; which server packages come from is up to each user."""
    tracked = subprocess.run(
        ["git", "grep", "-l", "-E", r"https?://[a-z.]*(pypi|pythonhosted|debian|npmjs)\."],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (tracked.stdout, tracked.returncode) == ("", 1), "1 tells that git looked and found nothing"


# ── plain English ──

TRANSLATED = {
    "all the same": "anyway",
    "anew": "again",
    "at all events": "in any case",
    "by all means": "certainly",
    "for so long": "for that long",
    "goes on": "continues",
    "hardly any": "few",
    "is told in": "is in",
    "mend": "fix",
    "mends": "fixes",
    "of late": "lately",
    "on its way": "under way",
    "or alike": "or similar",
    "so and so many": "a number of",
    "spoilt": "damaged",
    "stands in": "is in",
    "stands there": "is there",
    "strikes": "hits",
    "tells of": "describes",
    "told of": "told about",
    "whom": "who",
}
"""Words and phrases that sound translated, and what an English writer would say."""

NOT_OURS = ("typography.symbols",)  # terminals and code use straight quotes and three dots

CheckRegistry().register_many(
    (
        *proselint.checks.__register__,
        Check(types.PreferredFormsSimple(items=TRANSLATED), path="translated", message="'{}' instead of '{}'."),
    )
)


NO_WORDS = re.compile(
    r"^```.*?^```$|(?<=\n\n)(?: {4}.*\n)+|`[^`\n]*`|\]\([^)]*\)|<[^>]*>|\d[\d ,.]*\d", re.DOTALL | re.MULTILINE
)
LINE_IN_PARAGRAPH = re.compile(r"(?<!\n)\n *(?![\n|*#-]|\d\.)")


def prose(markdown: str) -> str:
    """Remove code, addresses and numbers, and join the lines of each paragraph."""
    return LINE_IN_PARAGRAPH.sub(" ", NO_WORDS.sub("§", markdown))


@of_each_document
def test_no_sentence_sounds_translated_or_worn(document: Path) -> None:
    text = prose(document.read_text())
    config = DEFAULT | {"checks": {**dict.fromkeys(NOT_OURS, False), "translated": True, **DEFAULT["checks"]}}
    found = LintFile(document, text).lint(config)

    assert [f"{each.check_result.message} … {excerpt(text, *each.check_result.span)}" for each in found] == []


def excerpt(text: str, begin: int, end: int) -> str:
    return text[max(0, begin - 30) : end + 30].replace("\n", " ")


SOUNDS_TRANSLATED = re.compile(rf"\b({'|'.join(TRANSLATED)})\b", re.IGNORECASE)


def test_no_comment_or_docstring_sounds_translated() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    sources = {file: (REPOSITORY / file).read_text() for file in listed.stdout.split()}
    found = [
        f"{file}:{line}: {match[0]}"
        for file, source in sources.items()
        if any(map(source.lower().__contains__, TRANSLATED))  # most need neither a slow search nor parsing
        if SOUNDS_TRANSLATED.search(source)
        for line, text in comments_and_docstrings(source)
        for match in SOUNDS_TRANSLATED.finditer(text)
    ]

    assert found == []


def comments_and_docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield each with its line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as text)):
                yield node.lineno, text

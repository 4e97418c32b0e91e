"""The documents are true as far as a machine can tell: what they name exists, and what they quote is in the source."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

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

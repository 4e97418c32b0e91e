"""Documents, comments and docstrings are plain English, as far as a machine can tell."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
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

"""Each example is short, and its docstring says everything that a reader must know to run it."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
LINES = 40
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}

of_each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def lines_of_code(source: str) -> set[int]:
    """Return the lines that are not blank, comments or docstrings."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {
        line
        for token in tokens
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }  # fmt: skip
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return code


def test_there_are_five() -> None:
    assert [path.stem for path in EXAMPLES] == ["approval", "detached", "fan_out", "saga", "schedule"]


@of_each_example
def test_an_example_has_at_most_forty_lines_of_code(example: Path) -> None:
    assert len(lines_of_code(example.read_text())) <= LINES


@of_each_example
def test_an_example_says_how_to_start_it_and_what_to_kill(example: Path) -> None:
    text = ast.get_docstring(ast.parse(example.read_text())) or ""

    assert f"scripts/example.sh {example.stem.replace('_', '-')}" in text
    assert "kill" in text.lower()

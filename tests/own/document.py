"""docs/your-own.md as its reader uses it: commands, files, and functions that replace others in shop.py."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs/your-own.md").read_text()

_BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
_NAME = r"^# (\w+\.py)\n"

COMMANDS = [text for kind, text in _BLOCKS if kind == "bash"]
MESSAGE = " ".join(next(text for kind, text in _BLOCKS if kind == "text").split())
FILES = {
    name: text.strip() + "\n"
    for kind, code in _BLOCKS
    if kind == "python"
    for name, text in re.findall(rf"{_NAME}(.*?)(?={_NAME.replace('(', '(?:')}|\Z)", code, re.MULTILINE | re.DOTALL)
}
FUNCTIONS = [text for kind, text in _BLOCKS if kind == "python" and not re.match(_NAME, text)]


def shop(*functions: str) -> str:
    """Return shop.py with these functions in place of those with the same names."""
    head, main, rest = FILES["shop.py"].partition('if __name__ == "__main__":')
    return "\n\n".join([head, *functions, main + rest])


def quoted(pattern: str) -> str:
    """Return the first group of the only inline code that matches."""
    (found,) = re.findall(f"`{pattern}`", TEXT)
    return str(found)

"""How ``resonate tree`` draws a chain that met a fault."""

import io

from rich.console import Console
from unit.rows import promise

from resonate_server.client.calls import Call
from resonate_server.client.drawing import Drawing

CALL = Call(promise("a"), task=None, more=())


def drawn(story: list[str], width: int = 80) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, emoji=False, markup=False)
    console.print(Drawing([CALL], console, 1_000, story).whole())
    return file.getvalue().splitlines()


def test_the_story_is_a_paragraph_below_the_calls() -> None:
    assert drawn(["Worker 1a42 was gone.", "[b] went on."])[-2:] == ["", "Worker 1a42 was gone. [b] went on."]


def test_control_characters_are_visible_and_have_no_effect() -> None:
    assert "\x1b" not in "".join(drawn(["a \x1b[31m red one was gone."]))

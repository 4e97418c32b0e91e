"""``GET /ui/api/settings``: what the page must know before it has a token."""

from aiohttp import web
from msgspec import Struct

from resonate_server import __version__
from resonate_server.config import Ui
from resonate_server.http.ui.access import json


class Commands(Struct, frozen=True):
    """To copy into a terminal; the page itself can kill nothing."""

    kill_bar: str
    start_bar: str


COMMANDS = {
    "containers": Commands("docker compose kill bar", "docker compose start bar"),
    "processes": Commands("kill -KILL $(cat .local/run/bar.pid)", "scripts/up.sh"),
    "": Commands("pkill -KILL -f bin/bar", "uv run bar"),
}
"""By the kind of stack: containers, processes of ``scripts/up.sh``, or programs in terminals."""


class About(Struct, frozen=True):
    send: bool
    auth: bool
    version: str
    commands: Commands


class PageSettings:
    def __init__(self, settings: Ui, auth: bool) -> None:
        self._about = About(bool(settings.foo_url), auth, __version__, COMMANDS[settings.stack])

    async def get(self, _: web.Request) -> web.StreamResponse:
        return json(self._about)

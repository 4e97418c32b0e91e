"""Settings: defaults < ``resonate.toml`` < environment < command line. Names follow the official server's where the
meaning is the same.

In the environment: ``RESONATE_`` plus the path with ``__`` between levels, e.g. ``RESONATE_SERVER__PORT`` for
``server.port``.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

FILE = Path("resonate.toml")
"""In the working directory."""
PREFIX = "RESONATE_"
BETWEEN_LEVELS = "__"

type Given = dict[str, Any]
"""Values by name, sections within sections, as they were found."""

Port = Annotated[int, Meta(ge=0, le=65_535)]
Millis = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=1)]

BEARER = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""What can stand in ``Authorization: Bearer`` (RFC 6750 section 2.1)."""


class WrongSetting(Exception):
    """A value that cannot be meant, or a name that does not exist: that is a mistake, not a wish."""

    def __init__(self, path: tuple[str, ...], value: Any, reason: str) -> None:
        name = PREFIX + BETWEEN_LEVELS.join(path).upper()
        got = "" if "auth" in path else f" (got {value!r})"  # it may be a secret, or a mistyped one
        super().__init__(f"setting {name}: {reason}{got}")


class Section(Struct, frozen=True, kw_only=True):
    """A group of settings."""


def _each(texts: list[str] | str) -> list[str]:
    """A list may be written as one text, with commas."""
    return texts if isinstance(texts, list) else [text.strip() for text in texts.split(",") if text.strip()]


class Cors(Section, frozen=True, kw_only=True):
    """Origins whose pages may talk to the server: a list, or comma-separated; ``*`` for any."""

    allow_origins: list[str] | str = []

    @property
    def origins(self) -> list[str]:
        """The origins one by one."""
        return _each(self.allow_origins)


class Server(Section, frozen=True, kw_only=True):
    """``host``: under which name others reach this server; ``hosts``: under which others, a list, or comma-separated,
    ``*`` for any; ``bind``: the address it listens on; ``published_on``: the one of the machine on which a container's
    port is published, if it is: others reach this server there, and not at ``bind``.

    ``client_timeout``: ms that a client may take to send a request, and to take what it is answered.
    ``shutdown_timeout``: ms until requests that are under way at the end are cut off. A container is killed after 2 s.
    """

    host: str = "localhost"
    hosts: list[str] | str = []
    bind: str = "127.0.0.1"
    published_on: str = ""
    port: Port = 8001
    url: str = ""
    max_body_bytes: Annotated[int, Meta(ge=1_024)] = 4 * 1_024 * 1_024
    client_timeout: Millis = 30_000
    shutdown_timeout: Millis = 1_000
    cors: Cors = Cors()

    def __post_init__(self) -> None:
        for host in self.other_hosts:
            if "/" in host:
                raise WrongSetting(("server", "hosts"), host, "a name or an address is expected, not a URL")

    @property
    def public_url(self) -> str:
        """What ``execute`` messages tell push workers to call back."""
        return self.url or f"http://{self.host}:{self.port}"

    @property
    def other_hosts(self) -> list[str]:
        """The ``hosts`` one by one."""
        return _each(self.hosts)


class Sqlite(Section, frozen=True, kw_only=True):
    """``synchronous``: FULL survives a power cut.

    NORMAL may lose the last commits then, but not when a process dies.
    """

    path: Path = Path("resonate.db")
    synchronous: Literal["FULL", "NORMAL"] = "FULL"


class Storage(Section, frozen=True, kw_only=True):
    type: Literal["sqlite"] = "sqlite"
    sqlite: Sqlite = Sqlite()


class Tasks(Section, frozen=True, kw_only=True):
    """``retry_timeout``: ms until a task that nobody claimed is dispatched again.

    ``worker_grace``: ms after which a worker whose stream broke and that was not heard of since loses its leases.
    ``lease_timeout``: accepted because the official server has it; workers bring their own lease times.
    """

    retry_timeout: Millis = 30_000
    worker_grace: Millis = 3_000
    lease_timeout: Millis = 15_000


class Schedules(Section, frozen=True, kw_only=True):
    """``catch_up``: how many of the runs that a schedule missed while the server was off are made up for."""

    catch_up: Annotated[int, Meta(ge=1, le=100)] = 1


class Retention(Section, frozen=True, kw_only=True):
    """``settled_after``: ms after which a tree of settled promises is deleted; 0 keeps everything for ever."""

    settled_after: Annotated[int, Meta(ge=0)] = 0


class HttpPoll(Section, frozen=True, kw_only=True):
    """``buffer_size``: accepted because the official server has it; messages wait in the store here."""

    enabled: bool = True
    max_connections: Count = 1_000
    buffer_size: Count = 100


class PushAuth(Section, frozen=True, kw_only=True):
    """What pushed messages carry to prove where they come from."""

    mode: Literal["none", "bearer"] = "none"
    token: str = ""
    header: str = "Authorization"


class HttpPush(Section, frozen=True, kw_only=True):
    """Timeouts in ms."""

    enabled: bool = True
    concurrency: Count = 256
    connect_timeout: Millis = 10_000
    request_timeout: Millis = 180_000
    auth: PushAuth = PushAuth()


class Transports(Section, frozen=True, kw_only=True):
    http_poll: HttpPoll = HttpPoll()
    http_push: HttpPush = HttpPush()


class Auth(Section, frozen=True, kw_only=True):
    """Either makes tokens needed: ``token``, a shared secret that permits everything, or ``publickey``, for JWTs: a PEM
    file, or ``none`` (they are not verified)."""

    token: str = ""
    publickey: str = ""
    iss: str = ""
    aud: str = ""

    def __post_init__(self) -> None:
        if self.token and not BEARER.fullmatch(self.token):
            reason = "a token is made of the letters A to Z and a to z, digits and - . _ ~ + / with = only at its end"
            raise WrongSetting(("auth", "token"), self.token, reason)

    @property
    def enabled(self) -> bool:
        """Whether tokens are needed."""
        return bool(self.token or self.publickey)

    @property
    def is_protection(self) -> bool:
        """Whether a token proves anything."""
        return self.enabled and self.publickey != "none"


class Observability(Section, frozen=True, kw_only=True):
    """``metrics_port`` 0 switches the metrics off."""

    metrics_port: Port = 9_090


class Ui(Section, frozen=True, kw_only=True):
    """The live page at ``/ui/``. ``actions_url``: where it learns what it can offer to do, and sends clicks to."""

    enabled: bool = True
    actions_url: Annotated[str, Meta(pattern=r"\A(https?://[^/?#@\s]+(/[^?#\s]*)?)?\Z")] = ""


class Settings(Section, frozen=True, kw_only=True):
    """Everything that can be set."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    log_file: str = ""
    trace: str = ""
    debug: bool = False
    server: Server = Server()
    storage: Storage = Storage()
    tasks: Tasks = Tasks()
    schedules: Schedules = Schedules()
    retention: Retention = Retention()
    transports: Transports = Transports()
    auth: Auth = Auth()
    observability: Observability = Observability()
    ui: Ui = Ui()


def load(flags: Given, environment: Mapping[str, str] = os.environ) -> Settings:
    """Raises :class:`WrongSetting`, ``TOMLDecodeError`` or ``UnicodeDecodeError`` for a file that is no TOML, and
    ``OSError`` for one that cannot be read.
    """
    given: Given = {}
    for source in (_from_file(), _from_environment(environment), flags):
        _merge(given, source)
    return _section(Settings, given, ())


# ── where values come from ──


def _from_file() -> Given:
    return tomllib.loads(FILE.read_text()) if FILE.exists() else {}


def _from_environment(environment: Mapping[str, str]) -> Given:
    """Variables of clients, and those of parts that only the official server has, are none of ours."""
    given: Given = {}
    for variable, text in environment.items():
        if variable.upper().startswith(PREFIX):
            first, *others = variable[len(PREFIX) :].lower().split(BETWEEN_LEVELS)
            if first in Settings.__struct_fields__:
                _merge(given, _nested([first, *others], _parsed(text)))
    return given


def _nested(names: list[str], value: Any) -> Given:
    for name in reversed(names):
        value = {name: value}
    return {**value}


def _parsed(text: str) -> Any:
    """Lists may be written as JSON."""
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return text


def _merge(given: Given, source: Given) -> None:
    """What the later source gives wins, member by member."""
    for name, value in source.items():
        old = given.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        else:
            given[name] = _copy(value)


def _copy(value: Any) -> Any:
    return {name: _copy(member) for name, member in value.items()} if isinstance(value, dict) else value


# ── what they have to be ──


def _section[T: Section](kind: type[T], given: Any, path: tuple[str, ...]) -> T:
    if not isinstance(given, dict):
        raise WrongSetting(path, given, "this is a group of settings")
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for name, value in given.items():
        if name not in types:
            raise WrongSetting((*path, name), value, "there is no such setting")
    return kind(**{name: _value(types[name], value, (*path, name)) for name, value in given.items()})


def _value(kind: Any, value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(kind, type) and issubclass(kind, Section):
        return _section(kind, value, path)
    try:
        return msgspec.convert(value, kind, strict=False, dec_hook=lambda wanted, text: wanted(text))
    except msgspec.ValidationError as error:
        raise WrongSetting(path, value, str(error)) from None

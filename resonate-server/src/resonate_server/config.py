"""Settings: defaults < ``resonate.toml`` < environment < command line. Names follow the official server's where the
meaning is the same; its other names are in :mod:`.official`.

In the environment: ``RESONATE_`` plus the path with ``__`` between levels, e.g. ``RESONATE_SERVER__PORT`` for
``server.port``.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo

from resonate_server import official
from resonate_server.official import Given
from resonate_server.protocol.payload import NOT_JSON

FILE = Path("resonate.toml")
"""In the working directory."""
PREFIX = "RESONATE_"
BETWEEN_LEVELS = "__"

SECRET = {"auth", "token", "password", "postgres"}
"""Parts of setting names whose values are never shown, even if the name is mistyped."""

SHOWN = 200
"""Characters of a value, and of what is wrong with it, that are shown."""

LIKENESS = 0.75
"""Least similarity (0 to 1) for an unknown name to count as a misspelling of a known one."""

LONGEST_MS = 100 * 366 * 24 * 3_600 * 1_000
"""A century. Far longer times do not fit into 64 bits once they are added to the server's time."""

Port = Annotated[int, Meta(ge=0, le=65_535)]
Millis = Annotated[int, Meta(ge=1, le=LONGEST_MS)]
Count = Annotated[int, Meta(ge=1)]
Names = list[str]
"""Text is split at its commas, unless it is a list in JSON."""

BEARER = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""A valid token in ``Authorization: Bearer`` (RFC 6750 section 2.1)."""

HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
"""A valid name of a header (RFC 9110 section 5.6.2)."""

HOST = re.compile(r"[\w.:\[\]%*-]+", re.ASCII)
ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#@\s]+")
"""What browsers send as ``Origin`` (RFC 6454 section 7), or ``*`` for any."""


def variable(name: str) -> str:
    """Return the environment variable for the setting ``name``."""
    return PREFIX + name.replace(".", BETWEEN_LEVELS).upper()


class WrongSetting(Exception):
    """A value that is invalid, or a name that does not exist."""

    def __init__(self, name: str, reason: str, value: Any = None) -> None:
        """Show the beginning of ``value``, unless it may be a secret."""
        self.name = name
        got = "" if value is None or SECRET.intersection(name.split(".")) else f" (got {repr(value)[:SHOWN]})"
        super().__init__(f"setting {variable(name)}: {reason[:SHOWN]}{got}")


class Section(Struct, frozen=True, kw_only=True):
    """A group of settings, each annotated with its meaning, which ``--help`` shows. docs/protocol.md says more."""


class Cors(Section, frozen=True, kw_only=True):
    allow_origins: Annotated[Names, "Origins whose pages may use this server; *: any."] = []

    def __post_init__(self) -> None:
        for origin in self.allow_origins:
            if not ORIGIN.fullmatch(origin):
                raise WrongSetting("server.cors.allow_origins", "expected an origin like https://example.com", origin)


class ServerSettings(Section, frozen=True, kw_only=True):
    host: Annotated[str, "Name by which others reach this server."] = "localhost"
    hosts: Annotated[Names, "Further host names to accept; *: any."] = []
    bind: Annotated[str, "Address to listen on."] = "127.0.0.1"
    published_on: Annotated[str, "Address on which a container's port is published."] = ""
    port: Annotated[Port, "Port to listen on."] = 8001
    shared_port: Annotated[bool, "Share the port with other servers on this database."] = False
    url: Annotated[
        str, Meta(pattern=r"\A(https?://[!-~]+)?\Z"), "URL under which others reach it, if not http://HOST:PORT."
    ] = ""
    max_body_bytes: Annotated[int, Meta(ge=1_024), "Largest request, in bytes."] = 4 * 1_024 * 1_024
    client_timeout: Annotated[Millis, "ms a client has to send a request, or to read its answer."] = 30_000
    shutdown_timeout: Annotated[Millis, "ms that requests have to finish at shutdown."] = (
        1_000  # Docker kills after 2 s
    )
    cors: Cors = Cors()

    def __post_init__(self) -> None:
        if not self.bind:  # sockets take no address for all addresses
            raise WrongSetting("server.bind", "expected an address; 0.0.0.0 stands for all of this machine's")
        for name, host in (("host", self.host), *(("hosts", each) for each in self.hosts)):
            if not HOST.fullmatch(host):
                raise WrongSetting(f"server.{name}", "expected a name or an address, not a URL", host)

    @property
    def public_url(self) -> str:
        """The URL that ``execute`` messages tell push workers to call back."""
        host = f"[{self.host}]" if self.host.count(":") > 1 and "[" not in self.host else self.host
        return self.url or f"http://{host}:{self.port}"


class Sqlite(Section, frozen=True, kw_only=True):
    path: Annotated[Path, "SQLite file; created if missing."] = Path("resonate.db")
    synchronous: Annotated[Literal["FULL", "NORMAL"], "NORMAL may lose the last commits when the power fails."] = "FULL"


class Postgres(Section, frozen=True, kw_only=True):
    """``url``: ``postgresql://user:password@host:port/database``, or anything else that libpq accepts."""

    url: Annotated[str, "PostgreSQL database; PGPASSWORD keeps its password off the command line."] = ""
    pool_size: Annotated[int, Meta(ge=1, le=1_000), "Connections: one for decisions, the others for reads."] = 3


class Storage(Section, frozen=True, kw_only=True):
    type: Annotated[str, "Where to keep the state: sqlite or postgres."] = "sqlite"
    sqlite: Sqlite = Sqlite()
    postgres: Postgres = Postgres()

    def __post_init__(self) -> None:
        if self.type not in ("sqlite", "postgres"):
            raise WrongSetting("storage.type", official.NO_OTHER_STORAGE, self.type)
        if self.is_postgres and not self.postgres.url:
            raise WrongSetting("storage.postgres.url", "PostgreSQL storage needs the URL of a database")

    @property
    def is_postgres(self) -> bool:
        """Whether the store is PostgreSQL; otherwise it is SQLite."""
        return self.type == "postgres"

    @property
    def place(self) -> str:
        """A description of where the state is, for people."""
        return "PostgreSQL" if self.is_postgres else str(self.sqlite.path)


class Tasks(Section, frozen=True, kw_only=True):
    retry_timeout: Annotated[Millis, "ms until a task that nobody claims is offered again."] = 30_000
    worker_grace: Annotated[Millis, "ms until a disconnected worker loses its tasks."] = 3_000


class Schedules(Section, frozen=True, kw_only=True):
    catch_up: Annotated[int, Meta(ge=1, le=100), "Missed runs of a schedule to catch up on."] = 1


class Retention(Section, frozen=True, kw_only=True):
    settled_after: Annotated[int, Meta(ge=0, le=LONGEST_MS), "ms until settled results are deleted; 0: never."] = 0


class HttpPoll(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, "Streams for workers, at /poll."] = True
    max_connections: Annotated[Count, "Maximum number of streams."] = 1_000


class PushAuth(Section, frozen=True, kw_only=True):
    mode: Annotated[Literal["none", "bearer"], "Whether deliveries carry a token."] = "none"
    token: Annotated[str, "That token; prefer the variable, as others can read arguments."] = ""
    header: Annotated[str, "The header that carries it."] = "Authorization"

    def __post_init__(self) -> None:
        if self.mode == "bearer" and not (self.token.strip() and self.token.isascii() and self.token.isprintable()):
            reason = "the mode bearer needs a token, of printable ASCII characters"
            raise WrongSetting("transports.http_push.auth.token", reason)
        if not HEADER.fullmatch(self.header):
            raise WrongSetting("transports.http_push.auth.header", "expected the name of a header", self.header)


class HttpPush(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, "Deliver to workers that have an HTTP address."] = True
    concurrency: Annotated[Count, "Concurrent deliveries."] = 256
    connect_timeout: Annotated[Millis, "ms to connect."] = 10_000
    request_timeout: Annotated[Millis, "ms for a delivery."] = 180_000
    auth: PushAuth = PushAuth()


class Transports(Section, frozen=True, kw_only=True):
    http_poll: HttpPoll = HttpPoll()
    http_push: HttpPush = HttpPush()


class Auth(Section, frozen=True, kw_only=True):
    """Either of the first two makes tokens mandatory. The token has no flag: others can read a process's arguments."""

    token: Annotated[str, "A shared secret that permits everything."] = ""
    publickey: Annotated[str, "PEM file of a public key; the server then requires tokens."] = ""
    iss: Annotated[str, "Required issuer of tokens."] = ""
    aud: Annotated[str, "Required audience of tokens."] = ""

    def __post_init__(self) -> None:
        if self.token and not BEARER.fullmatch(self.token):
            reason = "a token consists of letters A-Z and a-z, digits and - . _ ~ + / with = only at its end"
            raise WrongSetting("auth.token", reason)

    @property
    def enabled(self) -> bool:
        """Whether requests need a token."""
        return bool(self.token or self.publickey)

    @property
    def is_protection(self) -> bool:
        """Whether a token proves anything: with the key ``none``, JWTs are not verified."""
        return self.enabled and self.publickey != "none"


class Observability(Section, frozen=True, kw_only=True):
    metrics_port: Annotated[Port, "Port of the metrics; 0: none."] = 9_090


class Ui(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, "The live page at /ui/."] = True
    actions_url: Annotated[
        str, Meta(pattern=r"\A(https?://[^/?#@\s]+(/[^?#\s]*)?)?\Z"), "URL that lists further actions for the page."
    ] = ""


class Settings(Section, frozen=True, kw_only=True):
    level: Annotated[Literal["debug", "info", "warn", "warning", "error"], "The lowest level that is logged."] = "info"
    log_format: Annotated[Literal["text", "json"], "Text for people, or one JSON object per line."] = "text"
    log_file: Annotated[str, "A file to log to, instead of standard output."] = ""
    trace: Annotated[str, "Record all requests and answers in a file, for `resonate replay`."] = ""
    debug: Annotated[bool, "Allow debug.* requests, which set the clock and delete everything."] = False
    server: ServerSettings = ServerSettings()
    storage: Storage = Storage()
    tasks: Tasks = Tasks()
    schedules: Schedules = Schedules()
    retention: Retention = Retention()
    transports: Transports = Transports()
    auth: Auth = Auth()
    observability: Observability = Observability()
    ui: Ui = Ui()


def load(flags: Given, environment: Mapping[str, str] = os.environ, file: Path | None = None) -> Settings:
    """Load the settings; ``file`` takes the place of :data:`FILE`, which need not exist.

    Raises :class:`WrongSetting`, with a note if the file sets the value, ``TOMLDecodeError`` or ``UnicodeDecodeError``
    for a file that is not TOML, and ``OSError`` for one that cannot be read.
    """
    given: Given = {}
    in_file, here = _from_file(file), _from_environment(environment) | flags
    try:
        for source in (in_file, here):
            given |= _known(source)
        return _section(Settings, given)
    except WrongSetting as wrong:
        if wrong.name in in_file.keys() - here:
            wrong.add_note(f"It is set in {file or FILE}, as {wrong.name}.")
        raise


# ── where values come from ──


def flat(given: Mapping[str, Any], above: str = "") -> Given:
    """Flatten nested sections to dotted names."""
    found: Given = {}
    for name, value in given.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


def _from_file(file: Path | None) -> Given:
    return flat(tomllib.loads((file or FILE).read_text("utf-8-sig"))) if file or FILE.exists() else {}


def _from_environment(environment: Mapping[str, str]) -> Given:
    """Ignore variables meant for others, unless they look like a misspelling of ours."""
    given: Given = {}
    for variable, text in environment.items():
        if variable.upper().startswith(PREFIX):
            name = variable[len(PREFIX) :].lower().replace(BETWEEN_LEVELS, ".")
            if "." in name or name in KNOWN or (not official.is_of_others(name, text) and _meant(name)):
                given[name] = text
    return given


def _known(given: Given) -> Given:
    try:
        ours = official.translate(given)
    except official.Refused as refused:
        raise WrongSetting(refused.name, str(refused)) from None
    for name, value in ours.items():
        if name in GROUPS:
            raise WrongSetting(name, "this is a group of settings", value)
        if name not in SETTINGS:
            raise _unknown(name, value)
    return ours


def _unknown(name: str, value: Any) -> WrongSetting:
    meant = _meant(name)
    if not meant or SECRET.intersection(meant.split(".")):
        value = None
    return WrongSetting(name, "unknown setting" + (f"; did you mean {variable(meant)}?" if meant else ""), value)


def _meant(name: str) -> str:
    """Return the setting whose name is nearest; empty if none is near."""
    from difflib import get_close_matches  # only here: seldom needed

    names = (*SETTINGS, *official.NAMES, *official.OF_OTHERS)
    return next(iter(get_close_matches(name, names, n=1, cutoff=LIKENESS)), "")


# ── validation ──


def _section[T: Section](kind: type[T], given: Given, above: str = "") -> T:
    members: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        name = above + field.name
        if _is_section(field.type):
            members[field.name] = _section(field.type, given, f"{name}.")
        elif name in given:
            members[field.name] = _value(field.type, given[name], name)
    return kind(**members)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _value(kind: Any, value: Any, name: str) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise WrongSetting(name, "no setting can have a NUL character", value)
    if isinstance(value, str) and get_args(kind)[0] == Names:
        value = _listed(value)
    try:
        return msgspec.convert(value, kind, strict=False, dec_hook=lambda wanted, text: wanted(text))
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise WrongSetting(name, str(error), value) from None


def _listed(text: str) -> Names:
    try:
        return msgspec.json.decode(text, type=Names)
    except NOT_JSON:
        return [name.strip() for name in text.split(",") if name.strip()]


def _settings(kind: type[Section], above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for field in msgspec.structs.fields(kind):
        name = above + field.name
        if _is_section(field.type):
            yield from _settings(field.type, f"{name}.")
        else:
            yield name, field


SETTINGS = dict(_settings(Settings))
"""All settings, by dotted name."""

GROUPS = {name.rsplit(".", depth)[0] for name in SETTINGS for depth in range(1, name.count(".") + 1)}
KNOWN = {*SETTINGS, *GROUPS, *official.NAMES}

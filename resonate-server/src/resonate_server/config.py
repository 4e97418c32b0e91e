"""Settings: defaults < ``resonate.toml`` < environment < command line. Names follow the official server's where the
meaning is the same.

In the environment: ``RESONATE_`` plus the path with ``__`` between levels, e.g. ``RESONATE_SERVER__PORT`` for
``server.port``.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

Port = Annotated[int, Field(ge=0, le=65_535)]
Millis = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A group of settings; a name that does not exist is a mistake, not a wish."""

    model_config = ConfigDict(extra="forbid")


class Cors(Section):
    """Origins whose pages may talk to the server: a list, or comma-separated; ``*`` for any."""

    allow_origins: list[str] | str = []

    @property
    def origins(self) -> list[str]:
        """The origins one by one."""
        if isinstance(self.allow_origins, list):
            return self.allow_origins
        return [origin.strip() for origin in self.allow_origins.split(",") if origin.strip()]


class Server(Section):
    """``host``: under which name others reach this server; ``bind``: the address it listens on."""

    host: str = "localhost"
    bind: str = "0.0.0.0"  # noqa: S104  the official default; the compose file publishes on loopback only
    port: Port = 8001
    url: str = ""
    max_body_bytes: Annotated[int, Field(ge=1_024)] = 4 * 1_024 * 1_024
    shutdown_timeout: Millis = 10_000
    cors: Cors = Cors()

    @property
    def public_url(self) -> str:
        """What ``execute`` messages tell push workers to call back."""
        return self.url or f"http://{self.host}:{self.port}"


class Sqlite(Section):
    """``synchronous``: FULL survives a power cut.

    NORMAL may lose the last commits then, but not when a process dies.
    """

    path: Path = Path("resonate.db")
    synchronous: Literal["FULL", "NORMAL"] = "FULL"


class Storage(Section):
    type: Literal["sqlite"] = "sqlite"
    sqlite: Sqlite = Sqlite()


class Tasks(Section):
    """``retry_timeout``: ms until a task that nobody claimed is dispatched again.

    ``worker_grace``: ms after which a worker whose stream broke and that was not heard of since loses its leases.
    ``lease_timeout``: accepted because the official server has it; workers bring their own lease times.
    """

    retry_timeout: Millis = 30_000
    worker_grace: Millis = 3_000
    lease_timeout: Millis = 15_000


class Retention(Section):
    """``settled_after``: ms after which a tree of settled promises is deleted; 0 keeps everything for ever."""

    settled_after: Annotated[int, Field(ge=0)] = 0


class HttpPoll(Section):
    """``buffer_size``: accepted because the official server has it; messages wait in the store here."""

    enabled: bool = True
    max_connections: Count = 1_000
    buffer_size: Count = 100


class PushAuth(Section):
    """What pushed messages carry to prove where they come from."""

    mode: Literal["none", "bearer"] = "none"
    token: str = ""
    header: str = "Authorization"


class HttpPush(Section):
    """Timeouts in ms."""

    enabled: bool = True
    concurrency: Count = 256
    connect_timeout: Millis = 10_000
    request_timeout: Millis = 180_000
    auth: PushAuth = PushAuth()


class Transports(Section):
    http_poll: HttpPoll = HttpPoll()
    http_push: HttpPush = HttpPush()


class Auth(Section):
    """``publickey``: a PEM file, ``none`` (tokens are not verified), or empty (no tokens at all)."""

    publickey: str = ""
    iss: str = ""
    aud: str = ""


class Observability(Section):
    """``metrics_port`` 0 switches the metrics off."""

    metrics_port: Port = 9_090


class Settings(BaseSettings):
    """Everything that can be set. Raises pydantic's ``ValidationError`` for a value that cannot be meant."""

    model_config = SettingsConfigDict(
        env_prefix="RESONATE_", env_nested_delimiter="__", toml_file="resonate.toml", extra="forbid"
    )

    level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    debug: bool = False
    server: Server = Server()
    storage: Storage = Storage()
    tasks: Tasks = Tasks()
    retention: Retention = Retention()
    transports: Transports = Transports()
    auth: Auth = Auth()
    observability: Observability = Observability()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

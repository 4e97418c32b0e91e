"""Settings: defaults < environment < command line. Names follow the official server's where the meaning is the same.

``RESONATE_`` plus the path with ``__`` between levels, e.g. ``RESONATE_SERVER__PORT`` for ``server.port``.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65_535)]
Millis = Annotated[int, Field(ge=1)]


class Server(BaseModel):
    """``host``: under which name others reach this server; ``bind``: the address it listens on."""

    host: str = "localhost"
    bind: str = "0.0.0.0"  # noqa: S104  the official default; the compose file publishes on loopback only
    port: Port = 8001
    url: str = ""
    max_body_bytes: Annotated[int, Field(ge=1_024)] = 4 * 1_024 * 1_024
    shutdown_timeout: Millis = 10_000

    @property
    def public_url(self) -> str:
        """What ``execute`` messages tell push workers to call back."""
        return self.url or f"http://{self.host}:{self.port}"


class Sqlite(BaseModel):
    """``synchronous``: FULL survives a power cut; NORMAL may lose the last commits then, but not when a process
    dies."""

    path: Path = Path("resonate.db")
    synchronous: Literal["FULL", "NORMAL"] = "FULL"


class Storage(BaseModel):
    sqlite: Sqlite = Sqlite()


class Tasks(BaseModel):
    """``retry_timeout``: ms until a task that nobody claimed is dispatched again.

    ``worker_grace``: ms after which a worker whose stream broke and that was not heard of since loses its leases.
    """

    retry_timeout: Millis = 30_000
    worker_grace: Millis = 3_000


class HttpPoll(BaseModel):
    max_connections: Annotated[int, Field(ge=1)] = 1_000


class Transports(BaseModel):
    http_poll: HttpPoll = HttpPoll()


class Settings(BaseSettings):
    """Everything that can be set. Raises pydantic's ``ValidationError`` for a value that cannot be meant."""

    model_config = SettingsConfigDict(env_prefix="RESONATE_", env_nested_delimiter="__", extra="ignore")

    level: Literal["debug", "info", "warning", "error"] = "info"
    server: Server = Server()
    storage: Storage = Storage()
    tasks: Tasks = Tasks()
    transports: Transports = Transports()

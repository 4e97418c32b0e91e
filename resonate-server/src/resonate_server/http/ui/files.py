"""Serves the page's files from the package's folder ``static``, read and compressed once at startup."""

import gzip
import re
from hashlib import sha256
from pathlib import Path

from aiohttp import web
from msgspec import Struct

STATIC = Path(__file__).parent / "static"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Media types by suffix. Files with other suffixes are not served."""

_TAKES_GZIP = re.compile(
    r"(?:^|[,\s])(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[0-9.]+\s*)?(?:,|$)", re.IGNORECASE
)
"""Matches an ``Accept-Encoding`` that allows gzip (RFC 9110, 12.5.3): a weight of 0 forbids it."""


class _Body(Struct, frozen=True):
    """One representation of a file. ``etag`` differs between representations (RFC 9110, 8.8.3)."""

    data: bytes
    etag: str
    headers: dict[str, str]


class Files:
    """Serves a fixed set of files, determined at startup, so no name can lead out of the folder."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): _read(path) for path in folder.rglob("*") if path.suffix in TYPES
        }

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Serve a file. Browsers must revalidate it each time, and mostly get a 304."""
        bodies = self._files.get(request.match_info.get("name") or "index.html")
        if bodies is None:
            raise web.HTTPNotFound(text="there is no such file\n")
        body = bodies[bool(_TAKES_GZIP.search(request.headers.get("Accept-Encoding", "")))]
        is_known = any(etag.value in (body.etag, "*") for etag in request.if_none_match or ())
        response = web.Response(status=304) if is_known else web.Response(body=body.data, headers=body.headers)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Vary"] = "Accept-Encoding"
        response.etag = body.etag
        return response


def _read(path: Path) -> tuple[_Body, _Body]:
    """Return the file for clients that do not take gzip, and for those that do."""
    data, headers = path.read_bytes(), {"Content-Type": TYPES[path.suffix]}
    etag, compressed = sha256(data).hexdigest()[:32], gzip.compress(data, 9, mtime=0)
    plain = _Body(data, etag, headers)
    is_smaller = len(compressed) < len(data)
    small = _Body(compressed, f"{etag}-gzip", headers | {"Content-Encoding": "gzip"}) if is_smaller else plain
    return plain, small

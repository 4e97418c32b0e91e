"""The page's files, as they lie in the package's folder ``static``."""

from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent / "static"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
"""What a page consists of. Files of other kinds are not served."""


class Files:
    """Which files there are is settled when the server starts, so no name can lead out of the folder."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._paths = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix in TYPES
        }

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A browser asks each time whether the file has changed, and mostly hears that it has not."""
        path = self._paths.get(request.match_info.get("name") or "index.html")
        if path is None:
            raise web.HTTPNotFound(text="there is no such file\n")
        return web.FileResponse(path, headers={"Content-Type": TYPES[path.suffix], "Cache-Control": "no-cache"})

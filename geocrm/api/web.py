"""The web application and the interactive docs, served from files; no network needed."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response

IMMUTABLE = "public, max-age=31536000, immutable"
NOT_BUILT = (
    "The web application is not built yet: run `make setup`. The API is at /v1, its description at /openapi.json.\n"
)


class Web:
    """Files below one directory; an address that is no file is the application's own, and gets its page."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()

    async def __call__(self, request: Request) -> Response:
        """One file, or the page."""
        path: str = request.path_params["path"]
        if path.startswith(("v1/", "tiles/")) or path in ("v1", "tiles"):
            raise HTTPException(404)
        if path == "docs":
            return RedirectResponse("/docs/", 307)
        found = self._file(path + "index.html" if path.endswith("/") else path)
        if found is not None:
            hashed = path.startswith("assets/")
            return FileResponse(found, headers={"Cache-Control": IMMUTABLE if hashed else "no-cache"})
        last = path.rpartition("/")[2]
        if "." in last or path.startswith(("docs/", "assets/")):
            raise HTTPException(404)
        page = self._file("index.html")
        if page is None:
            return PlainTextResponse(NOT_BUILT, 503 if path == "" else 404)
        return FileResponse(page, headers={"Cache-Control": "no-cache"})

    def _file(self, path: str) -> Path | None:
        if not path or "\x00" in path:
            path = "index.html"
        try:
            found = (self.directory / path).resolve()
            inside = found.is_relative_to(self.directory) and found.is_file()
        except (OSError, ValueError):
            return None
        return found if inside else None

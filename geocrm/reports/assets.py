"""Scripts and styles put into a page whole, so that it opens without a network.

They are read from the npm packages that the web application is built from (setting `GEOCRM_ATLAS_DIR`, by default
`maps/node_modules`). Images and fonts that a style sheet names become data URIs.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from pathlib import Path

from geocrm import errors
from geocrm.settings import get_settings

_TYPES = {
    ".png": "image/png",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".woff": "font/woff",
    ".ttf": "font/ttf",
}
_URL = re.compile(r"""url\(\s*(['"]?)([^'")]+)\1\s*\)""")
_SOURCE_MAP = re.compile(r"^\s*(?://|/\*)[#@] sourceMappingURL=.*$", re.MULTILINE)


def _path(name: str) -> Path:
    path = get_settings().atlas_dir / name
    if not path.is_file():
        raise errors.Unavailable(
            f"the page part {name} is not installed under {get_settings().atlas_dir}: run `npm ci` in maps/ "
            "(or `make setup`)"
        )
    return path


@lru_cache(maxsize=32)
def script(name: str) -> str:
    """A script file of an npm package as the content of a <script> element."""
    code = _SOURCE_MAP.sub("", _path(name).read_text(encoding="utf-8"))
    # nothing in a script may end its element or begin a comment of the page
    return re.sub(r"</(?=script)", r"<\\/", code, flags=re.IGNORECASE).replace("<!--", r"<\!--")


@lru_cache(maxsize=32)
def style(name: str) -> str:
    """A style sheet of an npm package as the content of a <style> element, with its files as data URIs."""
    sheet = _path(name)

    def inline(match: re.Match[str]) -> str:
        target = match.group(2).split("?")[0].split("#")[0]
        if match.group(2).startswith(("data:", "#")):
            return match.group()
        path = (sheet.parent / target).resolve()
        if path.suffix not in _TYPES or not path.is_relative_to(get_settings().atlas_dir.resolve()):
            return "none"  # VML behaviours of old browsers and the like
        if not path.is_file():
            raise errors.Unavailable(f"{name} names {target}, which is not installed: run `npm ci` in maps/")
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        return f'url("data:{_TYPES[path.suffix]};base64,{content}")'

    code = _SOURCE_MAP.sub("", sheet.read_text(encoding="utf-8"))
    return _URL.sub(inline, code).replace("</style", r"<\/style")

"""Which formats can be imported, and one way to read them all.

A format is one function from a path to a `Source`: column names and an iterator of `Chunk`s of at most `CHUNK_ROWS`
rows, every value as text (what the file says, in the form the file says it) with its line number, and geometry in
longitude/latitude where the file has any. The content decides which format a file is; a name that says otherwise is an
error, not a hint.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from geocrm.errors import InvalidFile

CHUNK_ROWS = 20_000
MAX_COLUMNS = 1_000
MAX_FILE_BYTES = 20 * 1024**3

Objects = np.ndarray[Any, np.dtype[np.object_]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Unreadable:
    """A row that could not be split into the file's columns: its line, what is wrong, and its fields as far as they
    go.
    """

    line: int
    reason: str
    fields: list[str]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    `lines` (n,) int64: 1-based line of a text file, row of a sheet, or number of a feature. `table`: n rows of text
    columns, null or empty where nothing stands. `geometry` (n,): geometries in EPSG:4326 or None; `geometry_faults`
    (n,): why one could not be read. `read`: share of the file behind us, 0..1.
    """

    lines: Integers
    table: pa.Table
    geometry: Objects | None = None
    geometry_faults: Objects | None = None
    unreadable: list[Unreadable] = field(default_factory=list)
    read: float = 0.0


@dataclass(frozen=True)
class Source:
    """An opened file. `chunks()` may be called several times and reads from the start each time.

    `typed`: numbers and dates came typed (written with a decimal point and as ISO dates), whatever the recipe says of
    text.
    """

    format: str
    columns: list[str]
    chunks: Callable[[], Iterator[Chunk]]
    typed: bool = False
    has_geometry: bool = False
    crs: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """What a recipe may say about reading; None means: find out from the file."""

    encoding: str | None = None
    delimiter: str | None = None
    skip_lines: int = 0
    sheet: str | None = None
    layer: str | None = None
    crs: str | None = None


@dataclass(frozen=True)
class Format:
    """A row of the registry."""

    name: str
    endings: tuple[str, ...]
    open: Callable[[Path, Options], Source]


def _lazily(module: str, function: str) -> Callable[[Path, Options], Source]:
    """The reader of a format, imported when it is needed: GDAL alone takes more memory than a chunk."""

    def read(path: Path, options: Options) -> Source:
        source: Source = getattr(importlib.import_module(f"geocrm.ingest.{module}"), function)(path, options)
        return source

    return read


# The registry: a new format is a function and a line here.
FORMATS: dict[str, Format] = {
    known.name: known
    for known in (
        Format("csv", ("csv", "tsv", "txt", "tab"), _lazily("delimited", "open_csv")),
        Format("xlsx", ("xlsx", "xlsm"), _lazily("spreadsheets", "open_xlsx")),
        Format("geojson", ("geojson", "json"), _lazily("vectors", "open_geojson")),
        Format("geopackage", ("gpkg",), _lazily("vectors", "open_geopackage")),
        Format("shapefile", ("zip",), _lazily("vectors", "open_shapefile")),
        Format("parquet", ("parquet", "geoparquet", "pq"), _lazily("vectors", "open_parquet")),
    )
}

NAMES = {
    "csv": "delimited text (CSV)",
    "xlsx": "an Excel workbook (XLSX)",
    "geojson": "GeoJSON",
    "geopackage": "a GeoPackage",
    "shapefile": "a zipped Shapefile",
    "parquet": "Parquet",
}

# What people upload by mistake, known by its first bytes, and what to do about it.
_STRANGERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls) or Word document; save it as .xlsx or CSV"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\x00\x00\x27\x0a", "a bare .shp file; zip it together with its .dbf, .shx and .prj"),
)


def sniff(path: Path, name: str | None = None) -> str:
    """The format of a file by its content: one of `NAMES`. Raises InvalidFile for anything else and where `name` says
    otherwise.
    """
    shown = display_name(name or path.name)
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise InvalidFile(f"{shown} cannot be opened: {error.strerror or error}.") from error
    if path.is_dir():
        raise InvalidFile(f"{shown} is a directory; name a file.")
    if size_bytes == 0:
        raise InvalidFile(f"{shown} is empty (0 bytes). Export it again and check that the export has rows.")
    if size_bytes > MAX_FILE_BYTES:
        raise InvalidFile(
            f"{shown} has {size_bytes / 1024**3:.0f} GB; at most {MAX_FILE_BYTES // 1024**3} GB are read. Split it."
        )
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except OSError as error:
        raise InvalidFile(f"{shown} cannot be read: {error.strerror or error}.") from error
    found = _by_content(path, head, shown)
    ending = shown.rsplit(".", 1)[-1].lower() if "." in shown else ""
    expected = next((known.name for known in FORMATS.values() if ending in known.endings), None)
    if expected is not None and expected != found:
        raise InvalidFile(
            f"{shown} is named like {NAMES[expected]} but contains {NAMES[found]}. "
            f"Rename it to end in .{FORMATS[found].endings[0]}, or export it again."
        )
    return found


def _by_content(path: Path, head: bytes, shown: str) -> str:
    for magic, what in _STRANGERS:
        if head.startswith(magic):
            raise InvalidFile(f"{shown} is {what}. Readable are: {readable()}.")
    if head.startswith(b"PK"):
        from geocrm.ingest import archives

        members = archives.check(path)
        if "xl/workbook.xml" in members:
            return "xlsx"
        if any(member.lower().endswith(".shp") for member in members):
            return "shapefile"
        raise InvalidFile(f"{shown} is a zip archive with neither a Shapefile (.shp) nor an Excel workbook in it.")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"SQLite format 3\x00"):
        if head[68:72] in (b"GPKG", b"GP10", b"GP11"):
            return "geopackage"
        raise InvalidFile(f"{shown} is an SQLite database but not a GeoPackage.")
    text = head.lstrip(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"[":
        raise InvalidFile(not_geojson(shown, "it is a list"))
    if text[:1] == b"{":
        if not re.search(rb'"type"\s*:', head):
            with path.open("rb") as stream:
                head = stream.read(1 << 20)
            if not re.search(rb'"type"\s*:\s*"(Feature|FeatureCollection|Point|Polygon|Multi|Line|Geometry)', head):
                raise InvalidFile(not_geojson(shown, "it has no “type”"))
        return "geojson"
    lowered = text[:512].lower()
    if lowered.startswith((b"<!doctype html", b"<html", b"<table")) or b"<html" in lowered:
        raise InvalidFile(
            f"{shown} is a web page (HTML), as some exports named .xls are. Open it and save it as .xlsx or CSV."
        )
    if lowered.startswith((b"<?xml", b"<kml", b"<gml")):
        raise InvalidFile(
            f"{shown} is XML (KML, GML or the like). Convert it to GeoJSON or GeoPackage. Readable are: {readable()}."
        )
    if not text:
        raise InvalidFile(f"{shown} holds only blanks. Export it again and check that the export has rows.")
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(head)
    if not utf16 and (b"\x00" in head or sum(byte < 9 or 13 < byte < 27 for byte in head) > len(head) / 50):
        raise InvalidFile(f"{shown} is not text and of no known format. Readable are: {readable()}.")
    return "csv"


def _looks_like_utf16(head: bytes) -> bool:
    """Latin text in UTF-16 without a mark has a zero in every other byte."""
    even, odd = head[0:512:2], head[1:512:2]
    return len(odd) > 4 and (
        min(even.count(0), odd.count(0)) == 0 and max(even.count(0), odd.count(0)) > len(odd) * 0.7
    )


def not_geojson(shown: str, why: str) -> str:
    """What to say of JSON that is no GeoJSON."""
    return (
        f"{shown} is JSON but not GeoJSON: {why}. Expected is "
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": …, "properties": {…}}]}. '
        "Export it as GeoJSON, or as CSV with a column for each value."
    )


def readable() -> str:
    """The formats, for messages."""
    return "CSV, TSV, XLSX, GeoJSON, GeoPackage, zipped Shapefile, Parquet and GeoParquet"


def display_name(name: str) -> str:
    """The last part of a client's file name, for showing only: no directories, no control characters, at most 120
    characters.
    """
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[\x00-\x1f\x7f]", "", last)[-120:] or "file"


def open_file(path: Path, *, name: str | None = None, options: Options | None = None) -> Source:
    """Open a file of any known format. `name`: what the client called it. Raises InvalidFile with the place and the
    mend.
    """
    found = sniff(path, name)
    source = FORMATS[found].open(path, options or Options())
    if len(source.columns) > MAX_COLUMNS:
        raise InvalidFile(
            f"The file has {len(source.columns):,} columns; at most {MAX_COLUMNS:,} are read. "
            "Check the delimiter, or leave out the columns that are not needed."
        )
    return source


def unique_names(names: list[str]) -> list[str]:
    """Column names as the file has them, blanks trimmed, empty ones numbered, repeated ones told apart."""
    result: list[str] = []
    taken: set[str] = set()
    for position, raw in enumerate(names, start=1):
        name = re.sub(r"\s+", " ", raw.replace("\ufeff", "")).strip() or f"column {position}"
        candidate, copy = name, 2
        while candidate in taken:
            candidate, copy = f"{name} ({copy})", copy + 1
        taken.add(candidate)
        result.append(candidate)
    return result

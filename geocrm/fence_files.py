"""Geofences from a file: polygons, or points with a radius, of any format that imports know.

All of a file or nothing: where a row cannot be a fence, every such row is told with its line, and none is written. A
fence is what its tag and the file's own id name, so the same file again changes nothing; what the file does not name
stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import shapely
from shapely.geometry.base import BaseGeometry
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM, Actor
from geocrm.campaigns import geofences
from geocrm.db.engine import Database, command_session
from geocrm.db.queries import named
from geocrm.errors import Fault, GeocrmError, Invalid, InvalidFile
from geocrm.ingest import formats
from geocrm.ingest.formats import Chunk, Source

TAG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
EXTERNAL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}")
MOST_TOLD: Final = 1000
MOST_OVERLAPS_TOLD: Final = 10
NAMES: Final = {
    "external_id": ("external_id", "id", "fence_id", "code"),
    "name": ("name", "title"),
    "lon": ("lon", "lng", "long", "longitude", "x"),
    "lat": ("lat", "latitude", "y"),
    "radius_m": ("radius_m", "radius"),
    "dwell_s": ("dwell_s", "dwell"),
}
"""What columns are called that are not named, in the order of preference; large and small letters are one."""
_TAG: Final = "small letters, digits, - and _, at most 63"
_NUMBERS: Final = ("lon", "lat", "radius_m", "dwell_s")
_RANGES: Final = {"lon": 180.0, "lat": 90.0}
_TELL_EVERY: Final = 500


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a file becomes fences of a `tag`.

    `columns`: which column is external_id, name, lon, lat, radius_m (metres) or dwell_s (seconds), where they are not
    called so. `metadata`: columns that are kept with the fence as text. `radius_m` and `dwell_s` stand in where a row
    has none."""

    tag: str
    columns: Mapping[str, str] = field(default_factory=dict)
    metadata: Sequence[str] = ()
    radius_m: float | None = None
    dwell_s: float | None = None
    reading: formats.Options | None = None

    @classmethod
    def of_job(cls, given: Mapping[str, Any]) -> Recipe:
        """The recipe that a job was given as plain data."""
        return cls(**dict(given) | {"reading": formats.Options(**given["reading"])})


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that cannot be a fence: its line, or the number of its feature, and why."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Imported:
    """How many fences are new, changed, and as they were; and pairs of them that overlap, some of them."""

    new: int
    changed: int
    unchanged: int
    overlaps: tuple[tuple[str, str], ...]


class Unusable(Invalid):
    """Rows of the file cannot be fences; nothing was imported."""

    slug = "invalid-file"

    def __init__(self, refused: Sequence[Refused], rows: int) -> None:
        self.refused = tuple(refused)
        said = f"{len(refused):,} of {rows:,} rows cannot be fences, so nothing was imported."
        faults: list[Fault] = [{"pointer": "/file", "detail": one.why, "line": one.line} for one in refused[:MOST_TOLD]]
        super().__init__(said, errors=faults, refused=len(refused))


class Unmatched(InvalidFile):
    """A column that is needed is not found in the file."""

    def __init__(self, detail: str, columns: Sequence[str]) -> None:
        have = f"The columns of the file: {', '.join(columns[:40]) or 'none'}."
        faults: list[Fault] = [{"pointer": "/columns", "detail": detail}]
        super().__init__(f"{detail} {have}", errors=faults, columns=list(columns[:MOST_TOLD]))


def open_fences(path: Path, recipe: Recipe, *, name: str | None = None) -> tuple[Source, dict[str, int]]:
    """The file and the place of each column that says something; no row is read. `name`: what the client calls it.

    Raises Invalid for a tag that cannot be, InvalidFile for what is no readable file, Unmatched."""
    if not TAG.fullmatch(recipe.tag):
        raise Invalid(f"{recipe.tag!r} is no tag: {_TAG}", errors=[{"pointer": "/tag", "detail": _TAG}])
    if not path.is_file():
        raise InvalidFile(f"There is no file {path}." if name is None else "The file is gone; upload it again.")
    source = formats.open_file(path, name=name, options=recipe.reading)
    if not source.has_geometry and recipe.reading is not None and recipe.reading.crs is not None:
        raise Invalid("lon and lat are degrees; a reference system can be stated of files with geometry.")
    return source, _columns(source, recipe)


def import_fences(
    session: Session,
    actor: Actor,
    path: Path,
    recipe: Recipe,
    *,
    name: str | None = None,
    tell: Callable[[int], Any] | None = None,
) -> Imported:
    """Put every row of a file as a fence. Polygons are fences as they are; points, of the geometry or of lon and lat,
    are circles. `tell` is given the count of rows read, now and then.

    Raises as :func:`open_fences`, and Unusable with every row that cannot be a fence; then nothing is written."""
    source, place = open_fences(path, recipe, name=name)
    refused: list[Refused] = []
    lines: dict[str, int] = {}
    counts = {"new": 0, "changed": 0, "unchanged": 0}
    rows = 0
    put: list[int] = []
    with session.begin_nested():  # taken back where a row is refused
        for line, said in _rows(source, place, recipe.metadata):
            rows += 1
            if tell is not None and rows % _TELL_EVERY == 0:
                tell(rows)
            try:
                if isinstance(said, str):
                    raise Invalid(said)
                external_id, values = _fence(said, recipe.radius_m, recipe.dwell_s)
                if external_id in lines:
                    raise Invalid(f"external_id: {external_id} stands on line {lines[external_id]} already")
                lines[external_id] = line
                made = geofences.put(session, actor, recipe.tag, external_id, values)
            except GeocrmError as error:
                refused.append(Refused(line, error.detail))
                continue
            counts["new" if made.created else "changed" if made.changed else "unchanged"] += 1
            put.append(made.fence_id)
        if refused:
            raise Unusable(refused, rows)
    return Imported(**counts, overlaps=_overlaps(session, put))


def _columns(source: Source, recipe: Recipe) -> dict[str, int]:
    """The place of each column that says something; raises Unmatched where one is missing."""
    folded = {name.casefold(): place for place, name in reversed(list(enumerate(source.columns)))}
    found: dict[str, int] = {}
    for said, names in NAMES.items():
        if said in recipe.columns:
            if recipe.columns[said].casefold() not in folded:
                raise Unmatched(f"There is no column {recipe.columns[said]}.", source.columns)
            found[said] = folded[recipe.columns[said].casefold()]
        else:
            called = next((name for name in names if name in folded), None)
            if called is not None:
                found[said] = folded[called]
    for column in recipe.metadata:
        if column.casefold() not in folded:
            raise Unmatched(f"There is no column {column}.", source.columns)
        found[f"metadata.{column}"] = folded[column.casefold()]
    if "external_id" not in found:
        raise Unmatched("Which column names a fence? Say which one is external_id.", source.columns)
    if not source.has_geometry:
        missing = [word for word in ("lon", "lat") if word not in found]
        if "radius_m" not in found and recipe.radius_m is None:
            missing.append("radius_m")
        if missing:
            raise Unmatched(f"A file without geometry needs columns for {', '.join(missing)}.", source.columns)
    return found


def _rows(
    source: Source, place: Mapping[str, int], metadata: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line by line what the row says, or why it cannot be read."""
    for chunk in source.chunks():
        yield from ((bad.line, bad.reason) for bad in chunk.unreadable)
        yield from _rows_of(chunk, place, metadata)


def _rows_of(
    chunk: Chunk, place: Mapping[str, int], metadata: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    said = {field: chunk.table.column(at).to_pylist() for field, at in place.items()}
    for row, line in enumerate(chunk.lines.tolist()):
        if chunk.geometry_faults is not None and chunk.geometry_faults[row] is not None:
            yield line, str(chunk.geometry_faults[row])
            continue
        values: dict[str, Any] = {field: (column[row] or "").strip() for field, column in said.items()}
        values["metadata"] = {name: said[f"metadata.{name}"][row] for name in metadata if said[f"metadata.{name}"][row]}
        values["shape"] = None if chunk.geometry is None else chunk.geometry[row]
        yield line, values


def _fence(said: Mapping[str, Any], radius_m: float | None, dwell_s: float | None) -> tuple[str, dict[str, Any]]:
    """The external id and what it takes to put a fence; raises Invalid."""
    external_id = said["external_id"]
    if not EXTERNAL_ID.fullmatch(external_id):
        what = f"{external_id[:40]!r} is no id" if external_id else "is empty"
        raise Invalid(f"external_id: {what}; letters, digits and . _ : ~ - are one, at most 200")
    number = {field: _number(field, said.get(field, "")) for field in _NUMBERS}
    values: dict[str, Any] = {
        "name": said.get("name") or None,
        "dwell_s": dwell_s if number["dwell_s"] is None else number["dwell_s"],
        "metadata": said["metadata"],
    }
    if values["dwell_s"] is not None and not 0 < values["dwell_s"] <= geofences.LONGEST_DWELL_S:
        raise Invalid(f"dwell_s: expected seconds, at most {geofences.LONGEST_DWELL_S:,.0f}")
    shape: BaseGeometry | None = said["shape"]
    if shape is not None and shape.geom_type != "Point":
        return external_id, values | {"geometry": shapely.geometry.mapping(shape)}
    if shape is not None:
        number |= {"lon": shape.x, "lat": shape.y}
    if number["lon"] is None or number["lat"] is None:
        raise Invalid("there is no point: neither a geometry nor lon and lat")
    values["center"] = {"lon": number["lon"], "lat": number["lat"]}
    values["radius_m"] = radius_m if number["radius_m"] is None else number["radius_m"]
    return external_id, values


def _number(field: str, said: str) -> float | None:
    if not said:
        return None
    try:
        value = float(said)
    except ValueError:
        raise Invalid(f"{field}: {said[:40]!r} is no number") from None
    if not abs(value) <= _RANGES.get(field, 1e9):
        raise Invalid(f"{field}: {said[:40]} is out of range")
    return value


def _overlaps(session: Session, fence_ids: Sequence[int]) -> tuple[tuple[str, str], ...]:
    """Some pairs that overlap, of one tag; one of each is of the file."""
    rows = session.execute(
        text(named("geofences", "overlapping_pairs")), {"ids": list(fence_ids), "limit": 2 * MOST_OVERLAPS_TOLD}
    )
    return tuple(sorted({(min(row.one, row.other), max(row.one, row.other)) for row in rows})[:MOST_OVERLAPS_TOLD])


def import_upload(
    database: Database, actor: Actor, path: Path, recipe: Recipe, *, name: str, dry_run: bool
) -> dict[str, Any]:
    """Import a file that was uploaded, as the worker does: its job tells meanwhile how many rows are read. What came
    of it in counts, and pairs that overlap. Done again it changes nothing. Raises as :func:`import_fences`."""

    def tell(rows: int) -> None:
        with database.writing() as other:
            other.execute(text(named("geofences", "tell_import")), {"rows": rows})

    with database.writing() as session:
        savepoint = session.begin_nested()
        done = import_fences(session, actor, path, recipe, name=name, tell=tell)
        if dry_run:
            savepoint.rollback()
    return {
        "dry_run": dry_run,
        "processed": done.new + done.changed + done.unchanged,
        "new": done.new,
        "changed": done.changed,
        "unchanged": done.unchanged,
        "overlaps": [list(pair) for pair in done.overlaps],
    }


def import_at_terminal(path: Path, recipe: Recipe, *, dry_run: bool, echo: Callable[[str], Any]) -> None:
    """Import a file and say what became of it; every row that cannot be a fence is a line. Raises as
    :func:`import_fences`."""
    with command_session() as session:
        savepoint = session.begin_nested()
        try:
            done = import_fences(session, SYSTEM, path, recipe)
        except Unmatched as error:
            raise InvalidFile(f"{error.detail} Name columns by --id-column, --lon-column and the like.") from None
        except Unusable as error:
            for one in error.refused:
                echo(f"  line {one.line}: {one.why}")
            raise Invalid(f"{path.name}: {error.detail}") from None
        if dry_run:
            savepoint.rollback()
    tried = " (a try: nothing was written)" if dry_run else ""
    echo(f"{path.name}: fences {done.new:,} new, {done.changed:,} changed, {done.unchanged:,} unchanged{tried}.")
    for first, second in done.overlaps:
        echo(f"  {first} and {second} overlap: who stands there is in both.")

"""From a chunk of a file to checked values of our fields: match, coerce, validate.

`plan` looks at the first chunk and settles everything that has to be guessed (columns, decimal sign, date formats,
types of attributes) into a full recipe, which a preview shows and a person can correct; `prepare` then does the same
for every chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from geocrm.errors import Fault, Invalid
from geocrm.ingest import cells, coerce
from geocrm.ingest.coerce import Mask, mask_of
from geocrm.ingest.fields import FIELDS, REJECTED_COLUMNS, REQUIRED, SYNONYMS, Field, field_of, fold, match
from geocrm.ingest.formats import Chunk, Objects, Source
from geocrm.ingest.recipes import Recipe, find_column, placeholders
from geocrm.spatial import checks
from geocrm.spatial import crs as reference_systems

SAMPLES = 5
_NUMERIC = frozenset({"number", "money", "integer", "lon", "lat", "metres"})


@dataclass(frozen=True)
class ColumnPreview:
    """One column of the file as a preview shows it: what it is taken for, what it looks like, how many cells cannot
    be read.
    """

    column: str
    field: str | None
    type: str | None
    samples: list[str]
    filled: int
    wrong: int = 0


@dataclass(frozen=True)
class Plan:
    """A settled recipe, with what was noticed on the way."""

    recipe: Recipe
    columns: list[ColumnPreview]
    ignored: list[str]
    notes: list[str]
    missing: list[str]


@dataclass(frozen=True)
class RowFault:
    """Why a row is rejected: its position in the chunk, the column (as the file calls it) and the reason."""

    row: int
    column: str
    reason: str


@dataclass
class Prepared:
    """A chunk's values by field, each an Arrow column (n,) with null for nothing, and what is wrong with which row.

    `lon`, `lat`, `shape` are set where the kind has a place: float64 (n,) with NaN, or geometries. `flags`: flag → mask
    (n,).
    """

    chunk: Chunk
    values: dict[str, Any]
    faults: list[RowFault] = field(default_factory=list)
    bad: Mask = field(default_factory=lambda: np.zeros(0, bool))
    flags: dict[str, Mask] = field(default_factory=dict)
    lon: Any = None
    lat: Any = None
    shape: Objects | None = None

    def reject(self, mask: Mask, column: str, reason: str, values: Any = None) -> None:
        """Reject the masked rows, quoting their value where `values` (n,) is given."""
        for row in np.flatnonzero(mask):
            said = values[int(row)].as_py() if values is not None else None
            shown = f": {str(said)[:60]!r}" if said is not None else ""
            self.faults.append(RowFault(int(row), column, f"{reason}{shown}"))
        self.bad |= mask

    def flag(self, mask: Mask, name: str) -> None:
        """Flag the masked rows."""
        if mask.any():
            self.flags[name] = self.flags.get(name, np.zeros(len(mask), bool)) | mask


# -- planning ---------------------------------------------------------------------------------------------------------


def plan(source: Source, recipe: Recipe) -> Plan:
    """Settle the recipe for this file, from its first chunk. Raises Invalid where the recipe names columns that are
    not there.
    """
    faults: list[Fault] = []
    columns: dict[str, str] = {}
    used: set[str] = set()
    for name, said in recipe.columns.items():
        named = placeholders(said)
        settled = said
        for part in named or [said]:
            found = find_column(part, source.columns)
            if found is None:
                faults.append({"pointer": f"/recipe/columns/{name}", "detail": f"the file has no column “{part}”"})
                continue
            used.add(found)
            settled = settled.replace("{" + part + "}", "{" + found + "}") if named else found
        columns[name] = settled
    if faults:
        have = ", ".join(source.columns[:30])
        raise Invalid(f"The recipe does not fit the file: {faults[0]['detail']}. It has: {have}.", errors=faults)
    sample = next(islice(source.chunks(), 1), None)
    ignored = {found for said in recipe.ignore if (found := find_column(said, source.columns)) is not None}
    if recipe.automatic:
        free = [c for c in source.columns if c not in used and c not in ignored and c not in REJECTED_COLUMNS]
        for name, column in match(recipe.kind, free).items():
            if name not in columns and name not in recipe.constants:
                columns[name] = column
                used.add(column)
        for name, column in _fitting(recipe.kind, [c for c in free if c not in used], sample).items():
            if name not in columns and name not in recipe.constants:
                columns[name] = column
                used.add(column)
    notes = list(source.notes)
    settled_recipe = recipe.with_(columns=columns, automatic=False)
    if sample is not None and len(sample.table):
        settled_recipe = _settle(settled_recipe, source, sample, notes)
    missing = [
        " or ".join(group)
        for group in REQUIRED[recipe.kind]
        if not any(name in columns or name in recipe.constants for name in group)
    ]
    previews = _preview(settled_recipe, source, sample)
    left = [c for c in source.columns if c not in used and c not in REJECTED_COLUMNS]
    return Plan(settled_recipe, previews, left, notes, missing)


def _fitting(kind: str, free: list[str], sample: Chunk | None) -> dict[str, str]:
    """Columns whose header says little, such as “Type”, for the fields of which they hold nothing but choices."""
    found: dict[str, str] = {}
    for known in FIELDS[kind].values():
        for column in free:
            if sample is None or fold(column) not in known.vague_headers or known.name in found:
                continue
            given = pc.unique(pc.drop_null(coerce.clean(sample.table.column(column))))
            _, wrong = coerce.choice(given, known.choices, SYNONYMS.get(f"{kind}.{known.name}", {}))
            if len(given) and not wrong.any():
                found[known.name] = column
    return found


def _settle(recipe: Recipe, source: Source, sample: Chunk, notes: list[str]) -> Recipe:
    """Decide decimal sign, date formats and types of attributes where the recipe leaves them open."""
    texts = {name: _raw(recipe, name, sample.table) for name in recipe.columns}
    kinds: dict[str, str] = {name: field_of(recipe.kind, name).type for name in recipe.columns}
    decimal = recipe.decimal
    if decimal == "auto":
        numeric = [text for name, text in texts.items() if kinds[name] in _NUMERIC]
        decimal = "." if source.typed else _guess_decimal(numeric, source.details.get("delimiter") == ";")
    date_format = dict(recipe.date_format)
    types = dict(recipe.types)
    for name, text in texts.items():
        if name.startswith("attributes.") and name not in types:
            types[name] = _guess_type(text)
        is_date = kinds[name] == "time" or types.get(name) == "date"
        if is_date and name not in date_format and "*" not in date_format:
            formats, remarks = coerce.guess_formats(text, day_first_by_default=decimal == ",")
            date_format[name] = formats
            notes += [f"{recipe.columns[name]}: {remark}" for remark in remarks]
    return recipe.with_(decimal=decimal, date_format=date_format, types=types)


def _guess_decimal(columns: list[Any], semicolons: bool) -> str:
    """“,” where some value has a comma that can only be a decimal one and none a point that can only be one."""
    comma = point = either = False
    for column in columns:
        comma |= bool(
            pc.any(
                pc.match_substring_regex(column, r"^[^,]*,(?:[0-9]{1,2}|[0-9]{4,})[^0-9,.]*$|\.[0-9]{3},[0-9]+")
            ).as_py()
        )
        point |= bool(
            pc.any(
                pc.match_substring_regex(column, r"^[^.]*\.(?:[0-9]{1,2}|[0-9]{4,})[^0-9,.]*$|,[0-9]{3}\.[0-9]+")
            ).as_py()
        )
        either |= bool(pc.any(pc.match_substring_regex(column, r"^[+\-]?[0-9]{1,3},[0-9]{3}$")).as_py())
    if comma != point:
        return "," if comma else "."
    return "," if not point and either and semicolons else "."


def _guess_type(column: Any) -> str:
    """number where every value is one and none would lose a leading zero or plus; else text."""
    given = pc.drop_null(column)
    if len(given) == 0:
        return "text"
    number = pc.match_substring_regex(given, r"^-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,10})?$")
    return "number" if pc.all(number).as_py() else "text"


def _preview(recipe: Recipe, source: Source, sample: Chunk | None) -> list[ColumnPreview]:
    by_column: dict[str, str] = {}
    for field_name, said in recipe.columns.items():
        for column in placeholders(said) or [said]:
            by_column.setdefault(column, field_name)
    previews = []
    prepared = prepare(sample, recipe) if sample is not None and len(sample.table) else None
    for column in source.columns:
        if column in REJECTED_COLUMNS:
            continue
        name = by_column.get(column)
        kind: str | None = None if name is None else recipe.types.get(name) or field_of(recipe.kind, name).type
        samples: list[str] = []
        filled = 0
        if sample is not None:
            given = pc.drop_null(coerce.clean(sample.table.column(column)))
            filled = len(given)
            samples = [str(value)[:80] for value in pc.unique(given.slice(0, 1000)).slice(0, SAMPLES).to_pylist()]
        wrong = sum(fault.column == column for fault in prepared.faults) if prepared is not None else 0
        previews.append(ColumnPreview(column, name, kind, samples, filled, wrong))
    return previews


# -- preparing --------------------------------------------------------------------------------------------------------


def _raw(recipe: Recipe, name: str, table: pa.Table) -> Any:
    """The text of a field in this chunk: its column or template, cleaned, its values mapped, else its constant."""
    said = recipe.columns.get(name)
    if said is None:
        return pa.array([recipe.constants[name]] * len(table), pa.string())
    if named := placeholders(said):
        pieces: list[Any] = []
        empty: Any = None
        for piece in re.split(r"(\{[^{}]+\})", said):
            if piece.startswith("{") and piece[1:-1] in named:
                text = coerce.clean(cells.plain(_flat(table.column(piece[1:-1]))))
                empty = pc.is_null(text) if empty is None else pc.and_(empty, pc.is_null(text))
                pieces.append(pc.fill_null(text, ""))
            elif piece:
                pieces.append(pa.scalar(piece))
        text = pc.binary_join_element_wise(*pieces, pa.scalar(""))
        text = coerce.clean(pc.if_else(empty, pa.scalar(None, pa.string()), text))
    else:
        text = coerce.clean(cells.plain(_flat(table.column(said))))
    meanings = recipe.values.get(name)
    if meanings:
        text, _ = coerce.uniques(text, lambda value: meanings.get(value, value))
        text = coerce.clean(text)
    if name in recipe.constants:  # fills the gaps of a column
        text = pc.fill_null(text, recipe.constants[name])
    if name in recipe.title_case:
        text = coerce.title(text)
    return text


def _flat(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def prepare(chunk: Chunk, recipe: Recipe) -> Prepared:
    """Typed and checked values of a chunk. Rows that cannot be used are marked `bad`, each with column and reason."""
    count = len(chunk.table)
    prepared = Prepared(chunk, {}, bad=np.zeros(count, bool))
    for name in {**recipe.columns, **recipe.constants}:
        known = field_of(recipe.kind, name)
        label = recipe.columns.get(name, name)
        text = _raw(recipe, name, chunk.table)
        if name.startswith("attributes."):
            prepared.values[name] = _attribute(prepared, recipe, name, label, text)
        else:
            prepared.values[name] = _typed(prepared, recipe, known, label, text)
    for group in REQUIRED[recipe.kind]:
        given: Any = None
        for name in group:
            if (column := prepared.values.get(name)) is not None:
                given = pc.is_valid(column) if given is None else pc.or_(given, pc.is_valid(column))
        label = recipe.columns.get(group[0], group[0])
        absent = np.ones(count, bool) if given is None else ~mask_of(given)
        # a value that could not be read has been told already
        prepared.reject(absent & ~prepared.bad, label, _needed(group))
    _place(prepared, recipe)
    return prepared


_COORDINATE = {
    True: "degrees with a decimal point, such as 39.7392, are needed",
    False: "a number in the recipe's crs is needed",
}


def _needed(group: tuple[str, ...]) -> str:
    return f"{group[0]} is missing" if len(group) == 1 else f"one of {', '.join(group)} is needed"


def _attribute(prepared: Prepared, recipe: Recipe, name: str, label: str, text: Any) -> Any:
    kind = recipe.types.get(name, "text")
    if kind == "number":
        value, wrong = coerce.number_text(text, recipe.decimal if recipe.decimal != "auto" else ".")
        # JSON knows neither a plus, a leading zero nor a bare point
        value = pc.replace_substring_regex(value, r"^\+", "")
        value = pc.replace_substring_regex(value, r"^(-?)0+([0-9])", r"\1\2")
        value = pc.replace_substring_regex(value, r"^(-?)\.", r"\10.")
        value = pc.replace_substring_regex(value, r"\.$|\.([eE])", r"\1")
        prepared.reject(wrong, label, "not a number", text)
        return value
    if kind == "boolean":
        truth, wrong = coerce.boolean(text)
        prepared.reject(wrong, label, "neither yes nor no", text)
        return pc.cast(truth, pa.string())
    if kind == "date":
        moments, wrong = coerce.times(text, _formats(recipe, name), "UTC")
        prepared.reject(wrong, label, "no date that can be read with certainty", text)
        return pc.strftime(moments, "%Y-%m-%d")
    return text


def _formats(recipe: Recipe, name: str) -> list[str]:
    return recipe.date_format.get(name, recipe.date_format.get("*", []))


def _typed(prepared: Prepared, recipe: Recipe, known: Field, label: str, text: Any) -> Any:
    decimal = recipe.decimal if recipe.decimal != "auto" else "."
    match known.type:
        case "id":
            prepared.reject(
                coerce.mangled_ids(text), label, "the id was shortened by a spreadsheet; export it as text", text
            )
            return _short(prepared, known, label, text)
        case "number" | "metres":
            value, wrong = coerce.number(text, decimal)
            prepared.reject(wrong, label, "not a number", text)
            if known.type == "metres":
                outside = mask_of(pc.or_(pc.less_equal(value, 0.0), pc.greater_equal(value, 20_000_000.0)))
                prepared.reject(outside, label, "not a radius in metres", text)
            return value
        case "lon" | "lat":
            value, wrong = coerce.number(text, decimal)
            prepared.reject(wrong, label, f"not a coordinate: {_COORDINATE[recipe.crs is None]}", text)
            return value
        case "money":
            value, wrong = coerce.money(text, decimal)
            prepared.reject(wrong, label, "not an amount of money", text)
            return value
        case "integer":
            value, wrong = coerce.integer(text, decimal)
            prepared.reject(wrong, label, "not a whole number", text)
            return value
        case "time":
            value, wrong = coerce.times(text, _formats(recipe, known.name), recipe.timezone)
            prepared.reject(wrong, label, "no date that can be read with certainty (state date_format)", text)
            return value
        case "boolean":
            value, wrong = coerce.boolean(text)
            prepared.reject(wrong, label, "neither yes nor no", text)
            return value
        case "choice":
            value, wrong = coerce.choice(text, known.choices, SYNONYMS.get(f"{recipe.kind}.{known.name}", {}))
            prepared.reject(
                wrong, label, f"none of {', '.join(known.choices)}; a recipe says what it means, under values", text
            )
            return value
        case "country":
            value, wrong = coerce.country(text)
            prepared.reject(wrong, label, "no country that is known", text)
            return value
        case "currency":
            value, wrong = coerce.currency(text)
            prepared.reject(wrong, label, "no currency that is known", text)
            return value
        case "email":
            prepared.flag(coerce.bad_emails(text), "email")
        case "phone":
            prepared.flag(coerce.bad_phones(text), "phone")
    return _short(prepared, known, label, text)


def _short(prepared: Prepared, known: Field, label: str, text: Any) -> Any:
    long = mask_of(pc.greater(pc.utf8_length(text), known.max_length))
    prepared.reject(long, label, f"longer than {known.max_length:,} characters")
    return text


# -- places -----------------------------------------------------------------------------------------------------------


def _place(prepared: Prepared, recipe: Recipe) -> None:
    """Coordinates of the chunk in lon, lat; impossible ones rejected, doubtful ones flagged."""
    values, chunk = prepared.values, prepared.chunk
    count = len(chunk.table)
    wants_points = recipe.kind in ("customers", "places", "interactions")
    if not wants_points and recipe.kind != "areas":
        return
    label = recipe.columns.get("geometry", "geometry")
    shape: Objects | None = None
    if "geometry" in values:
        shape, wrong, reasons = _shapes(values["geometry"], values.get("crs"), recipe.crs)
        for reason in set(reasons[wrong].tolist()):
            prepared.reject(wrong & (reasons == reason), label, reason)
    elif chunk.geometry is not None:
        shape = chunk.geometry
        if chunk.geometry_faults is not None:
            for reason in {fault for fault in chunk.geometry_faults if fault is not None}:
                prepared.reject(np.asarray(chunk.geometry_faults == reason, bool), label, reason)
    if recipe.kind == "areas":
        prepared.shape = shape
        return
    lon, lat = np.full(count, np.nan), np.full(count, np.nan)
    if shape is not None:
        there = ~shapely.is_missing(shape)
        other = there & (shapely.get_type_id(shape) != 0)
        single = other & (shapely.get_type_id(shape) == 4) & (shapely.get_num_geometries(shape) == 1)
        if single.any():
            shape = shape.copy()
            shape[single] = shapely.get_geometry(shape[single], 0)
        prepared.reject(other & ~single, label, "a place is a point, this geometry is none (take its centre first)")
        points = there & (~other | single)
        lon[points], lat[points] = shapely.get_x(shape[points]), shapely.get_y(shape[points])
    if "lon" in values and "lat" in values:
        x = values["lon"].to_numpy(zero_copy_only=False).astype(float)
        y = values["lat"].to_numpy(zero_copy_only=False).astype(float)
        given = ~(np.isnan(x) & np.isnan(y))
        systems = values.get("crs")
        if systems is None and (recipe.crs is None or reference_systems.is_lonlat(recipe.crs)):
            lon[given], lat[given] = x[given], y[given]
        else:
            for system, rows in _by_system(systems, recipe.crs, given, prepared, recipe):
                half = np.isnan(x[rows]) | np.isnan(y[rows])
                turned = reference_systems.to_lonlat(x[rows], y[rows], system)
                failed = np.zeros(count, bool)
                failed[rows] = turned.bad & ~half
                prepared.reject(failed, recipe.columns.get("lon", "lon"), f"outside the reach of {system}")
                lon[rows], lat[rows] = turned.lon, turned.lat
        half_given = given & (np.isnan(x) != np.isnan(y)) & ~prepared.bad
        prepared.reject(half_given, recipe.columns.get("lon", "lon"), "one of longitude and latitude is missing")
    countries = values.get("country")
    codes = countries.to_numpy(zero_copy_only=False) if countries is not None else ""
    found = checks.check_points(lon, lat, codes)
    impossible = np.asarray(found == checks.OUT_OF_RANGE, bool) & ~prepared.bad
    column = recipe.columns.get("lon", "lon")
    prepared.reject(impossible, column, "no place on earth: longitude beyond ±180° or latitude beyond ±90°")
    for flag in (checks.ZERO, checks.SWAPPED, checks.OUT_OF_COUNTRY):
        prepared.flag(np.asarray(found == flag, bool) & ~prepared.bad, flag)
    # a swapped point beyond the range cannot be kept as given; it is flagged and waits for its address
    unusable = (np.abs(lat) > 90) | (np.abs(lon) > 180)
    lon[unusable], lat[unusable] = np.nan, np.nan
    prepared.lon, prepared.lat = lon, lat


def _by_system(
    systems: Any, default: str | None, given: Mask, prepared: Prepared, recipe: Recipe
) -> Iterable[tuple[str, np.ndarray[Any, np.dtype[np.int64]]]]:
    """Rows grouped by their own reference system, else the recipe's, else WGS 84; unknown systems are rejected."""
    if systems is None:
        yield str(default), np.flatnonzero(given)
        return
    coded = pc.dictionary_encode(pc.fill_null(systems, default or "EPSG:4326"))
    indices = coded.indices.to_numpy()
    for position, system in enumerate(coded.dictionary.to_pylist()):
        mask = given & (indices == position)
        try:
            reference_systems.read_crs(system)
        except Invalid as error:
            prepared.reject(mask, recipe.columns.get("crs", "crs"), error.detail)
            continue
        yield system, np.flatnonzero(mask)


def _shapes(text: Any, systems: Any, default: str | None) -> tuple[Objects, Mask, Objects]:
    """WKT, EWKT or hexadecimal WKB → geometries in lon, lat; which are wrong, and why."""
    count = len(text)
    given = mask_of(pc.is_valid(text))
    prefix = pc.struct_field(pc.extract_regex(text, r"^(?i:SRID=(?P<srid>[0-9]+);)"), "srid")
    hexadecimal = mask_of(pc.match_substring_regex(text, r"^[0-9A-Fa-f]{18,}$"))
    body = pc.replace_substring_regex(text, r"^(?i:SRID=[0-9]+;)\s*", "").to_numpy(zero_copy_only=False)
    shape: Objects = np.full(count, None, object)
    wkt = given & ~hexadecimal
    shape[wkt] = shapely.from_wkt(body[wkt], on_invalid="ignore")
    shape[hexadecimal] = shapely.from_wkb(body[hexadecimal], on_invalid="ignore")
    reasons: Objects = np.full(count, "", object)
    wrong = given & shapely.is_missing(shape)
    reasons[wrong] = "not a geometry in WKT (for example POINT(8.51 47.36)), or a ring in it does not close"
    system: Objects = np.full(count, default or "EPSG:4326", object)
    if systems is not None:
        named = systems.to_numpy(zero_copy_only=False)
        system = np.where(mask_of(pc.is_valid(systems)), named, system)
    stated = mask_of(pc.is_valid(prefix))
    if stated.any():
        system[stated] = [f"EPSG:{number}" for number in prefix.filter(pa.array(stated)).to_pylist()]
    for name in set(system[given & ~wrong].tolist()):
        rows = np.flatnonzero(given & ~wrong & (system == name))
        try:
            turned, bad = reference_systems.geometry_to_lonlat(shape[rows], name)
        except Invalid as error:
            wrong[rows] = True
            reasons[rows] = error.detail
            continue
        shape[rows] = turned
        wrong[rows[bad]] = True
        reasons[rows[bad]] = (
            "a coordinate is not finite or lies beyond ±180°, ±90°: the reference system may be another"
        )
    return shape, wrong, reasons

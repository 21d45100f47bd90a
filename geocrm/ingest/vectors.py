"""Geographic files: GeoJSON, GeoPackage and zipped Shapefiles through GDAL, Parquet and GeoParquet through Arrow.

All are read in batches. Geometry arrives as WKB and leaves in longitude/latitude, whatever the file's own reference
system.
"""

from __future__ import annotations

import json
import re
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyogrio
import shapely

from geocrm.errors import Invalid, InvalidFile
from geocrm.ingest import archives
from geocrm.ingest.formats import CHUNK_ROWS, Chunk, Objects, Options, Source, not_geojson, unique_names
from geocrm.spatial import crs as reference_systems

WGS84 = "EPSG:4326"
CHUNK_BYTES = 32 * 1024**2
MAX_BATCH_BYTES = 96 * 1024**2
_PARQUET_ROWS = 1_000
_GEOJSON_TYPES = frozenset(
    (
        *("FeatureCollection", "Feature", "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon"),
        *("MultiPolygon", "GeometryCollection"),
    )
)


def open_geojson(path: Path, options: Options) -> Source:
    """A FeatureCollection (or one feature, or one geometry). An old `crs` member is obeyed; several different ones
    are refused.
    """
    found, kind = _scan_json(path)
    if kind not in _GEOJSON_TYPES:
        raise InvalidFile(not_geojson("The file", f"its “type” is “{kind}”" if kind else "it has no “type”"))
    if len(found) > 1:
        raise InvalidFile(
            f"The file states several reference systems ({', '.join(sorted(found))}). Save each in a file of its own."
        )
    return _open_ogr(path, "geojson", f"GeoJSON:{path}", options)


def open_geopackage(path: Path, options: Options) -> Source:
    """The only layer, or `options.layer`."""
    return _open_ogr(path, "geopackage", str(path), options)


def open_shapefile(path: Path, options: Options) -> Source:
    """The only Shapefile in a zip, or the one that `options.layer` names. It needs its .dbf, .shx and .prj (or
    `options.crs`).
    """
    members = archives.check(path)
    stems = sorted(name[:-4] for name in members if name.lower().endswith(".shp") and not _is_rubbish(name))
    if not stems:
        raise InvalidFile("The zip holds no Shapefile (.shp).")
    shown = [PurePosixPath(stem).name for stem in stems]
    if options.layer is not None:
        stems = [stem for stem, name in zip(stems, shown, strict=True) if name == options.layer]
        if not stems:
            raise InvalidFile(f"The zip holds no Shapefile “{options.layer}”; it holds {', '.join(shown[:20])}.")
    if len(stems) > 1:
        raise InvalidFile(
            f"The zip holds {len(stems)} Shapefiles ({', '.join(shown[:20])}). State `layer`, or zip them apart."
        )
    parts = {name[len(stems[0]) :].lower(): name for name in members if name.startswith(stems[0] + ".")}
    for needed in (".shx", ".dbf"):
        if needed not in parts:
            raise InvalidFile(
                f"The zip lacks the {needed} file of the Shapefile. Zip all files of the same name together."
            )
    if ".prj" not in parts and options.crs is None:
        raise InvalidFile(
            "The zip lacks the .prj file, so nobody knows the reference system. Add it, or state `crs` (EPSG:…)."
        )
    folder = tempfile.TemporaryDirectory(prefix="geocrm-")
    root = Path(folder.name)
    archives.extract(
        path, {parts[e]: root / f"layer{e}" for e in (".shp", ".shx", ".dbf", ".prj", ".cpg") if e in parts}
    )
    source = _open_ogr(root / "layer.shp", "shapefile", str(root / "layer.shp"), Options(crs=options.crs))
    weakref.finalize(source.chunks, folder.cleanup)
    return source


def _is_rubbish(name: str) -> bool:
    return "__MACOSX" in name or PurePosixPath(name).name.startswith(".")


def _open_ogr(path: Path, format: str, address: str, options: Options) -> Source:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            layers = pyogrio.list_layers(address)
            names = [str(name) for name in layers[:, 0]]
            if options.layer is not None and options.layer not in names and format == "geopackage":
                raise InvalidFile(f"The file has no layer “{options.layer}”; it has {', '.join(names[:20])}.")
            spatial = [str(name) for name, kind in layers if kind is not None] or names
            if not names:
                raise InvalidFile("The file holds no layer.")
            if options.layer is None and len(spatial) > 1:
                raise InvalidFile(f"The file has {len(spatial)} layers ({', '.join(spatial[:20])}). State `layer`.")
            layer = (options.layer if format == "geopackage" else None) or spatial[0]
            info = pyogrio.read_info(address, layer=layer, force_feature_count=True)
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
            raise InvalidFile(f"The file is damaged or cut short: {_gdal(error)}. Export it again.") from error
    fields = [str(name) for name in info["fields"]]
    columns = unique_names(fields)
    declared = options.crs or info["crs"]
    if declared is None and info["geometry_type"] is not None:
        raise InvalidFile("The file does not say its reference system. State `crs` (EPSG:…).")
    total = int(info["features"])
    if total == 0:
        raise InvalidFile("The file holds no features.")
    if declared is not None:
        _known(declared)
    batch_rows = max(1, min(CHUNK_ROWS // 2, CHUNK_BYTES * total // max(path.stat().st_size, 1)))

    def chunks() -> Iterator[Chunk]:
        done = 0
        try:
            with (
                warnings.catch_warnings(),
                pyogrio.open_arrow(address, layer=layer, batch_size=batch_rows, use_pyarrow=True) as (
                    meta,
                    reader,
                ),
            ):
                warnings.simplefilter("ignore")
                named = meta["geometry_name"] or "wkb_geometry"
                for batch in reader:
                    table = pa.Table.from_batches([batch])
                    geometry, faults = None, None
                    if named in table.column_names and info["geometry_type"] is not None:
                        geometry, faults = _in_wgs84(table.column(named), declared)
                    texts = as_text(table.select(fields)).rename_columns(columns)
                    lines = np.arange(done + 1, done + 1 + len(table), dtype=np.int64)
                    done += len(table)
                    yield Chunk(lines, texts, geometry, faults, read=min(done / max(total, 1), 1.0))
        except (pa.ArrowException, RuntimeError, pyogrio.errors.DataSourceError) as error:
            raise InvalidFile(
                f"Feature {done + 1:,} or one soon after it cannot be read: {_gdal(error)}. Export the file again."
            ) from error
        if done < total:
            raise InvalidFile(
                f"The file promises {total:,} features but only {done:,} can be read: it is damaged or cut short."
            )

    return Source(
        format,
        columns,
        chunks,
        typed=True,
        has_geometry=info["geometry_type"] is not None,
        crs=declared,
        details={"layer": layer},
    )


def open_parquet(path: Path, options: Options) -> Source:
    """Parquet; with GeoParquet's metadata its primary geometry column (WKB) is the geometry."""
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidFile("The Parquet file is damaged or cut short (its end is missing). Export it again.") from error
    if file.metadata.num_rows == 0:
        raise InvalidFile("The file holds no rows.")
    geo = _geo_metadata(schema.metadata or {})
    geometry_column = geo.get("primary_column")
    declared: str | None = None
    if geometry_column is not None:
        described = geo.get("columns", {}).get(geometry_column, {})
        if str(described.get("encoding", "WKB")).upper() != "WKB":
            raise InvalidFile(
                f"Geometry column “{geometry_column}” is encoded as {described['encoding']}; save it as WKB."
            )
        stated = described.get("crs", WGS84)
        declared = options.crs or (json.dumps(stated) if isinstance(stated, dict) else stated)
        if declared is None:
            raise InvalidFile("The file does not say its reference system. State `crs` (EPSG:…).")
        _known(declared)
    skipped = [name for name, kind in zip(schema.names, schema.types, strict=True) if pa.types.is_nested(kind)]
    kept = [name for name in schema.names if name != geometry_column and name not in skipped]
    columns = unique_names(kept)

    def chunks() -> Iterator[Chunk]:
        done = 0
        try:
            wanted = kept + ([geometry_column] if geometry_column else [])
            for table in _parquet_tables(path, wanted):
                geometry, faults = (
                    _in_wgs84(table.column(geometry_column), declared) if geometry_column else (None, None)
                )
                lines = np.arange(done + 1, done + 1 + len(table), dtype=np.int64)
                done += len(table)
                texts = as_text(table.select(kept)).rename_columns(columns)
                yield Chunk(lines, texts, geometry, faults, read=done / file.metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise InvalidFile(
                f"Row {done + 1:,} or one soon after it cannot be read: the file is damaged. Export it again."
            ) from error

    notes = [f"Columns {', '.join(skipped[:10])} hold lists or records and were left out."] if skipped else []
    return Source(
        "parquet", columns, chunks, typed=True, has_geometry=geometry_column is not None, crs=declared, notes=notes
    )


def _parquet_tables(path: Path, wanted: list[str]) -> Iterator[pa.Table]:
    """The rows in tables of bounded rows and bytes: a few kilobytes of Parquet can stand for gigabytes."""
    file = pq.ParquetFile(path, pre_buffer=False)
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        packed = sum(group.column(i).total_compressed_size for i in range(group.num_columns))
        if group.total_byte_size > 256 * 1024**2 and group.total_byte_size > archives.MAX_RATIO * max(packed, 1):
            raise InvalidFile(
                f"Row group {number + 1} inflates to over {archives.MAX_RATIO} times its size, as a bomb does."
            )
    held: list[pa.Table] = []
    rows = size_bytes = 0
    for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted, use_threads=False):
        table = pa.Table.from_batches([batch])
        size = sum(_plain_bytes(column) for column in table.columns)
        if size > MAX_BATCH_BYTES:
            raise InvalidFile(
                f"{len(table):,} rows hold {size // 1024**2:,} MB: more than {MAX_BATCH_BYTES // 1024**2} MB. "
                "Leave out the columns that are not needed."
            )
        if held and (rows + len(table) > CHUNK_ROWS or size_bytes + size > CHUNK_BYTES):
            yield pa.concat_tables(held, promote_options="permissive")
            held, rows, size_bytes = [], 0, 0
        held.append(table)
        rows += len(table)
        size_bytes += size
    if held:
        yield pa.concat_tables(held, promote_options="permissive")


def _plain_bytes(column: Any) -> int:
    """What a column takes once each value stands for itself."""
    total = 0
    for part in column.chunks:
        if isinstance(part, pa.DictionaryArray) and not pa.types.is_primitive(part.type.value_type):
            lengths = pc.binary_length(part.dictionary.cast(pa.large_binary()))
            total += pc.sum(pc.take(lengths, part.indices)).as_py() or 0
        else:
            total += part.nbytes
    return total


def as_text(table: pa.Table) -> pa.Table:
    """Every column as text: numbers with a point, whole numbers without one, dates and times as ISO, truth as
    true/false.
    """
    columns = []
    for column in table.columns:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if pa.types.is_floating(kind):
            column = column.cast(pa.float64())
            text = column.cast(pa.string())
            large = pc.match_substring_regex(text, r"[eE]|\.0$")
            if pc.any(large).as_py():
                text = pa.array([_number(v) for v in column.to_pylist()], pa.string())
            columns.append(
                pc.if_else(pc.is_nan(column), pa.scalar("nan"), text) if column.null_count < len(column) else text
            )
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            columns.append(pa.array([None if v is None else v.hex() for v in column.to_pylist()], pa.string()))
        elif pa.types.is_timestamp(kind) and kind.tz is not None:
            columns.append(pc.strftime(pc.cast(column, pa.timestamp("us", "UTC")), "%Y-%m-%dT%H:%M:%S+00:00"))
        else:
            columns.append(column.cast(pa.string()))
    return pa.table(columns, names=[f"f{i}" for i in range(len(columns))])


def _number(value: float | None) -> str | None:
    if value is None:
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _in_wgs84(column: Any, declared: str | None) -> tuple[Objects, Objects | None]:
    """WKB in any system → geometries in longitude/latitude, None where there is none; and why some could not be
    read.
    """
    raw = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(raw, pa.ExtensionArray):
        raw = raw.storage
    values: Objects = raw.to_numpy(zero_copy_only=False).astype(object)
    shapes: Objects = shapely.from_wkb(values, on_invalid="ignore")
    faults: Objects = np.full(len(values), None, object)
    there = np.array([value is not None for value in values], bool)
    faults[shapely.is_missing(shapes) & there] = (
        "the geometry is damaged (a ring that does not close, or no ring at all)"
    )
    faults[shapely.is_empty(shapes)] = "the geometry is empty, or a coordinate is not a number"
    turned, bad = reference_systems.geometry_to_lonlat(shapes, declared or WGS84)
    faults[bad] = (
        "a coordinate is not finite or lies beyond ±180°, ±90°: the reference system may be another (state `crs`)"
    )
    return turned, faults if any(faults) else None


def _known(declared: str) -> None:
    try:
        reference_systems.read_crs(declared)
    except Invalid as error:
        raise InvalidFile(error.detail, errors=error.errors) from error


def _geo_metadata(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    try:
        geo = json.loads(metadata.get(b"geo", b"{}"))
    except ValueError as error:
        raise InvalidFile("The file's GeoParquet metadata is damaged. Export it again.") from error
    return geo if isinstance(geo, dict) else {}


_NEWLINE = b"\n"
_JSON_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]')
_JSON_TEXT = re.compile(rb'\s{0,40}:\s{0,40}"([^"\\]{0,40})"')


def _scan_json(path: Path) -> tuple[set[str], str | None]:
    """Check that quotes and brackets close (in bounded memory) → the names of reference systems that the text
    states, and the “type” of the outermost object.
    """
    systems: set[str] = set()
    kind: str | None = None
    depth, line, rest, ended = 0, 1, b"", False

    def place(text: bytes, end: int) -> str:
        return f"Line {line + text[:end].count(_NEWLINE):,}"

    with path.open("rb") as stream:
        while True:
            block = stream.read(4 << 20)
            text = rest + block
            last = 0
            for token in _JSON_TOKENS.finditer(text):
                first = token[0][:1]
                last = token.end()
                if first in b"{[":
                    if ended:
                        raise InvalidFile(f"{place(text, token.start())}: something follows the end of the JSON.")
                    depth += 1
                elif first in b"}]":
                    depth -= 1
                    if depth < 0:
                        raise InvalidFile(f"{place(text, token.start())}: a bracket closes that never opened.")
                    ended = ended or depth == 0
                elif depth == 1 and token[0] == b'"type"' and (said := _JSON_TEXT.match(text, token.end())):
                    kind = kind or said[1].decode("utf-8", "replace")
            for name in re.findall(rb'"crs"\s*:\s*\{[^{}]*\{[^{}]*"name"\s*:\s*"([^"]{1,80})"', text):
                systems.add(name.decode("utf-8", "replace"))
            if not block:
                break
            quote = text.find(b'"', last)
            cut = quote if quote >= 0 else len(text)
            line += text[:cut].count(_NEWLINE)
            rest = text[cut:]
            if len(rest) > 64 << 20:
                raise InvalidFile(f"Line {line:,}: a quoted text never ends.")
    if depth or b'"' in rest:
        where = line + rest.count(_NEWLINE)
        raise InvalidFile(f"The JSON stops in the middle (line {where:,}): the file was cut short. Export it again.")
    return systems, kind


def _gdal(error: Exception) -> str:
    """GDAL's words without paths."""
    return re.sub(r"'?[^' ]*/[^' ]*'?", "the file", str(error))[:160].strip().rstrip(".;")

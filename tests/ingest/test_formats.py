"""Every format, whole and broken: what is read, and what is said of what cannot be read."""

from __future__ import annotations

import contextlib
import json
import random
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import openpyxl
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geocrm.errors import Invalid, InvalidFile
from geocrm.ingest import archives, cells, formats
from geocrm.ingest.formats import Options

FRAME = gpd.GeoDataFrame(
    {
        "id": ["007", "2", "3"],
        "name": ["Müller & Söhne", "Łódź", None],
        "amount": [1.5, 2.0, -1e20],
        "when": [datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, 3, 4, tzinfo=UTC), None],
    },
    geometry=[shapely.Point(8.5, 47.25), None, shapely.Point(9, 51)],
    crs=4326,
)


def read(path: Path, **options: object) -> tuple[formats.Source, list[formats.Chunk]]:
    source = formats.open_file(path, options=Options(**options))  # type: ignore[arg-type]
    return source, list(source.chunks())


def rows(path: Path, **options: object) -> list[dict[str, str | None]]:
    return [row for chunk in read(path, **options)[1] for row in chunk.table.to_pylist()]


def csv_file(folder: Path, name: str = "a.csv") -> Path:
    path = folder / name
    pd.DataFrame(FRAME.drop(columns="geometry")).to_csv(path, index=False)
    return path


def xlsx_file(folder: Path) -> Path:
    path = folder / "a.xlsx"
    frame = pd.DataFrame(FRAME.drop(columns="geometry"))
    frame["when"] = frame["when"].dt.tz_localize(None)
    frame.to_excel(path, index=False)
    return path


def geojson_file(folder: Path) -> Path:
    FRAME.to_file(folder / "a.geojson", driver="GeoJSON")
    return folder / "a.geojson"


def geopackage_file(folder: Path) -> Path:
    FRAME.to_crs(25832).to_file(folder / "a.gpkg")
    return folder / "a.gpkg"


def parquet_file(folder: Path) -> Path:
    FRAME.to_crs(25832).to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def shapefile(folder: Path, without: str = "") -> Path:
    FRAME.to_crs(25832).to_file(folder / "s.shp")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for ending in ("shp", "shx", "dbf", "prj", "cpg"):
            if ending != without:
                archive.write(folder / f"s.{ending}", f"../../etc/s.{ending}")
    return folder / "a.zip"


ALL: list[Callable[[Path], Path]] = [csv_file, xlsx_file, geojson_file, geopackage_file, parquet_file, shapefile]
SPATIAL = [geojson_file, geopackage_file, parquet_file, shapefile]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", ALL)
def test_every_format_gives_the_same_rows(make: Callable[[Path], Path], tmp_path: Path) -> None:
    source, chunks = read(make(tmp_path))
    table = chunks[0].table.to_pylist()
    assert source.columns == ["id", "name", "amount", "when"]
    assert [row["id"] for row in table] == ["007", "2", "3"]
    assert [row["name"] or None for row in table] == ["Müller & Söhne", "Łódź", None]
    assert [float(row["amount"] or 0) for row in table] == [1.5, 2.0, -1e20]
    assert all(row["when"].replace("/", "-").startswith("2026-01-02") for row in table[:2])  # type: ignore[union-attr]
    assert list(chunks[0].lines) == ([2, 3, 4] if make in (csv_file, xlsx_file) else [1, 2, 3])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", SPATIAL)
def test_geometry_comes_in_lon_lat(make: Callable[[Path], Path], tmp_path: Path) -> None:
    _, chunks = read(make(tmp_path))
    geometry = chunks[0].geometry
    assert geometry is not None
    assert shapely.equals_exact(geometry[0], shapely.Point(8.5, 47.25), 1e-7)
    assert geometry[1] is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [xlsx_file, geojson_file, geopackage_file, parquet_file, shapefile])
def test_a_truncated_file_is_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    whole = make(tmp_path).read_bytes()
    rng = random.Random(seed := 5)
    print(f"seed {seed}")
    for cut in [len(whole) - 30, len(whole) // 2, rng.randrange(120, len(whole) - 30)]:
        broken = tmp_path / f"broken.{make(tmp_path).suffix[1:]}"
        broken.write_bytes(whole[:cut])
        with pytest.raises(InvalidFile) as refused:
            read(broken)
        assert str(tmp_path) not in refused.value.detail


@pytest.mark.parametrize("ending", ["csv", "xlsx", "geojson", "gpkg", "parquet", "zip"])
def test_an_empty_file_is_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"")
    with pytest.raises(InvalidFile, match="is empty"):
        read(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", ALL)
def test_a_file_named_like_another_type_is_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    other = path.rename(path.with_suffix(".csv" if make is not csv_file else ".xlsx"))
    with pytest.raises(InvalidFile, match="is named like"):
        read(other)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.7 x", "PDF"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "save it as .xlsx"),
        (b"\x1f\x8b\x08", "unpack"),
        (b"<!DOCTYPE html><table>", "HTML"),
        (b"<?xml version='1.0'?><kml/>", "KML"),
        (b'{"a": 1}', "JSON but not GeoJSON: it has no “type”. Expected is"),
        (b'[{"a": 1}]', "JSON but not GeoJSON: it is a list"),
        (b'{"type": "customer", "rows": [{"id": 1}]}', "JSON but not GeoJSON: its “type” is “customer”"),
        (b'{"rows": [{"type": "Feature", "type": "Point"}]}', "JSON but not GeoJSON: it has no “type”"),
        (b'[{"type": "Feature", "geometry": null, "properties": {}}]', "JSON but not GeoJSON: it is a list"),
        (b"\x00\x01\x02\x03" * 50, "not text"),
        (b"  \n \n", "only blanks"),
        (b"SQLite format 3\x00" + b"\x00" * 100, "not a GeoPackage"),
    ],
)
def test_strangers_are_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.json" if content[:1] in b"{[" else "a.csv")
    path.write_bytes(content)
    with pytest.raises(InvalidFile, match=said):
        read(path)


@pytest.mark.parametrize(
    ("encoding", "bom"),
    [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("cp1252", b""), ("utf-16", b""), ("utf-16-le", b"")],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_text_encodings_and_delimiters(encoding: str, bom: bytes, delimiter: str, tmp_path: Path) -> None:
    text = f'Name{delimiter}Town\r\nMüller{delimiter}"Köln{delimiter} am\nRhein"\r\nJosé{delimiter}Málaga\r\n'
    path = tmp_path / "a.csv"
    path.write_bytes(bom + text.encode(encoding))
    assert rows(path) == [{"Name": "Müller", "Town": f"Köln{delimiter} am\nRhein"}, {"Name": "José", "Town": "Málaga"}]
    assert [int(line) for chunk in read(path)[1] for line in chunk.lines] == [2, 4]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\nü,1\n".encode() + b"\xff,2\n", "Line 3 is not UTF-8 although"),
        ("a,b\nü,1\nü".encode()[:-1], "ends in the middle of a character"),
        (b"a,b\n1,\x81\n", "Line 2 is neither UTF-8 nor Windows-1252"),
        (b'a,b\n1,2\n3,"open\nx,y\n', "begins in line 3 never ends"),
        (b"a,b\n1," + b"x" * 5000 + b"\x00\n", "Line 2 holds a NUL"),
        (b"a,b\n", "no rows below"),
        (b"a,b", "no rows below"),
        (b",,\n1,2,3\n", "names no column"),
        (b",".join(b"c%d" % i for i in range(10_000)) + b"\n1\n", "10,000 columns"),
        (b'a,b\n1,"' + b"x,y\n" * 1_500_000, "begins in line 2"),
    ],
)
def test_broken_text_is_refused_with_its_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidFile, match=said):
        read(path)


def test_ragged_rows_are_told_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('sep=;\n\na;b;c\n1;2;3\n\n4;5\n"x\ny";7;8\n1;2;3;4\n9;9;9;;\n')
    _, chunks = read(path)
    unreadable = [row for chunk in chunks for row in chunk.unreadable]
    assert [(row.line, row.reason) for row in unreadable] == [
        (6, "the row has 2 fields, the header has 3 columns"),
        (9, "the row has 4 fields, the header has 3 columns"),
    ]
    assert sorted(int(line) for chunk in chunks for line in chunk.lines) == [4, 7, 10]


def test_chunks_are_bounded_and_lines_right(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w") as out:
        out.write("n,text\n")
        for number in range(2, 200_002):
            out.write(f"{number}\n" if number % 50_000 == 7 else f"{number},{'x' * (number % 90)}\n")
    seen = 0
    for chunk in read(path)[1]:
        assert len(chunk.lines) <= formats.CHUNK_ROWS
        assert [int(n) for n in chunk.table.column("n").to_pylist()] == list(chunk.lines)
        assert all(row.line % 50_000 == 7 and row.fields == [str(row.line)] for row in chunk.unreadable)
        seen += len(chunk.lines) + len(chunk.unreadable)
    assert seen == 200_000


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * 50_000_000)
    with pytest.raises(InvalidFile, match="zip bomb"):
        read(path)
    with pytest.raises(InvalidFile, match="inflates to more than 1 MB"):
        archives.check(path, max_inflated_bytes=1 << 20)


def test_a_few_kilobytes_of_parquet_do_not_become_gigabytes(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    folded = pa.DictionaryArray.from_arrays(pa.array([0] * 25_000, pa.int32()), pa.array(["x" * 60_000]))
    for column in (folded, pa.array(["x" * 60_000] * 25_000, pa.large_string())):
        pq.write_table(
            pa.table({"id": pa.array([str(i) for i in range(25_000)]), "name": column}), path, compression="zstd"
        )
        sizes = []
        with contextlib.suppress(InvalidFile):
            for chunk in formats.open_file(path).chunks():
                sizes.append(chunk.table.nbytes)
        assert all(size < 100 * 1024**2 for size in sizes)
    pq.write_table(pa.table({"id": ["1"] * 2000, "name": ["x" * 120_000] * 2000}), path, compression="zstd")
    with pytest.raises(InvalidFile, match="rows hold"):
        read(path)


def test_a_text_shared_by_many_cells_is_bounded(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["id", "name"])
    shared = random.Random(3).randbytes(15_000).hex()
    for number in range(6_000):
        sheet.append([number, shared])
    path = tmp_path / "a.xlsx"
    book.save(path)
    sizes = [chunk.table.nbytes for chunk in read(path)[1]]
    assert sum(sizes) > 150 * 1024**2
    assert max(sizes) < 40 * 1024**2


def test_an_entity_bomb_and_a_password_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", '<!DOCTYPE x [<!ENTITY a "aaaa">]><workbook/>')
    with pytest.raises(InvalidFile, match="document type"):
        read(path)


@pytest.mark.filterwarnings("ignore")
def test_a_shapefile_needs_its_parts(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"lacks the \.dbf"):
        read(shapefile(tmp_path, without="dbf"))
    with pytest.raises(InvalidFile, match=r"lacks the \.prj"):
        read(shapefile(tmp_path, without="prj"))
    assert len(rows(shapefile(tmp_path, without="prj"), crs="EPSG:25832")) == 3
    with pytest.raises(Invalid, match="not known"):
        read(shapefile(tmp_path, without="prj"), crs="EPSG:1")
    assert not list(tmp_path.parent.glob("etc"))


def test_geojson_with_wrong_geometry_and_mixed_systems(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    shapes = [
        {"type": "Point", "coordinates": [400000, 5000000]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0]]]},
        {"type": "Point", "coordinates": [8, 47]},
        None,
    ]
    features = [{"type": "Feature", "properties": {"n": n}, "geometry": shape} for n, shape in enumerate(shapes)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    chunk = read(path)[1][0]
    assert chunk.geometry_faults is not None
    assert ["beyond" in str(f) for f in chunk.geometry_faults] == [True, False, False, False]
    assert "does not close" in chunk.geometry_faults[1]
    systems = [{"crs": {"type": "name", "properties": {"name": f"EPSG:{n}"}}} for n in (4326, 3857)]
    path.write_text(
        json.dumps({"type": "FeatureCollection", "features": [f | s for f, s in zip(features, systems, strict=False)]})
    )
    with pytest.raises(InvalidFile, match="several reference systems"):
        read(path)


def test_workbooks_large_and_small_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geocrm.ingest import spreadsheets

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (
        ["id", "when", "amount", "ok", None],
        [1, datetime.fromisoformat("2026-05-06T07:08:00"), -1.5, True],
        [],
        [2, None, 3, False],
        ["007", "x", 1e7, None],
    ):
        sheet.append(row)
    book.create_sheet("Other").append(["a"])
    path = tmp_path / "a.xlsx"
    book.save(path)
    small = rows(path)
    source, chunks = read(path)
    assert source.notes[0].startswith("The workbook has 2 sheets")
    assert list(chunks[0].lines) == [2, 4, 5]
    assert small[0] == {"id": "1", "when": "2026-05-06 07:08:00", "amount": "-1.5", "ok": "true"}
    monkeypatch.setattr(spreadsheets, "STREAM_FROM_BYTES", 0)
    assert rows(path) == small
    with pytest.raises(InvalidFile, match="no sheet “Nope”"):
        read(path, sheet="Nope")


def test_names_never_become_paths() -> None:
    assert formats.display_name("../../etc/passwd\x00.csv") == "passwd.csv"
    assert formats.display_name("C:\\temp\\kunden.csv") == "kunden.csv"


TEXTS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=30)


@settings(max_examples=300, deadline=None)
@given(
    TEXTS
    | st.text(alphabet="=+-@＝' \t\n\x0b\x1c\x7f\x85\xa0\u2003\u200b\ufeff19eE(%.x٣", max_size=6)
    | st.sampled_from(["=1+1", " =x", "@x", "+49 30 1", "-122.4", "-x", "'=x", "''@", "\t=x", "＝x", "-1e5", "(030) 5"])
)
def test_neutralised_cells_come_back(value: str) -> None:
    import pyarrow as pa

    exported = cells.neutral(value)
    column = pa.array([value, "plain", None])
    assert cells.neutralise(column).to_pylist() == [exported, "plain", None]
    assert cells.plain(pa.array([exported]))[0].as_py() == value
    first = exported.strip("\t\r\n \x00\xa0").lstrip("".join(map(chr, range(33))))[:1]
    assert first not in "=@＝＋－＠" or not first


def test_numbers_and_telephones_stay_intact() -> None:
    for value in ("-122.4194", "+41 44 111 22 33", "-5", "-1.234,50", "+1 (555) 010-9999", "-12.5%", "-1e-7"):
        assert cells.neutral(value) == value
    for value in ("=1+1", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", " =1", "+cmd", "-x"):
        assert cells.neutral(value) == "'" + value

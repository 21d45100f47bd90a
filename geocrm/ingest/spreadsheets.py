"""Excel workbooks: small sheets through calamine at once, large ones streamed, so that memory stays bounded."""

from __future__ import annotations

import datetime as dt
import functools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastexcel
import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.compute as pc

from geocrm.errors import InvalidFile
from geocrm.ingest import archives
from geocrm.ingest.delimited import drop_blank
from geocrm.ingest.formats import CHUNK_ROWS, MAX_COLUMNS, Chunk, Options, Source, unique_names

STREAM_FROM_BYTES = 60 * 1024**2  # of sheet XML; calamine holds a whole sheet in memory, some 5 bytes for each of these
MAX_SHARED_STRINGS_BYTES = 150 * 1024**2
MAX_UNFOLDED_BYTES = 150 * 1024**2
MAX_CELL_CHARS = 32_767  # as Excel has it
CHUNK_CHARS = 16 * 1024**2
_CELL_BYTES = 20
_HEADER_WITHIN_ROWS = 50


def open_xlsx(path: Path, options: Options) -> Source:
    """The first sheet that holds anything, or `options.sheet`. Values become text: numbers with a point, dates as
    ISO.
    """
    sizes = archives.check(path)
    strings = sizes.get("xl/sharedStrings.xml", 0)
    if strings > MAX_SHARED_STRINGS_BYTES:
        raise InvalidFile(
            f"The workbook holds {strings // 1024**2} MB of text, too much to read at once. Save the sheet as CSV."
        )
    sheet_bytes = max((size for name, size in sizes.items() if name.startswith("xl/worksheets/")), default=0)
    # each cell may stand for the longest shared text
    unfolded = sheet_bytes // _CELL_BYTES * (_longest_text(path) if strings else 0)
    large = sheet_bytes > STREAM_FROM_BYTES or unfolded > MAX_UNFOLDED_BYTES
    try:
        return _open_streamed(path, options) if large else _open_at_once(path, options)
    except InvalidFile:
        raise
    except Exception as error:  # whatever the two readers raise on damaged XML; neither documents a common class
        raise InvalidFile(
            f"The workbook cannot be read ({type(error).__name__}): it is damaged. Open it in Excel and save it "
            f"again, or as CSV."
        ) from error


def _longest_text(path: Path) -> int:
    """Length of the longest run of text among the shared strings, in bytes."""
    longest = current = 0
    with zipfile.ZipFile(path) as archive, archive.open("xl/sharedStrings.xml") as stream:
        while block := stream.read(1 << 20):
            pieces = block.split(b"<")
            current += len(pieces[0])
            longest = max(longest, current, *(len(piece) for piece in pieces[1:-1]))
            if len(pieces) > 1:
                current = len(pieces[-1])
    return max(longest, current)


def _open_at_once(path: Path, options: Options) -> Source:
    reader = fastexcel.read_excel(path)
    names = _choose(reader.sheet_names, options.sheet)
    notes: list[str] = []
    for position, name in enumerate(names):
        table = _sheet(reader, name)
        header = _header_row(table)
        if header is None:
            continue
        if position == 0 and len(names) > 1 and options.sheet is None:
            notes.append(f"The workbook has {len(names)} sheets; “{name}” was read. State `sheet` for another.")
        columns = _trim_columns(["" if v is None else v for v in table.slice(header, 1).to_pylist()[0].values()])
        columns_ = unique_names(columns)

        def chunks(table: pa.Table = table, header: int = header, columns: list[str] = columns_) -> Iterator[Chunk]:
            body = table.select(range(len(columns))).slice(header + 1).rename_columns(columns)
            lines = np.arange(header + 2, header + 2 + len(body), dtype=np.int64)
            body, lines = drop_blank(body, lines)
            for start in range(0, len(body), CHUNK_ROWS):
                part = body.slice(start, CHUNK_ROWS)
                yield Chunk(lines[start : start + CHUNK_ROWS], part, read=(start + len(part)) / len(body))

        return Source(
            "xlsx", columns_, chunks, typed=True, details={"sheet": name, "sheets": reader.sheet_names}, notes=notes
        )
    raise InvalidFile("The workbook is empty: no sheet holds a header.")


def _sheet(reader: Any, name: str) -> pa.Table:
    """All rows of a sheet as text, the first row of the sheet included."""
    try:
        sheet = reader.load_sheet(name, header_row=None, dtypes="string", skip_rows=0)
    except fastexcel.FastExcelError as error:
        if "empty" in str(error).lower() or "no data" in str(error).lower():
            return pa.table({})
        raise
    if sheet.width > MAX_COLUMNS * 16:
        raise InvalidFile(f"Sheet “{name}” has {sheet.width:,} columns; at most {MAX_COLUMNS:,} are read.")
    batch = pa.record_batch(sheet.to_arrow())
    return pa.table({f"f{i}": pc.cast(column, pa.string()) for i, column in enumerate(batch.columns)})


def _header_row(table: pa.Table) -> int | None:
    """The first row that holds anything."""
    for number, row in enumerate(table.slice(0, _HEADER_WITHIN_ROWS).to_pylist()):
        if any(value is not None and value.strip() for value in row.values()):
            return number
    return None


def _trim_columns(header: list[str]) -> list[str]:
    """Columns right of the last named one are no columns."""
    while header and not header[-1].strip():
        header = header[:-1]
    return header


def _choose(names: list[str], wanted: str | None) -> list[str]:
    if wanted is None:
        return names
    if wanted not in names:
        raise InvalidFile(
            f"The workbook has no sheet “{wanted}”; it has {', '.join(f'“{name}”' for name in names[:20])}."
        )
    return [wanted]


def _open_streamed(path: Path, options: Options) -> Source:
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    for name in _choose(book.sheetnames, options.sheet):
        sheet = book[name]
        if not hasattr(sheet, "iter_rows"):
            continue
        for number, row in enumerate(sheet.iter_rows(max_row=_HEADER_WITHIN_ROWS, values_only=True), start=1):
            if any(value is not None for value in row):
                columns = unique_names(_trim_columns(["" if v is None else str(v) for v in row]))
                total = sheet.max_row or 0
                details = {"sheet": name, "sheets": book.sheetnames}
                book.close()
                return Source(
                    "xlsx",
                    columns,
                    functools.partial(_stream, path, name, number, columns, total),
                    typed=True,
                    details=details,
                )
    raise InvalidFile("The workbook is empty: no sheet holds a header.")


def _stream(path: Path, name: str, header: int, columns: list[str], total: int) -> Iterator[Chunk]:
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    width = len(columns)
    rows: list[tuple[str | None, ...]] = []
    lines: list[int] = []
    chars = 0

    def chunk() -> Chunk:
        table = pa.table({c: pa.array([row[i] for row in rows], pa.string()) for i, c in enumerate(columns)})
        numbers = np.asarray(lines, np.int64)
        return Chunk(numbers, table, read=min(numbers[-1] / max(total, numbers[-1]), 1.0))

    try:
        for number, row in enumerate(book[name].iter_rows(min_row=header + 1, values_only=True), start=header + 1):
            texts = tuple(_text(value) for value in row[:width])
            if not any(texts):
                continue
            chars += sum(len(value) for value in texts if value)
            if any(value is not None and len(value) > MAX_CELL_CHARS for value in texts):
                raise InvalidFile(f"Row {number:,} holds a cell of over {MAX_CELL_CHARS:,} characters; Excel has none.")
            rows.append(texts + (None,) * (width - len(texts)))
            lines.append(number)
            if len(rows) >= CHUNK_ROWS or chars >= CHUNK_CHARS:
                yield chunk()
                rows, lines, chars = [], [], 0
        if rows:
            yield chunk()
    finally:
        book.close()


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return str(value)

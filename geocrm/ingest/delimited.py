"""CSV and its relatives: any usual encoding and delimiter, quoted line breaks, rows of the wrong width told one by
one.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from geocrm.errors import InvalidFile
from geocrm.ingest.formats import (
    CHUNK_ROWS,
    MAX_COLUMNS,
    Chunk,
    Options,
    Source,
    Unreadable,
    _looks_like_utf16,
    unique_names,
)

DELIMITERS = ",;\t|"
MAX_ROW_BYTES = 4 * 1024**2
_BLOCK_BYTES = 4 * 1024**2
_SAMPLE_CHARS = 256 * 1024
_NO_ROWS = "The file has a header but no rows below it. Export it again and check that the export has rows."


@dataclass(frozen=True)
class Dialect:
    """How a text file is written. `skip`: physical lines before the header."""

    encoding: str
    delimiter: str
    skip: int
    header: list[str]


def open_csv(path: Path, options: Options) -> Source:
    """CSV, TSV and `;` or `|` separated text in UTF-8, UTF-16 or cp1252."""
    encoding = find_encoding(path, options.encoding)
    dialect = find_dialect(path, encoding, options)
    if _odd_quotes(path, encoding) and (fault := _explain(path, dialect)) is not None:
        raise fault
    notes = []
    if encoding == "cp1252" and options.encoding is None:
        notes.append("The file is not UTF-8; it was read as Windows-1252 (cp1252).")
    return Source(
        format="csv",
        columns=unique_names(dialect.header),
        chunks=lambda: _chunks(path, dialect),
        details={"encoding": encoding, "delimiter": dialect.delimiter},
        notes=notes,
    )


def find_encoding(path: Path, stated: str | None = None) -> str:
    """The encoding of the whole file, by reading it once: utf-8, utf-16 or cp1252. Raises InvalidFile naming the line
    that fits none.
    """
    if stated is not None:
        try:
            codec = codecs.lookup(stated).name
        except LookupError as error:
            raise InvalidFile(f"“{stated}” is no known encoding; use utf-8, utf-16 or cp1252.") from error
        if (fault := _first_fault(path, codec)) is not None:
            raise InvalidFile(
                f"Line {fault.line:,} cannot be read as {stated}: {fault.reason}. State the right encoding."
            )
        return codec
    with path.open("rb") as stream:
        head = stream.read(1024)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(head):
        codec = (
            "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-16-le" if head[1:2] == b"\0" else "utf-16-be")
        )
        if (fault := _first_fault(path, codec)) is not None:
            raise InvalidFile(
                f"Line {fault.line:,} is not valid UTF-16: the file is damaged or cut short. Save it as UTF-8."
            )
        return codec
    fault = _first_fault(path, "utf-8")
    if fault is None:
        return "utf-8"
    if fault.nul:
        raise InvalidFile(
            f"Line {fault.line:,} holds a NUL byte: the file is damaged or not text. Export it again as UTF-8."
        )
    if fault.truncated:
        raise InvalidFile("The file ends in the middle of a character: it was cut short. Export or upload it again.")
    if fault.multibyte_before:
        raise InvalidFile(
            f"Line {fault.line:,} is not UTF-8 although the text before it is: the file mixes encodings. "
            "Save it as UTF-8, or state the encoding."
        )
    other = _first_fault(path, "cp1252")
    if other is not None:
        raise InvalidFile(
            f"Line {other.line:,} is neither UTF-8 nor Windows-1252 (cp1252). Save the file as UTF-8, or state "
            f"its encoding."
        )
    return "cp1252"


@dataclass(frozen=True)
class _Fault:
    line: int
    reason: str
    nul: bool = False
    truncated: bool = False
    multibyte_before: bool = False


def _first_fault(path: Path, codec: str) -> _Fault | None:
    """Where the text first breaks the encoding or holds a NUL; None if nowhere."""
    decoder = codecs.getincrementaldecoder(codec)()
    line, multibyte = 1, False
    with path.open("rb") as stream:
        while True:
            block = stream.read(1 << 20)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                good = error.object[: error.start]
                multibyte = multibyte or (codec == "utf-8" and not good.isascii())
                return _Fault(
                    line + good.count(b"\n"),
                    f"byte 0x{error.object[error.start]:02X}",
                    truncated=not block and codec == "utf-8",
                    multibyte_before=multibyte,
                )
            if "\0" in text:
                return _Fault(line + text[: text.index("\0")].count("\n"), "a NUL character", nul=True)
            if not block:
                return None
            multibyte = multibyte or not text.isascii()
            line += text.count("\n")


def find_dialect(path: Path, encoding: str, options: Options) -> Dialect:
    """Delimiter and header from the first 256 k characters. Raises InvalidFile for a file without a header or with
    too many columns.
    """
    with path.open("r", encoding=_decoding(encoding), newline="") as stream:
        sample = stream.read(_SAMPLE_CHARS)
        complete = len(sample) < _SAMPLE_CHARS
    skip = options.skip_lines
    lines = sample.splitlines()
    delimiter = options.delimiter
    if skip == 0 and lines and lines[0].lower().startswith("sep=") and len(lines[0]) == 5:
        delimiter = delimiter or lines[0][4]
        skip = 1
    while skip < len(lines) and not lines[skip].strip():
        skip += 1
    if skip >= len(lines):
        raise InvalidFile(
            "The file has no header: no line holds anything. Export it again with column names in the first line."
        )
    body = "\n".join(lines[skip:] if complete else lines[skip:-1] or lines[skip:])
    if max(lines[skip].count(d) for d in DELIMITERS) >= MAX_COLUMNS:
        width = max(lines[skip].count(d) for d in DELIMITERS) + 1
        raise InvalidFile(
            f"The header has {width:,} columns; at most {MAX_COLUMNS:,} are read. "
            "Check the delimiter, or leave out the columns that are not needed."
        )
    delimiter = delimiter or _best_delimiter(body)
    try:
        header = next(csv.reader(io.StringIO(body, newline=""), delimiter=delimiter))
    except (csv.Error, StopIteration) as error:
        raise InvalidFile(f"The header in line {skip + 1} cannot be read: {error}.") from error
    if not any(name.strip() for name in header):
        raise InvalidFile(f"The header in line {skip + 1} names no column.")
    return Dialect(encoding, delimiter, skip, header)


def _decoding(encoding: str) -> str:
    return "utf-8-sig" if encoding == "utf-8" else encoding


def _best_delimiter(body: str) -> str:
    """The delimiter that splits the most rows into the same, largest number of fields."""
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        widths: Counter[int] = Counter()
        header_width = 0
        try:
            for number, row in enumerate(csv.reader(io.StringIO(body, newline=""), delimiter=delimiter)):
                if number == 0:
                    header_width = len(row)
                if row:
                    widths[len(row)] += 1
                if number >= 200:
                    break
        except csv.Error:
            continue
        if header_width < 2:
            continue
        alike = widths[header_width] / max(sum(widths.values()), 1)
        score = (round(alike, 1), header_width)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _chunks(path: Path, dialect: Dialect) -> Iterator[Chunk]:
    names = unique_names(dialect.header)
    width = len(names)
    size_bytes = max(path.stat().st_size, 1)
    odd: list[tuple[int, str]] = []
    any_rows = False

    def keep_odd(row: pacsv.InvalidRow) -> str:
        odd.append(((row.number or 0) - dialect.skip, row.text))  # pyarrow counts skipped lines too
        return "skip"

    with path.open("rb") as stream:
        generated = [f"f{i}" for i in range(width)]
        try:
            reader = pacsv.open_csv(
                stream,
                read_options=pacsv.ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK_BYTES,
                    skip_rows=dialect.skip,
                    autogenerate_column_names=True,
                    encoding="utf8" if dialect.encoding == "utf-8" else dialect.encoding,
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=dialect.delimiter,
                    newlines_in_values=True,
                    ignore_empty_lines=False,
                    invalid_row_handler=keep_odd,
                ),
                convert_options=pacsv.ConvertOptions(
                    check_utf8=False, strings_can_be_null=False, column_types=dict.fromkeys(generated, pa.string())
                ),
            )
            # pyarrow numbers rows from the first one it parses; breaks inside quotes and skipped lines come on top.
            next_row, breaks, first = 1, dialect.skip, True
            for batch in reader:
                table = pa.Table.from_batches([batch]).rename_columns(names)
                rows, taken = _row_numbers(next_row, len(table), [number for number, _ in odd])
                now, odd = odd[:taken], odd[taken:]
                next_row += len(table) + taken
                inner = _breaks_inside(table)
                lines, breaks, odd_lines = _physical_lines(rows, inner, now, breaks)
                if first:
                    table, lines, first = table.slice(1), lines[1:], False
                share = min(stream.tell() / size_bytes, 1.0)
                for chunk in _split(table, lines, _mend(now, odd_lines, dialect.delimiter, width), names, share):
                    any_rows = True
                    yield chunk
            if odd:
                lines, breaks, odd_lines = _physical_lines(np.zeros(0, np.int64), None, odd, breaks)
                nothing = pa.table({name: pa.array([], pa.string()) for name in names})
                for chunk in _split(nothing, lines, _mend(odd, odd_lines, dialect.delimiter, width), names, 1.0):
                    any_rows = True
                    yield chunk
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            if "Empty CSV" in str(error):
                raise InvalidFile(_NO_ROWS) from error
            raise _explain(path, dialect) or InvalidFile(
                f"The file cannot be read as text separated by {dialect.delimiter!r}: {str(error)[:200]}"
            ) from error
    if not any_rows:
        raise InvalidFile(_NO_ROWS)


def _row_numbers(start: int, count: int, odd: list[int]) -> tuple[np.ndarray[Any, np.dtype[np.int64]], int]:
    """Numbers of `count` good rows from `start` on, the odd ones (sorted) left out; and how many odd ones lie before
    the last.
    """
    taken = 0
    while taken < len(odd) and odd[taken] < start + count + taken:
        taken += 1
    numbers = np.arange(start, start + count + taken, dtype=np.int64)
    if taken:
        numbers = np.delete(numbers, np.asarray(odd[:taken]) - start)
    return numbers, taken


def _breaks_inside(table: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Line breaks inside the values of each row; None where there is none."""
    total: Any = None
    for column in table.columns:
        if pc.any(pc.match_substring(column, "\n")).as_py():
            counts = pc.count_substring(column, "\n").to_numpy().astype(np.int64)
            total = counts if total is None else total + counts
    return total


def _physical_lines(
    rows: np.ndarray[Any, np.dtype[np.int64]],
    inner: np.ndarray[Any, np.dtype[np.int64]] | None,
    odd: list[tuple[int, str]],
    breaks: int,
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], int, list[int]]:
    """Row numbers → physical lines, counting the breaks inside values before each row."""
    odd_inner = [text.count("\n") for _, text in odd]
    if inner is None and not any(odd_inner):
        return rows + breaks, breaks, [number + breaks for number, _ in odd]
    numbers = np.concatenate([rows, np.asarray([number for number, _ in odd], np.int64)])
    counts = np.concatenate(
        [inner if inner is not None else np.zeros(len(rows), np.int64), np.asarray(odd_inner, np.int64)]
    )
    order = np.argsort(numbers, kind="stable")
    before = np.empty(len(numbers), np.int64)
    before[order] = np.concatenate([[0], np.cumsum(counts[order])[:-1]]) + breaks
    lines = numbers + before
    return lines[: len(rows)], breaks + int(counts.sum()), [int(line) for line in lines[len(rows) :]]


def _mend(
    odd: list[tuple[int, str]], lines: list[int], delimiter: str, width: int
) -> list[Unreadable | tuple[int, list[str]]]:
    """Rows of another width: empty lines vanish, superfluous empty fields at the end are cut, the rest is told."""
    result: list[Unreadable | tuple[int, list[str]]] = []
    for (_, text), line in zip(odd, lines, strict=True):
        try:
            fields = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            fields = [text]
        if not any(value.strip() for value in fields):
            continue
        if len(fields) > width and not any(value.strip() for value in fields[width:]):
            result.append((line, fields[:width]))
        else:
            word = "field" if len(fields) == 1 else "fields"
            result.append(Unreadable(line, f"the row has {len(fields)} {word}, the header has {width} columns", fields))
    return result


def _split(
    table: pa.Table,
    lines: np.ndarray[Any, np.dtype[np.int64]],
    mended: list[Unreadable | tuple[int, list[str]]],
    names: list[str],
    share: float,
) -> Iterator[Chunk]:
    unreadable = [row for row in mended if isinstance(row, Unreadable)]
    repaired = [row for row in mended if not isinstance(row, Unreadable)]
    if repaired:
        extra = pa.table(
            {name: pa.array([fields[i] for _, fields in repaired], pa.string()) for i, name in enumerate(names)}
        )
        table = pa.concat_tables([table, extra])
        lines = np.concatenate([lines, np.asarray([line for line, _ in repaired], np.int64)])
    table, lines = drop_blank(table, lines)
    for start in range(0, max(len(table), 1), CHUNK_ROWS):
        part = table.slice(start, CHUNK_ROWS)
        if len(part) or unreadable:
            yield Chunk(lines[start : start + CHUNK_ROWS], part, unreadable=unreadable, read=share)
            unreadable = []


def drop_blank(
    table: pa.Table, lines: np.ndarray[Any, np.dtype[np.int64]]
) -> tuple[pa.Table, np.ndarray[Any, np.dtype[np.int64]]]:
    """Rows in which no column holds anything are left out."""
    blank: Any = None
    for column in table.columns:
        empty = pc.fill_null(pc.equal(pc.utf8_length(column), 0), True)
        blank = empty if blank is None else pc.and_(blank, empty)
        if not pc.any(blank).as_py():
            return table, lines
    if blank is None:
        return table, lines
    keep = pc.invert(blank)
    return table.filter(keep), lines[keep.to_numpy(zero_copy_only=False)]


def _odd_quotes(path: Path, encoding: str) -> bool:
    """Whether the number of quotation marks is odd: somewhere one may never close."""
    mark, count = b'"', 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            count += block.count(mark)
    return count % 2 == 1


def _explain(path: Path, dialect: Dialect) -> InvalidFile | None:
    """Read the file again, slowly, to say in which line the trouble begins."""
    csv.field_size_limit(MAX_ROW_BYTES)
    start = 1
    with path.open("r", encoding=_decoding(dialect.encoding), newline="") as stream:
        reader = csv.reader(_skip(stream, dialect.skip), delimiter=dialect.delimiter, strict=True)
        while True:
            try:
                start = dialect.skip + reader.line_num + 1
                if next(reader, None) is None:
                    return None
            except csv.Error as fault:
                if "unexpected end" in str(fault):
                    return InvalidFile(
                        f"The quoted text that begins in line {start:,} never ends: the file was cut short, or a "
                        f"quote is missing."
                    )
                if "field larger" in str(fault):
                    return InvalidFile(
                        f"A value that begins in line {start:,} is longer than {MAX_ROW_BYTES // 1024**2} MB: a "
                        f"quote is "
                        "missing, or the delimiter is another."
                    )
                # strict reading also stumbles over a quote inside a value, which is harmless


def _skip(stream: Any, lines: int) -> Any:
    for _ in range(lines):
        next(stream, None)
    return stream

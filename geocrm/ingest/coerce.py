"""Text columns → typed columns, whole columns at a time; what cannot be read is told row by row.

Pure: Arrow arrays in, Arrow arrays and masks out. Each function takes a text column (n,) without blanks at its ends and
with null for nothing, and returns the typed column and a boolean (n,) that marks values which are there but cannot be
read.
"""

from __future__ import annotations

import gettext
import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pycountry

from geocrm.ingest.fields import fold
from geocrm.spatial import atlas

Mask = np.ndarray[Any, np.dtype[np.bool_]]

NOTHING = pa.array(["", "NULL", "\\N", "#N/A", "#NV", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!"])
_PLAIN_NUMBER = r"^[+\-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+\-]?[0-9]{1,3})?$"
_MANGLED_ID = r"^[0-9](?:[.,][0-9]+)?[eE]\+[0-9]+$"
_EMAIL = r"^[^\s@<>(),;:\"]+@[^\s@<>(),;:\"]+\.[^\s@<>(),;:\".]{2,}$"
_PHONE = r"^\+?[0-9()\s./\-–]{5,}(?:\s*(?:ext\.?|x|#|Durchwahl|poste)\s*[0-9]+)?$"
EARLIEST, LATEST = pd.Timestamp("1900-01-01", tz="UTC"), pd.Timestamp("2200-01-01", tz="UTC")


def clean(column: Any) -> Any:
    """Blanks at the ends go; the ways of writing nothing become null."""
    column = pc.utf8_trim_whitespace(_flat(column))
    nothing = pc.is_in(column, value_set=NOTHING)
    return pc.if_else(nothing, pa.scalar(None, pa.string()), column) if pc.any(nothing).as_py() else column


def _flat(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def join(columns: list[Any], separator: str) -> Any:
    """Text columns (n,) joined row by row, null ones skipped; "" where all are null."""
    # an empty piece in front: pyarrow (26) leaves out rows in which all pieces are null
    joined = pc.binary_join_element_wise(pa.scalar(""), *columns, pa.scalar(separator), null_handling="skip")
    return pc.utf8_slice_codeunits(joined, len(separator))


def mask_of(condition: Any) -> Mask:
    """A boolean Arrow column as numpy, null counting as false."""
    return np.asarray(pc.fill_null(condition, False).to_numpy(zero_copy_only=False), bool)


def uniques(column: Any, turn: Callable[[str], str | None]) -> tuple[Any, Mask]:
    """Apply `turn` to each distinct value; None from it marks the value as wrong."""
    coded = pc.dictionary_encode(_flat(column))
    turned = pa.array([turn(value) for value in coded.dictionary.to_pylist()], pa.string())
    result = pc.take(turned, coded.indices)
    return result, mask_of(pc.and_(pc.is_valid(column), pc.is_null(result)))


def number_text(column: Any, decimal: str = ".") -> tuple[Any, Mask]:
    """Numbers as canonical text (`-1234.5`). With `decimal` “,” points group thousands. NaN and infinity are no
    numbers.

    Understood besides: blanks, apostrophes and currency signs, a minus behind, brackets for negative.
    """
    column = _flat(column)
    absent = pc.is_null(column)
    plain = pc.match_substring_regex(column, _PLAIN_NUMBER)
    if decimal == ",":
        # 1.234 means one thousand and so; without a point both ways of writing agree
        plain = pc.and_(plain, pc.invert(pc.match_substring(column, ".")))
    if pc.all(pc.or_kleene(pc.fill_null(plain, False), absent)).as_py() is not False:
        return column, np.zeros(len(column), bool)
    text = pc.replace_substring_regex(column, r"[\s\x{00a0}\x{202f}'’€$£¥]|(?:EUR|USD|GBP|CHF)", "")
    text = pc.replace_substring_regex(text, r"^\((.*)\)$", r"-\1")
    text = pc.replace_substring_regex(text, r"^([^-].*)-$", r"-\1")
    if decimal == ",":
        grouped = pc.match_substring_regex(text, r"^[+\-]?[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]*)?$")
        text = pc.if_else(grouped, pc.replace_substring(text, ".", ""), text)
        ambiguous = pc.and_(pc.match_substring(text, ","), pc.match_substring(text, "."))
        text = pc.replace_substring(text, ",", ".")
        text = pc.if_else(ambiguous, pa.scalar("?"), text)
    else:
        grouped = pc.match_substring_regex(text, r"^[+\-]?[0-9]{1,3}(?:,[0-9]{2,3})*,[0-9]{3}(?:\.[0-9]*)?$")
        text = pc.if_else(grouped, pc.replace_substring(text, ",", ""), text)
    good = pc.fill_null(pc.match_substring_regex(text, _PLAIN_NUMBER), False)
    wrong = mask_of(pc.and_(pc.invert(good), pc.invert(absent)))
    return pc.if_else(good, text, pa.scalar(None, pa.string())), wrong


def number(column: Any, decimal: str = ".") -> tuple[Any, Mask]:
    """Numbers as float64; infinite ones (1e999) are wrong."""
    text, wrong = number_text(column, decimal)
    values = pc.cast(text, pa.float64())
    infinite = mask_of(pc.invert(pc.is_finite(values)))
    if infinite.any():
        values = pc.if_else(pa.array(infinite), pa.scalar(None, pa.float64()), values)
    return values, wrong | infinite


def money(column: Any, decimal: str = ".") -> tuple[Any, Mask]:
    """Amounts as canonical text, exactly as given, for numeric(18,4); over 14 digits before the point is wrong."""
    text, wrong = number_text(column, decimal)
    values = pc.cast(text, pa.float64())
    large = mask_of(pc.greater_equal(pc.abs(values), 1e14)) | mask_of(pc.invert(pc.is_finite(values)))
    if large.any():
        text = pc.if_else(pa.array(large), pa.scalar(None, pa.string()), text)
    return text, wrong | large


def integer(column: Any, decimal: str = ".") -> tuple[Any, Mask]:
    """Whole numbers as int64; `3.0` is one, `3.5` is not."""
    values, wrong = number(column, decimal)
    whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
    part = mask_of(pc.and_(pc.is_valid(values), pc.invert(pc.fill_null(whole, False))))
    kept = pc.if_else(pc.fill_null(whole, False), values, pa.scalar(None, pa.float64()))
    return pc.cast(kept, pa.int64()), wrong | part


_TRUE = {"true", "t", "yes", "y", "1", "x", "ja", "j", "oui", "o", "si", "s", "wahr", "vrai", "verdadero", "on"}
_FALSE = {"false", "f", "no", "n", "0", "nein", "non", "falsch", "faux", "falso", "off"}


def boolean(column: Any) -> tuple[Any, Mask]:
    """Yes and no in four languages → true and false."""

    def turn(value: str) -> str | None:
        word = fold(value)
        return "true" if word in _TRUE else "false" if word in _FALSE else None

    text, wrong = uniques(column, turn)
    return pc.equal(text, "true"), wrong


@lru_cache(maxsize=1)
def _country_names() -> dict[str, str]:
    """Folded country names in English, German, French and Spanish → ISO alpha-2."""
    names: dict[str, str] = {}
    catalogues = [gettext.NullTranslations()]
    for language in ("de", "fr", "es"):
        try:
            catalogues.append(gettext.translation("iso3166-1", pycountry.LOCALES_DIR, languages=[language]))
        except OSError:
            continue
    for country in pycountry.countries:
        for attribute in ("name", "common_name", "official_name"):
            name = getattr(country, attribute, None)
            for catalogue in catalogues:
                if name:
                    names.setdefault(fold(catalogue.gettext(name)), country.alpha_2)
    names.update(
        {
            "usa": "US",
            "uk": "GB",
            "holland": "NL",
            "czechrepublic": "CZ",
            "turkey": "TR",
            "russia": "RU",
            "southkorea": "KR",
        }
    )
    return names


def country(column: Any) -> tuple[Any, Mask]:
    """Countries by code or by name in four languages → ISO 3166-1 alpha-2."""

    @lru_cache(maxsize=4096)
    def turn(value: str) -> str | None:
        return atlas.country_code(value) or _country_names().get(fold(value))

    return uniques(column, turn)


def currency(column: Any) -> tuple[Any, Mask]:
    """Currencies by code or by sign → ISO 4217."""
    signs = {"€": "EUR", "$": "USD", "us$": "USD", "£": "GBP", "¥": "JPY", "fr.": "CHF"}

    def turn(value: str) -> str | None:
        code = value.upper()
        if re.fullmatch(r"[A-Z]{3}", code) and pycountry.currencies.get(alpha_3=code) is not None:
            return code
        return signs.get(value.lower())

    return uniques(column, turn)


def choice(column: Any, choices: tuple[str, ...], synonyms: dict[str, str]) -> tuple[Any, Mask]:
    """One of `choices`, by its own name or what others call it."""
    known = {fold(name): name for name in choices} | synonyms
    return uniques(column, lambda value: known.get(fold(value)))


def bad_emails(column: Any) -> Mask:
    """Which e-mail addresses cannot be ones."""
    return mask_of(pc.and_(pc.is_valid(column), pc.invert(pc.match_substring_regex(column, _EMAIL))))


def bad_phones(column: Any) -> Mask:
    """Which telephone numbers cannot be ones (or were turned into 4.9E+10 by a spreadsheet)."""
    return mask_of(pc.and_(pc.is_valid(column), pc.invert(pc.match_substring_regex(column, _PHONE, ignore_case=True))))


def mangled_ids(column: Any) -> Mask:
    """Ids that a spreadsheet has turned into 1.23457E+12."""
    return mask_of(pc.match_substring_regex(column, _MANGLED_ID))


def title(column: Any) -> Any:
    """JON YANG → Jon Yang; text that has small letters already stays."""
    shouting = pc.and_(pc.equal(pc.utf8_upper(column), column), pc.match_substring_regex(column, r"\pL{2}"))
    return pc.if_else(shouting, pc.utf8_title(column), column)


# -- times ------------------------------------------------------------------------------------------------------------

_ISO = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T "
    r"][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?:\s*(?:Z|UTC|[+\-][0-9]{2}:?[0-9]{2}))?)?$"
)
_DMY = re.compile(
    r"^(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?:,?[ T](\d{1,2}):(\d{2})(:\d{2})?(?:\s*([AaPp][Mm]))?)?$"
)
_CLOCKS = {"": "", "m": " %H:%M", "s": " %H:%M:%S", "pm": " %I:%M %p", "pms": " %I:%M:%S %p"}
_OTHERS = (
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y%m%d",
    "%Y.%m.%d",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%Y-%m-%d %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %z",
)


def iso_share(column: Any) -> float:
    """Share of the given values that are ISO 8601."""
    given = len(column) - column.null_count
    return pc.sum(pc.match_substring_regex(column, _ISO)).as_py() / given if given else 1.0


def guess_formats(column: Any, *, day_first_by_default: bool) -> tuple[list[str], list[str]]:
    """strptime formats that fit a sample (beside ISO), and notes on what had to be assumed or is mixed.

    Day or month first is decided for each separator by values over 12; a column that has both kinds is mixed: then only
    values that can be read in one way are taken.
    """
    rest = [value for value in pc.unique(column).to_pylist() if value is not None and not re.match(_ISO, value)]
    formats: list[str] = []
    notes: list[str] = []
    separators: dict[str, list[re.Match[str]]] = {}
    for value in rest:
        if (found := _DMY.match(value)) is not None:
            separators.setdefault(found[2], []).append(found)
    for separator, matches in separators.items():
        first_is_day = any(int(found[1]) > 12 for found in matches)
        second_is_day = any(int(found[3]) > 12 for found in matches)
        orders = ["%d{s}%m{s}"] if first_is_day else ["%m{s}%d{s}"]
        if first_is_day and second_is_day:
            orders = ["%d{s}%m{s}", "%m{s}%d{s}"]
            notes.append(
                f"dates with “{separator}” are mixed: some put the day first, some the month; state date_format"
            )
        elif not first_is_day and not second_is_day:
            day_first = separator == "." or day_first_by_default
            orders = ["%d{s}%m{s}"] if day_first else ["%m{s}%d{s}"]
            if separator != ".":
                notes.append(
                    f"dates with “{separator}” could be read in two ways; the {'day' if day_first else 'month'} "
                    "was taken to come first; state date_format if that is wrong"
                )
        endings = {_ending(found) for found in matches}
        for order in orders:
            formats += [order.format(s=separator) + ending for ending in sorted(endings)]
    sample = pd.Series([value for value in rest if not _DMY.match(value)][:1000], dtype="str")
    if len(sample):
        for other in _OTHERS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if pd.to_datetime(sample, format=other, errors="coerce", utc=True).notna().any():
                    formats.append(other)
    return formats, notes


def _ending(found: re.Match[str]) -> str:
    year = "%Y" if len(found[4]) == 4 else "%y"
    if found[5] is None:
        return year
    clock = ("pm" if found[8] else "") + ("s" if found[7] else "" if found[8] else "m")
    return year + _CLOCKS[clock]


def times(column: Any, formats: list[str], timezone: str, *, iso: bool = True) -> tuple[Any, Mask]:
    """Moments as timestamp[us, UTC]; those without a zone are of `timezone`. Before 1900 and after 2199 is wrong.

    A value that two of the `formats` read differently (day or month first) is wrong: nobody can tell.
    """
    column = _flat(column)
    given = mask_of(pc.is_valid(column))
    result = pd.Series(pd.NaT, index=range(len(column)), dtype="datetime64[us, UTC]")
    taken = np.zeros(len(column), bool)
    unclear = np.zeros(len(column), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if iso:
            rows = np.flatnonzero(mask_of(pc.match_substring_regex(column, _ISO)))
            if len(rows):
                text = pc.take(column, pa.array(rows)).to_pandas()
                zoned = mask_of(
                    pc.match_substring_regex(pc.take(column, pa.array(rows)), r":[0-9.,]+\s*(?:Z|UTC|[+\-][0-9:]+)$")
                )
                for part, aware in ((~zoned, False), (zoned, True)):
                    if part.any():
                        parsed = _parse(text[part], "ISO8601", timezone, aware=aware)
                        result.iloc[rows[part]] = parsed
                        taken[rows[part]] = parsed.notna().to_numpy()
        for written in formats:
            rows = np.flatnonzero(given & ~mask_of(pc.match_substring_regex(column, _ISO)))
            if not len(rows):
                break
            parsed = _parse(pc.take(column, pa.array(rows)).to_pandas(), written, timezone, aware="%z" in written)
            fits = parsed.notna().to_numpy()
            both = fits & taken[rows]
            unclear[rows[both]] |= parsed[both].to_numpy() != result.iloc[rows[both]].to_numpy()
            fresh = fits & ~taken[rows]
            result.iloc[rows[fresh]] = parsed[fresh]
            taken[rows[fresh]] = True
    outside = taken & ((result < EARLIEST) | (result >= LATEST)).to_numpy()
    wrong = (given & ~taken) | outside | unclear
    values = pa.Array.from_pandas(result.where(~wrong), type=pa.timestamp("us", "UTC"))
    return values, wrong


def _parse(text: pd.Series, written: str, timezone: str, *, aware: bool) -> pd.Series:
    text = text.str.replace(r"\s*UTC$", "Z", regex=True) if aware else text
    parsed = pd.to_datetime(text, format=written, errors="coerce", utc=aware)
    if not aware:
        parsed = parsed.dt.tz_localize(timezone, ambiguous=True, nonexistent="shift_forward").dt.tz_convert("UTC")
    return parsed.dt.as_unit("us")


# -- attributes -------------------------------------------------------------------------------------------------------


def json_object(names: list[str], columns: list[Any], types: list[str]) -> Any:
    """Columns as one text column (n,) of JSON objects; null leaves its key out. `types`: text, number or boolean."""
    parts = []
    for name, column, kind in zip(names, columns, types, strict=True):
        key = f"{_json_string(name)}: "
        text = column
        if kind == "text":
            text = pc.replace_substring(text, "\\", "\\\\")
            text = pc.replace_substring(text, '"', '\\"')
            for raw, escaped in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
                text = pc.replace_substring(text, raw, escaped)
            text = pc.replace_substring_regex(text, r"[\x00-\x1f]", "")
            text = pc.binary_join_element_wise(pa.scalar('"'), text, pa.scalar('"'), pa.scalar(""))
        parts.append(pc.binary_join_element_wise(pa.scalar(key), text, pa.scalar("")))
    if not parts:
        return None
    inner = join(parts, ", ")
    return pc.binary_join_element_wise(pa.scalar("{"), inner, pa.scalar("}"), pa.scalar(""))


def _json_string(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)

"""What the command line reads and prints: JSON, moments, tables, files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from geocrm import errors, ids
from geocrm.spatial.territories import AtPoint, Held, as_shown

Rows: TypeAlias = pd.DataFrame | Sequence[Mapping[str, Any]]


def read_json(given: str | None) -> dict[str, Any] | None:
    """An option that holds a JSON object; None where it is not given. Raises `errors.InvalidFilter`."""
    if given is None:
        return None
    try:
        value = json.loads(given)
    except ValueError as error:
        raise errors.InvalidFilter(f"the filter is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise errors.InvalidFilter(
            'the filter is a JSON object, such as {"field": "stage", "op": "=", "value": "lead"}'
        )
    return value


_OPTIONS = frozenset(("filter", "effective_from", "as_of", "reason", "version", "radius_m", "limit", "role", "scope"))
_MOST_FAULTS = 10


def of_error(error: errors.GeocrmError) -> str:
    """What went wrong as lines for people: the sentence, and the places in what they gave."""
    faults = [(place(fault.get("pointer", "")), fault.get("detail", "")) for fault in error.errors]
    if len(faults) == 1 and faults[0][1] and faults[0][1] in error.detail:  # said already: only the place is missing
        where, said = faults[0]
        if not where:
            return error.detail
        return (
            f"{where}: {said}"
            if error.detail.rstrip(".").endswith(said.rstrip("."))
            else f"{error.detail}\n  in {where}"
        )
    lines = [error.detail, *(f"  {where}: {said}" if where else f"  {said}" for where, said in faults[:_MOST_FAULTS])]
    if len(faults) > _MOST_FAULTS:
        lines.append(f"  … and {len(faults) - _MOST_FAULTS:,} more")
    return "\n".join(lines)


def place(pointer: str) -> str:
    """A JSON pointer in words: `/filter/all/0/field` is “--filter, in all, entry 1, in field”."""
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    if not steps:
        return ""
    first = f"--{steps[0].replace('_', '-')}" if steps[0] in _OPTIONS else steps[0].replace("_", " ")
    return ", ".join([first, *(f"entry {int(step) + 1}" if step.isdecimal() else f"in {step}" for step in steps[1:])])


def read_moment(given: str | None) -> datetime | None:
    """A date or time in ISO 8601, UTC where it names no zone; a date means its first moment."""
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given.strip())
    except ValueError:
        raise errors.Invalid(f"{given!r} is no date or time: write 2025-12-31 or 2025-12-31T09:00:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def of_territories(found: Sequence[AtPoint | Held]) -> list[dict[str, Any]]:
    """Rows for people from answers about territories; where a layer has no area there, they say so."""
    rows = []
    for answer in found:
        site = {"site": ids.show("sit", answer.site_id)} if isinstance(answer, Held) else {}
        rows.append(
            {
                **site,
                "layer": answer.layer_key,
                "territory": "none" if answer.area_id is None else answer.name,
                "id": ids.show("ter", answer.area_id),
                "owner": answer.owner_name or answer.team_name,
                "basis": answer.basis,
                "reason": answer.reason,
                "since": None if answer.valid_from is None else f"{answer.valid_from.astimezone(UTC):%Y-%m-%d}",
            }
        )
    return rows


def territories_as_json(found: Sequence[AtPoint | Held]) -> str:
    """Answers about territories in the shape of the API (`territories.as_shown`)."""
    return json.dumps([as_shown(answer) for answer in found], ensure_ascii=False, default=_plain, indent=2)


def as_json(rows: Rows) -> str:
    """Rows as a JSON list of objects; what is missing is null."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    plain = frame.astype(object).where(frame.notna(), None)
    return json.dumps(plain.to_dict("records"), ensure_ascii=False, default=str, indent=2)


def as_table(rows: Rows, *, empty: str) -> str:
    """Rows as aligned columns; `empty` where there are none."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if frame.empty:
        return empty
    cells = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    wide = [max(len(line[n]) for line in [list(frame.columns), *cells]) for n in range(len(frame.columns))]
    lines = [list(frame.columns), *cells]
    return "\n".join(
        "  ".join(str(cell).ljust(width) for cell, width in zip(line, wide, strict=True)).rstrip() for line in lines
    )


def _plain(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.5f}".rstrip("0").rstrip(".")
    return "".join(letter if letter.isprintable() else " " for letter in str(value))


def write(name: str, content: str) -> int:
    """Write a file whole or not at all; its size in bytes. Raises `errors.Invalid` where it cannot be written."""
    path = Path(name)
    data = content.encode("utf-8")
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise errors.Invalid(f"{name} cannot be written: {error.strerror}") from None
    return len(data)

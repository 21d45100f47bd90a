"""Customers as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Response

from geocrm.api.customers import Narrowed
from geocrm.api.dependencies import CanExport, CanExportTotals, Reading, Writing, router
from geocrm.api.downloads import attachment
from geocrm.crm import exports
from geocrm.db import audit
from geocrm.ingest import cells

routes = router("Exports")


@routes.get(
    "/exports/customers.csv",
    operation_id="export_customers",
    summary="Export customers as CSV",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The file"}},
)
def export_customers(session: Reading, writing: Writing, actor: CanExport, narrowed: Narrowed) -> Response:
    """The visible customers that pass the filter, a line for each site, UTF-8 with a byte order mark. A rep takes at
    most 1,000 along, a marketer those who consented to marketing. Cells that a spreadsheet would run as formulas are
    neutralised. Every export is in the audit log."""
    number = exports.count_customers(session, actor, narrowed.filter)
    audit.record(
        writing,
        "customers.export",
        actor_id=actor.user_id,
        key_id=actor.key_id,
        after={"customers": number, "filter": narrowed.filter.to_json()},
    )
    name = f"customers-{datetime.now(UTC):%Y-%m-%d}.csv"
    return attachment(_lines(exports.HEADER, exports.find_customers(session, actor, narrowed.filter)), name)


@routes.get(
    "/exports/totals.csv",
    operation_id="export_totals",
    summary="Export totals as CSV",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The file"}},
)
def export_totals(
    session: Reading,
    writing: Writing,
    actor: CanExportTotals,
    by: Annotated[
        Literal["stage", "kind", "industry", "region", "country", "territory", "owner"],
        Query(description="A row for each value of it.", examples=["region"]),
    ] = "stage",
) -> Response:
    """Customers, placed sites and sales of the last 12 months. Values with fewer than 10 customers are left empty."""
    rows = exports.totals(session, by)
    audit.record(writing, "totals.export", actor_id=actor.user_id, key_id=actor.key_id, after={"by": by})
    return attachment(_lines((by, *exports.TOTALS_HEADER), rows), f"totals-by-{by}.csv")


def _lines(header: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> Iterator[bytes]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    buffer.write("\ufeff")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        if buffer.tell() > 1 << 16:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    if isinstance(value, str):
        return cells.neutral(value)
    return str(value)

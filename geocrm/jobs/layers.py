"""Publishing a layer of territories, seeing first what it would move, and going back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.jobs.registry import actor_of, handler
from geocrm.spatial import preview, territories


def _when(args: Mapping[str, Any]) -> datetime | None:
    given = args.get("effective_from")
    return None if given is None else datetime.fromisoformat(str(given))


@handler("layer.publish")
def publish_layer(session: Session, args: Mapping[str, Any]) -> Any:
    """Publish a draft."""
    return _published(
        territories.publish(
            session,
            int(args["layer_id"]),
            int(args["version"]),
            actor=actor_of(session, args),
            reason=str(args["reason"]),
            effective_from=_when(args),
            overwrite=bool(args.get("overwrite")),
        )
    )


@handler("layer.preview")
def preview_layer(session: Session, args: Mapping[str, Any]) -> Any:
    """Work a publication out and take it back; what the user does not see is counts only."""
    found = preview.preview(
        session,
        int(args["layer_id"]),
        int(args["version"]),
        actor=actor_of(session, args),
        effective_from=_when(args),
    )
    return _preview(found)


def _preview(found: preview.Preview) -> dict[str, Any]:
    def area(number: int | None, name: str | None) -> dict[str, Any] | None:
        return None if number is None else {"id": ids.show("ter", number), "name": name}

    def balance(row: preview.Balance) -> dict[str, Any]:
        return {
            "area": area(row.area_id, row.name),
            "owner_id": ids.show("usr", row.owner_id),
            "leaving": row.leaving,
            "entering": row.entering,
            "sales_leaving": {currency: f"{amount:f}" for currency, amount in row.sales_leaving.items()},
            "sales_entering": {currency: f"{amount:f}" for currency, amount in row.sales_entering.items()},
        }

    coverage = found.coverage
    return {
        "version": found.version,
        "effective_from": found.effective_from,
        "moves": found.moves,
        "moves_hidden": found.moves_hidden,
        "rebased": found.rebased,
        "concerned": found.concerned,
        "merged": found.merged,
        "sales": {currency: f"{amount:f}" for currency, amount in found.sales.items()},
        "by_area": [balance(row) for row in found.by_area],
        "by_owner": [balance(row) for row in found.by_owner],
        "moving": [
            {
                "customer": {"id": ids.show("cus", row.customer_id), "name": row.customer_name},
                "site_id": ids.show("sit", row.site_id),
                "from": area(row.from_area_id, row.from_name),
                "from_basis": row.from_basis,
                "to": area(row.to_area_id, row.to_name),
                "to_basis": row.to_basis,
            }
            for row in found.moving
        ],
        "overlaps": None
        if coverage is None
        else [
            {
                "area": area(row.area_id, row.name),
                "other": area(row.other_area_id, row.other_name),
                "wins_area_id": ids.show("ter", row.wins_area_id),
                "area_m2": row.area_m2,
                "at": {"lon": row.lon, "lat": row.lat},
            }
            for row in coverage.overlaps
        ],
        "overlap_count": None if coverage is None else coverage.overlap_count,
        "gaps": None
        if coverage is None
        else [{"area_m2": row.area_m2, "at": {"lon": row.lon, "lat": row.lat}} for row in coverage.gaps],
        "gap_count": None if coverage is None else coverage.gap_count,
    }


@handler("layer.undo")
def undo_layer(session: Session, args: Mapping[str, Any]) -> Any:
    """Publish a former version again."""
    version = args.get("version")
    return _published(
        territories.undo(
            session,
            int(args["layer_id"]),
            actor=actor_of(session, args),
            reason=str(args["reason"]),
            version=None if version is None else int(version),
        )
    )


def _published(done: territories.Published) -> dict[str, Any]:
    return {
        "version": done.version,
        "status": done.status,
        "effective_from": done.effective_from,
        "moved": done.moved,
        "rebased": done.rebased,
        "concerned": done.concerned,
        "merged": done.merged,
    }


@handler("layer.make_current", cron="* * * * *")
def make_due_current(session: Session, args: Mapping[str, Any]) -> Any:
    """Make layer versions current whose time has come."""
    return {"layers": territories.make_due_current(session)}

"""Import the AdventureWorks sample whole: people, shops, sales, territories; then say whose everybody is, and why.

    python examples/adventureworks/run.py DIRECTORY          import (a second time: everything unchanged)
    python examples/adventureworks/run.py DIRECTORY --place  place those at (0, 0) from their address
    python examples/adventureworks/run.py DIRECTORY --undo   take it back

DIRECTORY holds customers_geo.csv, stores_geo.csv, sales_lines.csv and territories.geojson. The database is the one that
`geocrm` uses (GEOCRM_HOME or GEOCRM_DATABASE_URL).

Polygons alone put many people nowhere: coasts are drawn coarsely, points are scattered round their towns, some came as
(0, 0). So the territories are published twice: with polygons only, and with a rule on country and state beside each
polygon. A rule comes before a polygon; where both speak and disagree, the site goes to a queue to resolve.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.db.engine import Database, open_database
from geocrm.db.migrate import prepare_and_upgrade
from geocrm.ids import show
from geocrm.ingest import batches, load, recipes, undo
from geocrm.settings import get_settings
from geocrm.spatial import atlas, geocoding, layers, publishing

HERE = Path(__file__).parent
SOURCE = "adventureworks"
LAYER = "adventureworks"
SINCE = datetime(2015, 1, 1, tzinfo=UTC)  # the first day of the sales
FILES = {
    "people": "customers_geo.csv",
    "shops": "stores_geo.csv",
    "sales": "sales_lines.csv",
    "territories": "territories.geojson",
}


@dataclass
class Whose:
    """How the people's territories compare with the one that their record names; sites by basis of the assignment."""

    same: int
    other: int
    none: int
    bases: dict[str, int]
    queue: dict[str, int]  # the queue of contradictions, by kind


@dataclass
class Done:
    """What a run did: counts of each import, and whose the people are, by polygon alone and with the rules."""

    imports: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    by_polygon: Whose | None = None
    with_rules: Whose | None = None


def import_all(database: Database, directory: Path, say: Callable[[str], None] = lambda line: None) -> Done:
    """Import the four files of the directory into the database and publish the territories."""
    done = Done()
    _import(database, done, "territories", directory / FILES["territories"], "territories.yaml")
    first = _publish(database, "Polygons of the sample")
    for what in ("people", "shops", "sales"):
        _import(database, done, what, directory / FILES[what], f"{what}.yaml")
        say(f"{what}: {_counts(done.imports[what])}")
    if first:
        with database.writing() as session:
            done.by_polygon = whose(session)
    with tempfile.TemporaryDirectory() as folder:
        ruled = Path(folder) / FILES["territories"]
        ruled.write_text(json.dumps(with_rules(directory / FILES["territories"])), encoding="utf-8")
        _import(database, done, "rules", ruled, "territories-with-rules.yaml")
    _publish(database, "Country and state come before the polygon")
    say(f"territories: {_counts(done.imports['rules'])}")
    with database.writing() as session:
        done.with_rules = whose(session)
    return done


def with_rules(path: Path) -> dict[str, Any]:
    """The territories as GeoJSON with a rule each: the country and, in the United States, the states in the polygon."""
    collection: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    states = atlas.us_states()
    inside = gpd.GeoSeries(shapely.point_on_surface(states.geometry.to_numpy()), crs=4326)
    for feature in collection["features"]:
        facts = feature["properties"]
        rule: dict[str, Any] = {"field": "country", "op": "=", "value": facts["country"]}
        if facts["country"] == "US":
            shape = shapely.make_valid(shapely.from_geojson(json.dumps(feature["geometry"])))
            held = sorted(states["state"][inside.intersects(shape)].dropna())
            rule = {"all": [rule, {"field": "region", "op": "in", "value": held}]}
        facts["rule"] = rule
    return collection


def whose(session: Session) -> Whose:
    """Compare, on the layer's present version, the ledger with the territory that each person's record names."""
    layer = layers.get_layer(session, LAYER).id
    row = session.execute(
        text(
            """
            SELECT count(*) FILTER (WHERE x.name = c.attributes ->> 'territory') AS same,
              count(*) FILTER (WHERE x.name <> c.attributes ->> 'territory') AS other,
              count(*) FILTER (WHERE x.id IS NULL) AS none
            FROM customer_sources s
            JOIN customers c ON c.id = s.customer_id AND c.kind = 'person'
            LEFT JOIN assignments a ON a.customer_id = c.id AND a.layer_id = CAST(:layer AS bigint)
              AND a.superseded_at IS NULL AND a.valid_to IS NULL
            LEFT JOIN areas x ON x.id = a.area_id
            WHERE s.source = :source"""
        ),
        {"layer": layer, "source": SOURCE},
    ).one()
    values = {"layer": layer}
    bases = session.execute(
        text(
            "SELECT basis, count(*) AS n FROM assignments WHERE layer_id = CAST(:layer AS bigint) "
            "AND superseded_at IS NULL AND valid_to IS NULL GROUP BY basis ORDER BY basis"
        ),
        values,
    )
    queue = session.execute(
        text(
            "SELECT x.kind, count(*) AS n FROM contradictions x JOIN customers c ON c.id = x.customer_id "
            "WHERE x.layer_id = CAST(:layer AS bigint) AND x.resolved_at IS NULL AND c.kind = 'person' "
            "GROUP BY x.kind ORDER BY x.kind"
        ),
        values,
    )
    return Whose(
        same=row.same,
        other=row.other,
        none=row.none,
        bases={entry.basis: entry.n for entry in bases},
        queue={entry.kind: entry.n for entry in queue},
    )


def _import(database: Database, done: Done, what: str, path: Path, recipe_file: str) -> None:
    recipe = recipes.from_yaml((HERE / recipe_file).read_text(encoding="utf-8"))
    with database.writing() as session:
        batch = batches.create_batch(
            session, path, recipe.kind, None, recipe, SYSTEM, uploads=database.settings.uploads
        ).id
    summary = load.run(batch, database=database)
    done.batches.append(batch)
    done.imports[what] = summary["counts"]


def _publish(database: Database, reason: str) -> bool:
    """Publish the newest draft of the layer, if an import left one; whether it was the first version of all."""
    with database.writing() as session:
        layer = layers.get_layer(session, LAYER)
        first = layer.current_version is None
        newest = layers.find_versions(session, layer.id)[0]
        if newest.status != "draft":
            return False
        publishing.publish(session, layer.id, newest.version, actor=SYSTEM, reason=reason, effective_from=SINCE)
        return first


def _counts(counts: dict[str, Any]) -> str:
    said = [f"{counts[name]:,} {name}" for name in ("new", "changed", "unchanged", "rejected") if counts.get(name)]
    return ", ".join(said) or "nothing"


def print_summary(database: Database, done: Done) -> None:
    """Say in words what is there now."""
    with database.writing() as session:
        sold = session.execute(
            text(
                "SELECT count(DISTINCT s.id) AS orders, count(*) AS lines, sum(l.amount) AS amount "
                "FROM sale_sources x JOIN sales s ON s.customer_id = x.customer_id AND s.id = x.sale_id "
                "JOIN sale_lines l ON l.customer_id = s.customer_id AND l.sale_id = s.id WHERE x.source = :source"
            ),
            {"source": SOURCE},
        ).one()
        flagged = session.scalar(
            text(
                "SELECT count(*) FROM sites t JOIN customer_sources x ON x.customer_id = t.customer_id "
                "WHERE x.source = :source AND t.placement = 'flagged'"
            ),
            {"source": SOURCE},
        )
    print(f"sales: {sold.orders:,} orders, {sold.lines:,} lines, {sold.amount:,} USD")
    print(f"flagged: {flagged:,} addresses came as (0, 0); they are on no map until --place")
    for title, found in (("by polygon alone", done.by_polygon), ("with the rules", done.with_rules)):
        if found is not None:
            print(
                f"{title}: {found.same:,} people in the territory that their record names, {found.other:,} in another, "
                f"{found.none:,} in none; queue: {found.queue or 'empty'}"
            )


def place_flagged(database: Database) -> geocoding.Outcome:
    """Place the people and shops of this source that came as (0, 0) from their address; the flags are cleared."""
    with database.writing() as session:
        sites = session.scalars(
            text(
                "SELECT t.id FROM sites t JOIN customer_sources x ON x.customer_id = t.customer_id "
                "WHERE x.source = :source AND t.placement = 'flagged'"
            ),
            {"source": SOURCE},
        ).all()
        return geocoding.replace_flagged(session, sites, actor=SYSTEM, limit=max(len(sites), 1))


def undo_all(database: Database, say: Callable[[str], None] = lambda line: None) -> None:
    """Take back all imports of this source that are done, the last one first; the layer then holds no territory.

    Raises Conflict where rows were edited since. What the ledger and the audit recorded stays.
    """
    with database.writing() as session:
        layer = layers.get_layer(session, LAYER)
        if layer.current_version is not None and layers.count_areas(session, layer.id, layer.current_version):
            draft = layers.create_draft(session, layer.id, actor=SYSTEM, source="empty")
            publishing.publish(session, layer.id, draft.version, actor=SYSTEM, reason="The sample is taken back")
        batches = session.execute(
            text("SELECT id, kind FROM import_batches WHERE source = :source AND status = 'done' ORDER BY id DESC"),
            {"source": SOURCE},
        ).all()
    for batch in batches:
        undo.undo(batch.id, database=database)
        say(f"undone: {batch.kind}, {show('imp', batch.id)}")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("directory", type=Path, help="where customers_geo.csv and the other three files lie")
    parser.add_argument("--place", action="store_true", help="place those at (0, 0) from their address")
    parser.add_argument("--undo", action="store_true", help="take the imports back")
    given = parser.parse_args(arguments)
    missing = [name for name in FILES.values() if not (given.directory / name).is_file()]
    if missing and not (given.undo or given.place):
        print(f"{given.directory} lacks {', '.join(missing)}", file=sys.stderr)
        return 2
    database = open_database(get_settings())
    prepare_and_upgrade(database)
    try:
        if given.undo:
            undo_all(database, print)
        elif given.place:
            placed = place_flagged(database)
            print(f"placed {placed.placed:,} of {placed.considered:,} from their address: {placed.by_source}")
        else:
            print_summary(database, import_all(database, given.directory, print))
    finally:
        database.dispose()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The territory plan in the database: layers and areas, then who belongs where, with one change of plan."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import shapely
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.demo import territories
from geocrm.demo.company import World
from geocrm.demo.copying import copy
from geocrm.demo.geography import people_in
from geocrm.demo.placing import SOURCE
from geocrm.spatial import areas, layers, ledger, publishing

LAYER = "sales"


def first_polygons(world: World) -> list[Any]:
    """The polygon of each territory before the change of plan, None where it has none."""
    force = world.sales_force
    return [
        force.former[name][0] if name in force.former else shape
        for name, shape in zip(force.territories["name"], force.territories.geometry, strict=True)
    ]


def add_layers(
    session: Session, connection: psycopg.Connection[Any], world: World, users: list[int]
) -> tuple[int, list[int], int]:
    """The sales territories as they were at first (primary, in force from the year the books begin), and the counties
    for reference. Returns the id of the sales layer, the ids of its territories, and how many areas there are."""
    force, begin = world.sales_force, datetime(world.start.year, 1, 1, tzinfo=UTC)
    admin = users[0]
    sales = _layer(session, LAYER, "Sales territories", "territories", True, begin, admin)
    user_of = dict(zip(force.users["login"], users, strict=True))
    team_of = {row.name: row.id for row in session.execute(text("SELECT name, id FROM teams"))}
    owners = [user_of[login] for login in force.territories["login"]]
    teams = [team_of[team] for team in force.territories["team"]]
    shapes = first_polygons(world)
    counties_of = [
        force.former[name][1] if name in force.former else listed
        for name, listed in zip(force.territories["name"], force.territories["counties"], strict=True)
    ]
    attributes = [
        json.dumps({"team": t, "counties": c}) for t, c in zip(force.territories["team"], counties_of, strict=True)
    ]
    ids = _areas(
        connection, sales, 0, list(force.territories["name"]), shapes,
        [None if rule is None else json.dumps(rule) for rule in force.territories["rule"]], attributes, owners, teams,
    )  # fmt: skip
    n = len(owners)
    copy(
        connection,
        "area_owners",
        {
            "area_id": ids,
            "valid_from": [begin] * n,
            "owner_id": owners,
            "team_id": teams,
            "actor_id": [admin] * n,
            "reason": ["Territory plan"] * n,
        },
    )
    codes = [f"T-{i + 1:02d}" for i in range(n)]
    copy(connection, "area_sources", {"source": [SOURCE] * n, "external_id": codes, "area_id": ids})
    counties = world.counties
    layer = _layer(session, "counties", "Counties", "reference", False, begin, admin)
    m = len(counties)
    people = people_in(counties, world.zips)
    facts = [
        json.dumps({"fips": fips, "state": state} | ({"population": many} if many else {}))
        for fips, state, many in zip(counties["fips"], counties["region"], people.tolist(), strict=True)
    ]
    titles = list(counties["name"] + ", " + counties["region"])
    _areas(connection, layer, n, titles, list(counties.geometry), [None] * m, facts, [None] * m, [None] * m)
    ledger.adopt(session, layer, 1, begin)
    return sales, ids, n + m


def _layer(session: Session, key: str, name: str, kind: str, primary: bool, begin: datetime, actor: int) -> int:
    layer: int = session.execute(
        text(
            "INSERT INTO layers (key, name, kind, is_primary, current_version) "
            "VALUES (:key, :name, :kind, :primary, 1) RETURNING id"
        ),
        {"key": key, "name": name, "kind": kind, "primary": primary},
    ).scalar_one()
    session.execute(
        text(
            "INSERT INTO layer_versions (layer_id, version, status, effective_from, published_at, actor_id, reason) "
            "VALUES (:layer, 1, 'published', :begin, :begin, :actor, 'Initial plan')"
        ),
        {"layer": layer, "begin": begin, "actor": actor},
    )
    return layer


def _areas(
    connection: psycopg.Connection[Any],
    layer: int,
    offset: int,
    names: list[str],
    shapes: list[Any],
    rules: list[str | None],
    attributes: list[str],
    owners: list[Any],
    teams: list[Any],
) -> list[int]:
    n = len(names)
    ids = list(range(offset + 1, offset + n + 1))
    copy(
        connection,
        "areas",
        {
            "id": ids,
            "layer_id": [layer] * n,
            "name": names,
            "owner_id": pa.array(owners, pa.int64()),
            "team_id": pa.array(teams, pa.int64()),
        },
    )
    multi = [
        None if s is None or pd.isna(s) else s if s.geom_type == "MultiPolygon" else shapely.MultiPolygon([s])
        for s in shapes
    ]
    copy(
        connection,
        "area_versions",
        {
            "area_id": ids,
            "version": [1] * n,
            "name": names,
            "geometry": [
                None if s is None else shapely.to_wkb(shapely.set_srid(s, 4326), hex=True, include_srid=True)
                for s in multi
            ],
            "rule": pa.array(rules, pa.string()),
            "attributes": attributes,
        },
    )
    copy(
        connection,
        "layer_areas",
        {"layer_id": [layer] * n, "layer_version": [1] * n, "area_id": ids, "area_version": [1] * n},
    )
    return ids


def carry_out(session: Session, world: World, layer: int, ids: list[int], admin: int) -> None:
    """Evaluate all sites under the first plan, then change the plan once: the ledger gets a history."""
    session.execute(
        text("CREATE TEMP TABLE changed_customers ON COMMIT DROP AS SELECT id AS customer_id FROM customers")
    )
    session.execute(text("ALTER TABLE changed_customers ADD PRIMARY KEY (customer_id)"))
    session.execute(text("ANALYZE changed_customers"))
    actor = access.load_actor(session, admin)
    ledger.evaluate_bulk(session, reason="Initial plan", actor=actor)
    draft = layers.create_draft(session, layer, actor=actor)
    force = world.sales_force
    for name in force.former:
        row = int(np.flatnonzero((force.territories["name"] == name).to_numpy())[0])
        areas.put_area(
            session,
            layer,
            draft.version,
            ids[row],
            actor=actor,
            geometry=shapely.MultiPolygon([force.territories.geometry.iloc[row]]),
            attributes={
                "team": force.territories["team"].iloc[row],
                "counties": force.territories["counties"].iloc[row],
            },
        )
    since = datetime(world.until.year, 1, 1, tzinfo=UTC)
    publishing.publish(session, layer, draft.version, actor=actor, reason=territories.MOVE_REASON, effective_from=since)

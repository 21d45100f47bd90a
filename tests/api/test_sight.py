"""What keys without exact places see, what is seen of sites that are another's, and who reads jobs and drafts."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from shapely import box
from sqlalchemy import text

from geocrm import access
from geocrm.access import SYSTEM
from geocrm.api.app import create_app
from geocrm.db import audit, models
from geocrm.db.engine import Database
from geocrm.spatial import areas, layers, territories
from tests.api.conftest import World
from tests.makers import make_customer, make_sale, make_site, make_team, make_user

Clients = Callable[[str | None], TestClient]
LAT = 39.74


@pytest.fixture(scope="module")
def world(new_database: Callable[[], Database]) -> Iterator[World]:
    """West and East meet half way between a site in West and the point of the grid, in East, to which it is snapped."""
    database = new_database()
    made = World(database, create_app(database))
    with database.writing() as session:
        team = make_team(session, "North")
        for role in ("administrator", "manager", "rep", "marketer", "analyst"):
            inside = team.id if role != "marketer" else None
            made.users[role] = make_user(session, role, team_id=inside).id
        made.users["other"] = make_user(session, "rep").id
        lon, lat = session.execute(
            text("SELECT ST_X(p), ST_Y(p) FROM (SELECT geocrm_snap(ST_SetSRID(ST_MakePoint(-105.0, :lat), 4326)) p) g"),
            {"lat": LAT},
        ).one()
        border = lon - 0.0005
        layer = layers.create_layer(
            session, key="sales", name="Sales", kind="territories", actor=SYSTEM, is_primary=True
        )
        draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
        for name, edges, owner in (("west", (-106.0, border), "rep"), ("east", (border, -104.0), "other")):
            shape = box(edges[0], 39.0, edges[1], 40.5)
            put = areas.put_area(
                session, layer.id, draft, actor=SYSTEM, name=name, geometry=shape, owner_id=made.users[owner]
            )
            made.ids[name] = put.area_id
        territories.publish(
            session, layer.id, draft, actor=SYSTEM, reason="plan", effective_from=datetime(2025, 1, 1, tzinfo=UTC)
        )
        edge = make_customer(
            session, lon - 0.001, lat, name="Edge", owner_id=made.users["rep"], site={"label": "12 Hidden Lane"}
        )
        split = make_customer(session, -105.5, LAT, name="Split", owner_id=made.users["other"])
        far = make_site(session, split, -104.5, LAT)
        gone = make_site(session, split, -104.6, LAT)
        territories.evaluate(session, [edge.id, split.id], actor=SYSTEM, reason="set up")
        make_sale(session, edge, "10.00")
        make_sale(session, split, "100.00", site_id=far.id)
        make_sale(session, split, "7.00")
        near = session.scalar(text("SELECT id FROM sites WHERE customer_id = :id AND is_primary"), {"id": split.id})
        for site in (near, far.id):
            session.add(models.Contradiction(customer_id=split.id, site_id=site, layer_id=layer.id, kind="no_polygon"))
        edge_site = session.scalar(text("SELECT id FROM sites WHERE customer_id = :id"), {"id": edge.id})
        session.add(models.Contradiction(customer_id=edge.id, site_id=edge_site, layer_id=layer.id, kind="no_polygon"))
        audit.record(
            session, "site.update", actor_id=None, object_id=f"cus_{edge.id}",
            before={"site": f"sit_{edge_site}", "label": "12 Hidden Lane"},
            after={"site": f"sit_{edge_site}", "label": "x"},
        )  # fmt: skip
        session.execute(text("DELETE FROM sites WHERE id = :id"), {"id": gone.id})
        made.ids |= {
            "edge": edge.id,
            "split": split.id,
            "near": near,
            "far": far.id,
            "gone": gone.id,
            "layer": layer.id,
        }
        for name, scopes in (
            ("snapped", ["customers:read", "contacts"]),
            ("exact", ["customers:read", "locations:exact"]),
            ("imports", ["imports"]),
        ):
            token, digest = access.new_token("gk_")
            owner = "administrator" if name == "imports" else "rep"
            session.add(models.ApiKey(user_id=made.users[owner], name=name, prefix="gk_", digest=digest, scopes=scopes))
            made.keys[name] = token
    with TestClient(made.app, raise_server_exceptions=False) as started:
        made.started = started
        yield made


def test_the_world_is_as_it_says(world: World) -> None:
    with world.database.writing() as session:
        held = dict(session.execute(text("SELECT id, territory_id FROM sites")).all())  # type: ignore[arg-type]
    edge = [area for site, area in held.items() if site not in (world.ids["near"], world.ids["far"])]
    assert (edge, held[world.ids["near"]], held[world.ids["far"]]) == (
        [world.ids["west"]], world.ids["west"], world.ids["east"],
    )  # fmt: skip


def is_in(area: int) -> list[str]:
    """Filters that hold where the site is in the area, each in another way; alone or inside any and not."""
    leaf = {"field": "territory", "op": "=", "value": f"ter_{area}"}
    nobody = {"field": "name", "op": "=", "value": "nobody"}
    return [
        json.dumps(leaf),
        json.dumps({"field": "territory", "op": "in", "value": [f"ter_{area}"]}),
        json.dumps({"any": [leaf, nobody]}),
        json.dumps({"all": [{"any": [leaf, leaf]}, {"not": nobody}]}),
        json.dumps({"not": {"field": "territory", "op": "!=", "value": f"ter_{area}"}}),
        json.dumps({"not": {"not": leaf}}),
        json.dumps({"within": {"area": f"ter_{area}"}}),
    ]


@pytest.mark.parametrize(("who", "here", "there"), [("key:snapped", "east", "west"), ("key:exact", "west", "east")])
def test_territories_are_those_of_the_points_shown(
    client: Clients, world: World, who: str, here: str, there: str
) -> None:
    asked = client(who)
    inside, outside = world.ids[here], world.ids[there]
    edge = f"cus_{world.ids['edge']}"
    point = {"lon": -105.0, "lat": LAT, "radius_m": 5000}

    def found(path: str, **query: object) -> set[str]:
        answer = asked.get(path, params=query)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        return {row["id"] for row in answer.json()["data"]} & {edge}

    for path, more in (("/v1/customers", {}), ("/v1/customers/nearby", point)):
        assert found(path, territory=f"ter_{inside}", **more) == {edge}, path
        assert found(path, territory=f"ter_{outside}", **more) == set(), path
        for wanted in is_in(inside):
            assert found(path, filter=wanted, **more) == {edge}, (path, wanted)
        for wanted in is_in(outside):
            assert found(path, filter=wanted, **more) == set(), (path, wanted)
    named = json.dumps({"field": "name", "op": "=", "value": "Edge"})
    for area, number in ((inside, 1), (outside, 0)):
        counted = asked.get("/v1/customers/count", params={"territory": f"ter_{area}", "filter": named}).json()
        assert counted["customers"] == number

    listed = next(row for row in asked.get("/v1/customers").json()["data"] if row["id"] == edge)
    near = next(row for row in asked.get("/v1/customers/nearby", params=point).json()["data"] if row["id"] == edge)
    whole = asked.get(f"/v1/customers/{edge}").json()
    for shown in (listed, near, whole):
        said = json.dumps(shown)
        assert f'"ter_{inside}"' in said, said
        assert f'"ter_{outside}"' not in said, said


def test_a_snapped_key_reads_no_polygon_of_the_ledger(client: Clients, world: World) -> None:
    path = f"/v1/customers/cus_{world.ids['edge']}"
    snapped, exact = client("key:snapped"), client("key:exact")
    for query in ("", "?superseded=true", "?as_of=2026-06-01T00:00:00Z"):
        assert snapped.get(f"{path}/territories{query}").json()["data"] == [], query
    assert {row["basis"] for row in exact.get(f"{path}/territories").json()["data"]} == {"polygon"}
    site = snapped.get(path).json()["sites"][0]
    assert (site["territory_basis"], site["territory_reason"], site["label"]) == (None, None, None)
    assert exact.get(path).json()["sites"][0]["territory_basis"] == "polygon"
    assert snapped.get("/v1/layers/lay_sales/contradictions").json()["data"] == []
    assert len(exact.get("/v1/layers/lay_sales/contradictions").json()["data"]) == 2
    assert "Hidden Lane" not in snapped.get(f"{path}/history").text
    assert "Hidden Lane" in exact.get(f"{path}/history").text
    sales = "/v1/layers/lay_sales/sales?start=2026-01-01T00:00:00Z&end=2027-01-01T00:00:00Z"
    assert (snapped.get(sales).status_code, exact.get(sales).status_code) == (403, 200)
    for export in ("/v1/exports/customers.csv", "/v1/exports/totals.csv?by=territory"):
        assert snapped.get(export).status_code == exact.get(export).status_code == 403


def test_the_ledger_is_that_of_the_sites_one_sees(client: Clients, world: World) -> None:
    """The rep sees the customer by its site in West; East and the site that is no more are the other's."""
    path = f"/v1/customers/cus_{world.ids['split']}"
    near, far, gone = (f"sit_{world.ids[name]}" for name in ("near", "far", "gone"))
    for who, sites in (("rep", {near}), ("other", {near, far, gone}), ("administrator", {near, far, gone})):
        reader = client(who)
        ledger = reader.get(f"{path}/territories?superseded=true").json()["data"]
        assert {row["site_id"] for row in ledger} == sites, who
        queue = reader.get("/v1/layers/lay_sales/contradictions").json()["data"]
        assert {row["site_id"] for row in queue if row["customer"]["id"] == path[14:]} == sites - {gone}, who
        sales = reader.get(f"{path}/sales").json()["data"]
        assert {row["amount"]: row["site_id"] for row in sales} == {
            "100.0000": far if far in sites else None,
            "7.0000": None,
        }, who
    # a sale at a site that one does not see is not that of the primary site
    report = client("rep").get(
        "/v1/layers/lay_sales/sales?start=2026-01-01T00:00:00Z&end=2027-01-01T00:00:00Z&period=year"
    )
    by_area = {row["territory"] and row["territory"]["id"]: row["amount"] for row in report.json()["data"]}
    assert by_area == {f"ter_{world.ids['west']}": "17.0000", None: "100.0000"}


def test_drafts_and_plans_are_for_those_who_draft(client: Clients, world: World) -> None:
    admin = client("administrator")
    draft = admin.post("/v1/layers/lay_sales/drafts", json={}).json()["version"]
    routes = (
        f"/v1/layers/lay_sales/areas?version={draft}",
        f"/v1/layers/lay_sales/versions/{draft}/areas/ter_{world.ids['west']}",
        f"/v1/layers/lay_sales/versions/{draft}/coverage",
        f"/v1/layers/lay_sales/versions/{draft}/named-accounts",
    )

    def check(status: str) -> None:
        for who in ("administrator", "manager"):
            listed = client(who).get("/v1/layers/lay_sales/versions").json()["data"]
            assert status in {row["status"] for row in listed}
            assert [client(who).get(path).status_code for path in routes] == [200] * 4
        for who in ("rep", "analyst", "marketer", "key:exact"):
            listed = client(who).get("/v1/layers/lay_sales/versions").json()["data"]
            assert {row["status"] for row in listed} == {"published"}, who
            assert [client(who).get(path).status_code for path in routes] == [403] * 4, who
            published = [path.replace(f"={draft}", "=1").replace(f"/{draft}/", "/1/") for path in routes]
            assert [client(who).get(path).status_code for path in published] == [200] * 4, who

    check("draft")
    with world.database.writing() as session:
        territories.publish(
            session, world.ids["layer"], draft, actor=SYSTEM, reason="later",
            effective_from=datetime(2999, 1, 1, tzinfo=UTC), overwrite=True,
        )  # fmt: skip
    check("scheduled")


def test_a_manager_reads_what_reps_and_managers_of_the_team_started(client: Clients, world: World) -> None:
    numbers = {}
    with world.database.writing() as session:
        for number, who in enumerate(world.users):
            job = models.Job(id=9_000_000 + number, name="test", user_id=world.users[who], status="done")
            batch = models.ImportBatch(
                kind="customers", source="s", file_name="f.csv", status="preview", user_id=world.users[who]
            )
            session.add_all([job, batch])
            session.flush()
            numbers[who] = (job.id, batch.id)
        key_id = session.scalar(text("SELECT id FROM api_keys WHERE name = 'imports'"))
        job = models.Job(id=9_100_000, name="test", user_id=world.users["administrator"], key_id=key_id, status="done")
        job.result = {"name": "Canary"}
        session.add(job)
    manager = client("manager")
    for who, (job_id, batch_id) in numbers.items():
        expected = 200 if who in ("rep", "manager") else 404
        assert manager.get(f"/v1/jobs/job_{job_id}").status_code == expected, who
        assert manager.get(f"/v1/imports/imp_{batch_id}").status_code == expected, who
        assert client("administrator").get(f"/v1/jobs/job_{job_id}").status_code == 200
    key = client("key:imports")
    assert [job["id"] for job in key.get("/v1/jobs").json()["data"]] == ["job_9100000"]
    assert "Canary" not in key.get("/v1/jobs/job_9100000").text
    assert key.get("/v1/imports").json()["data"] == []
    assert key.get(f"/v1/imports/imp_{numbers['administrator'][1]}").status_code == 404


def test_a_job_sees_no_more_than_the_key_that_asked(world: World) -> None:
    from geocrm.jobs.registry import actor_of

    with world.database.writing() as session:
        key_id = session.scalar(text("SELECT id FROM api_keys WHERE name = 'snapped'"))
        args = {"user_id": world.users["rep"], "key_id": key_id}
        actor = actor_of(session, args)
        assert (actor.exact, actor.scopes, actor.key_id) == (False, frozenset({"customers:read", "contacts"}), key_id)
        assert not actor.may("imports:customers")
        session.execute(text("UPDATE api_keys SET revoked_at = now() WHERE id = :id"), {"id": key_id})
        with pytest.raises(Exception, match="no longer valid"):
            actor_of(session, args)
        session.rollback()

"""Segmentations over the API: from creating to the map, previews, versions, suppression, plans of the database."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from geocrm import access, filters, jobs
from geocrm.db import models
from geocrm.segmentation import suppressing
from geocrm.spatial import lookup
from tests.api.conftest import World
from tests.makers import make_customer, make_sale
from tests.spatial import mvt

Clients = Callable[[str | None], TestClient]
SPENDERS = {"field": "sales.amount", "op": ">=", "value": 100}
RULES = {"rules": [{"name": "Spenders", "filter": SPENDERS}]}
_NUMBER = iter(range(1, 1000))


def create(client: TestClient, method: str = "rule", **parameters: Any) -> dict[str, Any]:
    body = {"key": f"key-{next(_NUMBER)}", "name": "Division", "method": method, "parameters": parameters or RULES}
    answer = client.post("/v1/segmentations", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/segmentations/{answer.json()['id']}"
    made: dict[str, Any] = answer.json()
    return made


def work(world: World, client: TestClient, path: str, body: Any = None) -> dict[str, Any]:
    """Start a job, let the worker do it; its result."""
    answer = client.post(path, json=body)
    assert answer.status_code == 202, answer.text
    jobs.run_queued(world.database)
    job: dict[str, Any] = client.get(f"/v1/jobs/{answer.json()['job_id']}").json()
    assert job["status"] == "done", job
    return job


def test_from_a_rule_to_the_map(world: World, client: Clients) -> None:
    """Created by an analyst, published by a marketer, seen by a rep within own sight; and taken back."""
    with world.database.writing() as session:
        numbers = session.scalars(text("SELECT id FROM customers")).all()
        lookup.refresh(session, numbers)
    analyst, marketer, rep = client("analyst"), client("marketer"), client("rep")
    made = create(analyst)
    path = f"/v1/segmentations/{made['id']}"
    done = work(world, analyst, f"{path}/runs", {})
    assert done["result"]["customers"] == len(numbers)
    run = analyst.get(f"{path}/runs/1").json()
    assert (run["status"], run["is_current"], run["customers"]) == ("done", False, len(numbers))
    (segment,) = run["results"]["segments"]
    assert (segment["name"], segment["size"], segment["sentence"]) == ("Spenders", 4, "with sales of at least 100")
    assert analyst.post(f"{path}/runs/1/publish").status_code == 403
    assert analyst.get(path).json()["segments"] == []
    work(world, marketer, f"{path}/runs/1/publish")
    work(world, marketer, f"{path}/activate")
    shown = rep.get(path).json()
    assert shown["is_active"]
    members = rep.get(f"/v1/segments/{segment['id']}/members").json()["data"]
    seen = {row["id"] for row in rep.get("/v1/customers").json()["data"]}
    assert {row["id"] for row in members} == seen
    assert shown["segments"][0]["customers"] == len(seen) < len(numbers)
    tile = marketer.get("/tiles/customers/0/0/0.mvt", params={"colour": "segment"})
    cells = mvt.read(tile.content)["customers"]
    assert {feature["key"] for feature in cells} == {segment["id"]}
    told = marketer.get("/tiles/customers.json").json()
    assert set(told["keys"]["segment"]) == {segment["id"]}
    assert sum(told["keys"]["segment"].values()) == told["sites"] - told["sites_beyond_85"]
    assert "rule" in marketer.get("/v1/segmentations").json()["methods"]
    card = rep.get(f"/v1/customers/{members[0]['id']}").json()
    assert [row["segment"] for row in card["segments"]] == [{"id": segment["id"], "name": "Spenders"}]

    changed = analyst.patch(
        path,
        json={"parameters": {"rules": [{"name": "Spenders", "filter": SPENDERS | {"value": 10_000}}]}},
        headers={"If-Match": f'"{shown["version"]}"'},
    )
    assert changed.status_code == 200, changed.text
    assert changed.headers["etag"] == f'"{changed.json()["version"]}"'
    assert analyst.patch(path, json={"name": "x"}, headers={"If-Match": '"1"'}).status_code == 412
    work(world, marketer, f"{path}/runs", {"then_publish": True})
    assert rep.get(f"/v1/segments/{segment['id']}/members").json()["data"] == []
    moves = rep.get(f"{path}/moves", params={"from_run": 1, "to_run": 2}).json()["data"]
    assert [(row["from_segment"]["name"], row["to_segment"], row["customers"]) for row in moves] == [
        ("Spenders", None, len(seen))
    ]
    work(world, marketer, f"{path}/revert")
    assert {row["id"] for row in rep.get(f"/v1/segments/{segment['id']}/members").json()["data"]} == seen
    with world.database.writing() as session:
        actions = session.scalars(text("SELECT action FROM audit_log WHERE object = :id"), {"id": made["id"]}).all()
    assert set(actions) >= {f"segmentation.{done}" for done in ("create", "update", "run", "publish", "activate")}


def test_previews(world: World, client: Clients) -> None:
    analyst = client("analyst")
    asked = analyst.post("/v1/segmentations/preview", json={"method": "rule", "filter": SPENDERS})
    assert asked.json()["rule"] == {
        "sentence": "with sales of at least 100", "customers": 4, "exact": True, "looked_at": 4,
    }  # fmt: skip
    for wrong, pointer in (
        ({"method": "rule"}, "/filter"),
        ({"method": "rule", "filter": {"field": "shoe_size", "value": 1}}, "/filter/field"),
        ({"method": "rule", "filter": {"field": "contact.email", "op": "exists", "value": True}}, "/filter/field"),
        ({"method": "rule", "filter": {"field": "scores.nowhere.m", "value": 1}}, "/filter"),
        ({"method": "groups", "parameters": {"dial": 2}}, "/parameters/dial"),
    ):
        answer = analyst.post("/v1/segmentations/preview", json=wrong)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert client("rep").post("/v1/segmentations/preview", json={"method": "rule"}).status_code == 403


def test_groups_are_previewed_on_a_sample(world: World, client: Clients) -> None:
    analyst = client("analyst")
    with world.database.writing() as session:
        for number in range(60):
            far = number % 2
            customer = make_customer(session, -105 + 3 * far + number / 1e4, 39.7, name=f"Sampled {number}")
            for days in range(1 + 3 * far + number % 3):
                sold = customer.created_at.replace(year=2025, month=1 + 2 * days % 12, day=1 + number % 28)
                make_sale(session, customer, str(10 + 90 * far + number / 7), occurred_at=sold)
        numbers = session.scalars(text("SELECT id FROM customers WHERE name LIKE 'Sampled%'")).all()
        session.execute(text("INSERT INTO sale_changes DEFAULT VALUES"))
    work(world, analyst, f"/v1/segmentations/{create(analyst, 'rfm', cuts={})['id']}/runs", {})
    answer = analyst.post("/v1/segmentations/preview", json={"method": "groups", "parameters": {"k": 2, "dial": 0.5}})
    assert answer.status_code == 200, answer.text
    found = answer.json()["groups"]
    assert sum(row["customers"] for row in found["groups"]) == found["sample"] == len(found["customers"])
    group_of = {row["id"]: row["group"] for row in found["customers"]}
    near, far = ({group_of[f"cus_{number}"] for number in numbers[start::2]} for start in (0, 1))
    assert len(near) == len(far) == 1
    assert near != far


def test_names_and_versions_of_segments(world: World, client: Clients) -> None:
    marketer = client("marketer")
    made = create(marketer, "rfm", cuts={})
    work(world, marketer, f"/v1/segmentations/{made['id']}/runs", {"then_publish": True})
    segment = marketer.get(f"/v1/segmentations/{made['id']}").json()["segments"][0]
    path = f"/v1/segments/{segment['id']}"
    assert marketer.patch(path, json={"name": "Ours"}).status_code == 428
    assert marketer.patch(path, json={"name": "Ours"}, headers={"If-Match": '"9"'}).status_code == 412
    renamed = marketer.patch(path, json={"name": "Ours"}, headers={"If-Match": f'"{segment["version"]}"'})
    assert renamed.json()["name"] == "Ours"
    told = marketer.get(f"/v1/segmentations/{made['id']}/runs/1").json()["results"]["segments"]
    assert [row["name"] for row in told if row["id"] == segment["id"]] == ["Ours"]
    work(world, marketer, f"/v1/segmentations/{made['id']}/runs", {"then_publish": True})
    assert marketer.get(path).json()["name"] == "Ours"
    rule = create(marketer)
    work(world, marketer, f"/v1/segmentations/{rule['id']}/runs", {"then_publish": True})
    named = marketer.get(f"/v1/segmentations/{rule['id']}").json()["segments"][0]["id"]
    assert marketer.patch(f"/v1/segments/{named}", json={"name": "x"}, headers={"If-Match": "*"}).status_code == 409


def test_a_run_is_started_once_and_cancelled(world: World, client: Clients) -> None:
    marketer = client("marketer")
    path = f"/v1/segmentations/{create(marketer)['id']}"
    key = {"Idempotency-Key": "run-once"}
    first, second = (marketer.post(f"{path}/runs", json={}, headers=key) for _ in range(2))
    assert first.json() == second.json()
    assert len(marketer.get(f"{path}/runs").json()["data"]) == 1
    assert marketer.post(f"{path}/runs/1/publish").status_code == 409, "it is not done"
    assert marketer.post(f"{path}/runs/1/cancel").json()["status"] == "cancelled"
    assert marketer.post(f"{path}/runs/1/cancel").status_code == 409
    jobs.run_queued(world.database)
    assert marketer.get(f"{path}/runs/1").json()["status"] == "cancelled"
    assert marketer.post(f"{path}/revert").status_code == 202
    assert jobs.run_queued(world.database) == 1
    assert marketer.get("/v1/jobs").json()["data"][0]["error"]["detail"] == "There is no former run to go back to."


def actor(*, sees_all: bool) -> access.Actor:
    return access.Actor(user_id=1, name="x", role="rep", sees_all=sees_all)


def test_small_groups_are_not_told_to_who_does_not_see_them() -> None:
    """Nothing under 10, and nothing from which it follows; who sees every customer is told all."""
    sizes = {0: 400, 1: 30, 2: 9, 3: 0}
    results = {
        "segments": [{"label": k, "segment": 70 + k, "name": "n", "size": n, "share": 0.1} for k, n in sizes.items()],
        "profile": [{"label": k, "feature": "f", "n": n, "mean": 1.0, "average": 2.0} for k, n in sizes.items()]
        + [{"label": 0, "feature": "g", "n": 9, "mean": 1.0, "average": 2.0}],
        "worth_by_segment": [{"label": k, "worth": 5.0} for k in sizes],
        "total": {"worth": 20.0},
        "drift": {"moves": [{"from": 70, "to": 72, "customers": 1}], "lineages": []},
        "shades": {"z": {"fewest": 9}, "m": {"fewest": 10}},
        "profiles": {"0": [1.0]},
    }
    entitled = suppressing.results_for(actor(sees_all=True), results)
    assert [row["size"] for row in entitled["segments"]] == [400, 30, 9, 0]
    assert entitled["drift"]["moves"] == [{"from": "seg_70", "to": "seg_72", "customers": 1}]
    shown = suppressing.results_for(actor(sees_all=False), results)
    assert [row["size"] for row in shown["segments"]] == [400, None, None, 0]
    assert [(row["label"], row["feature"]) for row in shown["profile"]] == [(0, "f")]
    assert [row["label"] for row in shown["worth_by_segment"]] == [0, 3]
    assert shown["drift"] is None
    assert set(shown["shades"]) == {"m"}
    assert set(entitled["shades"]) == {"z", "m"}
    assert "total" not in shown
    assert "profiles" not in shown
    # two small ones of 8 together give each other away to whoever is in one of them
    segments = [dict(row, size=size) for row, size in zip(results["segments"], (400, 30, 5, 3), strict=True)]
    shown = suppressing.results_for(actor(sees_all=False), dict(results, segments=segments))
    assert [row["size"] for row in shown["segments"]] == [400, None, None, None]
    assert [suppressing.customers_for(actor(sees_all=False), n) for n in (None, 0, 9, 10)] == [None, 0, None, 10]
    assert suppressing.customers_for(actor(sees_all=True), 9) == 9
    progress, error = {"phase": "done", "done": 7}, {"title": "Too little.", "detail": "3 of 45 customers left."}
    assert suppressing.progress_for(actor(sees_all=True), progress) == progress
    assert suppressing.progress_for(actor(sees_all=False), progress) == {"phase": "done"}
    assert suppressing.error_for(actor(sees_all=True), error) == error
    assert suppressing.error_for(actor(sees_all=False), error) == {"title": "Too little."}


@pytest.mark.parametrize(
    "leaf",
    [
        {"field": "segments.plan", "op": "=", "value": "seg_1"},
        {"field": "scores.plan.m", "op": ">=", "value": 4},
    ],
)
def test_scores_are_found_by_the_key_of_their_table(world: World, leaf: dict[str, Any]) -> None:
    """For a list of some customers the database asks by customer and run, and never reads a whole table."""
    with world.database.writing() as session:
        session.execute(text("DELETE FROM segmentations WHERE key = 'plan'"))
        held = models.Segmentation(key="plan", name="Plan", method="rfm", current_run_id=900_001)
        session.add(held)
        session.flush()
        session.add(
            models.SegmentationRun(
                id=900_001, segmentation_id=held.id, number=1, status="done", cutoff=held.created_at, seed=1,
                parameters={}, score_names=["r", "f", "m"],
            )
        )  # fmt: skip
        session.flush()
        session.execute(
            text(
                "INSERT INTO segment_members SELECT 1000000 + i, 900001, 1 FROM generate_series(1, 20000) i"
                " ON CONFLICT DO NOTHING"
            )
        )
        session.execute(
            text(
                "INSERT INTO scores SELECT 1000000 + i, 900001, '{1,2,3}' FROM generate_series(1, 20000) i"
                " ON CONFLICT DO NOTHING"
            )
        )
        session.execute(text("ANALYZE segment_members, scores"))
        rep = access.load_actor(session, world.users["rep"])
        with access.as_user(session, rep):
            compiled = filters.parse(leaf).compile("customer")
            plan = session.scalars(
                text(f"EXPLAIN SELECT c.id FROM customers c WHERE {compiled.named()} ORDER BY c.id LIMIT 50"),
                compiled.params(),
            ).all()
        session.rollback()
    said = "\n".join(plan)
    assert "Index" in said
    assert "Seq Scan on segment_members" not in said, said
    assert "Seq Scan on scores" not in said, said


def test_tiles_coloured_by_a_score(world: World, client: Clients) -> None:
    """The shades that the API suggests; points and cells by them within sight; another run is another tile."""
    marketer, rep = client("marketer"), client("rep")
    with world.database.writing() as session:
        for number in range(90):
            customer = make_customer(
                session, 7 + number / 1e4, 46.5, name=f"Scored {number}",
                owner_id=world.users["rep"] if number % 2 else world.users["other"],
            )  # fmt: skip
            make_sale(session, customer, str(10 + number), occurred_at=customer.created_at.replace(year=2025, month=2))
        lookup.refresh(session, session.scalars(text("SELECT id FROM customers WHERE name LIKE 'Scored%'")).all())
        session.execute(text("INSERT INTO sale_changes DEFAULT VALUES"))
    made = create(marketer, "rfm", cuts={})
    path, key = f"/v1/segmentations/{made['id']}", made["key"]
    assert made["shades"] == {}
    work(world, marketer, f"{path}/runs", {"then_publish": True})
    told = marketer.get(path).json()["shades"]["m"]
    assert (told["by"], told["values"], told["cuts"]) == ("value", [1, 2, 3, 4, 5], [2, 3, 4, 5])
    assert rep.get(path).json()["shades"]["m"] == told, "of so many in each shade everybody is told"
    named = '{"field": "name", "op": "contains", "value": "Scored"}'
    asked = {"colour": f"scores.{key}.m", "cuts": "2,3,4,5", "filter": named}
    by_reader = {}
    for name, reader in (("marketer", marketer), ("rep", rep)):
        points = list(mvt.read(reader.get("/tiles/customers/14/8510/5795.mvt", params=asked).content)["customers"])
        by_reader[name] = {feature["id"]: feature for feature in points}
        for feature in points[:5]:
            scores = reader.get(f"/v1/customers/{feature['id']}").json()["scores"][key]
            assert feature["score"] == scores["m"] == feature["shade"] + 1
    assert len(by_reader["marketer"]) == 90
    assert len(by_reader["rep"]) == 45
    del asked["filter"]
    tile = "/tiles/customers/3/4/2.mvt"
    first = marketer.get(tile, params=asked)
    (cell,) = mvt.read(first.content)["customers"]
    assert cell["n"] == cell["looked_at"] >= 90
    known = {"If-None-Match": first.headers["etag"]}
    assert marketer.get(tile, params=asked, headers=known).status_code == 304
    work(world, marketer, f"{path}/runs", {"then_publish": True})
    assert marketer.get(tile, params=asked, headers=known).status_code == 200
    for wrong, pointer in (
        ({"colour": "scores.nowhere.m"}, "/colour"), ({"colour": f"scores.{key}.x"}, "/colour"),
        ({"cuts": "2,1"}, "/cuts"), ({"cuts": "a"}, "/cuts"), ({"colour": "stage"}, "/cuts"),
        ({"colour": "scores."}, "/colour"),
    ):  # fmt: skip
        answer = marketer.get(tile, params=asked | wrong)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert marketer.get(tile, params={"colour": asked["colour"]}).json()["errors"][0]["pointer"] == "/cuts"

"""Geofences from files over the API: the upload, its job, what is said of rows that cannot be fences."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from geocrm import access, fence_files, jobs
from geocrm.db import models
from tests.api.conftest import World

Clients = Callable[[str | None], TestClient]
SHOPS = "key,label,lon,lat,radius,city\nb-1,Pearl,-105.28,40.02,200,Boulder\nb-2,Canyon,-105.279,40.02,200,Boulder\n"
RECIPE = {"columns": {"external_id": "key", "name": "label"}, "metadata": ["city"], "dwell_s": 60}


def upload(client: TestClient, content: str = SHOPS, *, recipe: Any = RECIPE, **fields: Any) -> Any:
    return client.post(
        "/v1/geofences/imports",
        files={"file": ("shops.csv", content, "text/csv")},
        data={"tag": "from-file", "recipe": json.dumps(recipe)} | fields,
    )


def finished(client: TestClient, world: World, answer: Any) -> dict[str, Any]:
    """The job of an upload, when it is over."""
    assert answer.status_code == 202, answer.text
    jobs.run_queued(world.database)
    return dict(client.get(answer.headers["location"]).json())


def listed(client: TestClient) -> list[str]:
    return [one["external_id"] for one in client.get("/v1/geofences?tag=from-file").json()["data"]]


def test_a_try_then_the_import_then_the_same_again(client: Clients, world: World) -> None:
    marketer = client("marketer")
    tried = finished(marketer, world, upload(marketer, dry_run="true"))
    assert (tried["status"], tried["result"]["new"], tried["result"]["dry_run"]) == ("done", 2, True)
    assert listed(marketer) == []
    done = finished(marketer, world, upload(marketer))
    assert done["result"] == {
        "dry_run": False, "processed": 2, "new": 2, "changed": 0, "unchanged": 0,
        "overlaps": [["from-file/b-1", "from-file/b-2"]],
    }  # fmt: skip
    fence = marketer.get("/v1/geofences/from-file/b-1").json()
    assert (fence["name"], fence["radius_m"], fence["dwell_s"]) == ("Pearl", 200.0, 60.0)
    assert fence["metadata"] == {"city": "Boulder"}
    assert finished(marketer, world, upload(marketer))["result"]["unchanged"] == 2
    rows = world.database.settings.uploads.glob("upload-*")
    assert {path.stat().st_mode & 0o777 for path in rows} == {0o600}


def test_rows_that_cannot_be_fences_are_told_by_line_and_nothing_is_half_done(client: Clients, world: World) -> None:
    marketer = client("marketer")
    before = listed(marketer)
    failed = finished(marketer, world, upload(marketer, SHOPS + "b-3,,8.5,97,50,\nb-4,,8.5,47,5,\n"))
    assert (failed["status"], failed["error"]["refused"], failed["result"]) == ("failed", 2, None)
    assert failed["error"]["detail"] == "2 of 4 rows cannot be fences, so nothing was imported."
    assert [(one["line"], one["detail"]) for one in failed["error"]["errors"]] == [
        (4, "lat: 97 is out of range"),
        (5, "radius_m: expected 10 to 100000 m"),
    ]
    assert listed(marketer) == before


@pytest.mark.parametrize(
    ("content", "given", "pointer"),
    [
        (SHOPS, {"recipe": {}}, "/columns"),
        (SHOPS, {"recipe": RECIPE | {"metadata": ["town"]}}, "/columns"),
        (SHOPS, {"recipe": RECIPE | {"radius": 5}}, "/recipe/radius"),
        (SHOPS, {"recipe": RECIPE | {"columns": {"phone": "x"}}}, "/recipe/columns/phone"),
        (SHOPS, {"tag": "My shops"}, "/tag"),
        ("", {}, "/file"),
    ],
)
def test_what_an_upload_lacks_is_said_at_once(
    client: Clients, world: World, content: str, given: dict[str, Any], pointer: str
) -> None:
    kept = set(world.database.settings.uploads.glob("*"))
    answer = upload(client("marketer"), content, **given)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    if pointer == "/columns":
        assert answer.json()["columns"] == ["key", "label", "lon", "lat", "radius", "city"]
    assert set(world.database.settings.uploads.glob("*")) == kept


def test_a_key_for_fences_is_told_of_its_own_imports(client: Clients, world: World) -> None:
    token, digest = access.new_token("gk_")
    with world.database.writing() as session:
        values = {"name": "shops", "prefix": "gk_", "digest": digest, "scopes": ["geofences:write"]}
        session.add(models.ApiKey(user_id=world.users["marketer"], **values))
    program = world.new_client()
    program.headers["Authorization"] = f"Bearer {token}"
    program.headers["Idempotency-Key"] = "once"
    sent, again = upload(program), upload(program)
    assert sent.json() == again.json()
    assert finished(program, world, sent)["result"]["processed"] == 2
    assert upload(program, SHOPS + "b-3,,8.5,47,50,\n").status_code == 422  # the key, for another file
    program.close()


def test_it_tells_how_far_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the job runs, its row says how many rows were read."""
    monkeypatch.setattr(fence_files, "_TELL_EVERY", 1)
    path = world.database.settings.uploads / "upload-progress"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SHOPS)
    with world.database.writing() as session:
        session.add(models.Job(id=20_000_001, name="geofences.import", user_id=None, status="running"))
    recipe = fence_files.Recipe("told", {"external_id": "key"})
    fence_files.import_upload(world.database, access.SYSTEM, path, recipe, name="shops.csv", dry_run=True)
    with world.database.writing() as session:
        assert session.get_one(models.Job, 20_000_001).result == {"processed": 2}

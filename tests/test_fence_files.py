"""Geofences from files, and offers and geofences on the command line."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
from shapely import LineString, Point, Polygon, box
from sqlalchemy import text
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from geocrm import cli, fence_files, texts
from geocrm.access import SYSTEM
from geocrm.campaigns import geofences, offers
from geocrm.db import engine
from geocrm.db.engine import Database
from geocrm.errors import GeocrmError, Invalid, InvalidFile
from geocrm.ingest.formats import Options

SHOPS = "id,name,lon,lat,radius_m,city\ndenver-1,Union Station,-104.9995,39.7527,150,Denver\nb-2,,8.54,47.37,90.5,\n"


def fences(session: Session) -> dict[str, dict[str, Any]]:
    return {f"{one['tag']}/{one['external_id']}": one for one in geofences.find(session, limit=1000)}


def import_(session: Session, path: Path, **given: Any) -> fence_files.Imported:
    return fence_files.import_fences(session, SYSTEM, path, fence_files.Recipe(**({"tag": "shops"} | given)))


def refused(session: Session, path: Path, **given: Any) -> list[str]:
    """What is said of each row that cannot be a fence; nothing is written."""
    before = fences(session)
    with pytest.raises(fence_files.Unusable) as caught:
        import_(session, path, **given)
    assert fences(session) == before
    return [f"{one.line}: {one.why}" for one in caught.value.refused]


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    path = tmp_path / "shops.csv"
    path.write_text(SHOPS)
    return path


def test_points_with_a_radius_and_the_same_file_twice(session: Session, shops: Path) -> None:
    done = import_(session, shops, metadata=["City"], dwell_s=60.0)
    assert (done.new, done.changed, done.unchanged, done.overlaps) == (2, 0, 0, ())
    found = fences(session)["shops/denver-1"]
    assert (found["center"], found["radius_m"], found["name"], found["dwell_s"], found["metadata"]) == (
        {"lon": -104.9995, "lat": 39.7527}, 150.0, "Union Station", 60.0, {"City": "Denver"},
    )  # fmt: skip
    again = import_(session, shops, metadata=["City"], dwell_s=60.0)
    assert (again.new, again.changed, again.unchanged) == (0, 0, 2)
    assert fences(session)["shops/denver-1"]["version"] == 1
    shops.write_text(SHOPS.replace("90.5", "95"))
    assert import_(session, shops, metadata=["City"], dwell_s=60.0).changed == 1
    shops.write_text("\n".join(SHOPS.splitlines()[:2]))  # what the file does not name stays
    assert import_(session, shops, metadata=["City"], dwell_s=60.0).unchanged == 1
    assert set(fences(session)) == {"shops/denver-1", "shops/b-2"}


@pytest.mark.parametrize("ending", ["geojson", "gpkg", "zip"])
def test_polygons_and_points_of_geographic_files(session: Session, tmp_path: Path, ending: str) -> None:
    shapes = [box(8.5, 47.3, 8.51, 47.31), Polygon([(8.6, 47.3), (8.61, 47.3), (8.605, 47.31)])]
    frame = gpd.GeoDataFrame({"code": ["a", "b"]}, geometry=shapes, crs=4326)
    path = tmp_path / f"zones.{ending}"
    if ending == "zip":
        frame.to_crs(2056).to_file(tmp_path / "zones.shp")
        import zipfile

        with zipfile.ZipFile(path, "w") as packed:
            for part in tmp_path.glob("zones.*"):
                if part != path:
                    packed.write(part, part.name)
    else:
        frame.to_file(path)
    assert import_(session, path, tag="zones").new == 2
    assert geofences.get(session, "zones", "a")["kind"] == "polygon"
    assert session.scalars(
        text("SELECT tag FROM geocrm_fences_at(ST_SetSRID(ST_MakePoint(8.505, 47.305), 4326))")
    ).all()
    if ending == "geojson":
        points = gpd.GeoDataFrame({"code": ["p"], "radius": [40]}, geometry=[Point(8.5, 47.3)], crs=4326)
        points.to_file(tmp_path / "points.geojson")
        import_(session, tmp_path / "points.geojson")
        assert geofences.get(session, "shops", "p")["radius_m"] == 40.0


def test_every_bad_row_is_told_and_nothing_is_half_done(session: Session, tmp_path: Path, shops: Path) -> None:
    import_(session, shops)
    path = tmp_path / "bad.csv"
    path.write_text(
        "id,lon,lat,radius_m\ngood,8.5,47.3,50\nx y,8.5,47.3,50\n,8.5,47.3,50\na,east,47.3,50\nb,8.5,97,50\nc,8.5,,50\n"
        "d,8.5,47.3,5\ne,8.5,89.9,5000\ngood,8.6,47.3,50\nf,8.5,47.3,inf\n"
    )
    assert refused(session, path) == [
        "3: external_id: 'x y' is no id; letters, digits and . _ : ~ - are one, at most 200",
        "4: external_id: is empty; letters, digits and . _ : ~ - are one, at most 200",
        "5: lon: 'east' is no number",
        "6: lat: 97 is out of range",
        "7: there is no point: neither a geometry nor lon and lat",
        "8: radius_m: expected 10 to 100000 m",
        "9: the circle reaches a pole; fences end at 89° of latitude",
        "10: external_id: good stands on line 2 already",
        "11: radius_m: inf is out of range",
    ]
    bowtie = Polygon([(8, 47), (8.1, 47.1), (8.1, 47), (8, 47.1)])
    date_line = box(179.99, 1, 180.01, 1.01)
    frame = gpd.GeoDataFrame(
        {"code": ["a", "b", "c"]}, geometry=[bowtie, LineString([(8, 47), (9, 47)]), date_line], crs=4326
    )
    frame.to_file(tmp_path / "bad.geojson")
    said = refused(session, tmp_path / "bad.geojson")
    assert len(said) == 3
    assert "crosses itself" in said[0]
    assert "Polygon or a MultiPolygon" in said[1]


@pytest.mark.parametrize(
    ("content", "given", "said"),
    [
        ("key,lon,lat,radius_m\na,1,1,50\n", {}, "Which column names a fence.*external_id.*key, lon, lat"),
        ("id,lon\na,1\n", {}, "needs columns for lat, radius_m"),
        ("id,lon,lat,radius_m\na,1,1,50\n", {"columns": {"name": "label"}}, "no column label"),
        ("id,lon,lat,radius_m\na,1,1,50\n", {"metadata": ["city"]}, "no column city"),
        ("id,lon,lat,radius_m\na,1,1,50\n", {"tag": "My shops"}, "is no tag"),
        ("id,lon,lat,radius_m\na,1,1,50\n", {"reading": Options(crs="EPSG:2056")}, "are degrees"),
    ],
)
def test_what_a_file_lacks(session: Session, tmp_path: Path, content: str, given: dict[str, Any], said: str) -> None:
    (tmp_path / "shops.csv").write_text(content)
    with pytest.raises((Invalid, InvalidFile), match=said):
        import_(session, tmp_path / "shops.csv", **given)
    with pytest.raises(InvalidFile, match="no file"):
        import_(session, tmp_path / "none.csv")


@pytest.fixture
def company(new_database: Callable[[], Database], monkeypatch: pytest.MonkeyPatch) -> Database:
    made = new_database()
    monkeypatch.setattr(made, "dispose", lambda: None)  # it is the test's, not the command's
    monkeypatch.setattr(engine, "open_database", lambda settings: made)
    return made


def run(*words: str) -> str:
    done = CliRunner().invoke(cli.app, list(words))
    if isinstance(done.exception, GeocrmError):
        return done.output + texts.of_error(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


def test_on_the_command_line(company: Database, shops: Path) -> None:
    words = ("geofences", "import", str(shops), "--tag", "shops")
    assert "There are no such geofences." in run("geofences", "list")
    assert "--id-column" in run(*words, "--name-column", "label")
    assert (
        run(*words, "--dry-run").strip()
        == "shops.csv: fences 2 new, 0 changed, 0 unchanged (a try: nothing was written)."
    )
    assert "There are no such geofences." in run("geofences", "list")
    shops.write_text(SHOPS + "near,,8.541,47.37,90,\n")
    assert run(*words).splitlines() == [
        "shops.csv: fences 3 new, 0 changed, 0 unchanged.",
        "  shops/b-2 and shops/near overlap: who stands there is in both.",
    ]
    shops.write_text(SHOPS + "bad,,8.541,97,90,\n")
    assert run(*words).splitlines() == [
        "  line 4: lat: 97 is out of range",
        "shops.csv: 1 of 3 rows cannot be fences, so nothing was imported.",
    ]
    with company.writing() as session:
        made = offers.create_offer(
            session, actor=SYSTEM, name="Coffee", title="A coffee", ends_at=datetime.now(UTC) + timedelta(days=3),
            consent_purpose=None, areas=[{"geofence": "shops/near"}],
        )  # fmt: skip
        offers.go_live(session, made.id, actor=SYSTEM)
    listed = {row["fence"]: row["offers"] for row in json.loads(run("geofences", "list", "--json"))}
    assert listed == {"shops/denver-1": None, "shops/b-2": None, "shops/near": "off_1"}
    (offer,) = json.loads(run("offers", "list", "--status", "live", "--json"))
    assert (offer["id"], offer["title"], offer["redeemed"]) == ("off_1", "A coffee", 0)
    assert "There are no such offers." in run("offers", "list", "--status", "ended")
    assert "is no status" in run("offers", "list", "--status", "gone")

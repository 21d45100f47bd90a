"""The map page: what is in it, for whom, opened in a browser that has no network."""

import html
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import shapely
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import text

from geocrm import errors, filters
from geocrm.access import SYSTEM
from geocrm.db.engine import Database
from geocrm.reports import assets, customer_map, map_page
from geocrm.settings import Settings
from tests import makers, world_of_reports
from tests.world_of_reports import World

CHROMIUM = Path("/usr/bin/chromium")
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(new_database: Callable[[], Database]) -> World:
    return world_of_reports.build(new_database())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


def make(world: World, user_id: int | None = None, **options: object) -> str:
    with world.database.writing() as session:
        actor = SYSTEM if user_id is None else makers.access.load_actor(session, user_id)
        return customer_map.make(session, actor, now=NOW, **options)  # type: ignore[arg-type]


def rows_of(page: str) -> list[list[object]]:
    """The sites that a page holds."""
    call = re.search(r"geocrmSites\(map_\w+, (\{.*?\}), (\[.*\])\);\n", page)
    assert call is not None
    found: list[list[object]] = json.loads(call.group(2))
    return found


def test_it_says_what_it_is(world: World) -> None:
    page = make(
        world, title="Front Range", filter=filters.parse({"field": "stage", "op": "in", "value": ["active", "lead"]})
    )
    assert "<title>Front Range</title>" in page
    assert "<h1>Front Range</h1>" in page
    assert "21 November 2026, 09:30 UTC" in page
    assert "3 customers, 2 sites on the map, 1 site without a usable place left out" in page
    assert html.escape(filters.parse({"field": "stage", "op": "in", "value": ["active", "lead"]}).sentence()) in page
    assert "for geocrm." in page
    for stage in ("prospect", "lead", "active", "lapsed"):
        assert f"{stage}</li>" in page
    assert html.escape(f"Sales {world_of_reports.TEMPLATE}") in page  # not run as a template: 49 is not there
    assert "{{ 7*7 }}" in page
    assert [row[4] for row in rows_of(page)] == [world_of_reports.SCRIPT, world_of_reports.TEMPLATE]


def test_ids_in_a_filter_are_named(world: World) -> None:
    wanted = filters.parse({"field": "owner", "op": "=", "value": f"usr_{world.rep}"})
    assert "Rita Rep" in make(world, filter=wanted).split("<details")[0]


def test_no_request_and_no_script_from_data(world: World, browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "map.html"
    file.write_text(make(world, title=world_of_reports.SCRIPT), encoding="utf-8")
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 800})
    tab = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
    tab.goto(file.as_uri())
    tab.wait_for_selector(".leaflet-marker-icon, path.leaflet-interactive, canvas")
    tab.wait_for_timeout(500)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []
    assert tab.evaluate("window.hacked") is None
    assert tab.title() == world_of_reports.SCRIPT
    # the name of a customer stands in its card as text
    tab.evaluate(
        "() => { const map = Object.values(window).find((v) => v instanceof L.Map); map.setView([40.0, -105.5], 18); }"
    )
    tab.wait_for_timeout(400)
    box = tab.locator(".folium-map").bounding_box()
    assert box is not None
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    card = tab.locator(".card b").first
    card.wait_for()
    assert card.inner_text() == world_of_reports.SCRIPT
    assert tab.evaluate("window.hacked") is None
    assert said == []
    context.close()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (360, 640)])
def test_it_fits_desktop_and_phone(world: World, browser: Browser, tmp_path: Path, width: int, height: int) -> None:
    file = tmp_path / "map.html"
    file.write_text(make(world, world.rep), encoding="utf-8")
    context = browser.new_context(offline=True, viewport={"width": width, "height": height})
    tab = context.new_page()
    tab.goto(file.as_uri())
    tab.wait_for_selector(".folium-map")
    tab.wait_for_timeout(300)
    wide, page_height, map_height = tab.evaluate(
        "() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight, "
        "document.querySelector('.folium-map').clientHeight]"
    )
    assert wide <= width
    assert page_height <= height
    assert map_height > height / 2
    assert tab.locator("details.legend").is_visible()
    axe = Settings().atlas_dir / "axe-core" / "axe.min.js"
    if axe.exists():
        tab.evaluate(axe.read_text(encoding="utf-8"))
        found = tab.evaluate("() => axe.run()")
        assert [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found["violations"]] == []
    context.close()


def test_rows_and_roles(world: World) -> None:
    own = {row[4] for row in rows_of(make(world, world.rep))}
    assert own == {world_of_reports.SCRIPT, world_of_reports.TEMPLATE, world_of_reports.QUOTES}
    assert "1 site without a usable place" in make(world, world.rep)
    others = rows_of(make(world, world.other))
    assert [row[4] for row in others] == [world_of_reports.QUOTES]  # the site in the east alone
    assert len(others) == 1
    consented = make(world, world.marketer)
    assert [row[4] for row in rows_of(consented)] == [world_of_reports.SCRIPT]
    assert "Only customers who consented to marketing." in consented
    with pytest.raises(errors.Forbidden):
        make(world, world.analyst)


def test_an_export_is_audited_and_a_refused_one_is_not(world: World) -> None:
    def entries() -> int:
        with world.database.writing() as session:
            return int(session.scalar(text("SELECT count(*) FROM audit_log WHERE action = 'report.map'")) or 0)

    before = entries()
    with pytest.raises(errors.Forbidden):
        make(world, world.analyst)
    with pytest.raises(errors.NotFound):
        make(world, layer="nonsense")
    assert entries() == before
    make(world, world.rep)
    assert entries() == before + 1


def test_limits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(customer_map, "MOST_SITES", 1)
    with pytest.raises(errors.TooLarge, match="narrow the filter"):
        make(world)
    from geocrm.crm import exports

    monkeypatch.setattr(exports, "REP_MOST", 1)
    with pytest.raises(errors.Forbidden, match="at most 1"):
        make(world, world.rep)


def test_nothing_to_show_is_said(world: World) -> None:
    page = make(world, filter=filters.parse({"field": "name", "op": "=", "value": "nobody"}))
    assert "No site that you may see passes this filter." in page
    assert rows_of(page) == []


def test_an_empty_company_has_a_page(browser: Browser, tmp_path: Path) -> None:
    content = map_page.MapContent("Empty", NOW, "everything", "nobody", "", [], [])
    file = tmp_path / "empty.html"
    file.write_text(map_page.render(content), encoding="utf-8")
    tab = browser.new_page()
    errors_seen: list[str] = []
    tab.on("pageerror", lambda error: errors_seen.append(str(error)))
    tab.goto(file.as_uri())
    tab.wait_for_selector("canvas, svg")
    assert errors_seen == []
    tab.close()


def test_neighbours_stay_neighbours_when_simplified() -> None:
    left, right = shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1)
    areas = [map_page.AreaRow("a", left), map_page.AreaRow("b", right)]
    features = map_page._area_features(areas, (0, 0, 2, 1))["features"]
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features]
    assert shapes[0].intersection(shapes[1]).area == 0
    assert shapely.union_all(shapes).area == pytest.approx(2)


def test_styles_carry_their_images() -> None:
    sheet = assets.style("leaflet/dist/leaflet.css")
    assert "data:image/png;base64," in sheet
    assert not re.search(r"url\((?!\"data:|#|none)", sheet.replace("url(#default#VML)", ""))
    assert "</script" not in assets.script("leaflet/dist/leaflet.js").lower()


def test_missing_parts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "get_settings", lambda: Settings(atlas_dir=tmp_path))
    with pytest.raises(errors.Unavailable, match="npm ci"):
        assets._path("leaflet/dist/leaflet.js")

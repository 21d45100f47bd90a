"""The map page: what is in it, for whom, opened in a browser that has no network."""

import html
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import text

from geocrm import errors, filters
from geocrm.access import SYSTEM, load_actor
from geocrm.db.engine import Database
from geocrm.reports import assets, customer_map, map_page
from geocrm.settings import CHECKOUT, Settings
from geocrm.spatial import areas, layers, publishing
from tests import world_of_reports
from tests.world_of_reports import World

CHROMIUM = Path("/usr/bin/chromium")
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
WATCH = """
window.sums = [];
new MutationObserver(() => {
  const icons = [...document.querySelectorAll(".cluster")];
  const alone = document.querySelectorAll(".site").length;
  const sum = icons.reduce((before, icon) => before + Number(icon.textContent.replaceAll(",", "")), alone);
  const entry = `${sum}${document.querySelector(".loading") ? " drawing" : ""}`;
  if (window.sums.at(-1) !== entry) window.sums.push(entry);
}).observe(document, { subtree: true, childList: true });
"""
"""Notes every number of sites that the page ever shows, and whether it says that it is drawing."""

MAP = "Object.values(window).find((value) => value instanceof L.Map)"


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
        actor = SYSTEM if user_id is None else load_actor(session, user_id)
        return customer_map.make(session, actor, now=NOW, **options)  # type: ignore[arg-type]


def names_in(page: str) -> list[str]:
    """The names of the sites that a page holds."""
    data = re.search(r'<script type="application/json" id="sites">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    columns = json.loads(data.group(1))
    names: list[str] = columns["name"]
    assert {len(column) for name, column in columns.items() if name != "words"} == {len(names)}
    return names


def legend_of(page: str) -> list[list[str]]:
    """The legend's table, row by row, without the colours."""
    table = re.search(r"<table>(.*?)</table>", page, re.DOTALL)
    assert table is not None
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)[1:] for row in table.group(1).split("</tr>")[:-1]]
    return [[html.unescape(cell) for cell in row] for row in rows]


@contextmanager
def shown(browser: Browser, file: Path, page: str, **options: Any) -> Iterator[Page]:
    """A page in a browser without a network, once its sites are drawn; no script of it may fail."""
    file.write_text(page, encoding="utf-8")
    context = browser.new_context(offline=True, **options)
    tab = context.new_page()
    failed: list[str] = []
    tab.on("pageerror", lambda error: failed.append(str(error)))
    tab.add_init_script(WATCH)
    tab.goto(file.as_uri())
    tab.wait_for_selector("main[aria-busy=false]")
    yield tab
    assert failed == []
    context.close()


def test_it_says_what_it_is(world: World) -> None:
    page = make(
        world, title="Front Range", filter=filters.parse({"field": "stage", "op": "in", "value": ["active", "lead"]})
    )
    assert "<title>Front Range</title>" in page
    assert "<h1>Front Range</h1>" in page
    assert "21 November 2026, 09:30 UTC" in page
    assert "3 customers, 2 sites on the map, 1 site without a usable place left out" in page
    assert html.escape(filters.parse({"field": "stage", "op": "in", "value": ["active", "lead"]}).sentence()) in page
    assert "UTC</time>.</p>" in page  # made by nobody in particular
    assert re.findall(r"</svg>(\w+)</li>", page) == ["lead", "active"]  # the legend shows what the map shows
    assert html.escape(f"Sales {world_of_reports.TEMPLATE}") in page  # not run as a template: 49 is not there
    assert "{{ 7*7 }}" in page
    assert names_in(page) == [world_of_reports.SCRIPT, world_of_reports.TEMPLATE]


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (360, 640)])
def test_it_fits_desktop_and_phone(
    world: World, browser: Browser, tmp_path: Path, width: int, height: int, scheme: str
) -> None:
    look: dict[str, Any] = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
    with shown(browser, tmp_path / "map.html", make(world, world.rep), **look) as tab:
        check_look(tab, width, height)


def check_look(tab: Page, width: int, height: int) -> None:
    """Nothing scrolls, the map has most of the page, axe finds nothing."""
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


def scattered(count: int) -> list[map_page.SiteRow]:
    """Sites round a few towns, a tenth of them at the very same spots."""
    random = np.random.default_rng(5)
    towns = random.uniform([-109, 37], [-102, 41], (40, 2))
    points = towns[random.integers(0, 40, count)] + random.normal(0, 0.1, (count, 2))
    points[: count // 10] = towns[random.integers(0, 40, count // 10)]
    return [
        map_page.SiteRow(lon, lat, number, f"Customer {number}", "active", "Town", "Rita Rep", "West")
        for number, (lon, lat) in enumerate(points.tolist(), start=1)
    ]


def test_fifty_thousand_sites_are_drawn_at_once_and_rightly(browser: Browser, tmp_path: Path) -> None:
    content = map_page.MapContent("Many", NOW, "everything", "nobody", "", scattered(50_000), [])
    page = map_page.render(content)
    assert len(page) < 5_000_000
    with shown(browser, tmp_path / "many.html", page, viewport={"width": 1280, "height": 800}) as tab:
        # it says that it is drawing, and from the first cluster on every site is counted
        sums = tab.evaluate("window.sums")
        assert "0 drawing" in sums
        assert [int(sum) for sum in sums if not sum.startswith("0")] == [50_000]
        drawn_s = tab.evaluate("performance.now()") / 1000
        assert drawn_s < 10
        # the same number at every zoom, and no two clusters on each other
        wrong = tab.evaluate(
            """() => {
              const data = JSON.parse(document.getElementById("sites").textContent);
              const place = (lon, n) => L.CRS.EPSG3857.latLngToPoint(L.latLng(data.lat[n] / 1e5, lon / 1e5), 0);
              const points = data.lon.map(place);
              const [x, y] = [points.map((point) => point.x / 256), points.map((point) => point.y / 256)];
              const wrong = [];
              for (const zoom of [3, 6.25, 9, 12, 17, 19]) {
                const { clusters, of } = geocrmClusters(x, y, zoom);
                const counted = new Int32Array(clusters.length);
                of.forEach((cluster) => { counted[cluster] += 1; });
                clusters.forEach((cluster, n) => { if (counted[n] !== cluster.sites) wrong.push([zoom, n]); });
                if (zoom > 12) continue;
                const apart = 256 * 2 ** zoom;
                clusters.forEach((one, n) => clusters.slice(0, n).forEach((other) => {
                  if (Math.hypot(one.x - other.x, one.y - other.y) * apart < 55.9) wrong.push([zoom, "touch", n]);
                }));
              }
              return wrong;
            }"""
        )
        assert wrong == []


def test_sites_at_one_spot_are_listed(browser: Browser, tmp_path: Path) -> None:
    sites = [map_page.SiteRow(-105, 40, n, f"<b>Number {n}</b>", "lead", precision_m=800) for n in (1, 2, 3)]
    page = map_page.render(map_page.MapContent("Three", NOW, "everything", "nobody", "", sites, []))
    with shown(browser, tmp_path / "three.html", page) as tab:
        tab.locator(".cluster").click()
        assert tab.locator(".card").inner_text().split("\n") == ["3 sites here", *(site.name for site in sites)]
        tab.locator(".card button").nth(1).click()
        assert tab.locator(".card").inner_text().split("\n")[0] == "<b>Number 2</b>"


def test_the_view_is_that_of_the_layer_or_the_filter(world: World, browser: Browser, tmp_path: Path) -> None:
    def sees(page: str) -> list[bool]:
        with shown(browser, tmp_path / "view.html", page, viewport={"width": 800, "height": 600}) as tab:
            inside = f"([lon, lat]) => {MAP}.getBounds().contains([lat, lon])"
            corners = [[-106, 39], [-104, 41], [179.99, -17.0], [-105.51, 40.01]]
            return [bool(tab.evaluate(inside, corner)) for corner in corners]

    lead = filters.parse({"field": "stage", "op": "=", "value": "lead"})
    assert sees(make(world)) == [True, True, True, True]  # every customer, the one in Fiji too
    assert sees(make(world, layer="sales")) == [True, True, False, True]  # the areas of the layer
    assert sees(make(world, filter=lead)) == [False, False, False, True]  # the customers of the filter
    assert sees(make(world, layer="sales", filter=lead)) == [False, False, False, True]


def test_the_legend_has_no_empty_column(world: World) -> None:
    assert legend_of(make(world, layer="sales")) == [
        [f"Sales {world_of_reports.TEMPLATE}", "Owner", "Sites"],
        [f"West {world_of_reports.SCRIPT}", "Rita Rep", "3"],
        ["East", world_of_reports.SCRIPT, "1"],
    ]
    for kind in ("reference", "territories"):  # counted by their outline, and by the ledger
        with world.database.writing() as session:
            layer = layers.create_layer(session, key=kind, name="Regions", kind=kind, actor=SYSTEM)
            draft = layers.create_draft(session, layer.id, actor=SYSTEM, source="empty")
            north = shapely.box(-106, 39.9, -104, 41)
            areas.put_area(session, layer.id, draft.version, actor=SYSTEM, name="North", geometry=north)
            unpublished = customer_map.make(session, SYSTEM, layer=kind, now=NOW)
            publishing.publish(session, layer.id, draft.version, actor=SYSTEM, reason="first")
        assert "No area of Regions is in force" in unpublished
        assert "<table>" not in unpublished
        assert legend_of(make(world, layer=kind)) == [["Regions", "Sites"], ["North", "2"]]
        assert names_in(make(world, layer=kind)) == names_in(make(world))


def test_rows_and_roles(world: World) -> None:
    assert set(names_in(make(world, world.rep))) == {
        world_of_reports.SCRIPT,
        world_of_reports.TEMPLATE,
        world_of_reports.QUOTES,
    }
    assert "1 site without a usable place" in make(world, world.rep)
    assert names_in(make(world, world.other)) == [world_of_reports.QUOTES]  # the site in the east alone
    consented = make(world, world.marketer)
    assert names_in(consented) == [world_of_reports.SCRIPT]
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
    with pytest.raises(errors.TooLarge, match="narrow it with --filter"):
        make(world)
    from geocrm.crm import exports

    monkeypatch.setattr(exports, "REP_MOST", 1)
    with pytest.raises(errors.Forbidden, match="at most 1"):
        make(world, world.rep)


def test_nothing_to_show_is_said(world: World) -> None:
    page = make(world, filter=filters.parse({"field": "name", "op": "=", "value": "nobody"}))
    assert "No site that you may see passes this filter." in page
    assert names_in(page) == []


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


def test_stages_look_as_on_the_web_map() -> None:
    palette = (CHECKOUT / "maps" / "src" / "design" / "palette.ts").read_text(encoding="utf-8")
    marks = re.findall(r"^  (\w+): \{ colour: '(#\w+)', shape: '(\w+)' \}", palette, re.MULTILINE)
    assert {stage: (colour, shape) for stage, colour, shape in marks} == map_page.STAGES
    assert {shape for _, shape in map_page.STAGES.values()} == set(map_page.SHAPES)


def crowded(areas: list[map_page.AreaRow], focus: Any) -> map_page.MapContent:
    """Sites close together all over two regions."""
    spots = np.random.default_rng(2).uniform([-105.2, 39.5], [-104.6, 40.0], (3000, 2))
    sites = [
        map_page.SiteRow(lon, lat, number, "Name", ("active", "lapsed")[number % 2])
        for number, (lon, lat) in enumerate(spots.tolist(), start=1)
    ]
    return map_page.MapContent("Spring", NOW, "everything", "", "Campaign", sites, areas, 2900, focus=focus)


def test_names_and_numbers_of_few_regions_are_shown(browser: Browser, tmp_path: Path) -> None:
    regions = [
        map_page.AreaRow(name, shapely.box(west, 39.6, west + 0.25, 39.9), sites=number)
        for name, west, number in (("Denver West", -105.2, 369), ("Denver East", -104.9, 599))
    ]
    page = map_page.render(crowded(regions, "areas"))
    assert "968 sites in 2 areas of Campaign; 2,900 customers, 3,000 sites on the map" in page
    with shown(browser, tmp_path / "few.html", page, viewport={"width": 1280, "height": 800}) as tab:
        names = tab.locator(".area-name")
        assert [name.is_visible() for name in names.all()] == [True, True]
        assert names.all_inner_texts() == ["Denver West", "Denver East"]


def test_what_is_touched_is_large_enough(browser: Browser, tmp_path: Path) -> None:
    look: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with shown(browser, tmp_path / "phone.html", map_page.render(crowded([], "sites")), **look) as tab:
        for control in tab.locator(".leaflet-bar a, .legend summary").all():
            box = control.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 44, control.inner_text()

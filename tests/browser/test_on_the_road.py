"""What somebody on the road relies on: the unknown is not said, what is found is seen, what fails says what to do."""

import json
import math
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Route, expect
from shapely.geometry import Point, shape
from sqlalchemy import text

from tests.browser.conftest import Opening, Screen, Size

BOTH: list[Size] = ["desktop", "phone"]


def view_of(screen: Screen) -> tuple[float, float, float]:
    """Longitude, latitude and zoom of the map, from the address."""
    lon, lat, zoom = parse_qs(urlsplit(screen.page.url).query)["at"][0].split(",")
    return float(lon), float(lat), float(zoom)


def pixel(screen: Screen, lon: float, lat: float) -> tuple[float, float]:
    """Where a point stands on the screen, from the Web Mercator grid of 512 pixels at zoom 0."""
    middle_lon, middle_lat, zoom = view_of(screen)
    side = 512 * 2**zoom

    def grid(x: float, y: float) -> tuple[float, float]:
        return (x + 180) / 360 * side, (1 - math.asinh(math.tan(math.radians(y))) / math.pi) / 2 * side

    (x, y), (x0, y0) = grid(lon, lat), grid(middle_lon, middle_lat)
    box = screen.page.locator(".map-frame").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2 + x - x0, box["y"] + box["height"] / 2 + y - y0


def free_height(screen: Screen) -> float:
    """The upper edge of what covers the bottom of the map."""
    if screen.size == "desktop":
        return 800
    box = screen.page.locator(".panel").bounding_box()
    assert box is not None
    return box["y"]


def test_a_count_is_said_when_it_is_known(open_screen: Opening) -> None:
    screen = open_screen("phone")
    page = screen.page
    held: list[Route] = []
    holding = True
    page.route("**/tiles/customers/**", lambda route: held.append(route) if holding else route.continue_())
    screen.open()
    page.get_by_label("E-mail address").fill("admin@demo.example")
    page.get_by_label("Password").fill("demo-geocrm")
    page.get_by_role("button", name="Sign in").click()
    said = page.locator(".tally [role=status]")
    expect(said).to_have_text("Loading customers…")
    screen.menu("Map")
    expect(page.locator(".legend-count").first).to_have_text("…")
    screen.axe("loading")
    holding = False
    for route in held:
        route.continue_()
    expect(said).to_have_text(re.compile(r"[\d,]+ customer sites? in view"))
    assert screen.tally() > 0


def test_tiles_that_fail_are_no_empty_map(open_screen: Opening) -> None:
    screen = open_screen()
    page = screen.page
    page.route("**/tiles/customers/**", lambda route: route.fulfill(status=503))
    screen.sign_in()
    expect(page.get_by_role("alert")).to_contain_text("The customers cannot be drawn")
    expect(page.get_by_text("No customer sites in view")).to_have_count(0)
    expect(page.locator(".legend-count").first).to_have_text("")
    page.unroute("**/tiles/customers/**")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert screen.tally() > 0


@pytest.mark.parametrize("person", [pytest.param("admin", marks=pytest.mark.soak), "rep"])
def test_keys_are_those_of_the_own_customers_with_exact_counts(open_screen: Opening, person: str) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in(person)
    page.get_by_role("button", name="Show all customers").click()
    screen.drawn()
    known = screen.ask("/tiles/customers.json")
    assert sum(known["keys"]["owner"].values()) == known["sites"]
    for label, field in (("Owner", "owner"), ("Territory", "territory")):
        offered = page.get_by_label(label, exact=True).locator("option").all_inner_texts()[1:]
        names = [re.sub(r" \([\d,]+\)$", "", option) for option in offered]
        assert len(set(names)) == len(names) > 0
        assert names == sorted(names, key=str.casefold)
        own = {key: n for key, n in known["keys"][field].items() if key}
        counts = sorted(int(re.sub(r"\D", "", option.rsplit("(", 1)[1])) for option in offered)
        assert [n for n in counts if n > 0] == sorted(own.values())
        page.get_by_role("button", name=label, exact=True).and_(page.locator(".choice")).click()
        screen.drawn()
        more = page.get_by_role("button", name=re.compile("^Show all \\d+$"))
        if more.count():
            more.click()
        shown = [int(n.replace(",", "")) for n in page.locator(".legend-count").all_inner_texts()]
        assert sorted(shown) == sorted(known["keys"][field].values())


def test_one_customer_is_no_cluster(open_screen: Opening) -> None:
    screen = open_screen()
    with screen.server.database.writing() as session:
        customer, lon, lat = session.execute(
            text(
                "SELECT l.customer_id, ST_X(l.location), ST_Y(l.location) FROM site_lookup l"
                " ORDER BY (SELECT o.location <-> l.location FROM site_lookup o WHERE o.site_id <> l.site_id"
                "           ORDER BY o.location <-> l.location LIMIT 1) DESC LIMIT 1"
            )
        ).one()
    screen.sign_in(query=f"?at={lon},{lat},8")
    assert screen.tally() >= 1
    x, y = pixel(screen, lon, lat)
    screen.page.mouse.click(x, y)
    expect(screen.page.get_by_role("article")).to_be_visible()
    name = screen.ask(f"/v1/customers/cus_{customer}")["name"]
    expect(screen.page.get_by_role("heading", level=1, name=name)).to_be_visible()


@pytest.mark.parametrize("size", BOTH)
def test_near_me_looks_as_far_as_needed(open_screen: Opening, size: Size) -> None:
    screen = open_screen(size)
    page = screen.page
    lon, lat = -124.5, 40.0
    screen.sign_in(query=f"?panel=near&near={lon},{lat}&from=typed")
    nearest = screen.ask(f"/v1/customers/nearby?lon={lon}&lat={lat}&limit=1")["data"][0]["distance_m"]
    assert nearest > 10_000
    within = next((f"within {r} km" for r in (25, 50, 100, 250, 500) if nearest <= r * 1000), "the nearest")
    expect(page.get_by_text(f"Nobody within 10 km; showing {within}.")).to_be_visible()
    expect(page.locator(".customer-row").first).to_be_visible()
    screen.axe("widened")
    page.locator(".fold summary").click()
    if not page.get_by_label("Within").is_visible():
        page.locator(".fold summary").click()
    page.get_by_label("Within").select_option("10000")
    expect(page.get_by_text("No customer within 10 km")).to_be_visible()
    page.get_by_role("button", name="Search as far as needed").click()
    expect(page.locator(".customer-row").first).to_be_visible()


def test_a_page_without_encryption_says_why_there_is_no_position(open_screen: Opening) -> None:
    screen = open_screen("phone")
    page = screen.page
    page.add_init_script("Object.defineProperty(window, 'isSecureContext', {value: false})")
    screen.sign_in()
    screen.menu("Near me")
    expect(page.get_by_role("alert")).to_contain_text("https")
    page.get_by_role("button", name="Search around the map’s middle").click()
    expect(page.locator(".customer-row").first).to_be_visible()


@pytest.mark.parametrize("size", BOTH)
@pytest.mark.parametrize("rough", [False, True])
def test_a_chosen_customer_is_seen_beside_its_card(open_screen: Opening, size: Size, rough: bool) -> None:
    screen = open_screen(size)
    page = screen.page
    with screen.server.database.writing() as session:
        customer, name = session.execute(
            text(
                "SELECT c.id, c.name FROM customers c JOIN sites s ON s.customer_id = c.id AND s.is_primary"
                " JOIN site_lookup l ON l.customer_id = s.customer_id AND l.site_id = s.id"
                f" WHERE s.precision_m {'> 3000' if rough else '< 60'} AND length(c.name) > 12"
                " ORDER BY (SELECT count(*) FROM customers o WHERE o.name = c.name), c.id LIMIT 1"
            )
        ).one()
    screen.sign_in(query="?at=-106,40,6")
    box = page.get_by_role("searchbox", name="Search customers")
    box.fill(name)
    row = page.locator(".customer-row", has_text=name).first
    expect(row).to_be_visible()
    page.wait_for_timeout(300)
    row.click()
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
    expect(row).to_be_hidden()
    screen.drawn()
    page.wait_for_timeout(700)
    screen.drawn()
    site = next(s for s in screen.ask(f"/v1/customers/cus_{customer}")["sites"] if s["is_primary"])
    lon, lat = site["location"]["lon"], site["location"]["lat"]
    _, y = pixel(screen, lon, lat)
    low, high = (60 if size == "desktop" else 100), free_height(screen)
    assert low < y < high
    if rough:
        reach = math.degrees(site["precision_m"] / 6_371_008.8)
        assert low < pixel(screen, lon, lat + reach)[1] < pixel(screen, lon, lat - reach)[1] < high
        assert view_of(screen)[2] > 7
    else:
        assert view_of(screen)[2] >= 14

    # the text stays, to go back to; a button clears it
    expect(box).to_have_value(name)
    page.get_by_role("button", name="Clear the search").click()
    expect(box).to_have_value("")
    expect(box).to_be_focused()
    page.get_by_role("button", name="Close the card").click()
    expect(page.locator(".customer-row")).to_have_count(0)


def test_a_click_asks_for_the_territory_even_on_a_shop(open_screen: Opening) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in()
    shop = next(p for p in screen.ask("/v1/places?limit=500")["data"] if p["kind"] == "own" and p["location"])
    lon, lat = shop["location"]["lon"], shop["location"]["lat"]
    page.goto(f"{screen.server.url}/?at={lon},{lat},14")
    screen.drawn()
    x, y = pixel(screen, lon, lat)
    note = page.get_by_role("complementary", name="Place")
    screen.menu("Territory")
    page.mouse.click(x + 3, y)
    found = page.get_by_role("list", name="Territories at the point")
    expect(found).to_be_visible()
    expect(note).to_have_count(0)
    expect(page.get_by_role("article")).to_have_count(0)
    # elsewhere the shop answers, and what lies 20 pixels beside it does not
    screen.menu("Map")
    customers = page.get_by_role("button", name="Customers", exact=True)
    customers.click()
    expect(customers).to_have_attribute("aria-pressed", "false")
    screen.drawn()
    page.mouse.click(x + 20, y)
    expect(note).to_have_count(0)
    page.mouse.click(x + 3, y)
    expect(note).to_contain_text(shop["name"])


def test_the_primary_layer_is_told_first_and_others_where_they_match(open_screen: Opening) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in()
    primary = next(layer for layer in screen.ask("/v1/layers")["data"] if layer["is_primary"])
    kind = re.sub(r" territor(y|ies)$", "", primary["name"], flags=re.IGNORECASE).lower()
    matching = True

    def answer(route: Route) -> None:
        row = next(r for r in route.fetch().json()["data"] if r["layer"]["is_primary"])
        none = {**row, "area": None, "basis": "none"}

        def of_layer(name: str, said: dict[str, object]) -> dict[str, object]:
            return {**said, "layer": {"id": "lay_99", "key": name.lower(), "name": name, "is_primary": False}}

        zone = of_layer("Zones", {**row, "area": {"id": "ter_99", "name": "Zone 4"}})
        route.fulfill(json={"data": [of_layer("Service", none), zone, row if matching else none]})

    page.route("**/v1/territories/at**", answer)
    page.route("**/v1/customers/*/territories**", answer)
    screen.menu("Territory")
    page.get_by_role("button", name="Map centre").click()
    told = page.get_by_role("list", name="Territories at the point").get_by_role("listitem")
    expect(told).to_have_count(2)
    expect(told.first).to_contain_text(primary["name"])
    expect(told.last).to_contain_text("Zones")
    expect(told.last).to_contain_text("Zone 4")
    expect(page.get_by_text("No territory")).to_have_count(0)

    matching = False
    screen.menu("Near me")
    page.locator(".customer-row").first.click()
    card = page.get_by_role("region", name="Territory, and why").get_by_role("listitem")
    expect(card).to_have_count(2)
    expect(card.first).to_contain_text(f"In no {kind} territory")
    expect(card.first).to_contain_text("No territory matches")
    expect(card.last).to_contain_text("Zone 4")


def test_the_great_lakes_are_water_on_both_shores(open_screen: Opening) -> None:
    screen = open_screen()
    lakes = json.loads(screen.page.request.get(screen.server.url + "/basemap/lakes.json").text())
    outlines = [shape(feature["geometry"]) for feature in lakes["features"]]
    for lon, lat in ((-87.0, 48.3), (-81.0, 45.0), (-81.0, 42.4), (-78.5, 43.5), (13.5, 58.9), (33.0, -1.0)):
        assert any(outline.covers(Point(lon, lat)) for outline in outlines), (lon, lat)


def test_a_session_that_ended_says_so_and_goes_on_where_it_was(open_screen: Opening) -> None:
    screen = open_screen("phone")
    page = screen.page
    screen.sign_in(query="?colour=owner")
    page.context.clear_cookies()
    screen.menu("Near me")
    expect(page.get_by_text("Your session has ended")).to_be_visible()
    screen.axe("session ended")
    page.get_by_label("E-mail address").fill("admin@demo.example")
    page.get_by_label("Password").fill("demo-geocrm")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Near me")).to_be_visible()
    assert "colour=owner" in page.url


def test_without_a_connection_the_page_stays_and_says_so(open_screen: Opening) -> None:
    screen = open_screen("phone")
    page = screen.page
    screen.sign_in()
    seen = screen.tally()
    page.context.set_offline(True)
    screen.menu("Near me")
    expect(page.locator(".map-trouble")).to_contain_text("No connection")
    screen.axe("offline")
    expect(page.locator(".failed")).to_contain_text("The server cannot be reached")
    page.context.set_offline(False)
    expect(page.get_by_text("No connection")).to_have_count(0)
    page.get_by_role("button", name="Try again").first.click()
    expect(page.locator(".customer-row").first).to_be_visible()
    assert seen > 0

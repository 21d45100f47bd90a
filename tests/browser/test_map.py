"""What a person does on the map: sign in, see customers and territories, filter, read a card, look around."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from tests.browser.conftest import HOSTILE, Opening, Screen, Size

BOTH: list[Size] = ["desktop", "phone"]
IN_VIEW = re.compile(r"customer sites? in view")


def query_of(screen: Screen) -> dict[str, list[str]]:
    return parse_qs(urlsplit(screen.page.url).query)


def metres(said: str) -> float:
    number, unit = said.split()[:2]
    return float(number.replace(",", "")) * (1000 if unit.startswith("km") else 1)


@pytest.mark.parametrize("size", BOTH)
def test_signing_in_and_out(open_screen: Opening, size: Size) -> None:
    screen = open_screen(size)
    page = screen.page
    screen.open()
    page.get_by_label("E-mail address").fill("rep@demo.example")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not right")
    screen.axe("wrong password")

    page.get_by_label("Password").fill("demo-geocrm")
    page.get_by_role("button", name="Sign in").click()
    screen.drawn()
    page.get_by_role("button", name="Show all customers").click()
    assert screen.tally() > 0
    screen.menu("You")
    expect(page.get_by_role("region", name="Signed in as")).to_contain_text("Rep")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in to geocrm")).to_be_visible()
    assert page.request.get(screen.server.url + "/v1/me").status == 401
    page.reload()
    expect(page.get_by_role("heading", name="Sign in to geocrm")).to_be_visible()


def test_too_many_attempts_say_when_to_come_back(open_screen: Opening) -> None:
    screen = open_screen("phone")
    screen.page.route(
        "**/v1/sessions",
        lambda route: route.fulfill(
            status=429,
            headers={"Retry-After": "3", "Content-Type": "application/problem+json"},
            body='{"title": "Too many attempts.", "status": 429}',
        ),
    )
    screen.open()
    screen.page.get_by_label("E-mail address").fill("rep@demo.example")
    screen.page.get_by_label("Password").fill("x")
    button = screen.page.get_by_role("button", name="Sign in")
    button.click()
    expect(screen.page.get_by_role("alert")).to_contain_text(re.compile(r"again in \d seconds?"))
    expect(button).to_be_disabled()
    expect(button).to_be_enabled(timeout=6000)


@pytest.mark.parametrize("size", BOTH)
def test_customers_and_territories_are_seen(open_screen: Opening, size: Size) -> None:
    screen = open_screen(size)
    page = screen.page
    asked: list[str] = []
    page.on("response", lambda r: asked.append(r.url) if "/tiles/areas/" in r.url and r.status == 200 else None)
    screen.sign_in()
    with screen.server.database.writing() as session:
        sites = session.scalar(text("SELECT count(*) FROM site_lookup"))
    page.get_by_role("button", name="Show all customers").click()
    assert screen.tally() == sites  # every placed site once, though tiles overlap
    assert any(url.endswith(".mvt") or ".mvt?" in url for url in asked)
    assert "at" in query_of(screen)
    if size == "phone":
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        too_small = page.evaluate(
            "[...document.querySelectorAll('.menu button, .map-control')].filter((b) =>"
            " b.getBoundingClientRect().width < 44 || b.getBoundingClientRect().height < 44).length"
        )
        assert too_small == 0


@pytest.mark.parametrize("size", ["desktop", pytest.param("phone", marks=pytest.mark.soak)])
def test_filtering_by_the_colour_key(open_screen: Opening, size: Size) -> None:
    screen = open_screen(size)
    page = screen.page
    screen.sign_in()
    all_in_view = screen.tally()
    screen.menu("Map")
    page.get_by_role("button", name=re.compile("^Active")).click()
    active = screen.tally()
    assert 0 < active < all_in_view
    assert query_of(screen)["stage"] == ["active"]
    expect(page.locator(".tally")).to_contain_text("filtered")

    page.reload()
    screen.drawn()
    assert screen.tally() == active  # the address alone brings the view back

    page.get_by_role("button", name="Clear filters").click()
    assert screen.tally() == all_in_view
    page.go_back()
    assert screen.tally() == active

    for key in ("Owner", "Territory"):
        page.get_by_role("button", name="Clear filters").first.click()
        page.get_by_role("button", name=key, exact=True).and_(page.locator(".choice")).click()
        assert query_of(screen)["colour"] == [key.lower()]
        screen.drawn()
        row = page.locator(".legend-row:enabled").first
        shown = int(re.sub(r"\D", "", row.locator(".legend-count").inner_text()))
        row.click()
        assert screen.tally() == shown
        page.wait_for_timeout(50)


@pytest.mark.parametrize("size", BOTH)
def test_near_me_and_the_card(open_screen: Opening, size: Size) -> None:
    screen = open_screen(size)
    page = screen.page
    screen.sign_in()
    screen.menu("Near me")
    rows = page.locator(".customer-row")
    expect(rows.first).to_be_visible()
    far = [metres(text) for text in page.locator(".customer-row-aside span:first-child").all_inner_texts()]
    assert far == sorted(far)
    assert len(far) == 20
    page.get_by_role("button", name="More").click()
    expect(rows).to_have_count(40)
    assert query_of(screen)["from"] == ["position"]

    # the keyboard alone: to a row, into its card, back to the row
    third = rows.nth(2)
    name = third.locator(".customer-row-name").inner_text()
    third.focus()
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", level=1, name=name)
    expect(heading).to_be_focused()
    card = page.get_by_role("article")
    expect(card.get_by_role("heading", name="Territory, and why")).to_be_visible()
    expect(card).to_contain_text(re.compile("95 of 100 cases|Not on the map"))
    identity = query_of(screen)["customer"][0]
    known = screen.ask(f"/v1/customers/{identity}")
    assert known["name"] == name
    ledger = screen.ask(f"/v1/customers/{identity}/territories")["data"]
    expect(card).to_contain_text(ledger[0]["area"]["name"] if ledger[0]["area"] else "No territory")
    page.keyboard.press("Escape")
    expect(third).to_be_focused()
    page.go_back()
    expect(heading).to_be_visible()


def test_sales_are_drawn_and_told(open_screen: Opening) -> None:
    screen = open_screen()
    with screen.server.database.writing() as session:
        customer, sales = session.execute(
            text("SELECT customer_id, count(*) FROM sales GROUP BY customer_id ORDER BY count(*) DESC LIMIT 1")
        ).one()
    screen.sign_in(query=f"?customer=cus_{customer}")
    plot = screen.page.locator(".plot")
    expect(plot).to_contain_text(f"{sales:,} sales")
    bars = plot.locator("rect").count()
    plot.get_by_text("Numbers as a table").click()
    expect(plot.locator("tbody tr")).to_have_count(bars)
    told = [int(n) for n in plot.locator("tbody td:nth-child(2)").all_inner_texts()]
    if bars < 36:
        assert sum(told) == sales


def test_a_click_on_the_map_opens_the_card(open_screen: Opening) -> None:
    screen = open_screen("phone")
    page = screen.page
    screen.sign_in()
    screen.menu("Near me")
    row = page.locator(".customer-row").first
    name = row.locator(".customer-row-name").inner_text()
    row.click()
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
    page.get_by_role("button", name="Show on map").first.click()
    screen.drawn()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Close the panel").click()
    screen.drawn()
    view = [float(part) for part in query_of(screen)["at"][0].split(",")]
    site = screen.ask(f"/v1/customers/nearby?lon={view[0]}&lat={view[1]}&radius_m=1000000&limit=1")["data"][0]
    box = page.locator(".map-frame").bounding_box()
    assert box is not None
    # where the site stands on the screen, from the Web Mercator grid of 512 pixels at zoom 0
    x, y = page.evaluate(
        """([lon, lat, zoom, toLon, toLat]) => {
          const size = 512 * 2 ** zoom;
          const at = (a, b) => [(a + 180) / 360 * size,
            (1 - Math.asinh(Math.tan(b * Math.PI / 180)) / Math.PI) / 2 * size];
          const [x0, y0] = at(lon, lat), [x1, y1] = at(toLon, toLat);
          return [x1 - x0, y1 - y0];
        }""",
        [*view, site["location"]["lon"], site["location"]["lat"]],
    )
    # a finger misses by 15 pixels
    page.touchscreen.tap(box["x"] + box["width"] / 2 + x + 15, box["y"] + box["height"] / 2 + y)
    expect(page.get_by_role("article")).to_be_visible()
    assert query_of(screen)["customer"]


@pytest.mark.parametrize("size", BOTH)
def test_whose_territory_is_here(open_screen: Opening, size: Size) -> None:
    screen = open_screen(size)
    page = screen.page
    screen.sign_in()
    screen.menu("Territory")
    page.get_by_role("button", name="Map centre").click()
    found = page.get_by_role("list", name="Territories at the point")
    at = [float(part) for part in query_of(screen)["here"][0].split(",")]
    answer = screen.ask(f"/v1/territories/at?lon={at[0]}&lat={at[1]}")["data"]
    assert answer, "the busiest town has a territory"
    expect(found).to_contain_text(answer[0]["area"]["name"])
    page.get_by_label("On the day").fill("2001-01-01")
    page.get_by_label("On the day").press("Enter")
    page.get_by_label("On the day").blur()
    expect(page.get_by_text("In no sales territory on Jan 1, 2001")).to_be_visible()
    assert query_of(screen)["as_of"] == ["2001-01-01"]


@pytest.mark.parametrize("size", BOTH)
def test_searching_forgives_typing_errors(open_screen: Opening, size: Size) -> None:
    screen = open_screen(size)
    page = screen.page
    screen.sign_in()
    wanted = next(c for c in screen.ask("/v1/customers?kind=organisation&limit=50")["data"] if len(c["name"]) > 9)
    name = wanted["name"]
    typed = name[:4] + name[5] + name[4] + name[6:]
    page.get_by_role("searchbox", name="Search customers").fill(typed)
    row = page.locator(".customer-row", has_text=name).first
    expect(row).to_be_visible()
    row.click()
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
    page.keyboard.press("Escape")
    expect(row).to_be_focused()


def test_text_from_data_is_never_html(open_screen: Opening) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in()
    page.get_by_role("searchbox", name="Search customers").fill(HOSTILE[:60])
    row = page.locator(".customer-row", has_text="onerror").first
    expect(row.locator(".customer-row-name")).to_have_text(HOSTILE)
    row.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    screen.drawn()
    assert page.locator("img").count() == 0
    assert page.title() == "geocrm"


def test_a_rep_sees_the_own_customers_only(open_screen: Opening) -> None:
    seen = {}
    for person in ("admin", "rep"):
        screen = open_screen()
        screen.sign_in(person)
        screen.page.get_by_role("button", name="Show all customers").click()
        seen[person] = screen.tally()
    assert 0 < seen["rep"] < seen["admin"]


def test_a_customer_that_is_not_there(open_screen: Opening) -> None:
    screen = open_screen()
    screen.sign_in(query="?customer=cus_999999999")
    expect(screen.page.get_by_role("heading", level=1, name="Customer not found")).to_be_visible()
    screen.axe("unknown customer")


def test_a_failing_lookup_says_so_and_can_be_repeated(open_screen: Opening) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in()
    page.route(
        "**/v1/customers/nearby**",
        lambda route: route.fulfill(
            status=503,
            headers={"Content-Type": "application/problem+json", "X-Request-Id": "req_0123456789abcdef"},
            body='{"title": "Cannot be done right now.", "status": 503, "detail": "The database does not answer."}',
        ),
    )
    screen.menu("Near me")
    failed = page.get_by_role("alert")
    expect(failed).to_contain_text("The database does not answer.")
    expect(failed).to_contain_text("req_0123456789abcdef")
    screen.axe("failed lookup")
    page.unroute("**/v1/customers/nearby**")
    failed.get_by_role("button", name="Try again").click()
    expect(page.locator(".customer-row").first).to_be_visible()


def test_a_position_that_may_not_be_read(open_screen: Opening) -> None:
    screen = open_screen("phone", position=False)
    screen.sign_in()
    screen.menu("Near me")
    expect(screen.page.get_by_role("alert")).to_contain_text("Allow it in the settings of this site")
    screen.axe("position refused")
    screen.page.get_by_role("button", name="Search around the map’s middle").click()
    expect(screen.page.locator(".customer-row").first).to_be_visible()
    expect(screen.page.get_by_role("alert")).to_have_count(0)
    assert query_of(screen)["from"] == ["map"]


def test_the_keyboard_moves_the_map(open_screen: Opening) -> None:
    screen = open_screen()
    screen.sign_in()
    before = [float(part) for part in query_of(screen)["at"][0].split(",")]
    screen.page.locator(".maplibregl-canvas").focus()
    screen.page.keyboard.press("ArrowRight")
    screen.page.keyboard.press("+")
    screen.drawn()
    screen.page.wait_for_timeout(600)
    screen.drawn()
    after = [float(part) for part in query_of(screen)["at"][0].split(",")]
    assert after[0] > before[0]
    assert after[2] > before[2]


def test_the_documentation_needs_no_network(open_screen: Opening) -> None:
    screen = open_screen()
    screen.page.goto(screen.server.url + "/docs/")
    described = screen.page.request.get(screen.server.url + "/openapi.json").json()
    operations = sum(
        len([m for m in p if m in ("get", "post", "put", "patch", "delete")]) for p in described["paths"].values()
    )
    expect(screen.page.locator(".opblock").first).to_be_visible()
    seen: set[str] = set()
    for _ in range(100):  # of a long description only what is in view is drawn
        seen |= set(screen.page.locator(".opblock").evaluate_all("all => all.map(one => one.id)"))
        if len(seen) == operations:
            break
        screen.page.mouse.wheel(0, 600)
        screen.page.wait_for_timeout(100)
    assert len(seen) == operations

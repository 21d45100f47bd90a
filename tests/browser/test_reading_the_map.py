"""What the map says can be relied on: counts that are drawn, rows that stay, whom one calls, where one is."""

import base64
import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opening, Screen, Size

BOTH: list[Size] = ["desktop", "phone"]


def rows(screen: Screen) -> list[list[str]]:
    """Name and count of each row of the key."""
    screen.drawn()
    names = screen.page.locator(".legend-name").all_inner_texts()
    counts = screen.page.locator(".legend-count").all_inner_texts()
    return [list(row) for row in zip(names, counts, strict=True)]


def reaches(screen: Screen, selector: str, x: float, y: float) -> bool:
    """Whether a touch beside the middle of an element, by pixels, is one of the element."""
    return bool(
        screen.page.evaluate(
            "([selector, x, y]) => { const one = document.querySelector(selector), box = one.getBoundingClientRect();"
            " return one.contains(document.elementFromPoint(box.x + box.width / 2 + x, box.y + box.height / 2 + y)); }",
            [selector, x, y],
        )
    )


def colour_at(screen: Screen, x: int, y: int) -> list[int]:
    """Red, green, blue and opacity of a pixel of the page as it is seen."""
    seen: list[int] = screen.page.evaluate(
        "async ([png, x, y]) => { const bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));"
        " const image = await createImageBitmap(new Blob([bytes], {type: 'image/png'}));"
        " const pen = new OffscreenCanvas(image.width, image.height).getContext('2d'); pen.drawImage(image, 0, 0);"
        " return [...pen.getImageData(x, y, 1, 1).data]; }",
        [base64.b64encode(screen.page.screenshot()).decode(), x, y],
    )
    return seen


@pytest.mark.parametrize("size", [pytest.param("desktop", marks=pytest.mark.soak), "phone"])
def test_a_pressed_row_stays_and_the_others_say_what_they_would_show(open_screen: Opening, size: Size) -> None:
    screen = open_screen(size)
    page = screen.page
    screen.sign_in(query="?panel=key")
    for colour in ("Stage", "Owner"):
        page.get_by_role("button", name=colour, exact=True).and_(page.locator(".choice")).click()
        before = rows(screen)
        pressed = page.locator(".legend-row").nth(1)
        pressed.scroll_into_view_if_needed()
        place = pressed.bounding_box()
        pressed.click()
        screen.drawn()
        expect(pressed).to_have_attribute("aria-pressed", "true")
        assert pressed.bounding_box() == place
        assert rows(screen) == before
        assert screen.tally() == int(before[1][1])
        # the other row adds as many as it says
        page.locator(".legend-row").nth(2).click()
        screen.drawn()
        assert screen.tally() == int(before[1][1]) + int(before[2][1])
        page.get_by_role("button", name="Clear filters").click()
        assert rows(screen) == before


def test_a_count_that_is_not_known_is_not_zero(open_screen: Opening) -> None:
    screen = open_screen()
    screen.sign_in(query="?stage=active")
    told = dict(rows(screen))
    assert int(told.pop("Active")) == screen.tally() > 0
    assert set(told.values()) == {""}


def test_owners_stand_by_their_customers_in_view(open_screen: Opening) -> None:
    screen = open_screen()
    screen.sign_in(query="?colour=owner")
    screen.page.get_by_role("button", name=re.compile("^Show all \\d+$")).click()
    told = [(name, int(re.sub(r"\D", "", n) or 0)) for name, n in rows(screen) if name != "No owner"]
    assert told[0][1] > 0
    assert told == sorted(told, key=lambda row: (-row[1], row[0].casefold()))


def test_a_count_is_said_of_what_is_drawn(open_screen: Opening) -> None:
    screen = open_screen()
    screen.page.add_init_script(
        "new MutationObserver(() => { const said = document.querySelector('.tally [role=status]')?.textContent;"
        " if (/in view/.test(said ?? '')) (window.said ??= []).push(document.documentElement.dataset.map); })"
        ".observe(document, {subtree: true, childList: true, characterData: true})"
    )
    screen.sign_in()
    assert screen.tally() > 0
    assert screen.page.evaluate("window.said[0]") == "ready"


def test_in_sunlight_a_filtered_count_is_one_line_beside_no_control(open_screen: Opening) -> None:
    screen = open_screen("phone")
    page = screen.page
    screen.sign_in(query="?stage=active")
    screen.menu("You")
    sunlight = page.get_by_role("button", name="Sunlight")
    sunlight.click()
    chosen, menu = sunlight.bounding_box(), page.get_by_role("navigation", name="Main").bounding_box()
    assert chosen
    assert menu
    page.get_by_role("button", name="Close the panel").click()
    screen.drawn()
    pill, controls = page.locator(".tally").bounding_box(), page.locator(".map-controls").bounding_box()
    assert pill
    assert controls
    assert pill["height"] < 48
    assert pill["x"] >= 0
    assert pill["x"] + pill["width"] <= 360
    assert pill["y"] + pill["height"] < controls["y"]
    # even in the letters of somebody who needs them large
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    pill, controls = page.locator(".tally").bounding_box(), page.locator(".map-controls").bounding_box()
    assert pill
    assert controls
    assert pill["y"] + pill["height"] < controls["y"]


def test_a_finger_finds_the_handle_of_the_sheet_and_the_sources(open_screen: Opening) -> None:
    screen = open_screen("phone")
    screen.sign_in(query="?panel=key")
    handle = screen.page.locator(".sheet-handle").bounding_box()
    assert handle
    for y in (handle["height"] / 2 - 1, handle["height"] / 2 - 43):
        assert reaches(screen, ".sheet-handle", 0, y)
    for x, y in ((-21, 0), (21, 0), (0, -21), (0, 19)):
        assert reaches(screen, ".maplibregl-ctrl-attrib-button", x, y), (x, y)
    for selector in (".sheet-handle", ".maplibregl-ctrl-attrib-button"):
        assert (screen.page.locator(selector).bounding_box() or {})["height"] == 44

    # a form with its bar at the lower end covers nothing of the map above it
    screen.page.goto(screen.page.url.replace("panel=key", "panel=offers&offer=new"))
    screen.drawn()
    assert colour_at(screen, 3, 70) != [255, 255, 255, 255]


def test_the_card_says_whom_one_calls(open_screen: Opening) -> None:
    screen = open_screen("phone")
    screen.sign_in()
    for row in screen.ask("/v1/customers?kind=organisation&limit=50")["data"]:
        known = screen.ask(f"/v1/customers/{row['id']}")
        reached = next((contact for contact in known["contacts"] if contact["phone"]), None)
        if reached and reached["name"] and all(site["location"] for site in known["sites"]):
            break
    else:
        pytest.fail("no organisation on the map has a contact with a name and a phone number")
    screen.open(f"?customer={row['id']}")
    call = screen.page.get_by_role("link", name=f"Call {reached['name']}", exact=True)
    expect(call).to_have_attribute("href", "tel:" + re.sub(r"[^+\d]", "", reached["phone"]))
    navigate = screen.page.get_by_role("link", name="Navigate").bounding_box()
    copy = screen.page.get_by_role("button", name="Copy").bounding_box()
    assert navigate
    assert copy
    assert navigate["y"] == copy["y"]


@pytest.mark.parametrize("size", BOTH)
def test_between_the_names_of_towns_one_knows_where_one_is(open_screen: Opening, size: Size) -> None:
    screen = open_screen(size)
    page = screen.page
    # Denver's name stands at 39.739 north, Englewood's and Aurora's farther away
    screen.sign_in(query="?at=-104.985,39.76,15")
    expect(page.locator(".whereabouts")).to_have_text("2.3 km north of Denver")
    screen.axe("between towns")
    screen.open("?at=-104.985,39.74,15")
    screen.drawn()
    expect(page.locator(".whereabouts")).to_have_count(0)
    screen.menu("Territory")
    expect(page.get_by_text(f"{'Tap' if size == 'phone' else 'Click'} anywhere on the map")).to_be_visible()


def test_fitting_shows_what_passes_the_filters(open_screen: Opening) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in(query="?at=-100,45,5")
    territories = screen.ask("/tiles/customers.json")["keys"]["territory"]
    fullest = max((key for key in territories if key), key=lambda key: territories[key])
    screen.open(f"?at=-100,45,5&territory={fullest}")
    screen.drawn()
    page.get_by_role("button", name="Show all customers").click()
    expect(page).to_have_url(re.compile(r"at=[-\d.]+,[-\d.]+,([789]|1\d)"))
    assert screen.tally() == territories[fullest]


def test_a_new_colour_has_no_rows_of_the_last_one(open_screen: Opening) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in(query="?panel=key")
    page.evaluate(
        "() => { window.said = new Set(); new MutationObserver(() => document.querySelectorAll('.legend-name')"
        ".forEach((row) => document.querySelector('[aria-pressed=true].choice')?.textContent === 'Territory'"
        " && window.said.add(row.textContent))).observe(document.body, {subtree: true, childList: true}); }"
    )
    page.get_by_role("button", name="Territory", exact=True).and_(page.locator(".choice")).click()
    screen.drawn()
    said = set(page.evaluate("() => [...window.said]"))
    assert said
    assert not {name.lower() for name in said} & {"active", "prospect", "lead", "lapsed"}


def test_on_a_phone_trouble_covers_no_control(open_screen: Opening) -> None:
    screen = open_screen("phone")
    page = screen.page
    screen.sign_in(query="?panel=key")
    page.route("**/tiles/customers/**", lambda route: route.fulfill(status=503))
    page.get_by_role("button", name="Owner", exact=True).and_(page.locator(".choice")).click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be drawn (the server answered 503)")
    for name in ("Zoom in", "Zoom out", "Show all customers"):
        page.get_by_role("button", name=name).click(trial=True)
    screen.axe("trouble on a phone")

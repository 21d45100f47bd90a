"""Segments in the browser: from the dial to the audience, on a desk and on a phone, and who may do what of it."""

import base64
import csv
import io
import json
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Locator, expect
from sqlalchemy import text

from geocrm import jobs
from geocrm.access import SYSTEM
from geocrm.segmentation import publishing
from tests.browser.conftest import Opening, Screen, Server

BLUE = (0x00, 0x72, 0xB2)  # of the first segment, and of no stage


@pytest.fixture(autouse=True)
def _as_before(server: Server) -> Iterator[None]:
    """Whatever a test divides, the next one finds no segmentation."""
    yield
    with server.database.writing() as session:
        publishing.activate(session, None, actor=SYSTEM)
        session.execute(text("UPDATE segmentations SET archived_at = now(), key = key || '-' || id"))


def section(screen: Screen, title: str | re.Pattern[str]) -> Locator:
    return screen.page.locator("section").filter(has=screen.page.get_by_role("heading", name=title, exact=True)).last


def press(screen: Screen, name: str, path: str) -> None:
    """Press a button that starts a job, and let the worker do it."""
    with screen.page.expect_response(re.compile(path)) as answer:
        screen.page.get_by_role("button", name=name, exact=True).click()
    assert answer.value.status == 202, answer.value.text()
    jobs.run_queued(screen.server.database)


def divide(screen: Screen, method: str, key: str, *, publish: bool = False, **parameters: object) -> str:
    """A segmentation with a run, by the API; its id."""
    token = screen.ask("/v1/me")["csrf_token"]

    def post(path: str, body: object) -> dict[str, str]:
        answer = screen.page.request.post(
            screen.server.url + path, data=json.dumps(body),
            headers={"X-CSRF-Token": token, "Content-Type": "application/json", "Origin": screen.server.url},
        )  # fmt: skip
        assert answer.ok, answer.text()
        told: dict[str, str] = answer.json()
        return told

    made = post("/v1/segmentations", {"key": key, "name": key, "method": method, "parameters": parameters})
    post(f"/v1/segmentations/{made['id']}/runs", {"then_publish": publish})
    jobs.run_queued(screen.server.database)
    return made["id"]


def blue(screen: Screen) -> int:
    """Pixels of the first segment's colour on the upper part of the map, where no legend stands."""
    frame = screen.page.locator(".map-frame").bounding_box()
    assert frame is not None
    picture = screen.page.screenshot(clip=frame | {"height": frame["height"] * 0.6})
    count: int = screen.page.evaluate(
        """async ([encoded, [r, g, b]]) => {
          const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
          const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
          const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
          context.drawImage(image, 0, 0);
          const { data } = context.getImageData(0, 0, image.width, image.height);
          let count = 0;
          for (let i = 0; i < data.length; i += 4)
            if (Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 12) count += 1;
          return count;
        }""",
        [base64.b64encode(picture).decode(), BLUE],
    )
    return count


def small_targets(screen: Screen) -> list[str]:
    """Controls of the panel that a finger or a shaky hand would miss (WCAG 2.5.8: 24 pixels)."""
    found: list[str] = screen.page.evaluate(
        "[...document.querySelectorAll('.panel button, .panel input, .panel select, .panel a, .panel summary')]"
        ".filter((e) => e.checkVisibility()).filter((e) => { const b = e.getBoundingClientRect();"
        " return b.width < 24 || b.height < 24; }).map((e) => e.outerHTML.slice(0, 120))"
    )
    return found


def test_from_the_dial_to_the_audience(open_screen: Opening) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in("marketer")
    screen.menu("Segments")
    expect(page.get_by_text("No segmentations yet")).to_be_visible()
    screen.axe("no segmentations")

    # the first one needs nothing but sales; before it there is no preview
    page.get_by_role("button", name="New segmentation").click()
    screen.axe("methods")
    page.get_by_role("button", name="Recency, frequency, money").click()
    with page.expect_response(re.compile(r"/runs$")):
        page.get_by_role("button", name="Create and run").click()
    expect(page.get_by_text("Waiting for its turn…")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_be_visible()
    screen.axe("a run that waits")
    jobs.run_queued(screen.server.database)
    found = page.get_by_role("list", name="Segments")
    expect(found).to_contain_text("Champions")
    screen.axe("a run")
    press(screen, "Publish this run", "/publish$")
    press(screen, "Put it on the map", "/activate$")
    before = blue(screen)
    page.get_by_role("button", name="Colour the map by these segments").click()
    screen.drawn()
    assert blue(screen) > before + 100
    all_in_view = screen.tally()

    # the legend counts what the tiles draw
    screen.menu("Map")
    row = page.locator(".legend-row", has_text="Champions")
    champions = int(re.sub(r"\D", "", row.locator(".legend-count").inner_text()))
    row.click()
    assert 0 < screen.tally() == champions < all_in_view
    screen.axe("coloured by segment")
    page.get_by_role("button", name="Clear filters").click()

    # the dial: dots of a sample on the map, other groups at another place of it
    screen.menu("Segments")
    page.get_by_role("button", name="All segmentations").click()
    page.get_by_role("button", name="New segmentation").click()
    page.get_by_role("button", name="Groups by behaviour and place").click()
    groups = page.get_by_role("list", name="Groups of the preview")
    expect(groups.locator("li")).to_have_count(5)
    expect(page.get_by_role("complementary", name="Legend of the preview")).to_be_visible()
    expect(page.locator(".tally")).to_be_hidden()
    screen.drawn()
    screen.axe("the dial")
    told = groups.inner_text()
    dial = page.get_by_role("slider", name="What counts for being alike")
    expect(dial).to_have_attribute("aria-valuetext", "Mostly behaviour, 30 % place")
    dial.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(dial).to_have_attribute("aria-valuetext", "Mostly place, 80 % place")
    expect(groups).not_to_have_text(told)
    page.get_by_label("Number of groups").select_option("4")
    expect(groups.locator("li")).to_have_count(4)
    previewed = blue(screen)
    page.get_by_label("Name", exact=True).fill("Where and how")
    with page.expect_response(re.compile(r"/runs$")):
        page.get_by_role("button", name="Create and run").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    screen.drawn()
    assert previewed > blue(screen) + 100 or previewed > 1000, "the dots of the preview"
    jobs.run_queued(screen.server.database)
    expect(page.get_by_role("heading", name="4 segments")).to_be_visible()
    expect(page.locator(".multiple").first).to_be_visible()
    screen.axe("groups side by side")

    # a name of one's own stays, also after publishing
    first = found.get_by_role("button").first
    size = int(first.locator(".found-size").inner_text().replace(",", ""))
    first.click()
    page.get_by_label("Your name for it").fill("Our heartland")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Later runs keep this name")).to_be_visible()
    expect(first).to_contain_text("Our heartland")
    press(screen, "Publish this run", "/publish$")
    expect(first).to_contain_text("Our heartland")
    page.get_by_role("button", name="Show only these on the map").click()
    screen.drawn()
    assert 0 < screen.tally() < all_in_view
    screen.axe("a segment")
    page.get_by_role("button", name="Clear filters").click()

    # a rule on top of it
    page.get_by_role("button", name="All segmentations").click()
    page.get_by_role("button", name="New segmentation").click()
    page.get_by_role("button", name="A rule of your own").click()
    page.get_by_label("Name of the segmentation").fill("Spring mailing")
    page.get_by_label("Name of the segment", exact=True).fill("Heartland, loyal")
    page.get_by_label("First condition").select_option(label="Where and how")
    expect(page.get_by_role("button", name="Create and run")).to_be_disabled()
    page.get_by_label("Where and how: value").select_option(label="Our heartland")
    expect(page.locator(".rule-count strong")).to_have_text(f"{size:,} customers")
    page.get_by_label("One more condition").select_option(label="Number of orders")
    page.get_by_label("Number of orders: value").fill("3")
    page.get_by_label("One more condition").select_option(label="Distance to an own shop")
    page.get_by_label("Distance to an own shop: value, in km").fill("40")
    expect(page.locator(".rule-count")).to_contain_text("within 40 km of an own shop")
    said = page.locator(".rule-count strong").inner_text()
    counted = int(re.sub(r"\D", "", said))
    assert 0 < counted < size
    screen.axe("a rule")
    assert small_targets(screen) == []
    with page.expect_response(re.compile(r"/runs$")):
        page.get_by_role("button", name="Create and run").click()
    jobs.run_queued(screen.server.database)
    expect(page.get_by_role("heading", name="1 segment", exact=True)).to_be_visible()
    expect(first).to_contain_text(f"{counted:,}")
    press(screen, "Publish this run", "/publish$")

    # the audience: what the file holds is what the API counts
    first.click()
    page.get_by_text("Export these customers").click()
    download = page.get_by_role("link", name="Download as CSV")
    condition = json.loads(parse_qs(urlsplit(download.get_attribute("href") or "").query)["filter"][0])
    with page.expect_download() as kept:
        download.click()
    lines = list(csv.DictReader(io.StringIO(kept.value.path().read_text(encoding="utf-8-sig"))))
    consenting = {"all": [condition, {"consent": {"purpose": "marketing"}}]}
    inside, all_of_them = (
        screen.ask(f"/v1/customers/count?filter={quote(json.dumps(one))}")["customers"]
        for one in (consenting, condition)
    )
    assert all_of_them == counted
    assert 0 < len({line["id"] for line in lines}) == inside < counted
    expect(page.locator(".found-more")).to_contain_text("those who consented to marketing")
    screen.axe("the audience")

    page.get_by_role("button", name="Put “Spring mailing” away").click()
    expect(page.get_by_role("button", name="New segmentation")).to_be_visible()
    expect(page.locator(".segmentation", has_text="Spring mailing")).to_have_count(0)

    # who moved since an earlier day; publish that, and go back
    page.locator(".segmentation", has_text="On the map").click()
    page.get_by_text("As of another day").click()
    page.get_by_label("By what was known before").fill("2026-03-01")
    press(screen, "Run now", "/runs$")
    moves = page.locator(".move")
    expect(moves.first).to_be_visible()
    divided = parse_qs(urlsplit(page.url).query)["segmentation"][0]
    answer = screen.ask(f"/v1/segmentations/{divided}/moves?from_run=1&to_run=2")["data"]
    most = max((row for row in answer if row["from_segment"] != row["to_segment"]), key=lambda row: row["customers"])
    expect(moves.first.locator(".move-count")).to_have_text(f"{most['customers']:,}")
    screen.axe("who moved")
    press(screen, "Publish this run", "/publish$")
    press(screen, "Go back to the former run", "/revert$")
    expect(page.get_by_label("Run", exact=True).locator("option", has_text="1: published")).to_have_count(1)


def test_on_a_phone_in_the_dark(open_screen: Opening) -> None:
    screen = open_screen("phone", "dark")
    page = screen.page
    screen.sign_in("marketer")
    divide(screen, "rfm", "phone-rfm")
    page.reload()
    screen.drawn()
    screen.menu("Segments")
    page.get_by_role("button", name="Make the panel larger").click()
    page.get_by_role("button", name="phone-rfm").click()
    press(screen, "Publish this run", "/publish$")
    press(screen, "Put it on the map", "/activate$")
    page.get_by_role("button", name="Colour the map by these segments").click()
    screen.drawn()
    page.get_by_role("list", name="Segments").get_by_role("button").first.click()
    screen.axe("a segment")
    assert small_targets(screen) == []
    page.get_by_role("button", name="List the customers").click()
    page.locator(".customer-row").first.click()
    segments = section(screen, "Segments")
    expect(segments).to_contain_text("phone-rfm")
    screen.axe("segments on the card")
    page.get_by_role("button", name="Close the card").click()
    page.get_by_role("button", name="Show only these on the map").click()
    assert screen.tally() > 0
    page.get_by_label("From").fill("5")
    page.get_by_role("button", name="Show this range on the map").click()
    screen.drawn()
    assert json.loads(parse_qs(urlsplit(page.url).query)["where"][0])["field"] == "scores.phone-rfm.r"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_who_may_do_what(open_screen: Opening) -> None:
    """An analyst runs and does not publish; a rep reads, within own sight; a run that failed says what is missing."""
    screen = open_screen()
    page = screen.page
    screen.sign_in("admin")
    divided = divide(screen, "rfm", "roles-rfm")
    with screen.server.database.writing() as session:
        publishing.publish(session, int(divided.removeprefix("sgm_")), 1, actor=SYSTEM)
    token = screen.ask("/v1/me")["csrf_token"]
    failing = page.request.post(
        f"{screen.server.url}/v1/segmentations/{divided}/runs",
        data={"cutoff": "1999-01-01T00:00:00Z"},
        headers={"X-CSRF-Token": token, "Origin": screen.server.url},
    )
    assert failing.status == 202
    jobs.run_queued(screen.server.database)
    why = screen.ask(f"/v1/segmentations/{divided}/runs/2")["error"]["detail"]

    screen = open_screen()
    page = screen.page
    screen.sign_in("analyst", query=f"?panel=segments&segmentation={divided}&run=2")
    expect(page.get_by_role("alert")).to_contain_text(why)
    expect(page.get_by_role("alert")).to_contain_text("What is published stays")
    screen.axe("a failed run")
    page.get_by_label("Run", exact=True).select_option("1")
    page.get_by_role("list", name="Segments").get_by_role("button").first.click()
    expect(page.get_by_text("Your role takes totals along, not customers")).to_be_visible()
    expect(page.get_by_role("button", name="Run now")).to_be_visible()
    expect(page.get_by_role("button", name="Put it on the map")).to_have_count(0)

    screen = open_screen()
    page = screen.page
    screen.sign_in("rep", query=f"?panel=segments&segmentation={divided}")
    expect(page.get_by_role("list", name="Segments")).to_be_visible()
    expect(page.get_by_role("button", name="Run now")).to_have_count(0)
    expect(page.get_by_role("button", name="Publish this run")).to_have_count(0)
    page.get_by_role("list", name="Segments").get_by_role("button").first.click()
    page.get_by_text("Export these customers").click()
    expect(page.get_by_role("link", name="Download as CSV")).to_be_visible()
    page.get_by_role("button", name="All segmentations").click()
    expect(page.get_by_role("button", name="New segmentation")).to_have_count(0)
    screen.axe("a rep's list")
    screen.open("?panel=segments&segmentation=sgm_999999")
    expect(page.get_by_text("Segmentation not found")).to_be_visible()
    screen.axe("no such segmentation")

"""Scores in the browser: the map coloured by one, its key, and who sees which shades."""

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from geocrm import jobs
from geocrm.access import SYSTEM
from geocrm.segmentation import analyses
from tests.browser.conftest import Opening, Scheme, Screen, Size
from tests.browser.test_segments import _as_before, divide, section

pytestmark = pytest.mark.usefixtures(_as_before.__name__)


def rows(screen: Screen) -> dict[str, int]:
    """The key of the map: names and counts."""
    screen.drawn()
    found = {}
    for row in screen.page.locator(".legend-row").all():
        name, count = (row.locator(part).inner_text() for part in (".legend-name", ".legend-count"))
        found[name] = int(count.replace(",", "")) if count else 0
    return found


@pytest.mark.parametrize(
    ("size", "scheme"), [("desktop", "light"), pytest.param("phone", "dark", marks=pytest.mark.soak)]
)
def test_the_map_is_coloured_by_a_score(open_screen: Opening, size: Size, scheme: Scheme) -> None:
    screen = open_screen(size, scheme)
    page = screen.page
    screen.sign_in("marketer", "?panel=key")
    expect(page.get_by_role("button", name="Score", exact=True)).to_have_count(0)
    divide(screen, "value", "worth", publish=True)
    divide(screen, "rfm", "rfm", publish=True)
    screen.open("?panel=key")
    screen.drawn()
    page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_label("Score", exact=True).select_option("worth.worth")
    (held,) = [row for row in screen.ask("/v1/segmentations")["data"] if row["key"] == "worth"]
    assert len(held["shades"]["worth"]["cuts"]) == 4
    shades = rows(screen)
    assert len(shades) == 6
    assert list(shades)[-1] == "No score"
    assert next(iter(shades)).startswith("below $")
    assert sum(shades.values()) == screen.tally()
    expect(section(screen, "Colour by")).to_contain_text("About a fifth of the")
    screen.axe("coloured by a score")

    # a row filters by its shade: the key goes on to say what the others would show
    n = list(shades.values())[2]
    page.locator(".legend-row").nth(2).click()
    expect(page.locator(".legend-row").nth(2)).to_have_attribute("aria-pressed", "true")
    assert screen.tally() == n
    assert rows(screen) == shades
    page.locator(".legend-row").nth(2).click()

    # the address keeps it; far out rings have the shade in the middle
    assert "score=worth.worth" in page.url
    page.goto(page.url.replace(",11", ",4"))
    assert sum(rows(screen).values()) == screen.tally() > sum(shades.values())
    page.get_by_label("Score", exact=True).select_option("rfm.m")
    assert list(rows(screen))[:5] == ["1", "2", "3", "4", "5"]

    # the card of a customer says the score that the map shows
    screen.menu("Segments")
    if size == "desktop":
        expect(page.get_by_role("complementary", name="Legend")).to_contain_text("Money, 1 to 5")
    page.get_by_role("button", name="worth", exact=False).first.click()
    page.get_by_role("button", name="Colour the map by it").click()
    expect(page.get_by_role("button", name="The map is coloured by it")).to_be_disabled()


def test_a_score_that_is_gone_leaves_the_stages(open_screen: Opening) -> None:
    screen = open_screen()
    screen.sign_in("marketer", "?panel=key&colour=score&score=gone.worth")
    assert list(rows(screen)) == ["Prospect", "Lead", "Active", "Lapsed"]


def test_the_card_says_what_to_offer_next(open_screen: Opening) -> None:
    """Nothing where no analysis was made; then what goes together with what the customer has, and how well that did."""
    screen = open_screen("phone", "dark")
    page = screen.page
    with screen.server.database.writing() as session:
        buyer = session.execute(
            text("SELECT customer_id FROM sale_lines GROUP BY 1 HAVING count(DISTINCT product_id) BETWEEN 2 AND 4"
                 " ORDER BY count(*) DESC, 1 LIMIT 1")
        ).scalar_one()  # fmt: skip
    screen.sign_in("marketer", f"?customer=cus_{buyer}")
    expect(page.get_by_role("heading", name="Sales over time")).to_be_visible()
    expect(page.get_by_role("heading", name="To offer next")).to_have_count(0)
    told = screen.ask(f"/v1/customers/cus_{buyer}/next-offers")
    assert (told["data"], told["analysis"]) == ([], None)
    assert told["note"].startswith("No analysis of what goes together")
    with screen.server.database.writing() as session:
        analyses.start(session, "affinity", actor=SYSTEM, parameters={"window_days": 3650})
    jobs.run_queued(screen.server.database)
    told = screen.ask(f"/v1/customers/cus_{buyer}/next-offers?limit=3")
    assert len(told["data"]) == 3
    first = told["data"][0]
    assert first["because"]
    assert 0 < first["lift_low"] < first["lift"] < first["lift_high"]
    screen.open(f"?customer=cus_{buyer}")
    screen.drawn()
    offers = section(screen, "To offer next")
    expect(offers).to_contain_text(first["product"]["name"])
    expect(offers).to_contain_text(f"Goes with {first['because']['name']}")
    expect(offers).to_contain_text(told["held_out"]["sentence"] if told["held_out"] else "is not known")
    screen.axe("a card with offers")
    with screen.server.database.writing() as session:
        session.execute(text("DELETE FROM analyses"))

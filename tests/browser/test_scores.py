"""Scores in the browser: the map coloured by one, its key, and who sees which shades."""

import pytest
from playwright.sync_api import expect

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


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
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

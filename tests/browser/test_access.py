"""WCAG 2.2 AA in every state with data, on a desk and on a phone, light, dark and in sunlight."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opening, Scheme, Size


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("desktop", "light"),
        ("phone", "dark"),
        pytest.param("desktop", "dark", marks=pytest.mark.soak),
        pytest.param("phone", "light", marks=pytest.mark.soak),
    ],
)
def test_no_state_hinders(open_screen: Opening, size: Size, scheme: Scheme) -> None:
    screen = open_screen(size, scheme)
    page = screen.page
    screen.open()
    expect(page.get_by_label("E-mail address")).to_be_visible()
    screen.axe("sign in")
    screen.sign_in()
    screen.axe("map")
    screen.menu("Map")
    page.get_by_role("button", name="Territory", exact=True).and_(page.locator(".choice")).click()
    page.locator(".legend-row:enabled").first.click()
    screen.drawn()
    screen.axe("colours and filters")
    page.get_by_role("button", name="Clear filters").click()
    screen.menu("Near me")
    expect(page.locator(".customer-row").first).to_be_visible()
    screen.axe("near me")
    page.locator(".customer-row").first.click()
    expect(page.get_by_role("heading", name="Lately")).to_be_visible()
    expect(page.locator(".skeleton")).to_have_count(0)
    screen.axe("card")
    page.keyboard.press("Escape")
    page.get_by_role("searchbox").fill("ma")
    expect(page.locator(".customer-row").first).to_be_visible()
    screen.axe("search")
    page.get_by_role("searchbox").fill("qqqqzzzzxxxx")
    expect(page.get_by_text("No customer found")).to_be_visible()
    screen.axe("search without result")
    screen.menu("Territory")
    page.get_by_role("button", name="Map centre").click()
    expect(page.get_by_role("list", name="Territories at the point")).to_be_visible()
    screen.axe("territory here")
    screen.menu("You")
    screen.axe("you")
    page.get_by_role("button", name="Sunlight").click()
    screen.axe("sunlight")

"""For who builds on geocrm: a key and its log, requests that run, a webhook and its messages."""

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from geocrm import access
from geocrm.campaigns.delivering import Deliverer
from geocrm.db import models
from tests.browser.conftest import Opening
from tests.browser.test_segments import section, small_targets
from tests.campaigns.test_webhooks import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


def test_from_a_key_to_a_message(open_screen: Opening, receiver: Receiver) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in("admin")
    screen.menu("You")
    page.get_by_role("button", name="Developers").click()
    expect(page.get_by_text("No webhooks yet")).to_be_visible()
    screen.axe("nothing yet")

    # a key: what it may do in words, its secret once
    page.get_by_role("button", name="New key").click()
    make = page.get_by_role("button", name="Make the key")
    make.click()
    expect(page.locator("#key-name-faults")).to_contain_text("a name is needed")
    expect(page.get_by_label("Name of the program")).to_be_focused()
    page.get_by_label("Name of the program").fill("Loyalty app")
    page.get_by_label("Exact places").check()
    screen.axe("a new key")
    make.click()
    token = page.locator(".token").inner_text()
    assert re.fullmatch(r"gk_[\w-]{43}", token)
    expect(page.get_by_role("list", name="What it may do")).to_have_text(
        re.compile("^Read customers: .*Exact places: [^:]*$")
    )
    assert token not in page.url
    screen.axe("a key")

    # requests run as the key, not as who is signed in
    page.get_by_role("button", name="Try requests").click()
    expect(page.get_by_role("heading", name="Put a fence")).to_have_count(0)
    page.get_by_role("button", name="Run Customers near").click()
    answer = page.get_by_role("region", name="Answer: Customers near a point")
    found = json.loads(answer.inner_text())
    asked = re.search(r"'(http://\S+)'", section(screen, "Customers near a point").locator("pre").first.inner_text())
    assert asked is not None
    assert len(found["data"]) == 3 == len(page.request.get(asked[1]).json()["data"])

    # what it asked is on record, without the point
    page.get_by_role("button", name="All for developers").click()
    page.get_by_role("button", name="Loyalty app").click()
    log = section(screen, "What it asked").get_by_role("listitem")
    expect(log).to_have_count(1)
    expect(log).to_contain_text("GET /v1/customers/nearby")
    assert "lat=" not in page.locator(".panel").inner_text()
    screen.axe("the log of a key")
    page.get_by_role("button", name="Revoke it").click()
    page.get_by_role("button", name="Revoke it for good").click()
    expect(page.get_by_text("Revoked", exact=True).first).to_be_visible()
    expect(page.get_by_role("button", name="Try requests")).to_have_count(0)

    # a webhook: a test arrives, and arrives again
    page.get_by_role("button", name="All for developers").click()
    page.get_by_role("button", name="New webhook").click()
    page.get_by_label("Address of your server").fill("ftp://127.0.0.1/")
    page.get_by_role("button", name="Register the webhook").click()
    expect(page.locator("#hook-url-faults")).to_contain_text("no whole address")
    page.get_by_label("Address of your server").fill("http://169.254.169.254/")
    page.get_by_role("button", name="Register the webhook").click()
    expect(page.locator("#hook-url-faults")).not_to_contain_text("no whole address")
    expect(page.locator("#hook-url-faults")).not_to_be_empty()  # what the API refuses stands at the field too, and once
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_label("Address of your server").fill(receiver.url)
    page.get_by_label("What it is for").fill("Loyalty app")
    screen.axe("a new webhook")
    page.get_by_role("button", name="Register the webhook").click()
    expect(page.locator(".token")).to_have_text(re.compile("^whsec_"))
    deliverer = Deliverer(screen.server.database)
    for press, times in (("Send a test", 1), (re.compile("^Send again"), 2)):
        with page.expect_response(re.compile(r"/(test|resend)$")) as sent:
            page.get_by_role("button", name=press).click()
        assert sent.value.status == 202
        deliverer.deliver_due()
        expect(page.get_by_role("status").filter(has_text=re.compile("Delivered, .*answered 204"))).to_be_visible()
        assert [message["type"] for message in receiver.messages] == ["webhook.test"] * times
    expect(page.locator(".delivery")).to_have_count(1)
    page.get_by_text("All tries").click()
    expect(page.get_by_role("list", name=re.compile("^Tries of dlv_")).get_by_role("listitem")).to_have_count(2)
    screen.axe("a webhook")
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("button", name="Send a test")).to_be_disabled()
    expect(page.get_by_text("Disabled", exact=True)).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it with its log").click()
    expect(page.get_by_text("No webhooks yet")).to_be_visible()
    page.reload()
    screen.drawn()
    page.get_by_role("button", name="Loyalty app").click()
    expect(page.get_by_role("heading", name="Loyalty app")).to_be_visible()
    expect(page.locator(".token")).to_have_count(0)  # shown once


def test_who_makes_no_keys_runs_requests_with_their_own(open_screen: Opening) -> None:
    screen = open_screen("phone", "dark")
    page = screen.page
    token, digest = access.new_token("gk_")
    with screen.server.database.writing() as session:
        rep = session.scalar(text("SELECT id FROM users WHERE email = 'rep@demo.example'"))
        session.add(
            models.ApiKey(user_id=rep, name="van", prefix=token[:10], digest=digest, scopes=["geofences:write"])
        )
    screen.sign_in("rep", query="?panel=developers")
    expect(page.get_by_text("Keys and webhooks are made by administrators")).to_be_visible()
    screen.axe("no permission")
    page.get_by_role("button", name="Make the panel larger").click()
    page.get_by_role("button", name="Requests that run").click()
    expect(page.get_by_role("button", name="Run Who am I?")).to_be_disabled()
    page.get_by_label("Secret of a key").fill(token)
    page.get_by_role("button", name="Run Put a fence").click()
    answer = page.get_by_role("region", name="Answer: Put a fence")
    expect(answer).to_contain_text('"status": 403')  # a rep's key does no more than a rep
    page.get_by_role("button", name="Run Who am I?").click()
    expect(page.get_by_role("region", name="Answer: Who am I?")).to_contain_text('"role": "rep"')
    screen.axe("requests")
    assert small_targets(screen) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    screen.open("?panel=developers&tool=key_1")
    expect(page.get_by_text("Keys are made by administrators")).to_be_visible()

"""What is to be done for a customer stands on its card, and is ticked off there by whom it concerns."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from geocrm.db import models
from tests.browser.conftest import Opening, Scheme, Size


@pytest.mark.parametrize(
    ("size", "scheme"), [pytest.param("desktop", "light", marks=pytest.mark.soak), ("phone", "dark")]
)
def test_a_task_is_done_on_the_card(open_screen: Opening, size: Size, scheme: Scheme) -> None:
    screen = open_screen(size, scheme)
    page = screen.page
    screen.sign_in("rep")
    (customer, other) = (int(row["id"][4:]) for row in screen.ask("/v1/customers?limit=2")["data"])
    with screen.server.database.writing() as session:
        rep = session.scalars(text("SELECT id FROM users WHERE email = 'rep@demo.example'")).one()
        now = datetime.now(UTC)
        for title, days in (("Call about the visit", -2), ("Bring the new catalogue", 3)):
            task = models.Task(customer_id=customer, title=title, assignee_id=rep, due_at=now + timedelta(days=days))
            session.add(task)
        task.details = "They asked for it in the shop."
    screen.open(f"?customer=cus_{customer}")
    to_do = page.get_by_role("region", name="To do")
    rows = to_do.get_by_role("listitem")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("Call about the visit")
    expect(rows.first).to_contain_text("overdue since")
    expect(rows.last).to_contain_text("They asked for it in the shop.")
    screen.axe("a card with tasks")
    box = rows.first.get_by_role("button").bounding_box()
    assert box
    assert size == "desktop" or box["height"] >= 44
    to_do.get_by_role("button", name="Done: Call about the visit").click()
    expect(rows.first).to_contain_text("done")
    (left,) = screen.ask(f"/v1/tasks?customer=cus_{customer}")["data"]
    assert left["title"] == "Bring the new catalogue"
    to_do.get_by_role("button", name="Not done: Call about the visit").press("Enter")  # by the keyboard too
    expect(rows.first).to_contain_text("overdue since")
    assert len(screen.ask(f"/v1/tasks?customer=cus_{customer}")["data"]) == 2
    screen.open(f"?customer=cus_{other}")
    expect(page.get_by_role("heading", name="Lately")).to_be_visible()
    expect(page.get_by_role("region", name="To do")).to_have_count(0)
    with screen.server.database.writing() as session:
        session.execute(text("DELETE FROM tasks"))

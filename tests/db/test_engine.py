"""Sessions and what the planner is told."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.db.engine import expecting_many_rows
from tests.makers import actor_of, make_user

JOIN = "EXPLAIN SELECT count(*) FROM visible.sites s JOIN visible.sales f ON f.customer_id = s.customer_id"


def test_joins_over_all_that_a_reader_sees_are_hashed(session: Session) -> None:
    actor = actor_of(session, make_user(session, "administrator"))
    with access.as_user(session, actor), expecting_many_rows(session):
        plan = "\n".join(session.scalars(text(JOIN)))
        assert session.scalar(text("SHOW enable_nestloop")) == "off"
    assert "Nested Loop" not in plan
    assert "Join" in plan
    assert session.scalar(text("SHOW enable_nestloop")) == "on"

"""The audit log is a chain: who changes a link is found out."""

from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import text

from geocrm.db import audit
from geocrm.db.engine import Database


def test_audit_entries_are_sealed_and_a_change_shows(new_database: Callable[[], Database]) -> None:
    database = new_database()
    with database.writing() as session:
        for number in range(5):
            audit.record(session, "test", actor_id=None, object_id=f"cus_{number + 1}", after={"n": number})
    with database.writing() as session:
        assert audit.seal(session, limit=3) == 3
        assert audit.seal(session) == 2
        assert audit.seal(session) == 0
        assert audit.verify(session) is None
    with database.writing() as session, pytest.raises(Exception, match="permission denied"):
        session.execute(text("UPDATE audit_log SET actor_id = 7"))
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as owner:
        owner.execute("UPDATE audit_log SET action = 'else' WHERE object = 'cus_3'")
    with database.writing() as session:
        assert audit.verify(session) == 3

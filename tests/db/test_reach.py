"""The sentence that a failed connection or statement becomes."""

import psycopg
import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from geocrm.db import reach


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("", {}, psycopg.OperationalError('FATAL:  role "geocrm_worker" does not exist')),
        ProgrammingError("SELECT 1", {}, psycopg.errors.UndefinedTable('relation "customers" does not exist')),
    ],
)
def test_a_home_without_geocrm_is_told_to_migrate(error: Exception) -> None:
    assert "run `geocrm migrate`" in reach.explain(error)


def test_a_missing_database_is_named() -> None:
    error = psycopg.OperationalError('connection failed: FATAL:  database "crm" does not exist')
    assert reach.explain(error) == 'the database: database "crm" does not exist: create it, or check the name'

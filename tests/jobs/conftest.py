"""How a job stands."""

from collections.abc import Callable

import pytest

from geocrm.db import models
from geocrm.db.engine import Database

JobOf = Callable[[Database, int], models.Job]


@pytest.fixture
def job_of() -> JobOf:
    """The row of a job, as it is now."""

    def read(database: Database, job_id: int) -> models.Job:
        with database.writing() as session:
            return session.get_one(models.Job, job_id)

    return read
